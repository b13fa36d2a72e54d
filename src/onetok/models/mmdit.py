"""MM-DiT: image tokens and text attend to each other, each with weights of its own (SD3, arXiv 2403.03206, section 4).

The backbone of both MaskGens (arXiv 2501.07730, section 4.2). What it reads of a caption comes first. Every norm is
shifted and scaled, and every branch gated, by one vector of the image: the caption's pooled state beside its aesthetic
score. That vector and the projected text depend on the caption alone, so `read` computes all that follows from them
once, however often `forward` is called. The last block's text only serves as keys and values.

Legend: B batch · N image tokens · T text states · S, P widths of the text encoder's states and of its pooled one
        A width of the embedded aesthetic score · D width · H heads.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from onetok.models.layers import PackedLinear

EPS = 1e-6  # of every norm
HIDDEN = 4  # times the width, of the feed-forward


class TextCondition(NamedTuple):
    """What B captions are to a generator, and what the empty caption is, which stands for no text."""

    sequence: Tensor  # (B, T, S) states that enter the text tower's last block
    pooled: Tensor  # (B, P) projected end-of-text state
    aesthetic: Tensor  # (B,) float, about 0 to 10; it stays where the text is dropped
    empty_sequence: Tensor  # (T, S)
    empty_pooled: Tensor  # (P,)

    def dropped(self, rows: Tensor) -> TextCondition:
        """Return the condition with the empty caption in the place of those of rows (B,) bool."""
        sequence = torch.where(rows[:, None, None], self.empty_sequence, self.sequence)
        pooled = torch.where(rows[:, None], self.empty_pooled, self.pooled)
        return self._replace(sequence=sequence, pooled=pooled)

    def with_unconditional(self) -> TextCondition:
        """Return the condition of 2B images: these, then the same without text."""
        without = self.dropped(torch.ones_like(self.aesthetic, dtype=torch.bool))
        return self._replace(
            sequence=torch.cat([self.sequence, without.sequence]),
            pooled=torch.cat([self.pooled, without.pooled]),
            aesthetic=self.aesthetic.repeat(2),
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class MMDiTConfig:
    width: int  # D
    layers: int
    heads: int  # H
    text_width: int  # S
    pooled_width: int  # P
    aesthetic_width: int  # A
    checkpointing: (
        bool  # in training, compute the activations of all blocks but the last twice rather than keep them
    )

    def __post_init__(self) -> None:
        if self.width % self.heads:
            raise ValueError(f"width {self.width} is not divisible by {self.heads} heads")


Parts = tuple[Tensor, ...]  # (B, 1, D) each


class Reading(NamedTuple):
    """What follows from the condition alone."""

    text: Tensor  # (B, T, D)
    # Of each block: shift, scale, gate of the attention, then of the MLP; of the last block's text: scale, shift.
    image_parts: list[Parts]
    text_parts: list[Parts]
    final: Parts  # scale, shift


def modulated(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """Return LN(x)·(1 + scale) + shift, the norm without weights of its own."""
    return torch.addcmul(shift, F.layer_norm(x, x.shape[-1:], eps=EPS), 1 + scale)


class Stream(nn.Module):
    """One modality's side of a joint block."""

    parts = 6  # of the modulation

    def __init__(self, width: int) -> None:
        super().__init__()
        self.modulation = nn.Linear(width, self.parts * width)
        self.qkv = PackedLinear(width, 3 * width)
        self.out = PackedLinear(width, width)
        self.up = PackedLinear(width, HIDDEN * width)
        self.down = PackedLinear(HIDDEN * width, width)

    def project(self, x: Tensor, parts: Parts) -> Tensor:
        """Return queries, keys and values (B, L, 3D) of x (B, L, D)."""
        qkv: Tensor = self.qkv(modulated(x, *parts[:2]))
        return qkv

    def finish(self, x: Tensor, attended: Tensor, parts: Parts) -> Tensor:
        """Return x (B, L, D) after what was attended to (B, L, D) and the feed-forward."""
        gate1, shift2, scale2, gate2 = parts[2:]
        x = torch.addcmul(x, gate1, self.out(attended))
        hidden = F.gelu(self.up(modulated(x, shift2, scale2)), approximate="tanh")  # (B, L, 4D)
        return torch.addcmul(x, gate2, self.down(hidden))


class LastTextStream(nn.Module):
    """The text's side of the last block: keys and values. The queries' rows of `qkv` are released and never read."""

    parts = 2

    def __init__(self, width: int) -> None:
        super().__init__()
        self.modulation = nn.Linear(width, self.parts * width)
        self.qkv = nn.Linear(width, 3 * width)

    def project(self, x: Tensor, parts: Parts) -> Tensor:
        """Return keys and values (B, T, 2D) of x (B, T, D)."""
        scale, shift = parts
        width = x.shape[-1]
        return F.linear(modulated(x, shift, scale), self.qkv.weight[width:], self.qkv.bias[width:])


class JointBlock(nn.Module):
    """Attention of [image; text] to [image; text], then a feed-forward for each."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.image = Stream(width)
        self.text = Stream(width)

    def forward(
        self, image: Tensor, text: Tensor, image_parts: Parts, text_parts: Parts
    ) -> tuple[Tensor, Tensor]:
        """Return image (B, N, D) and text (B, T, D) after the block."""
        both = [self.image.project(image, image_parts), self.text.project(text, text_parts)]
        q, k, v = split_heads(torch.cat(both, dim=1), 3, self.heads)  # (B, H, N+T, D/H)
        attended = merge_heads(F.scaled_dot_product_attention(q, k, v))  # (B, N+T, D)
        by_image, by_text = attended.split([image.shape[1], text.shape[1]], dim=1)
        return self.image.finish(image, by_image, image_parts), self.text.finish(text, by_text, text_parts)


class LastBlock(nn.Module):
    """Attention of the image to [image; text], then the image's feed-forward."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.image = Stream(width)
        self.text = LastTextStream(width)

    def forward(self, image: Tensor, text: Tensor, image_parts: Parts, text_parts: Parts) -> Tensor:
        """Return image (B, N, D) after the block."""
        q, kv = self.image.project(image, image_parts).tensor_split([image.shape[-1]], dim=-1)
        kv = torch.cat([kv, self.text.project(text, text_parts)], dim=1)  # (B, N+T, 2D)
        (q,), (k, v) = split_heads(q, 1, self.heads), split_heads(kv, 2, self.heads)
        attended = merge_heads(F.scaled_dot_product_attention(q, k, v))  # (B, N, D)
        return self.image.finish(image, attended, image_parts)


def split_heads(x: Tensor, parts: int, heads: int) -> Tensor:
    return rearrange(x, "b l (p h d) -> p b h l d", p=parts, h=heads)


def merge_heads(x: Tensor) -> Tensor:
    return rearrange(x, "b h l d -> b l (h d)")


class MMDiT(nn.Module):
    """Embedded image tokens (B, N, D) under a reading of a text condition → (B, N, D), normed."""

    def __init__(self, config: MMDiTConfig) -> None:
        super().__init__()
        self.config = config
        width = config.width
        self.text_projection = nn.Linear(config.text_width, width)
        self.pooled_projection = nn.Linear(config.pooled_width + config.aesthetic_width, width)
        kinds = [JointBlock] * (config.layers - 1) + [LastBlock]
        self.blocks = nn.ModuleList(kind(width, config.heads) for kind in kinds)
        self.final_modulation = nn.Linear(width, 2 * width)

    def read(self, sequence: Tensor, pooled: Tensor, aesthetic: Tensor) -> Reading:
        """Compute what depends on text states (B, T, S), pooled ones (B, P) and aesthetic embeddings (B, A) alone."""
        dtype = self.text_projection.weight.dtype
        vector = self.pooled_projection(torch.cat([pooled, aesthetic], dim=-1).to(dtype))  # (B, D)
        vector = F.silu(vector)[:, None]  # (B, 1, D)
        blocks = self.each_block()
        return Reading(
            text=self.text_projection(sequence.to(dtype)),
            image_parts=[block.image.modulation(vector).chunk(block.image.parts, dim=-1) for block in blocks],
            text_parts=[block.text.modulation(vector).chunk(block.text.parts, dim=-1) for block in blocks],
            final=self.final_modulation(vector).chunk(2, dim=-1),
        )

    def forward(self, x: Tensor, reading: Reading) -> Tensor:
        """Return (B, N, D) of embedded tokens x (B, N, D)."""
        text = reading.text
        *blocks, last = zip(self.blocks, reading.image_parts, reading.text_parts, strict=True)
        for block, image_parts, text_parts in blocks:
            if self.config.checkpointing and self.training:
                x, text = checkpoint(block, x, text, image_parts, text_parts, use_reentrant=False)
            else:
                x, text = block(x, text, image_parts, text_parts)
        block, image_parts, text_parts = last
        x = block(x, text, image_parts, text_parts)
        scale, shift = reading.final
        return modulated(x, shift, scale)

    def each_block(self) -> list[JointBlock | LastBlock]:
        return [block for block in self.blocks if isinstance(block, JointBlock | LastBlock)]
