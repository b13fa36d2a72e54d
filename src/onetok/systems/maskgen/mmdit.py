"""MM-DiT: image tokens and text attend to each other, each with weights of its own (SD3, arXiv 2403.03206, section 4).

This is the backbone of both MaskGen models (arXiv 2501.07730, section 4.2). A vector for each image, computed from the
caption's pooled state and the aesthetic score, shifts and scales every norm and gates every branch (adaLN). This vector
and the projected text states depend on the condition alone, so `embed_condition` computes all modulations once, however
often `forward` is called. In the last block the text provides keys and values only.

Legend: B batch · N image tokens · T text states · L tokens of one modality, N or T · S, P widths of the text encoder's
        states and of its pooled state · A width of the embedded aesthetic score · D width · H heads.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from onetok.nn.layers import PackedLinear, modulated
from onetok.systems.maskgen.schema import MMDiTConfig

HIDDEN = 4  # times the width, of the feed-forward


Parts = tuple[Tensor, ...]  # (B, 1, D) each


class EmbeddedCondition(NamedTuple):
    """Everything that depends on the condition alone: the projected text and the modulations of all blocks."""

    text: Tensor  # (B, T, D)
    # Of each block: shift, scale, gate of the attention, then of the MLP; of the text in the last block: scale, shift.
    image_parts: list[Parts]
    text_parts: list[Parts]
    final: Parts  # scale, shift of the norm after the last block


class Stream(nn.Module):
    """The layers of a joint block that process one modality, image or text."""

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
        qkv: Tensor = self.qkv(modulated(x, *parts[:2]))  # (B, L, 3D)
        return qkv

    def finish(self, x: Tensor, attended: Tensor, parts: Parts) -> Tensor:
        """Return x (B, L, D) plus the gated attention output (B, L, D) and the gated feed-forward."""
        gate1, shift2, scale2, gate2 = parts[2:]  # (B, 1, D) each
        x = torch.addcmul(x, gate1, self.out(attended))  # (B, L, D)
        hidden = F.gelu(self.up(modulated(x, shift2, scale2)), approximate="tanh")  # (B, L, 4D)
        return torch.addcmul(x, gate2, self.down(hidden))  # (B, L, D)


class LastTextStream(nn.Module):
    """The text layers of the last block, which make keys and values only.

    The released weights have query rows in `qkv` too; these are never used.
    """

    parts = 2

    def __init__(self, width: int) -> None:
        super().__init__()
        self.modulation = nn.Linear(width, self.parts * width)
        self.qkv = nn.Linear(width, 3 * width)

    def project(self, x: Tensor, parts: Parts) -> Tensor:
        """Return keys and values (B, T, 2D) of x (B, T, D)."""
        scale, shift = parts  # (B, 1, D) each
        width = x.shape[-1]
        # (B, T, D) → (B, T, 2D)
        return F.linear(modulated(x, shift, scale), self.qkv.weight[width:], self.qkv.bias[width:])


class JointBlock(nn.Module):
    """Self-attention over [image; text], then a feed-forward of each modality."""

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
        q, k, v = split_heads(torch.cat(both, dim=1), 3, self.heads)  # (B, N+T, 3D) → 3 x (B, H, N+T, D/H)
        attended = merge_heads(F.scaled_dot_product_attention(q, k, v))  # (B, N+T, D)
        by_image, by_text = attended.split([image.shape[1], text.shape[1]], dim=1)  # (B, N, D), (B, T, D)
        return self.image.finish(image, by_image, image_parts), self.text.finish(text, by_text, text_parts)


class LastBlock(nn.Module):
    """Attention of the image tokens to [image; text], then the feed-forward of the image tokens."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.image = Stream(width)
        self.text = LastTextStream(width)

    def forward(self, image: Tensor, text: Tensor, image_parts: Parts, text_parts: Parts) -> Tensor:
        """Return image (B, N, D) after the block."""
        # (B, N, 3D) → (B, N, D), (B, N, 2D)
        q, kv = self.image.project(image, image_parts).tensor_split([image.shape[-1]], dim=-1)
        kv = torch.cat([kv, self.text.project(text, text_parts)], dim=1)  # (B, N+T, 2D)
        (q,), (k, v) = split_heads(q, 1, self.heads), split_heads(kv, 2, self.heads)  # (B, H, N or N+T, D/H)
        attended = merge_heads(F.scaled_dot_product_attention(q, k, v))  # (B, N, D)
        return self.image.finish(image, attended, image_parts)


def split_heads(x: Tensor, parts: int, heads: int) -> Tensor:
    """Return x (B, L, parts·D) as (parts, B, H, L, D/H)."""
    return rearrange(x, "b l (p h d) -> p b h l d", p=parts, h=heads)  # (parts, B, H, L, D/H)


def merge_heads(x: Tensor) -> Tensor:
    """Return x (B, H, L, D/H) as (B, L, D)."""
    return rearrange(x, "b h l d -> b l (h d)")  # (B, L, D)


class MMDiT(nn.Module):
    """Embedded image tokens (B, N, D) and an embedded condition → normalised states (B, N, D)."""

    def __init__(self, config: MMDiTConfig) -> None:
        super().__init__()
        self.config = config
        width = config.width
        self.text_projection = nn.Linear(config.text_width, width)
        self.pooled_projection = nn.Linear(config.pooled_width + config.aesthetic_width, width)
        kinds = [JointBlock] * (config.layers - 1) + [LastBlock]
        self.blocks = nn.ModuleList(kind(width, config.heads) for kind in kinds)
        self.final_modulation = nn.Linear(width, 2 * width)

    def embed_condition(self, sequence: Tensor, pooled: Tensor, aesthetic: Tensor) -> EmbeddedCondition:
        """Return the embedded condition of text states (B, T, S), pooled states (B, P) and embedded scores (B, A)."""
        dtype = self.text_projection.weight.dtype
        vector = self.pooled_projection(torch.cat([pooled, aesthetic], dim=-1).to(dtype))  # (B, D)
        vector = F.silu(vector)[:, None]  # (B, 1, D)
        blocks = self.each_block()
        return EmbeddedCondition(
            text=self.text_projection(sequence.to(dtype)),  # (B, T, D)
            # Shifts, scales and gates of each block and the final norm, (B, 1, D) each
            image_parts=[block.image.modulation(vector).chunk(block.image.parts, dim=-1) for block in blocks],
            text_parts=[block.text.modulation(vector).chunk(block.text.parts, dim=-1) for block in blocks],
            final=self.final_modulation(vector).chunk(2, dim=-1),
        )

    def forward(self, x: Tensor, embedded: EmbeddedCondition) -> Tensor:
        """Return states (B, N, D) of embedded image tokens x (B, N, D), given an embedded condition."""
        text = embedded.text  # (B, T, D)
        *blocks, last = zip(self.blocks, embedded.image_parts, embedded.text_parts, strict=True)
        for block, image_parts, text_parts in blocks:
            if self.config.checkpointing and self.training:
                x, text = checkpoint(block, x, text, image_parts, text_parts, use_reentrant=False)
            else:
                x, text = block(x, text, image_parts, text_parts)  # (B, N, D), (B, T, D)
        block, image_parts, text_parts = last
        x = block(x, text, image_parts, text_parts)  # (B, N, D)
        scale, shift = embedded.final  # (B, 1, D) each
        return modulated(x, shift, scale)  # (B, N, D)

    def each_block(self) -> list[JointBlock | LastBlock]:
        return [block for block in self.blocks if isinstance(block, JointBlock | LastBlock)]
