"""Tokens: a split of a dataset, encoded once.

REQUIRED INPUTS:
    results/datasets/…/{receipt.json, shards/}
    results/tokenizers/…/{receipt.json, weights.safetensors}

OUTPUTS:
    results/tokens/<family>/<variant>/{receipt.json, ids.npy, labels.npy, keys.npy}
"""


rule cache_tokens:
    """Encode the images of {wildcards.family}/{wildcards.variant}."""
    input:
        receipts=receipts_of("tokens"),
        payloads=payloads_of("tokens"),
    output:
        receipt="results/tokens/{family}/{variant}/receipt.json",
        ids="results/tokens/{family}/{variant}/ids.npy",
    log:
        "results/logs/cache_tokens/{family}/{variant}/log.txt",
    benchmark:
        "results/benchmarks/cache_tokens/{family}/{variant}.tsv"
    conda:
        "../../environment.yml"
    threads: config["threads"]
    params:
        slice=slice_of("tokens"),
    shell:
        stage("cache_tokens")
