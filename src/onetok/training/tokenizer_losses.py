"""Builders of tokenizers' losses from params; their frozen networks are artefacts of the study."""

from __future__ import annotations

from typing import Protocol, cast

import torch
from torch import nn

from onetok.losses.adversarial import AdversarialTerm
from onetok.losses.reconstruction import (
    LPIPSTerm,
    PerceptualDistance,
    PerceptualNetwork,
    PerceptualTerm,
    ReconstructionLoss,
)
from onetok.networks.clip import CLIP, CaptionStates
from onetok.networks.discriminator import Discriminator
from onetok.nn.protocols import Generator, Tokenizer
from onetok.study.schema.tokenizers import (
    Adversarial,
    Perceptual,
    PixelTokenizer,
    TokenizerEntry,
    TokenizerLosses,
)
from onetok.training.objectives import PixelObjective


class Artefacts(Protocol):
    """The trained models of a study, by their names in params."""

    def encoder(self, name: str) -> nn.Module:
        """Return a network, frozen: a FID network, perceptual network or text encoder."""
        ...

    def text_encoder(self, name: str) -> CLIP:
        """Return a text encoder, frozen."""
        ...

    def tokenizer(self, name: str) -> Tokenizer:
        """Return a tokenizer, frozen."""
        ...

    def generator(self, name: str) -> Generator:
        """Return a generator."""
        ...


def pixel_objective(entry: PixelTokenizer, model: Tokenizer, made: Artefacts) -> PixelObjective:
    """Return the objective of a tokenizer that is trained to reconstruct pixels."""
    adversarial = entry.losses.adversarial
    return PixelObjective(
        model,
        reconstruction_loss(entry.losses, made),
        adversarial_term(adversarial) if adversarial is not None else None,
        caption_states(entry, made),
    )


def caption_states(entry: TokenizerEntry, made: Artefacts) -> CaptionStates | None:
    """Return the text encoder of a tokenizer whose decoder takes captions; None for one that takes no text."""
    return CaptionStates(made.text_encoder(entry.text_encoder)) if entry.text_encoder is not None else None


def reconstruction_loss(entry: TokenizerLosses, made: Artefacts) -> ReconstructionLoss:
    """Return the weighted pixel, quantizer and perceptual terms of params."""
    terms = [perceptual_term(term, made) for term in entry.perceptual]
    return ReconstructionLoss(l1=entry.l1, l2=entry.l2, quantizer=entry.quantizer, perceptual=terms)


def perceptual_term(entry: Perceptual, made: Artefacts) -> PerceptualTerm | LPIPSTerm:
    """Return a perceptual term of params, with the network that it names."""
    # In PyTorch's default memory layout, convolutions of small images take 1.5 times as long.
    network = made.encoder(entry.encoder).to(memory_format=torch.channels_last)
    if entry.layer == "lpips":
        return LPIPSTerm(network=cast(PerceptualDistance, network), weight=entry.weight)
    return PerceptualTerm(extractor=cast(PerceptualNetwork, network), layer=entry.layer, weight=entry.weight)


def adversarial_term(entry: Adversarial) -> AdversarialTerm:
    """Return the tokenizer's adversarial term of params, with a new discriminator."""
    discriminator = Discriminator(entry.discriminator)
    return AdversarialTerm(discriminator=discriminator, weight=entry.weight, start=entry.start)
