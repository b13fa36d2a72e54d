"""Generators: classes or captions to tokens.

REQUIRED INPUTS:
    results/tokens/…/{receipt.json, tokens.npy}; or published weights
    results/encoders/…/weights.safetensors of captions; results/generators/… that fine-tuning starts from

OUTPUTS:
    results/generators/<family>/<variant>/{receipt.json, weights.safetensors, config.json}, when trained also scalars.csv
"""


rule train_generator:
    """Train or fetch generator {wildcards.family}/{wildcards.variant}."""
    input:
        receipts=receipts_of("generators"),
        payloads=payloads_of("generators"),
    output:
        outputs_of("generators"),
    log:
        "results/logs/train_generator/{family}/{variant}/log.txt",
    benchmark:
        "results/benchmarks/train_generator/{family}/{variant}.tsv"
    priority: priority_of("generators")
    conda:
        "../../environment.yml"
    threads: config["threads"]
    params:
        slice=slice_of("generators"),
    shell:
        stage("train_generator")
