"""The stages of the workflow, one program each:
`python -m onetok.stages.<stage> <family>/<variant> --device cpu --threads 1 …`."""

import sys

from onetok.workflow import environment

# With `-m`, Python imports this package before the stage's module, and so before any library reads the environment.
if sys.argv[:1] == ["-m"]:
    environment.pin()
