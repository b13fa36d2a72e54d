"""Tokenizers: images to tokens and back.

REQUIRED INPUTS:
    results/datasets/…/{receipt.json, shards/}
    results/encoders/…/{receipt.json, weights.safetensors}     of perceptual losses, of text
    results/tokenizers/…/{receipt.json, weights.safetensors}   of stage 1 and of its proxy; or published weights

OUTPUTS:
    results/tokenizers/<family>/<variant>/{receipt.json, weights.safetensors, config.json}, when trained also {scalars.csv, pictures/}
"""


rule train_tokenizer:
    """Train or fetch tokenizer {wildcards.family}/{wildcards.variant}."""
    input:
        receipts=receipts_of("tokenizers"),
        payloads=payloads_of("tokenizers"),
    output:
        outputs_of("tokenizers"),
    log:
        "results/logs/train_tokenizer/{family}/{variant}/log.txt",
    benchmark:
        "results/benchmarks/train_tokenizer/{family}/{variant}.tsv"
    priority: priority_of("tokenizers")
    conda:
        "../../environment.yml"
    threads: config["threads"]
    params:
        slice=slice_of("tokenizers"),
    shell:
        stage("train_tokenizer")
