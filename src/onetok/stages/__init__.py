"""One program a stage: `python -m onetok.stages.<stage> <family>/<variant> --device cpu --threads 1 …`."""

import sys

from onetok import environment

# While Python looks for the module of `-m`, this package is imported first: before any library reads the environment.
if sys.argv[:1] == ["-m"]:
    environment.pin()
