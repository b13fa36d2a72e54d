"""The toys, for the rest of the project."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from onetok.data.batches import Batch
from onetok.sampling.seeds import ImageRandom
from onetok.systems.records import Condition, GeneratorSystem, Paper, Shapes, TokenizerSystem, discrete_shape
from onetok.training.objectives import GeneratorObjective
from onetok.training.tokenizer_losses import Artefacts

from .model import Patches, Table
from .schema import IndependentSampling, PatchesConfig, PatchTokenizer, TableConfig, TableGenerator


def build_patches(entry: PatchTokenizer, made: Artefacts) -> Patches:
    return Patches(entry.config)


def build_table(entry: TableGenerator, shapes: Shapes) -> Table:
    return Table(TableConfig(**discrete_shape(shapes), classes=entry.classes))


class TableObjective(GeneratorObjective):
    def __init__(self, model: Table) -> None:
        super().__init__()
        self.model = model

    def forward(self, batch: Batch, step: int) -> dict[str, Tensor]:
        logits = self.model(batch.labels)  # (b, N, V)
        return {"total": F.cross_entropy(logits.flatten(0, 1), batch.inputs.flatten())}


def objective(entry: TableGenerator, model: Table, condition: Condition) -> TableObjective:
    return TableObjective(model)


def sample(model: Table, labels: Tensor, settings: IndependentSampling, random: ImageRandom) -> Tensor:
    return (model(labels) + random.gumbel(model.tokens, model.codebook_size)).argmax(dim=-1)


def step_bytes(model: Table) -> dict[nn.Module, int]:
    return {model: model.logits.nbytes}


PAPER = Paper("none", "0000.00000")
RECORDS: tuple[Any, ...] = (
    TokenizerSystem(
        kind="toy-patches",
        model=Patches,
        config=PatchesConfig,
        no_decay=("codebook",),
        builds={PatchTokenizer: build_patches},
        description="A linear layer on patches",
        papers=(PAPER,),
    ),
    GeneratorSystem(
        kind="toy-table",
        model=Table,
        config=TableConfig,
        no_decay=("logits",),
        builds={TableGenerator: build_table},
        objective=objective,
        sampler=sample,
        compiles=False,
        step_bytes=step_bytes,
    ),
)
