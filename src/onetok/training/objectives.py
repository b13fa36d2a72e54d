"""Training objectives: modules whose forward pass takes a batch and a step and returns losses by name.

"total" is the loss to minimise, the others are logged. Objectives of a single system are in its folder.

Legend: b images of a batch · M images of a picture · H,W pixels · S side of the discriminator's logits · T token ids of
        a caption · N tokens · C token channels · K classes, or codebook entries · P width of CLIP's shared space.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from onetok.data.batches import Batch
from onetok.data.captions import CaptionTokenizer
from onetok.data.images import to_float, to_uint8
from onetok.losses.adversarial import AdversarialTerm, DiscriminatorLoss
from onetok.losses.contrastive import contrastive_loss
from onetok.losses.reconstruction import ReconstructionLoss
from onetok.networks.classifier import Classifier
from onetok.networks.clip import CLIP, CaptionStates
from onetok.nn.masked_generator import MaskedGenerator
from onetok.nn.protocols import Generator, LatentGenerator, TextTokenizer, Tokenizer
from onetok.nn.quantizers import Posterior, Reconstruction, Tokens
from onetok.nn.text_condition import TextCondition
from onetok.study.schema.generators import MaskedLoss


def in_float32(tensor: Tensor) -> torch.autocast:
    """Return a context without autocast: losses and frozen networks run in float32 at any precision of training."""
    return torch.autocast(tensor.device.type, enabled=False)


class ClassifierObjective(nn.Module):
    """Cross-entropy of a classifier, with label smoothing, and its accuracy."""

    def __init__(self, model: Classifier, label_smoothing: float) -> None:
        super().__init__()
        self.model, self.label_smoothing = model, label_smoothing

    def forward(self, batch: Batch, step: int) -> dict[str, Tensor]:
        logits = self.model(to_float(batch.inputs)).float()  # (b, K)
        return {
            "total": F.cross_entropy(logits, batch.labels, label_smoothing=self.label_smoothing),
            "accuracy": (logits.argmax(dim=1) == batch.labels).float().mean().detach(),
        }


class ContrastiveObjective(nn.Module):
    """CLIP's contrastive loss within the part of the batch that one process handles in one accumulation step."""

    def __init__(self, model: CLIP) -> None:
        super().__init__()
        self.model = model

    def forward(self, batch: Batch, step: int) -> dict[str, Tensor]:
        images, texts = self.model(to_float(batch.inputs), batch.captions)  # (b, P) each
        with in_float32(images):
            return contrastive_loss(images, texts, batch.captions, self.model.network.logit_scale)


class TokenizerObjective(nn.Module):
    """Base class of the objectives of tokenizers."""

    model: Tokenizer
    tokenize: CaptionTokenizer | None = (
        None  # captions → token ids of batches; None if the tokenizer takes no text
    )

    def reconstruct(self, model: nn.Module, images: Tensor, captions: Tensor) -> Reconstruction:
        """Reconstruct images (b, 3, H, W) in [0, 1] with captions (b, T) int64.

        `model` is this objective's model, or its EMA.
        """
        reconstruction: Reconstruction = model(images)
        return reconstruction


class PixelObjective(TokenizerObjective):
    """Reconstruction of pixels, with an adversarial term from its start step on."""

    def __init__(
        self,
        model: Tokenizer,
        loss: ReconstructionLoss,
        adversarial: AdversarialTerm | None,
        text: CaptionStates | None,
    ) -> None:
        super().__init__()
        self.model, self.loss, self.adversarial, self.text = model, loss, adversarial, text
        self.tokenize = text.tokenize if text is not None else None
        # Input of the discriminator's phase in the same step: (b, 3, H, W) for each accumulated part of the batch.
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
        reconstructed = reconstruction.images.float()  # (b, 3, H, W)
        losses = self.loss(reconstructed, images, reconstruction.losses)
        losses |= codebook_counts(self.model, reconstruction.tokens)
        if self.adversarial is not None and step >= self.adversarial.start:
            losses["adversarial"] = self.adversarial(reconstructed)
            losses["total"] = losses["total"] + self.adversarial.weight * losses["adversarial"]
            self.reconstructions.append(reconstructed.detach())
        return losses


def codebook_counts(model: Tokenizer, tokens: Tokens) -> dict[str, Tensor]:
    """Return the number of uses of each codebook entry, (K,) float32, under the name of the usage that is logged.

    Continuous tokens have none: the result is empty.
    """
    if tokens.ids is None or model.codebook_size is None:
        return {}
    return {"codebook_usage": torch.bincount(tokens.ids.flatten(), minlength=model.codebook_size).float()}


class DiscriminatorObjective(nn.Module):
    """The discriminator's loss on images and on the reconstructions of the tokenizer's phase of the same step."""

    def __init__(
        self, discriminator: nn.Module, loss: DiscriminatorLoss, reconstructions: deque[Tensor]
    ) -> None:
        super().__init__()
        self.discriminator, self.loss, self.reconstructions = discriminator, loss, reconstructions

    def forward(self, batch: Batch, step: int) -> dict[str, Tensor]:
        images, reconstructed = to_float(batch.inputs), self.reconstructions.popleft()  # (b, 3, H, W) each
        with in_float32(images):
            real, fake = self.discriminator(torch.cat([images, reconstructed])).chunk(2)  # (b, 1, S, S) each
            losses: dict[str, Tensor] = self.loss(real, fake)
        return losses


class GeneratorObjective(nn.Module):
    """Base class of the objectives of generators: inputs are token ids (b, N) or posteriors (b, 2, N, C)."""

    model: Generator


def labels_of(batch: Batch) -> Tensor:
    """Return the condition of a class-conditional generator: class labels (b,) int64."""
    return batch.labels


class MaskedGeneratorObjective(GeneratorObjective):
    """Masked-token prediction; `condition` returns the condition of a batch, its labels or its text states."""

    model: MaskedGenerator

    def __init__(
        self,
        model: MaskedGenerator,
        condition: Callable[[Batch], Any],
        settings: MaskedLoss,
    ) -> None:
        super().__init__()
        self.model, self.condition, self.settings = model, condition, settings

    def forward(self, batch: Batch, step: int) -> dict[str, Tensor]:
        with in_float32(batch.inputs):
            condition = self.condition(batch)
        losses: dict[str, Tensor] = self.model.loss(batch.inputs, condition, self.settings)
        return losses


class TextObjective(nn.Module):
    """Reconstruction of captions by a text tokenizer; `text` is the frozen text encoder whose states it reads."""

    def __init__(self, model: TextTokenizer, text: CaptionStates, settings: Any) -> None:
        super().__init__()
        self.model, self.text, self.settings = model, text, settings

    def forward(self, batch: Batch, step: int) -> dict[str, Tensor]:
        with in_float32(batch.captions):
            states = self.text(batch.captions)  # (b, T, W)
        losses: dict[str, Tensor] = self.model.loss(states, batch.captions, self.settings)
        return losses


class TextPosteriors:
    """The posteriors of the text tokens of a batch's captions, which a captioner learns to reach.

    `condition` returns their text states. This is no module, since neither network is trained.
    """

    def __init__(self, condition: Callable[[Batch], TextCondition], tokenizer: TextTokenizer) -> None:
        self.condition, self.tokenizer = condition, tokenizer

    @torch.no_grad()
    def __call__(self, batch: Batch) -> Posterior:
        return self.tokenizer.encode(self.condition(batch).sequence)


class LatentObjective(GeneratorObjective):
    """Training of a generator of latents, which are sampled from their posteriors anew in every step.

    `condition` returns the text states of a batch, or the posteriors of its text tokens for a captioner; `settings` are
    those of the generator's loss.
    """

    model: LatentGenerator

    def __init__(
        self,
        model: LatentGenerator,
        condition: Callable[[Batch], TextCondition | Posterior],
        settings: Any,
    ) -> None:
        super().__init__()
        self.model, self.condition, self.settings = model, condition, settings

    def forward(self, batch: Batch, step: int) -> dict[str, Tensor]:
        latents = Posterior(*batch.inputs.unbind(dim=1)).sample(None)  # (b, N, C)
        with in_float32(latents):
            condition = self.condition(batch)
        losses: dict[str, Tensor] = self.model.loss(latents, condition, self.settings)
        return losses


@torch.inference_mode()
def rebuild_pictures(
    model: nn.Module, objective: TokenizerObjective, pixels: Tensor, captions: Tensor
) -> Tensor:
    """Return the pixels (M, 3, H, W) uint8 followed by their reconstructions: (2M, 3, H, W) uint8.

    They are reconstructed by `model` with captions (M, T) int64.
    """
    device = next(model.parameters()).device
    images = objective.reconstruct(model, to_float(pixels.to(device)), captions.to(device)).images
    return torch.cat([pixels, to_uint8(images).cpu()])
