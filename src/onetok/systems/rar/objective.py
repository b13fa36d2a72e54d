"""What RAR minimises, and how the randomness of its orders falls (arXiv 2411.00776, section 3.2)."""

from __future__ import annotations

from torch import Tensor

from onetok.data.batches import Batch
from onetok.systems.rar.model import RAR
from onetok.systems.rar.schema import RandomnessAnnealing
from onetok.training.objectives import GeneratorObjective


class NextTokenObjective(GeneratorObjective):
    """Predict the next token, in an order whose randomness falls with the step."""

    model: RAR

    def __init__(self, model: RAR, annealing: RandomnessAnnealing) -> None:
        super().__init__()
        self.model, self.annealing = model, annealing

    def forward(self, batch: Batch, step: int) -> dict[str, Tensor]:
        random_order = self.annealing.probability(step)
        losses: dict[str, Tensor] = self.model.loss(batch.inputs, batch.labels, random_order)
        return losses
