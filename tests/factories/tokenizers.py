"""Small tokenizers, a small text encoder, and a study's folder around them."""

from __future__ import annotations

import torch
from torch import nn

from onetok.data.captions import VOCABULARY
from onetok.networks.clip import CLIP, CLIPConfig
from onetok.study.plan import Artefact, Job
from onetok.study.receipts import write_receipt
from onetok.study.schema.architecture import GaussianConfig, TransformerSize, VectorQuantizerConfig
from onetok.study.schema.datasets import Images
from onetok.systems.saved import save_model
from onetok.systems.tatitok.model import TATiTok
from onetok.systems.tatitok.schema import TATiTokConfig
from onetok.systems.titok.model import TiTok
from onetok.systems.titok.schema import TiTokConfig, TiTokInit
from onetok.systems.vqgan.model import VQGAN
from onetok.systems.vqgan.schema import VQGANConfig

IMAGES = Images(resize="torchvision", shorter_edge=40, size=32, filter="bilinear")
VQ = VectorQuantizerConfig(codebook_size=32, channels=4, normalize=True, commitment=0.25, clustering=True)
SHARED = {
    "image_size": 32,
    "encoder": TransformerSize(width=16, layers=1, heads=2),
    "decoder": TransformerSize(width=16, layers=1, heads=2),
    "encoder_patch": 8,
    "decoder_patch": 8,
    "tokens": 6,
    "init": TiTokInit(
        linear_std=None, positions="sincos", position_scale=1.0, query_key_gain=2.0, output_gain=1.0
    ),
}


def make(kind: str) -> nn.Module:
    torch.manual_seed(0)
    if kind == "vqgan":
        return VQGAN(
            VQGANConfig(image_size=32, width=8, multipliers=(1, 2), blocks=1, norm_groups=4, quantizer=VQ)
        ).eval()
    quantizer = GaussianConfig(channels=4) if kind.endswith("kl") else VQ
    if kind.startswith("tatitok"):
        text = {"text_states": 8, "text_width": 12, "decoder_linear": "init"}
        return TATiTok(TATiTokConfig(**SHARED, **text, quantizer=quantizer)).eval()
    return TiTok(TiTokConfig(**SHARED, quantizer=quantizer)).eval()


def make_text_encoder(context_length: int = 8) -> CLIP:
    torch.manual_seed(1)
    config = CLIPConfig(
        image_size=16,
        patch_size=8,
        vision_width=16,
        vision_layers=1,
        vision_head_width=8,
        context_length=context_length,
        vocab_size=VOCABULARY,
        text_width=12,
        text_layers=1,
        text_heads=2,
        embedding=12,
        quick_gelu=True,
    )
    return CLIP(config).eval()


def leave_artefact(model: nn.Module, study, kind: str, name: str, params: dict) -> None:
    """Write what a stage leaves: the model, and a receipt."""
    artefact = Artefact(kind=kind, name=name)
    folder = study / artefact.folder
    folder.mkdir(parents=True)
    save_model(model, folder)
    outputs = ("weights.safetensors", "config.json")
    job = Job(artefact=artefact, params=params, inputs=(), payloads=(), outputs=outputs)
    write_receipt(job, study, {})
