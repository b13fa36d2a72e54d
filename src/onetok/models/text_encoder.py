"""CLIP (arXiv 2103.00020): the text encoder of the text-conditional systems, and the judge of how text and image agree.

An image and its caption become two vectors of one space. Generators read the text tower's states one by one: TA-TiTok
and FlowTok the sequence after the last LayerNorm, MaskGen the one that enters the last block (its released code takes
open_clip's `penultimate`). The towers are open_clip's own, so that its published weights load as they are. OpenAI's
weights were trained with QuickGELU, x·sigmoid(1.702 x): a GELU computes with them too, and is wrong.

Legend: B batch · T token ids of a caption · S width of the text tower · P width of the shared space · H,W pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from onetok.data.captions import CaptionTokenizer

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)


@dataclass(frozen=True, kw_only=True, slots=True)
class CLIPConfig:
    image_size: int  # H = W that the image tower takes
    patch_size: int
    vision_width: int
    vision_layers: int
    vision_head_width: int
    context_length: int  # T
    vocab_size: int
    text_width: int  # S
    text_layers: int
    text_heads: int
    embedding: int  # P
    quick_gelu: bool  # True for OpenAI's weights


class TextStates(NamedTuple):
    sequence: Tensor  # (B, T, S) after the last LayerNorm
    penultimate: Tensor  # (B, T, S) what enters the last block, without that LayerNorm
    pooled: Tensor  # (B, P) the end-of-text state of `sequence`, projected


class CLIP(nn.Module):
    """Token ids (B, T) → text states; images (B, 3, H, W) float in [0, 1] → (B, P)."""

    mean: Tensor
    std: Tensor

    def __init__(self, config: CLIPConfig) -> None:
        from open_clip import model as open_clip  # takes seconds to import: only where it is built

        super().__init__()
        self.config = config
        vision = open_clip.CLIPVisionCfg(
            image_size=config.image_size,
            patch_size=config.patch_size,
            width=config.vision_width,
            layers=config.vision_layers,
            head_width=config.vision_head_width,
        )
        text = open_clip.CLIPTextCfg(
            context_length=config.context_length,
            vocab_size=config.vocab_size,
            width=config.text_width,
            layers=config.text_layers,
            heads=config.text_heads,
        )
        self.network: Any = open_clip.CLIP(config.embedding, vision, text, quick_gelu=config.quick_gelu)
        self.register_buffer("mean", torch.tensor(CLIP_MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(CLIP_STD).view(1, 3, 1, 1), persistent=False)

    @property
    def context_length(self) -> int:
        return self.config.context_length

    @property
    def text_width(self) -> int:
        return self.config.text_width

    @property
    def pooled_width(self) -> int:
        return self.config.embedding

    def encode_text(self, ids: Tensor) -> TextStates:
        """Return the states of token ids (B, T) int64, T the whole context length."""
        network = self.network
        x = network.token_embedding(ids) + network.positional_embedding  # (B, T, S)
        *before, last = network.transformer.resblocks
        for block in before:
            x = block(x, attn_mask=network.attn_mask)  # (B, T, S), causal
        sequence = network.ln_final(last(x, attn_mask=network.attn_mask))  # (B, T, S)
        rows = torch.arange(len(ids), device=ids.device)
        end = sequence[rows, ids.argmax(dim=1)]  # (B, S): end-of-text has the largest id
        return TextStates(sequence=sequence, penultimate=x, pooled=end @ network.text_projection)

    def features(self, images: Tensor) -> Tensor:
        """Return (B, P), not normalised, of images (B, 3, H, W) float in [0, 1] of any size."""
        size = (self.config.image_size, self.config.image_size)
        if images.shape[-2:] != size:
            x = F.interpolate(images, size, mode="bicubic", antialias=True, align_corners=False)
            images = x.clamp(0, 1)  # (B, 3, H, W); bicubic overshoots
        out: Tensor = self.network.visual((images - self.mean) / self.std)  # (B, P)
        return out

    def forward(self, images: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
        return self.features(images), self.encode_text(ids).pooled  # (B, P) each


@dataclass(frozen=True)
class CaptionStates:
    """What a decoder reads of captions: token ids (B, T) → states (B, T, S). No module: it is not trained."""

    encoder: CLIP

    @property
    def tokenize(self) -> CaptionTokenizer:
        return CaptionTokenizer(self.encoder.context_length)

    @torch.no_grad()
    def __call__(self, ids: Tensor) -> Tensor:
        return self.encoder.encode_text(ids).sequence
