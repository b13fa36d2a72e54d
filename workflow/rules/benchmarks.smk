"""Speed: what this machine makes of a system, a generator, or a pair. No table pulls it; `snakemake speed` does.

REQUIRED INPUTS:
    nothing: weights are random

OUTPUTS:
    results/benchmarks/speed/<family>/<variant>/{receipt.json, speed.json, table.csv, table.md}
"""


rule measure_speed:
    """Measure speed {wildcards.family}/{wildcards.variant}."""
    output:
        outputs_of("benchmarks/speed"),
    log:
        "results/logs/measure_speed/{family}/{variant}/log.txt",
    benchmark:
        "results/benchmarks/measure_speed/{family}/{variant}.tsv"
    conda:
        "../../environment.yml"
    # All of the machine, so that no other job runs beside it; torch uses the profile's threads as ever. A cluster's
    # executor has no cores of its own: there the job's node is what the profile asks for.
    threads: workflow.cores or config["threads"]
    params:
        slice=slice_of("benchmarks/speed"),
    shell:
        stage("measure_speed")
