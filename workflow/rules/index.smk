"""The page of results: every table and figure of a study, with its receipts, in one file.

REQUIRED INPUTS:
    results/tables/…/{receipt.json, table.csv}, results/figures/…/{receipt.json, figure.png}

OUTPUTS:
    results/index.html
"""


rule write_index:
    """Write the page of results."""
    input:
        [target.receipt for target in targets(STUDY)],
    output:
        "results/index.html",
    log:
        "results/logs/write_index/log.txt",
    conda:
        "../../environment.yml"
    threads: config["threads"]
    shell:
        f"{with_this_python('python -m')} onetok.cli index 2>&1 | tee {{log:q}} >&2"
