"""The spread of a study's figures over retrainings, kept as evidence: what `onetok compare` measures others by."""

from pathlib import Path

# Below a study's folder.
KEPT = Path("evidence/spread")
MACHINES = Path("evidence/machine.json")
