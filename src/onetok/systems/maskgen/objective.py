"""What MaskGen-KL minimises (arXiv 2501.07730, section 4.2)."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from onetok.data.batches import Batch
from onetok.nn.quantizers import Posterior
from onetok.nn.text_condition import TextCondition
from onetok.systems.maskgen.kl import MaskGenKL
from onetok.systems.maskgen.schema import DiffusionLoss
from onetok.training.objectives import GeneratorObjective, in_float32


class LatentObjective(GeneratorObjective):
    """Predict masked latents, drawn anew from their posterior in every step."""

    model: MaskGenKL

    def __init__(
        self,
        model: MaskGenKL,
        condition: Callable[[Batch], TextCondition],
        settings: DiffusionLoss,
    ) -> None:
        super().__init__()
        self.model, self.condition, self.settings = model, condition, settings

    def forward(self, batch: Batch, step: int) -> dict[str, Tensor]:
        latents = Posterior(*batch.inputs.unbind(dim=1)).sample(None)  # (b, N, C)
        with in_float32(latents):
            condition = self.condition(batch)
        losses: dict[str, Tensor] = self.model.loss(latents, condition, self.settings)
        return losses
