"""Drawing tokens one after another (RAR, arXiv 2411.00776), with nothing computed twice.

A step multiplies a few rows with every weight once, so it takes as long as reading the weights does. Therefore:
keys and values are kept, in memory that is there from the start; both branches of guidance share a batch; the adaptive
norms, which depend on class and place alone, are computed for many places at once and once for each class of the
batch; noise is drawn before the first step, and tokens are never read back. The shapes of a step depend on its place
alone and change with every 32nd, as CUDA graphs need.

Legend: B images · R rows, B or 2B with guidance · N tokens · V codebook entries · C classes of the batch
        D width · H heads.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from onetok.sampling.guidance import Guidance, guided
from onetok.sampling.packing import multiplier, padding
from onetok.sampling.seeds import ImageRandom

if TYPE_CHECKING:
    from onetok.models.rar import RAR, AdaptiveBlock

CONDITION_ROWS = 1024  # conditions, places times classes, whose adaptive norms are kept at a time
# Places by which keys and values grow: attention over a whole tensor takes half the time of that over a slice.
GROWTH = 32


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
    weights = guidance.weights(config.tokens)
    guides = any(weights)
    if guides:
        labels = torch.cat([labels, torch.full_like(labels, config.classes)])  # (R,)
    decoder = Decoder(model, labels)
    ids = torch.empty(noise.shape[:2], dtype=torch.int64, device=labels.device)
    logits = decoder.first()
    for step in range(config.tokens):
        if step > 0:
            previous = ids[:, step - 1]
            logits = decoder.next(torch.cat([previous, previous]) if guides else previous)  # (R, V)
        logits = logits.float()
        if guides:
            conditional, unconditional = logits.chunk(2)
            logits = guided(conditional, unconditional, weights[step])
        torch.argmax(logits + noise[:, step], dim=-1, out=ids[:, step])
    return ids


class Decoder:
    """A RAR that reads one place a call, in raster order, for rows of labels (R,); label K is "no class"."""

    def __init__(self, model: RAR, labels: Tensor) -> None:
        config = model.config
        self.model, self.rows, self.places = model, len(labels), config.tokens + 1
        self.padding = padding(self.rows, model.head.weight)
        classes, class_of = labels.unique(return_inverse=True)
        self.class_of = F.pad(class_of, (0, self.padding))  # (R,); from here on R counts padding too
        self.class_states = model.class_states(classes, len(classes))  # (C, D)
        self.conditions = model.conditions(self.class_states)  # (C, N+2, D)
        self.chunk = max(1, CONDITION_ROWS // len(classes))  # places whose adaptive norms are kept
        self.inputs = model.positions[: self.places].clone()  # (N+1, D), what place alone adds to the input
        self.inputs[0] += model.start[0]
        self.inputs[1:] += model.target_positions[2 : self.places + 1]
        self.layers = [_Layer(block, self.rows, self.places) for block in model.adaptive_blocks()]
        self.final = _Adaptive(model.final_modulation, scales=(0,))
        self.head = multiplier(model.head.weight, model.head.bias)
        self.unread = self.inputs.new_full((self.places,), -torch.inf)  # added to attention scores
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
        if self.place % GROWTH == 0:
            for layer in self.layers:
                layer.grow(min(self.place + GROWTH, self.places))
        self.unread[self.place] = 0
        for layer in self.layers:
            x = layer(x, layer.adaptive.at(index, self.class_of), self.place, self.unread)
        self.place += 1
        return x

    def _logits(self, x: Tensor) -> Tensor:
        scale, shift = self.final.at((self.place - 1) % self.chunk, self.class_of)
        x = torch.addcmul(shift, F.layer_norm(x, x.shape[1:], eps=self.model.final_norm.eps), scale)
        return self.head(x)[: self.rows]


class _Adaptive:
    """A linear layer of the condition whose outputs, (parts, D) for each row, are computed for many places at once.

    `scales` are the parts that are used as 1 + scale: the 1 is in them.
    """

    def __init__(self, modulation: nn.Linear, scales: tuple[int, ...]) -> None:
        bias = modulation.bias.clone()  # (parts·D,)
        for scale in scales:
            bias.view(-1, modulation.in_features)[scale] += 1
        self.multiply = multiplier(modulation.weight, bias)

    def prepare(self, conditions: Tensor) -> None:
        """Compute the outputs for conditions (C, places, D)."""
        by_place = conditions.transpose(0, 1)  # (places, C, D)
        out = self.multiply(by_place.flatten(0, 1))
        self.table = out.view(*by_place.shape[:2], -1, by_place.shape[2])  # (places, C, parts, D)

    def at(self, index: int, class_of: Tensor) -> list[Tensor]:
        """Return the parts, (R, D) each, at a place among those prepared."""
        return list(self.table[index].index_select(0, class_of).unbind(1))


class _Layer:
    """A block of the model with keys and values of the places read so far."""

    def __init__(self, block: AdaptiveBlock, rows: int, places: int) -> None:
        attention, q, k = block.attention, block.attention.norm_q, block.attention.norm_k
        (width,) = q.normalized_shape
        self.block, self.rows, self.heads, self.head_shape = block, rows, attention.heads, (width,)
        self.adaptive = _Adaptive(block.modulation, scales=(1, 4))
        linears = (attention.qkv, attention.out, block.up, block.down)
        self.qkv, self.out, self.up, self.down = (
            multiplier(linear.weight, linear.bias) for linear in linears
        )
        scale = width**-0.5  # of attention: in the queries' norm
        self.qk_weight = torch.stack([q.weight * scale, k.weight])[:, None]  # (2, 1, D/H)
        self.qk_bias = torch.stack([q.bias * scale, k.bias])[:, None]
        self.memory = self.qk_weight.new_zeros(2, rows * attention.heads * places * width)
        self.past = self.memory[:, :0].view(2, rows * attention.heads, 0, width)

    def grow(self, places: int) -> None:
        """Make room for so many places, those not yet read filled with 0."""
        old, shape = self.past.clone(), (*self.past.shape[:2], places, self.past.shape[3])
        self.past = self.memory[:, : shape[1] * shape[2] * shape[3]].view(shape)  # (2, R·H, places, D/H)
        self.past[:, :, : old.shape[2]] = old
        self.past[:, :, old.shape[2] :] = 0

    def __call__(self, x: Tensor, parts: list[Tensor], place: int, unread: Tensor) -> Tensor:
        """Return x (R, D) after the block."""
        shift1, scale1, gate1, shift2, scale2, gate2 = parts
        h = torch.addcmul(shift1, self.block.norm1(x), scale1)
        x = torch.addcmul(x, gate1, self.out(self._attend(self.qkv(h), place, unread)))
        h = torch.addcmul(shift2, self.block.norm2(x), scale2)
        return torch.addcmul(x, gate2, self.down(F.gelu(self.up(h))))

    def _attend(self, qkv: Tensor, place: int, unread: Tensor) -> Tensor:
        padding, qkv = len(qkv) - self.rows, qkv[: self.rows].unflatten(1, (3, self.heads, -1))
        qk = F.layer_norm(qkv[:, :2], self.head_shape, eps=self.block.attention.norm_q.eps)
        qk = torch.addcmul(self.qk_bias, qk, self.qk_weight)  # (R, 2, H, D/H)
        keys, values = self.past  # (R·H, places, D/H)
        keys[:, place] = qk[:, 1].flatten(0, 1)
        values[:, place] = qkv[:, 2].flatten(0, 1)
        query = qk[:, 0].reshape(-1, 1, *self.head_shape)  # (R·H, 1, D/H)
        scores = torch.baddbmm(unread[: keys.shape[1]], query, keys.transpose(1, 2))  # (R·H, 1, places)
        out = torch.bmm(scores.softmax(dim=-1), values).view(self.rows, -1)  # (R, D)
        return F.pad(out, (0, 0, 0, padding)) if padding else out
