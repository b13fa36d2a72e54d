"""Drawing tokens one after another (RAR, arXiv 2411.00776), with nothing computed twice.

A step multiplies a few rows with every weight once, so it takes as long as reading the weights does. Therefore:
keys and values are kept, in memory that is there from the start; both branches of guidance share a batch; what depends
on class and place alone (adaptive norms, their affine parts folded in) is computed for many places at once, once for
each class of the batch; noise is drawn before the first step, and tokens are never read back. The shapes of a step
depend on its place alone, as CUDA graphs need.

Legend: B images · R rows, B or 2B with guidance · N tokens · V codebook entries · C classes of the batch
        D width · H heads.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from onetok.sampling.guidance import Guidance
from onetok.sampling.seeds import ImageRandom

if TYPE_CHECKING:
    from onetok.models.rar import RAR, AdaptiveBlock

LEAST_ROWS = 4  # oneDNN multiplies 4 rows faster than 2: its kernel then has enough sums in flight
CONDITION_ROWS = 1024  # conditions, places times classes, whose adaptive norms are kept at a time


@dataclass(frozen=True, kw_only=True, slots=True)
class AutoregressiveSampling:
    temperature: float  # logits are divided by it; 0 takes the likeliest token
    guidance: Guidance


def sample_autoregressive(
    model: RAR, labels: Tensor, sampling: AutoregressiveSampling, random: ImageRandom
) -> Tensor:
    """Draw ids (B, N) int64 for labels (B,) in raster order; row i of the noise comes from image i's generator."""
    config, guidance = model.config, sampling.guidance
    # The largest of logits / temperature + Gumbel noise is a draw from their softmax. A last bit of the logits, which
    # differs with the batch, all but never changes it; the inverse of the cumulated softmax would change at times.
    noise = random.gumbel(config.tokens, config.codebook_size)  # (B, N, V)
    noise = noise.mul_(sampling.temperature)
    if guidance.enabled:
        labels = torch.cat([labels, torch.full_like(labels, config.classes)])  # (R,)
    decoder = Decoder(model, labels)
    ids = torch.empty(noise.shape[:2], dtype=torch.int64, device=labels.device)
    logits = decoder.first()
    for step in range(config.tokens):
        if step > 0:
            previous = ids[:, step - 1]
            logits = decoder.next(torch.cat([previous, previous]) if guidance.enabled else previous)  # (R, V)
        logits = logits.float()
        if guidance.enabled:
            conditional, unconditional = logits.chunk(2)
            logits = guidance.apply(conditional, unconditional, step, config.tokens)
        torch.argmax(logits + noise[:, step], dim=-1, out=ids[:, step])
    return ids


class Decoder:
    """A RAR that reads one place a call, in raster order, for rows of labels (R,); label K is "no class"."""

    def __init__(self, model: RAR, labels: Tensor) -> None:
        config, weight = model.config, model.head.weight
        self.model, self.rows, self.places = model, len(labels), config.tokens + 1
        classes, class_of = labels.unique(return_inverse=True)
        padding = max(0, LEAST_ROWS - self.rows) if _packs(weight) else 0
        self.class_of = F.pad(class_of, (0, padding))  # (R,), or more where rows are padded: so all of x below
        self.padding = padding
        self.class_states = model.class_states(classes, len(classes))  # (C, D)
        self.conditions = model.conditions(self.class_states)  # (C, S, D)
        self.chunk = max(1, CONDITION_ROWS // len(classes))  # places whose adaptive norms are kept
        self.inputs = model.positions[: self.places].clone()  # (N+1, D), what place alone adds to the input
        self.inputs[0] += model.start[0]
        self.inputs[1:] += model.target_positions[2 : self.places + 1]
        self.layers = [_Layer(block, self.rows, self.places) for block in model.blocks]
        final = model.final_modulation
        self.final = _Adaptive(*_folded_final(final.weight, final.bias))
        self.head = multiplier(model.head.weight, model.head.bias)
        self.place = 0

    def first(self) -> Tensor:
        """Read the start and the classes; return the logits (R, V) of the first token."""
        assert self.place == 0
        self._read(self.inputs[:1].expand(len(self.class_of), -1))
        return self._logits(self._read(self.class_states[self.class_of] + self.inputs[1]))

    def next(self, tokens: Tensor) -> Tensor:
        """Read the last drawn tokens (R,); return the logits (R, V) of the next."""
        assert 2 <= self.place < self.places
        x = self.model.embedding(F.pad(tokens, (0, self.padding))) + self.inputs[self.place]
        return self._logits(self._read(x))

    def _read(self, x: Tensor) -> Tensor:
        index = self.place % self.chunk
        if index == 0:
            conditions = self.conditions[:, self.place : self.place + self.chunk]  # (C, places, D)
            for adaptive in (*(layer.adaptive for layer in self.layers), self.final):
                adaptive.prepare(conditions)
        for layer in self.layers:
            x = layer(x, layer.adaptive.at(index, self.class_of), self.place)
        self.place += 1
        return x

    def _logits(self, x: Tensor) -> Tensor:
        scale, shift = self.final.at((self.place - 1) % self.chunk, self.class_of)
        x = torch.addcmul(shift, F.layer_norm(x, x.shape[1:], eps=self.model.final_norm.eps), scale)
        return self.head(x)[: self.rows]


class _Adaptive:
    """A linear layer of the condition whose outputs, (parts, D) for each row, are computed for many places at once."""

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        self.weight, self.bias = weight, bias  # (parts·D, D), (parts·D,)

    def prepare(self, conditions: Tensor) -> None:
        """Compute the outputs for conditions (C, places, D)."""
        conditions = conditions.transpose(0, 1)  # (places, C, D)
        out = multiplier(self.weight, self.bias)(conditions.flatten(0, 1))
        self.table = out.unflatten(0, conditions.shape[:2]).unflatten(2, (-1, conditions.shape[2]))

    def at(self, index: int, class_of: Tensor) -> tuple[Tensor, ...]:
        """Return the parts, (R, D) each, at a place among those prepared."""
        return self.table[index].index_select(0, class_of).unbind(1)


class _Layer:
    """A block of the model with keys and values of the places read so far."""

    def __init__(self, block: AdaptiveBlock, rows: int, places: int) -> None:
        attention = block.attention
        q, k = attention.norm_q, attention.norm_k
        width = q.normalized_shape[0]
        self.adaptive = _Adaptive(*_folded(block))
        self.qkv = multiplier(attention.qkv.weight, attention.qkv.bias)
        self.out = multiplier(attention.out.weight, attention.out.bias)
        self.up = multiplier(block.up.weight, block.up.bias)
        self.down = multiplier(block.down.weight, block.down.bias)
        self.qk_weight = torch.stack([q.weight, k.weight])[:, None]  # (2, 1, D/H)
        self.qk_bias = torch.stack([q.bias, k.bias])[:, None]
        self.heads, self.head_shape, self.eps = attention.heads, (width,), q.eps
        self.rows = rows
        self.keys = self.qk_weight.new_empty(rows, attention.heads, places, width)
        self.values = torch.empty_like(self.keys)

    def __call__(self, x: Tensor, parts: tuple[Tensor, ...], place: int) -> Tensor:
        """Return x (R, D) after the block."""
        shift1, scale1, gate1, shift2, scale2, gate2 = parts
        width = x.shape[1:]
        h = torch.addcmul(shift1, F.layer_norm(x, width, eps=self.eps), scale1)
        x = torch.addcmul(x, gate1, self.out(self._attend(self.qkv(h), place)))
        h = torch.addcmul(shift2, F.layer_norm(x, width, eps=self.eps), scale2)
        return torch.addcmul(x, gate2, self.down(F.gelu(self.up(h))))

    def _attend(self, qkv: Tensor, place: int) -> Tensor:
        padding = len(qkv) - self.rows
        qkv = qkv[: self.rows].view(self.rows, 3, self.heads, -1)
        qk = F.layer_norm(qkv[:, :2], self.head_shape, eps=self.eps)
        qk = torch.addcmul(self.qk_bias, qk, self.qk_weight)  # (R, 2, H, D/H)
        self.keys[:, :, place] = qk[:, 1]
        self.values[:, :, place] = qkv[:, 2]
        past = slice(place + 1)
        query = qk[:, 0].unsqueeze(2)  # (R, H, 1, D/H)
        out = F.scaled_dot_product_attention(query, self.keys[:, :, past], self.values[:, :, past])
        out = out.flatten(1)  # (R, D)
        return F.pad(out, (0, 0, 0, padding)) if padding else out


def _folded(block: AdaptiveBlock) -> tuple[Tensor, Tensor]:
    """Return weight and bias of the block's modulation with its norms' affine parts folded in.

    (LN(x)·γ + β)·(1 + scale) + shift is LN(x)·γ(1 + scale) + (β(1 + scale) + shift) without affine parts.
    """
    weight, bias = (t.unflatten(0, (6, -1)).clone() for t in (block.modulation.weight, block.modulation.bias))
    for shift, norm in ((0, block.norm1), (3, block.norm2)):
        _fold_norm(weight, bias, shift, norm)
    return weight.flatten(0, 1), bias.flatten()


def _fold_norm(weight: Tensor, bias: Tensor, shift: int, norm: nn.LayerNorm) -> None:
    scale = shift + 1
    bias[scale] += 1
    weight[shift] += norm.bias[:, None] * weight[scale]
    bias[shift] += norm.bias * bias[scale]
    weight[scale] *= norm.weight[:, None]
    bias[scale] *= norm.weight


def _folded_final(weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    """Return the final modulation, (scale, shift), with the 1 of 1 + scale in its bias."""
    bias = bias.unflatten(0, (2, -1)).clone()
    bias[0] += 1
    return weight, bias.flatten()


def multiplier(weight: Tensor, bias: Tensor) -> Callable[[Tensor], Tensor]:
    """Return the linear layer of `weight` and `bias` for few rows: on a CPU packed once, as oneDNN reads it."""
    if not _packs(weight):
        return lambda x: F.linear(x, weight, bias)
    packed = torch.ops.mkldnn._reorder_linear_weight(weight.detach())
    linear = torch.ops.mkldnn._linear_pointwise
    return lambda x: linear(x, packed, bias, "none", [], "")


def _packs(weight: Tensor) -> bool:
    on_cpu = weight.device.type == "cpu" and weight.dtype == torch.float32
    return on_cpu and torch.backends.mkldnn.is_available()
