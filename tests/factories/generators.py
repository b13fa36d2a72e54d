"""Small generators of captions, and a study's folder with all that they are used with."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from onetok.systems.maskgen.kl import MaskGenKL
from onetok.systems.maskgen.schema import MaskGenKLConfig, MaskGenVQConfig, MMDiTConfig
from onetok.systems.maskgen.vq import MaskGenVQ
from tests.factories.tokenizers import leave_artefact, make, make_text_encoder

BACKBONE = MMDiTConfig(
    width=16, layers=2, heads=2, text_width=12, pooled_width=12, aesthetic_width=8, checkpointing=False
)


def make_maskgen(kind: str) -> nn.Module:
    """Return a MaskGen for the tokenizers and the text encoder of tests, not at its start."""
    torch.manual_seed(3)
    shared = {"tokens": 6, "backbone": BACKBONE, "text_dropout": 0.1, "init_std": 0.05}
    model: nn.Module
    if kind == "vq":
        model = MaskGenVQ(MaskGenVQConfig(codebook_size=32, spare_rows=0, **shared))
    else:
        model = MaskGenKL(MaskGenKLConfig(channels=4, scale=1.0, head_width=16, head_layers=1, **shared))
    for parameter in model.parameters():
        if parameter.ndim > 1:
            nn.init.normal_(parameter, std=0.5 * parameter.shape[-1] ** -0.5)
    return model.eval()


def leave_captioned(study: Path) -> None:
    """Leave both MaskGens of the smallest study, their tokenizers and the text encoder."""
    leave_artefact(make_text_encoder(), study, "encoders", "clip/digits", {})
    leave_artefact(make("tatitok"), study, "tokenizers", "tatitok/scenes-vq", {})
    leave_artefact(make("tatitok-kl"), study, "tokenizers", "tatitok/kl-16", {})
    for name, kind in (("maskgen/vq", "vq"), ("maskgen/kl", "kl"), ("maskgen_tuned/vq", "vq")):
        leave_artefact(make_maskgen(kind), study, "generators", name, {})
