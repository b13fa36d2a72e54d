"""Encoders: the networks that look at images or read captions.

REQUIRED INPUTS:
    results/datasets/…/{receipt.json, shards/}, or published weights

OUTPUTS:
    results/encoders/<family>/<variant>/{receipt.json, weights.safetensors, config.json}
"""


rule train_encoder:
    """Train or fetch encoder {wildcards.family}/{wildcards.variant}."""
    input:
        receipts=receipts_of("encoders"),
        payloads=payloads_of("encoders"),
    output:
        outputs_of("encoders"),
    log:
        "results/logs/train_encoder/{family}/{variant}/log.txt",
    benchmark:
        "results/benchmarks/train_encoder/{family}/{variant}.tsv"
    priority: priority_of("encoders")
    conda:
        "../../environment.yml"
    threads: config["threads"]
    params:
        slice=slice_of("encoders"),
    shell:
        stage("train_encoder")
