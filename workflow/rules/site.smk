"""The site of the repository's pages.

REQUIRED INPUTS:
    README.md, docs/, studies/*/README.md and their pictures

OUTPUTS:
    results/site/
"""

from onetok.report.site import pages


rule write_site:
    """Build the site."""
    input:
        [str(page) for page in pages(Path(workflow.basedir))],
        str(Path(workflow.basedir) / "docs/mkdocs.yml"),
    output:
        directory("results/site"),
    log:
        "results/logs/write_site/log.txt",
    conda:
        "../../environment.yml"
    threads: config["threads"]
    shell:
        f"{with_this_python('python -m')} onetok.cli site --out {{output:q}} 2>&1 | tee {{log:q}} >&2"
