"""CLIP (arXiv 2103.00020): the text encoder of the text-conditional systems, and the network of the CLIP score.

An image encoder and a text encoder map an image and its caption to vectors of one space. The text-conditional systems
use the text encoder's sequence of states: TA-TiTok and FlowTok the one after the last LayerNorm, MaskGen the input of
the last block (`penultimate` in open_clip, which its released code calls). Both encoders are open_clip's, so that its
published weights load unchanged. OpenAI's weights were trained with QuickGELU, x·sigmoid(1.702 x); with a GELU they run
without an error and give wrong states.

Legend: B batch · T token ids of a caption · S width of the text encoder · P width of the shared space · H,W pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from onetok.data.captions import CaptionTokenizer
from onetok.study.schema.base import Pixels, Positive
from onetok.study.schema.encoders import CLIPModel

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)


class CLIPConfig(CLIPModel):
    """The network's configuration."""

    image_size: Pixels  # H = W of the image encoder's input
    vocab_size: Positive  # number of token ids of captions


class TextStates(NamedTuple):
    """The text encoder's output."""

    sequence: Tensor  # (B, T, S) output of the last LayerNorm
    penultimate: Tensor  # (B, T, S) input of the last block, without that LayerNorm
    pooled: Tensor  # (B, P) the end-of-text state of `sequence`, projected to the shared space


class CLIP(nn.Module):
    """Token ids (B, T) int64 → text states; images (B, 3, H, W) float in [0, 1] → image features (B, P)."""

    mean: Tensor
    std: Tensor

    def __init__(self, config: CLIPConfig) -> None:
        from open_clip import model as open_clip  # takes seconds to import, so only when it is needed

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
        """T, token ids of a caption."""
        return self.config.context_length

    @property
    def text_width(self) -> int:
        """S, width of the text states."""
        return self.config.text_width

    @property
    def pooled_width(self) -> int:
        """P, width of the shared space."""
        return self.config.embedding

    def encode_text(self, ids: Tensor) -> TextStates:
        """Return the states of token ids (B, T) int64, where T must be the context length."""
        network = self.network
        x = network.token_embedding(ids) + network.positional_embedding  # (B, T, S)
        *before, last = network.transformer.resblocks
        for block in before:
            x = block(x, attn_mask=network.attn_mask)  # (B, T, S), causal
        sequence = network.ln_final(last(x, attn_mask=network.attn_mask))  # (B, T, S)
        rows = torch.arange(len(ids), device=ids.device)  # (B,)
        end = sequence[rows, ids.argmax(dim=1)]  # (B, S): end-of-text has the largest id
        pooled = end @ network.text_projection  # (B, P)
        return TextStates(sequence=sequence, penultimate=x, pooled=pooled)

    def features(self, images: Tensor) -> Tensor:
        """Return image features (B, P), not normalised, of images (B, 3, h, w) float in [0, 1] of any size."""
        size = (self.config.image_size, self.config.image_size)
        if images.shape[-2:] != size:
            # (B, 3, h, w) → (B, 3, H, W)
            x = F.interpolate(images, size, mode="bicubic", antialias=True, align_corners=False)
            images = x.clamp(0, 1)  # because bicubic interpolation overshoots
        out: Tensor = self.network.visual((images - self.mean) / self.std)  # (B, P)
        return out

    def forward(self, images: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
        """Return the image features and the pooled text states of B images and their captions."""
        return self.features(images), self.encode_text(ids).pooled  # (B, P) each


@dataclass(frozen=True)
class CaptionStates:
    """Text states for TA-TiTok's decoder: token ids (B, T) int64 → states (B, T, S).

    This is no module, since the encoder is not trained.
    """

    encoder: CLIP

    @property
    def tokenize(self) -> CaptionTokenizer:
        """The function from captions to token ids (B, T)."""
        return CaptionTokenizer(self.encoder.context_length)

    @torch.no_grad()
    def __call__(self, ids: Tensor) -> Tensor:
        return self.encoder.encode_text(ids).sequence
