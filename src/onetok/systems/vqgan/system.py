"""The MaskGIT-VQGAN, for the rest of the project."""

from __future__ import annotations

from onetok.systems.records import Paper, Release, TokenizerSystem
from onetok.systems.vqgan.model import VQGAN
from onetok.systems.vqgan.release import KEYS, released_config
from onetok.systems.vqgan.schema import ReleasedVQGAN, VQGANConfig, VQGANEntry, VQGANTokenizer
from onetok.training.tokenizer_losses import Artefacts


def build(entry: VQGANEntry, made: Artefacts) -> VQGAN:
    return VQGAN(entry.config)


RECORDS = (
    TokenizerSystem(
        kind="vqgan",
        model=VQGAN,
        config=VQGANConfig,
        no_decay=("codebook",),
        builds={VQGANTokenizer: build, ReleasedVQGAN: build},
        releases={"maskgit_vqgan": Release(KEYS, released_config)},
        layout=lambda entry: "maskgit_vqgan",
        description="MaskGIT's VQGAN: a convolutional tokenizer whose tokens form a grid",
        papers=(Paper("MaskGIT: Masked Generative Image Transformer", "2202.04200"),),
    ),
)
