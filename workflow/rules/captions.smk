"""Captions: what a generator says of the images of a benchmark.

REQUIRED INPUTS:
    results/generators/…/{receipt.json, weights.safetensors}
    results/tokenizers/…/weights.safetensors of images, results/text_tokenizers/…/weights.safetensors of captions
    results/datasets/…/{receipt.json, shards/}

OUTPUTS:
    results/captions/<family>/<variant>/{receipt.json, captions.jsonl}
"""


rule caption_images:
    """Caption images {wildcards.family}/{wildcards.variant}."""
    input:
        receipts=receipts_of("captions"),
        payloads=payloads_of("captions"),
    output:
        outputs_of("captions"),
    log:
        "results/logs/caption_images/{family}/{variant}/log.txt",
    benchmark:
        "results/benchmarks/caption_images/{family}/{variant}.tsv"
    priority: priority_of("captions")
    conda:
        "../../environment.yml"
    threads: config["threads"]
    params:
        slice=slice_of("captions"),
    shell:
        stage("caption_images")
