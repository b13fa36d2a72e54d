"""Tokens: a split of a dataset, encoded once.

REQUIRED INPUTS:
    results/datasets/…/{receipt.json, shards/}
    results/tokenizers/…/{receipt.json, weights.safetensors}
    results/encoders/…/weights.safetensors, where states of captions are kept

OUTPUTS:
    results/tokens/<family>/<variant>/{receipt.json, tokens.npy, labels.npy, keys.npy}, where params ask also captions/
"""


rule cache_tokens:
    """Encode the images of {wildcards.family}/{wildcards.variant}."""
    input:
        receipts=receipts_of("tokens"),
        payloads=payloads_of("tokens"),
    output:
        outputs_of("tokens"),
    log:
        "results/logs/cache_tokens/{family}/{variant}/log.txt",
    benchmark:
        "results/benchmarks/cache_tokens/{family}/{variant}.tsv"
    priority: priority_of("tokens")
    conda:
        "../../environment.yml"
    threads: config["threads"]
    params:
        slice=slice_of("tokens"),
    shell:
        stage("cache_tokens")
