"""One program a stage: `python -m onetok.stages.<stage> <family>/<variant> --device cpu --threads 1 …`."""
