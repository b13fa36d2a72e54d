"""Samples: images drawn from a generator for a benchmark.

REQUIRED INPUTS:
    results/generators/…/{receipt.json, weights.safetensors}
    results/tokenizers/…/weights.safetensors
    results/datasets/…/shards and results/encoders/…/weights.safetensors, where captions are read

OUTPUTS:
    results/samples/<family>/<variant>/{receipt.json, shards/, tokens.npy, contact-sheet.png}
"""


rule sample_images:
    """Draw samples {wildcards.family}/{wildcards.variant}."""
    input:
        receipts=receipts_of("samples"),
        payloads=payloads_of("samples"),
    output:
        outputs_of("samples"),
    log:
        "results/logs/sample_images/{family}/{variant}/log.txt",
    benchmark:
        "results/benchmarks/sample_images/{family}/{variant}.tsv"
    priority: priority_of("samples")
    conda:
        "../../environment.yml"
    threads: config["threads"]
    params:
        slice=slice_of("samples"),
    shell:
        stage("sample_images")
