"""Tasks: what the loop minimises for each kind of model, as modules from a batch to losses."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from accelerate import PartialState
from torch import Tensor, nn

from onetok import params
from onetok.data.batches import Batch, ReadBatch, batches
from onetok.data.images import to_float, to_uint8
from onetok.losses.masked import MaskedLoss
from onetok.losses.reconstruction import ReconstructionLoss
from onetok.models.classifier import Classifier
from onetok.models.maskgit import MaskGIT
from onetok.models.tatitok import TATiTok
from onetok.models.titok import TiTok
from onetok.models.titok_two_stage import TiTokTwoStage
from onetok.models.vqgan import VQGAN
from onetok.sampling.schedules import MaskSchedule
from onetok.training.loop import Phase, Task
from onetok.training.optimizers import build_optimizer
from onetok.training.schedules import LearningRate


class ClassifierObjective(nn.Module):
    def __init__(self, model: Classifier, label_smoothing: float) -> None:
        super().__init__()
        self.model, self.label_smoothing = model, label_smoothing

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        logits = self.model(to_float(batch.inputs))
        return {
            "total": F.cross_entropy(logits, batch.labels, label_smoothing=self.label_smoothing),
            "accuracy": (logits.argmax(dim=1) == batch.labels).float().mean().detach(),
        }


class TokenizerObjective(nn.Module):
    def __init__(self, model: TiTok, loss: ReconstructionLoss) -> None:
        super().__init__()
        self.model, self.loss = model, loss

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        images = to_float(batch.inputs)
        reconstruction = self.model(images)
        return self.loss(reconstruction.images.float(), images, reconstruction.losses)


class MaskedGeneratorObjective(nn.Module):
    def __init__(self, model: MaskGIT, schedule: MaskSchedule, settings: MaskedLoss) -> None:
        super().__init__()
        self.model, self.schedule, self.settings = model, schedule, settings

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        losses: dict[str, Tensor] = self.model.loss(batch.inputs, batch.labels, self.schedule, self.settings)
        return losses


# ---------------------------------------------------------------------------------------------- tasks

# What never decays, in our names; the same parameters as the papers' rule exempts by theirs (tests/parity).
_TITOK_NO_DECAY = ("positions", "class_embedding", "mask_token", "latent_tokens", "codebook", "embed")
NO_DECAY: dict[type[nn.Module], tuple[str, ...]] = {
    Classifier: (),
    VQGAN: ("codebook",),
    TiTok: _TITOK_NO_DECAY,
    TiTokTwoStage: _TITOK_NO_DECAY,
    TATiTok: _TITOK_NO_DECAY,
    MaskGIT: ("positions", "embedding"),
}


def single_phase(
    model: nn.Module,
    objective: nn.Module,
    read: ReadBatch,
    length: int,
    training: params.Training,
    processes: PartialState,
    workers: int,
    draw: Callable[[nn.Module], Tensor] | None = None,
    picture_every: int | None = None,
) -> Task:
    """Return the task of minimising one objective with one optimizer over `length` samples of `read`."""
    optimizer = build_optimizer(objective, training.optimizer, NO_DECAY[type(model)])

    def batches_from(start: int) -> Iterator[Batch]:
        return batches(
            read,
            length=length,
            seed=training.seed,
            batch=training.batch,
            start=start,
            stop=training.steps,
            rank=processes.process_index,
            world=processes.num_processes,
            workers=workers,
        )

    phase = Phase(name="train", module=objective, optimizer=optimizer, rate=learning_rate(training), start=0)
    return Task(model=model, phases=[phase], batches=batches_from, draw=draw, picture_every=picture_every)


def learning_rate(training: params.Training) -> LearningRate:
    return LearningRate(
        kind=training.schedule.kind,
        base=training.optimizer.learning_rate,
        end=training.schedule.end,
        warmup=training.schedule.warmup,
        steps=training.steps,
    )


@torch.inference_mode()
def draw_reconstructions(model: nn.Module, pixels: Tensor) -> Tensor:
    """Return originals (M, 3, H, W) uint8 followed by their reconstructions."""
    device = next(model.parameters()).device
    images = model(to_float(pixels.to(device))).images
    return torch.cat([pixels, to_uint8(images).cpu()])
