"""Tables and figures: what people read.

REQUIRED INPUTS:
    results/scores/…/{receipt.json, scores.json}
    results/samples/…/{receipt.json, shards/}, results/{tokenizers,generators}/…/{receipt.json, scalars.csv}

OUTPUTS:
    results/tables/<family>/<variant>/{receipt.json, table.csv, table.md, table.tex}
    results/released/<family>/<variant>/…                    the same without the rows that have to be trained
    results/figures/<family>/<variant>/{receipt.json, figure.png}
"""


rule build_table:
    """Build table {wildcards.family}/{wildcards.variant}."""
    input:
        receipts=receipts_of("tables"),
        payloads=payloads_of("tables"),
    output:
        outputs_of("tables"),
    log:
        "results/logs/build_table/{family}/{variant}/log.txt",
    benchmark:
        "results/benchmarks/build_table/{family}/{variant}.tsv"
    priority: SHORT
    conda:
        "../../environment.yml"
    threads: config["threads"]
    params:
        slice=slice_of("tables"),
    shell:
        stage("build_table")


rule build_released_table:
    """Build table {wildcards.family}/{wildcards.variant} without the rows that have to be trained."""
    input:
        receipts=receipts_of("released"),
        payloads=payloads_of("released"),
    output:
        outputs_of("released"),
    log:
        "results/logs/build_released_table/{family}/{variant}/log.txt",
    benchmark:
        "results/benchmarks/build_released_table/{family}/{variant}.tsv"
    priority: SHORT
    conda:
        "../../environment.yml"
    threads: config["threads"]
    params:
        slice=slice_of("released"),
    shell:
        stage("build_released_table")


rule plot_figure:
    """Plot figure {wildcards.family}/{wildcards.variant}."""
    input:
        receipts=receipts_of("figures"),
        payloads=payloads_of("figures"),
    output:
        outputs_of("figures"),
    log:
        "results/logs/plot_figure/{family}/{variant}/log.txt",
    benchmark:
        "results/benchmarks/plot_figure/{family}/{variant}.tsv"
    priority: SHORT
    conda:
        "../../environment.yml"
    threads: config["threads"]
    params:
        slice=slice_of("figures"),
    shell:
        stage("plot_figure")
