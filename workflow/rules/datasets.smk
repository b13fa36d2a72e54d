"""Datasets: from a source of images to webdataset shards.

REQUIRED INPUTS:
    nothing but what params/datasets name as the source

OUTPUTS:
    results/datasets/<family>/<variant>/{receipt.json, report.json, shards/<split>/}
"""


rule convert_dataset:
    """Convert dataset {wildcards.family}/{wildcards.variant} to shards."""
    output:
        outputs_of("datasets"),
    log:
        "results/logs/convert_dataset/{family}/{variant}/log.txt",
    benchmark:
        "results/benchmarks/convert_dataset/{family}/{variant}.tsv"
    priority: priority_of("datasets")
    conda:
        "../../environment.yml"
    threads: config["threads"]
    params:
        slice=slice_of("datasets"),
    shell:
        stage("convert_dataset")
