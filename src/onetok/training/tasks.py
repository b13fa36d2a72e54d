"""Tasks: what the loop minimises for each kind of model, as modules from a batch to losses."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from accelerate import PartialState
from torch import Tensor, nn

from onetok import params
from onetok.data.batches import Batch, ReadBatch, batches
from onetok.data.captions import CaptionTokenizer
from onetok.data.images import to_float, to_uint8
from onetok.losses.adversarial import AdversarialTerm, DiscriminatorLoss
from onetok.losses.codes import CodeLoss
from onetok.losses.contrastive import contrastive_loss
from onetok.losses.masked import MaskedLoss
from onetok.losses.reconstruction import ReconstructionLoss
from onetok.models.classifier import Classifier
from onetok.models.discriminator import Discriminator
from onetok.models.maskgen_kl import MaskGenKL
from onetok.models.maskgen_vq import MaskGenVQ
from onetok.models.maskgit import MaskedGenerator, MaskGIT
from onetok.models.maskgit_uvit import MaskGITUViT
from onetok.models.mmdit import TextCondition
from onetok.models.quantizers import Posterior, Reconstruction, Tokens
from onetok.models.rar import RAR
from onetok.models.tatitok import TATiTok
from onetok.models.text_encoder import CLIP, CaptionStates
from onetok.models.titok import TiTok
from onetok.models.titok_two_stage import TiTokTwoStage
from onetok.models.vqgan import VQGAN
from onetok.sampling.schedules import MaskSchedule
from onetok.training.loop import Floor, Phase, Task
from onetok.training.optimizers import build_optimizer
from onetok.training.schedules import LearningRate, RandomnessAnnealing


def in_float32(tensor: Tensor) -> torch.autocast:
    """Return the context of what computes in float32 whatever the precision of training: losses, frozen networks."""
    return torch.autocast(tensor.device.type, enabled=False)


class ClassifierObjective(nn.Module):
    def __init__(self, model: Classifier, label_smoothing: float) -> None:
        super().__init__()
        self.model, self.label_smoothing = model, label_smoothing

    def forward(self, batch: Batch, step: int) -> dict[str, Tensor]:
        logits = self.model(to_float(batch.inputs)).float()
        return {
            "total": F.cross_entropy(logits, batch.labels, label_smoothing=self.label_smoothing),
            "accuracy": (logits.argmax(dim=1) == batch.labels).float().mean().detach(),
        }


class ContrastiveObjective(nn.Module):
    """Tell which caption of the batch belongs to which image; every process and accumulated part on its own."""

    def __init__(self, model: CLIP) -> None:
        super().__init__()
        self.model = model

    def forward(self, batch: Batch, step: int) -> dict[str, Tensor]:
        images, texts = self.model(to_float(batch.inputs), batch.captions)  # (b, P) each
        with in_float32(images):
            return contrastive_loss(images, texts, batch.captions, self.model.network.logit_scale)


class TokenizerObjective(nn.Module):
    """What a tokenizer learns from a batch, and how it rebuilds the images of one."""

    model: TiTok | VQGAN
    tokenize: CaptionTokenizer | None = None  # how captions of a batch become ids, where they are read

    def reconstruct(self, model: nn.Module, images: Tensor, captions: Tensor) -> Reconstruction:
        """Rebuild images (b, 3, H, W) in [0, 1], told captions (b, T) int64, by this objective's model or another."""
        reconstruction: Reconstruction = model(images)
        return reconstruction


class CodeObjective(TokenizerObjective):
    """Stage 1 of TiTok: predict the codes that a frozen VQGAN gives the images."""

    model: TiTokTwoStage

    def __init__(self, model: TiTokTwoStage, proxy: VQGAN, loss: CodeLoss) -> None:
        super().__init__()
        self.model, self.loss = model, loss
        self.proxy = [proxy]  # in a list it is no part of this module: neither trained nor saved

    def forward(self, batch: Batch, step: int) -> dict[str, Tensor]:
        images = to_float(batch.inputs)
        with torch.no_grad(), in_float32(images):
            codes = self.proxy[0].encode(images).ids
        assert codes is not None
        prediction = self.model.predict_codes(images)
        with in_float32(images):
            losses = self.loss(prediction.logits, codes, prediction.losses)
        losses["accuracy"] = (prediction.logits.argmax(dim=-1) == codes).float().mean()
        return losses | _codebook_counts(self.model, prediction.tokens)


class PixelObjective(TokenizerObjective):
    """Reconstruct images; from the adversarial term's start on, so that its discriminator is deceived."""

    def __init__(
        self,
        model: TiTok | VQGAN,
        loss: ReconstructionLoss,
        adversarial: AdversarialTerm | None,
        text: CaptionStates | None,
    ) -> None:
        super().__init__()
        self.model, self.loss, self.adversarial, self.text = model, loss, adversarial, text
        self.tokenize = text.tokenize if text is not None else None
        # What the discriminator's phase of the same step takes, one tensor for each chunk of the batch.
        self.reconstructions: deque[Tensor] = deque()

    def reconstruct(self, model: nn.Module, images: Tensor, captions: Tensor) -> Reconstruction:
        with in_float32(images):
            text = self.text(captions) if self.text is not None else None
        reconstruction: Reconstruction = model(images, text)
        return reconstruction

    def forward(self, batch: Batch, step: int) -> dict[str, Tensor]:
        images = to_float(batch.inputs)
        reconstruction = self.reconstruct(self.model, images, batch.captions)
        with in_float32(images):
            return self._losses(images, reconstruction, step)

    def _losses(self, images: Tensor, reconstruction: Reconstruction, step: int) -> dict[str, Tensor]:
        made = reconstruction.images.float()
        losses = self.loss(made, images, reconstruction.losses)
        losses |= _codebook_counts(self.model, reconstruction.tokens)
        if self.adversarial is not None and step >= self.adversarial.start:
            losses["adversarial"] = self.adversarial(made)
            losses["total"] = losses["total"] + self.adversarial.weight * losses["adversarial"]
            self.reconstructions.append(made.detach())
        return losses


def _codebook_counts(model: TiTok | VQGAN, tokens: Tokens) -> dict[str, Tensor]:
    """Return how often each entry occurs, (K,), by the name of the scalar that is made of it."""
    if tokens.ids is None or model.codebook_size is None:
        return {}
    return {"codebook_usage": torch.bincount(tokens.ids.flatten(), minlength=model.codebook_size).float()}


class DiscriminatorObjective(nn.Module):
    """Tell images from the reconstructions that the tokenizer's phase of this step has left."""

    def __init__(
        self, discriminator: Discriminator, loss: DiscriminatorLoss, reconstructions: deque[Tensor]
    ) -> None:
        super().__init__()
        self.discriminator, self.loss, self.reconstructions = discriminator, loss, reconstructions

    def forward(self, batch: Batch, step: int) -> dict[str, Tensor]:
        images, made = to_float(batch.inputs), self.reconstructions.popleft()
        with in_float32(images):
            real, fake = self.discriminator(torch.cat([images, made])).chunk(2)  # (b, 1, S, S) each
            losses: dict[str, Tensor] = self.loss(real, fake)
        return losses


class GeneratorObjective(nn.Module):
    """What a generator learns from a batch of token ids (b, N) or posteriors (b, 2, N, C) and their conditions."""

    model: nn.Module


def labels_of(batch: Batch) -> Tensor:
    """Return the condition of a generator of classes, (b,)."""
    return batch.labels


class MaskedGeneratorObjective(GeneratorObjective):
    """Predict masked ids, under what `condition` reads of a batch: its labels or its texts."""

    model: MaskedGenerator

    def __init__(
        self,
        model: MaskedGenerator,
        condition: Callable[[Batch], Any],
        schedule: MaskSchedule,
        settings: MaskedLoss,
    ) -> None:
        super().__init__()
        self.model, self.condition, self.schedule, self.settings = model, condition, schedule, settings

    def forward(self, batch: Batch, step: int) -> dict[str, Tensor]:
        with in_float32(batch.inputs):
            condition = self.condition(batch)
        losses: dict[str, Tensor] = self.model.loss(batch.inputs, condition, self.schedule, self.settings)
        return losses


class LatentGeneratorObjective(GeneratorObjective):
    """Predict masked latents, drawn anew from their posterior in every step."""

    model: MaskGenKL

    def __init__(
        self,
        model: MaskGenKL,
        condition: Callable[[Batch], TextCondition],
        schedule: MaskSchedule,
        repeats: int,
    ) -> None:
        super().__init__()
        self.model, self.condition, self.schedule, self.repeats = model, condition, schedule, repeats

    def forward(self, batch: Batch, step: int) -> dict[str, Tensor]:
        latents = Posterior(*batch.inputs.unbind(dim=1)).sample(None)  # (b, N, C)
        with in_float32(latents):
            condition = self.condition(batch)
        losses: dict[str, Tensor] = self.model.loss(latents, condition, self.schedule, self.repeats)
        return losses


class AutoregressiveGeneratorObjective(GeneratorObjective):
    """Predict the next token, in an order whose randomness falls with the step."""

    model: RAR

    def __init__(self, model: RAR, annealing: RandomnessAnnealing) -> None:
        super().__init__()
        self.model, self.annealing = model, annealing

    def forward(self, batch: Batch, step: int) -> dict[str, Tensor]:
        random_order = self.annealing.probability(step)
        losses: dict[str, Tensor] = self.model.loss(batch.inputs, batch.labels, random_order)
        return losses


# ---------------------------------------------------------------------------------------------- tasks

# What never decays, in our names; the same parameters as the papers' rule exempts by theirs (tests/parity).
_TITOK_NO_DECAY = ("positions", "class_embedding", "mask_token", "latent_tokens", "codebook", "embed")
NO_DECAY: dict[type[nn.Module], tuple[str, ...]] = {
    Classifier: (),
    CLIP: ("positional_embedding",),
    Discriminator: (),
    VQGAN: ("codebook",),
    TiTok: _TITOK_NO_DECAY,
    TiTokTwoStage: _TITOK_NO_DECAY,
    TATiTok: _TITOK_NO_DECAY,
    MaskGIT: ("positions", "embedding"),
    MaskGITUViT: ("positions", "embedding"),
    RAR: ("positions", "embedding", "timesteps", "final_modulation"),
    MaskGenVQ: ("positions", "embedding", "text_projection", "modulation"),
    MaskGenKL: (
        *("positions", "mask_token", "image.modulation", "text.modulation", "backbone.final_modulation"),
        *("head.time", "head.condition"),
    ),
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
    """Return the task of minimising one objective with one optimizer over the `length` samples of `read`."""
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

    rate = learning_rate(training.optimizer, training.schedule, training.steps)
    phase = Phase(name="train", module=objective, optimizer=optimizer, rate=rate, start=0)
    return Task(model=model, phases=[phase], batches=batches_from, draw=draw, picture_every=picture_every)


def tokenizer_task(
    objective: TokenizerObjective,
    read: ReadBatch,
    length: int,
    adversarial: params.Adversarial | None,
    training: params.TokenizerTraining,
    processes: PartialState,
    workers: int,
    draw: Callable[[nn.Module], Tensor],
) -> Task:
    """Return the task of training a tokenizer, against its discriminator if there is one."""
    task = single_phase(
        objective.model,
        objective,
        read,
        length,
        training,
        processes,
        workers,
        draw=draw,
        picture_every=training.picture_every,
    )
    if training.codebook_floor is not None:
        usage, after = training.codebook_floor.usage, training.codebook_floor.after
        task = replace(task, floors=(Floor(scalar="train/codebook_usage", minimum=usage, after=after),))
    if adversarial is not None:
        assert isinstance(objective, PixelObjective)
        phase = discriminator_phase(objective, adversarial)
        task = replace(task, phases=[*task.phases, phase])
    return task


def discriminator_phase(tokenizer: PixelObjective, settings: params.Adversarial) -> Phase:
    """Return the second phase of a GAN; its schedule starts with it."""
    assert tokenizer.adversarial is not None
    objective = DiscriminatorObjective(
        tokenizer.adversarial.discriminator,
        DiscriminatorLoss(settings.lecam.weight, settings.lecam.decay),
        tokenizer.reconstructions,
    )
    return Phase(
        name="discriminator",
        module=objective,
        optimizer=build_optimizer(objective, settings.optimizer, NO_DECAY[Discriminator]),
        rate=learning_rate(settings.optimizer, settings.schedule, settings.schedule.steps),
        start=settings.start,
    )


def learning_rate(optimizer: params.AdamW, schedule: params.Schedule, steps: int) -> LearningRate:
    return LearningRate(
        kind=schedule.kind,
        base=optimizer.learning_rate,
        end=schedule.end,
        warmup=schedule.warmup,
        steps=steps,
    )


@torch.inference_mode()
def draw_reconstructions(
    model: nn.Module, objective: TokenizerObjective, pixels: Tensor, captions: Tensor
) -> Tensor:
    """Return originals (M, 3, H, W) uint8 followed by their reconstructions."""
    device = next(model.parameters()).device
    images = objective.reconstruct(model, to_float(pixels.to(device)), captions.to(device)).images
    return torch.cat([pixels, to_uint8(images).cpu()])
