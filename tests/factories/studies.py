"""The study on which contracts of systems are tested."""

from __future__ import annotations

from functools import cache

from onetok.study.load import build_study, read_params
from onetok.study.schema.study import Study
from tests.conftest import REPOSITORY

# The second has entries of the kinds that the miniature has none of.
FOLDERS = ("studies/miniature", "tests/unit/systems/flowtok")


@cache
def contract_study() -> Study:
    """Return the miniature, with an entry of every kind that is trained."""
    return build_study({k: v for folder in FOLDERS for k, v in read_params(REPOSITORY / folder)[0].items()})
