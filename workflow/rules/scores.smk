"""Scores: what a benchmark makes of reconstructions and samples.

REQUIRED INPUTS:
    results/datasets/…, encoders/…, tokenizers/…, tokens/…, samples/…, captions/…

OUTPUTS:
    results/references/<family>/<variant>/{receipt.json, reference.safetensors}       one for each benchmark
    results/scores/reconstruction/<family>/<variant>/{receipt.json, scores.json, reconstructions.png}
    results/scores/samples/<family>/<variant>/{receipt.json, scores.json}
    results/scores/captions/<family>/<variant>/{receipt.json, scores.json}
"""


rule measure_reference:
    """Measure the reference images of benchmark {wildcards.family}/{wildcards.variant}."""
    input:
        receipts=receipts_of("references"),
        payloads=payloads_of("references"),
    output:
        outputs_of("references"),
    log:
        "results/logs/measure_reference/{family}/{variant}/log.txt",
    benchmark:
        "results/benchmarks/measure_reference/{family}/{variant}.tsv"
    priority: SHORT
    conda:
        "../../environment.yml"
    threads: config["threads"]
    params:
        slice=slice_of("references"),
    shell:
        stage("measure_reference")


rule score_reconstruction:
    """Score the reconstructions of tokenizer {wildcards.family}/{wildcards.variant}."""
    input:
        receipts=receipts_of("scores/reconstruction"),
        payloads=payloads_of("scores/reconstruction"),
    output:
        outputs_of("scores/reconstruction"),
    log:
        "results/logs/score_reconstruction/{family}/{variant}/log.txt",
    benchmark:
        "results/benchmarks/score_reconstruction/{family}/{variant}.tsv"
    priority: SHORT
    conda:
        "../../environment.yml"
    threads: config["threads"]
    params:
        slice=slice_of("scores/reconstruction"),
    shell:
        stage("score_reconstruction")


rule score_samples:
    """Score samples {wildcards.family}/{wildcards.variant}."""
    input:
        receipts=receipts_of("scores/samples"),
        payloads=payloads_of("scores/samples"),
    output:
        outputs_of("scores/samples"),
    log:
        "results/logs/score_samples/{family}/{variant}/log.txt",
    benchmark:
        "results/benchmarks/score_samples/{family}/{variant}.tsv"
    priority: SHORT
    conda:
        "../../environment.yml"
    threads: config["threads"]
    params:
        slice=slice_of("scores/samples"),
    shell:
        stage("score_samples")


rule score_captions:
    """Score captions {wildcards.family}/{wildcards.variant}."""
    input:
        receipts=receipts_of("scores/captions"),
        payloads=payloads_of("scores/captions"),
    output:
        outputs_of("scores/captions"),
    log:
        "results/logs/score_captions/{family}/{variant}/log.txt",
    benchmark:
        "results/benchmarks/score_captions/{family}/{variant}.tsv"
    priority: SHORT
    conda:
        "../../environment.yml"
    threads: config["threads"]
    params:
        slice=slice_of("scores/captions"),
    shell:
        stage("score_captions")
