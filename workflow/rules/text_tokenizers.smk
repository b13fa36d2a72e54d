"""Text tokenizers: captions to text tokens and back, for image to text.

REQUIRED INPUTS:
    results/datasets/…/{receipt.json, shards/}
    results/encoders/…/{receipt.json, weights.safetensors}     of text

OUTPUTS:
    results/text_tokenizers/<family>/<variant>/{receipt.json, weights.safetensors, config.json, scalars.csv}
"""


rule train_text_tokenizer:
    """Train text tokenizer {wildcards.family}/{wildcards.variant}."""
    input:
        receipts=receipts_of("text_tokenizers"),
        payloads=payloads_of("text_tokenizers"),
    output:
        outputs_of("text_tokenizers"),
    log:
        "results/logs/train_text_tokenizer/{family}/{variant}/log.txt",
    benchmark:
        "results/benchmarks/train_text_tokenizer/{family}/{variant}.tsv"
    priority: priority_of("text_tokenizers")
    conda:
        "../../environment.yml"
    threads: config["threads"]
    params:
        slice=slice_of("text_tokenizers"),
    shell:
        stage("train_text_tokenizer")
