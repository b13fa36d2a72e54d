"""Small tokenizers, a text encoder that stands in for CLIP, and a study's folder around them."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from types import SimpleNamespace
from typing import NamedTuple

import torch
from torch import Tensor, nn

from onetok.models.layers import TransformerSize
from onetok.models.quantizers import GaussianConfig, VectorQuantizerConfig
from onetok.models.tatitok import TATiTok, TATiTokConfig
from onetok.models.titok import TiTok, TiTokConfig, TiTokInit
from onetok.models.vqgan import VQGAN, VQGANConfig
from onetok.params import Images
from onetok.registry import MODELS, save_model

IMAGES = Images(shorter_edge=40, size=32, filter="bilinear")
VQ = VectorQuantizerConfig(codebook_size=32, channels=4, normalize=True, commitment=0.25, clustering=True)
SHARED = {
    "image_size": 32,
    "encoder": TransformerSize(width=16, layers=1, heads=2),
    "decoder": TransformerSize(width=16, layers=1, heads=2),
    "encoder_patch": 8,
    "decoder_patch": 8,
    "tokens": 6,
    "init": TiTokInit(linear_std=None, positions="sincos", position_scale=1.0, query_key_gain=2.0),
}


def make(kind: str) -> nn.Module:
    torch.manual_seed(0)
    if kind == "vqgan":
        return VQGAN(
            VQGANConfig(image_size=32, width=8, multipliers=(1, 2), blocks=1, norm_groups=4, quantizer=VQ)
        ).eval()
    if kind == "tatitok":
        text = {"text_states": 5, "text_width": 12, "decoder_linear": "init"}
        return TATiTok(TATiTokConfig(**SHARED, **text, quantizer=VQ)).eval()
    return TiTok(TiTokConfig(**SHARED, quantizer=GaussianConfig(channels=4) if kind == "kl" else VQ)).eval()


class States(NamedTuple):
    sequence: Tensor  # (B, T, S)


@dataclass(frozen=True)
class FakeCLIPConfig:
    context: int
    width: int


class FakeCLIP(nn.Module):
    """Looks ids up in a table."""

    def __init__(self, config: FakeCLIPConfig) -> None:
        super().__init__()
        self.config = config
        self.table = nn.Embedding(256, config.width)

    @property
    def context_length(self) -> int:
        return self.config.context

    @property
    def text_width(self) -> int:
        return self.config.width

    def encode_text(self, ids: Tensor) -> States:
        return States(self.table(ids))


class FakeCaptionTokenizer:
    """Bytes of the caption, cut or padded."""

    def __init__(self, context_length: int) -> None:
        self.context_length = context_length

    def __call__(self, captions: list[str]) -> Tensor:
        rows = [list(caption.encode())[: self.context_length] for caption in captions]
        return torch.tensor([row + [0] * (self.context_length - len(row)) for row in rows])


def use_fake_text(monkeypatch) -> FakeCLIP:
    monkeypatch.setitem(MODELS, "fake-clip", (FakeCLIP, FakeCLIPConfig))
    fake = SimpleNamespace(CaptionTokenizer=FakeCaptionTokenizer)
    monkeypatch.setitem(sys.modules, "onetok.data.captions", fake)
    torch.manual_seed(1)
    return FakeCLIP(FakeCLIPConfig(context=5, width=12))


def leave_artefact(model: nn.Module, study, kind: str, name: str, params: dict) -> None:
    """Write what a stage leaves: the model, and a receipt."""
    folder = study / "results" / kind / name
    folder.mkdir(parents=True)
    save_model(model, folder)
    receipt = {"version": 1, "params": params, "inputs": {}, "outputs": {}}
    (folder / "receipt.json").write_text(json.dumps(receipt))
