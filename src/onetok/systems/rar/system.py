"""RAR, for the rest of the project."""

from __future__ import annotations

from typing import Any

from torch import nn

from onetok.nn.weights import linear_layers, weight_bytes
from onetok.release.class_generators import RELEASED_INIT_STD
from onetok.systems.rar.model import RAR
from onetok.systems.rar.objective import NextTokenObjective
from onetok.systems.rar.release import KEYS, released_config
from onetok.systems.rar.sampling import sample_autoregressive
from onetok.systems.rar.schema import RARConfig, RARGenerator, RARModel, ReleasedRAR
from onetok.systems.records import Condition, GeneratorSystem, Release, Shapes, discrete_shape


def build(entry: Any, shapes: Shapes) -> RAR:
    # What releases leave out: the start of training, and a setting of it.
    released = (
        {} if isinstance(entry.model, RARModel) else {"init_std": RELEASED_INIT_STD, "checkpointing": False}
    )
    return RAR(RARConfig.of(entry.model, **discrete_shape(shapes), classes=entry.classes, **released))


def objective(entry: RARGenerator, model: RAR, condition: Condition) -> NextTokenObjective:
    return NextTokenObjective(model, entry.annealing)


def step_bytes(model: RAR) -> dict[nn.Module, int]:
    """A step begins where an id is embedded. The modulations are computed for many steps at once."""
    modulations = {model.final_modulation, *(block.modulation for block in model.adaptive_blocks())}
    return {model.embedding: weight_bytes(set(linear_layers(model)) - modulations)}


RECORDS = (
    GeneratorSystem(
        kind="rar",
        model=RAR,
        config=RARConfig,
        class_table="embedding.weight",
        no_decay=("positions", "embedding", "timesteps", "final_modulation"),
        builds={RARGenerator: build, ReleasedRAR: build},
        objective=objective,
        sampler=sample_autoregressive,
        compiles=True,
        releases={"rar": Release(KEYS, released_config)},
        layout=lambda entry: "rar",
        step_bytes=step_bytes,
    ),
)
