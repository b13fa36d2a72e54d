"""Drawing tokens one after another (RAR, arXiv 2411.00776), with nothing computed twice.

A step multiplies a few rows with every weight once, so it takes as long as reading the weights does. Therefore:
keys and values are kept, in memory that is there from the start; both branches of guidance share a batch; the adaptive
norms, which depend on class and place alone, are computed for many places at once and once for each class of the
batch; noise is drawn before the first step, and tokens are never read back. Everything that a step reads lies where it
lay for the step before, its place included, and shapes change with every 32nd place only: on a GPU, what is compiled
is recorded as a CUDA graph for each of them, and played back.

Legend: B images · R rows, B or 2B with guidance · N tokens · V codebook entries · C classes of the batch
        L layers · D width · H heads.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from onetok.sampling.guidance import Guidance, guided
from onetok.sampling.packing import COMPILER_OPTIONS, compiled_multiplier, compiles, multiplier, padding
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
    draw = _Draw(model, labels, sampling, random)
    draw.first()
    following = _Recorded(draw) if _records(model) else draw
    for _ in range(1, model.config.tokens):
        following.next()
    return draw.ids


def _records(model: RAR) -> bool:
    return model.compiled and model.head.weight.is_cuda


class _Draw:
    """The tokens of a batch. Which step is the next is known to tensors alone, so that one step is like another."""

    def __init__(
        self, model: RAR, labels: Tensor, sampling: AutoregressiveSampling, random: ImageRandom
    ) -> None:
        config = model.config
        # The largest of logits / temperature + Gumbel noise is a draw from their softmax. A last bit of the logits,
        # which differs with the batch, all but never changes it; the inverse of the cumulated softmax would change
        # at times.
        noise = random.gumbel(config.tokens, config.codebook_size)
        self.noise = noise.mul_(sampling.temperature)  # (B, N, V)
        weights = sampling.guidance.weights(config.tokens)
        self.guides, self.weights = any(weights), noise.new_tensor(weights)  # (N,)
        if self.guides:
            labels = torch.cat([labels, torch.full_like(labels, config.classes)])  # (R,)
        self.decoder = Decoder(model, labels)
        self.ids = torch.zeros(noise.shape[:2], dtype=torch.int64, device=labels.device)
        self.index = torch.zeros(1, dtype=torch.int64, device=labels.device)  # of the next token

    def first(self) -> None:
        self._take(self.decoder.first())

    def next(self) -> None:
        self.decoder.prepare()
        self.step()

    def step(self) -> None:
        """Draw the next token, for whose place the decoder is prepared."""
        previous = self.ids.index_select(1, self.index - 1)[:, 0]
        self._take(self.decoder.step(torch.cat([previous, previous]) if self.guides else previous))

    def _take(self, logits: Tensor) -> None:
        logits = logits.float()  # (R, V)
        if self.guides:
            conditional, unconditional = logits.chunk(2)
            logits = guided(conditional, unconditional, self.weights.index_select(0, self.index))
        noisy = logits + self.noise.index_select(1, self.index)[:, 0]
        self.ids.index_copy_(1, self.index, noisy.argmax(dim=-1, keepdim=True))
        self.index += 1


class _Recorded:
    """Steps as CUDA graphs: of each shape the first is computed as it is, the second recorded, the rest played back."""

    def __init__(self, draw: _Draw) -> None:
        self.draw, self.warm = draw, False
        self.graph: torch.cuda.CUDAGraph | None = None

    def next(self) -> None:
        if self.draw.decoder.prepare() or not self.warm:
            self.warm, self.graph = True, None
            self.draw.step()
            return
        if self.graph is None:
            self.graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self.graph):  # computes nothing yet
                self.draw.step()
        self.graph.replay()


class Decoder:
    """A RAR that reads one place a call, in raster order, for rows of labels (R,); label K is "no class"."""

    def __init__(self, model: RAR, labels: Tensor) -> None:
        config, device = model.config, labels.device
        self.model, self.rows, self.places = model, len(labels), config.tokens + 1
        compiled = model.compiled and compiles(model.head.weight, self.rows)
        self.padding = 0 if compiled else padding(self.rows, model.head.weight)
        classes, class_of = labels.unique(return_inverse=True)
        self.class_of = F.pad(class_of, (0, self.padding))  # (R,); from here on R counts padding too
        self.class_states = model.class_states(classes, len(classes))  # (C, D)
        self.inputs = model.positions[: self.places].clone()  # (N+1, D), what place alone adds to the input
        self.inputs[0] += model.start[0]
        self.inputs[1:] += model.target_positions[2 : self.places + 1]
        self.conditions = model.conditions(self.class_states).transpose(0, 1)  # (N+2, C, D)
        self.chunk = max(1, CONDITION_ROWS // len(classes))  # places whose adaptive norms are kept
        self.layers = [_Layer(block, self.rows, self.places, compiled) for block in model.adaptive_blocks()]
        self.final = _Adaptive(model.final_modulation, scales=(0,))
        self.head = multiplier(model.head.weight, model.head.bias)
        self.unread = self.inputs.new_full((self.places,), -torch.inf)  # added to attention scores
        self.prepared = 0  # places
        self.place = torch.zeros(1, dtype=torch.int64, device=device)  # that is read next

    def first(self) -> Tensor:
        """Read the start and the classes; return the logits (R, V) of the first token."""
        assert self.prepared == 0
        self.prepare()
        self._read(self.class_states.new_zeros(len(self.class_of), self.class_states.shape[1]))
        self.prepare()
        return self._logits(self._read(self.class_states[self.class_of]))

    def next(self, tokens: Tensor) -> Tensor:
        """Read the last drawn tokens (R,); return the logits (R, V) of the next."""
        self.prepare()
        return self.step(tokens)

    def prepare(self) -> bool:
        """Make ready for the next place; return whether the shapes of what is read there have changed."""
        assert self.prepared < self.places
        if self.prepared % self.chunk == 0:
            conditions = self.conditions[self.prepared : self.prepared + self.chunk].flatten(0, 1)
            for adaptive in (*(layer.adaptive for layer in self.layers), self.final):
                adaptive.prepare(conditions)
        grows = self.prepared % GROWTH == 0
        if grows:
            places = min(self.prepared + GROWTH, self.places)
            self.seen = self.unread[:places]
            torch._dynamo.maybe_mark_dynamic(self.seen, 0)  # compiled once for any number of places
            for layer in self.layers:
                layer.keys.grow(places)
                layer.values.grow(places)
        self.prepared += 1
        return grows

    def step(self, tokens: Tensor) -> Tensor:
        """Do as `next` does, at a place for which all is prepared."""
        return self._logits(self._read(self.model.embedding(F.pad(tokens, (0, self.padding)))))

    def _read(self, x: Tensor) -> Tensor:
        """Return what the head reads (R, D)."""
        x = x + self.inputs.index_select(0, self.place)
        rows = self.place % self.chunk * self.conditions.shape[1] + self.class_of  # (R,), of tables
        self.unread.index_fill_(0, self.place, 0)
        for layer in self.layers:
            keys, values = layer.keys.tensor, layer.values.tensor
            x = layer(x, layer.adaptive.table, rows, keys, values, self.place, self.seen)
        scale, shift = self.final.table.index_select(0, rows).unbind(1)
        self.place += 1
        return torch.addcmul(shift, F.layer_norm(x, x.shape[1:], eps=self.model.final_norm.eps), scale)

    def _logits(self, x: Tensor) -> Tensor:
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
        self.table = modulation.weight.new_empty(
            0, len(bias) // modulation.in_features, modulation.in_features
        )

    def prepare(self, conditions: Tensor) -> None:
        """Compute the outputs (places·C, parts, D) for conditions (places·C, D); later ones lie where the first did."""
        out = self.multiply(conditions).unflatten(1, (-1, conditions.shape[1]))
        if len(self.table) < len(out):
            self.table = out
        else:
            self.table[: len(out)] = out


class _Layer(nn.Module):
    """A block of the model with keys and values of the places read so far."""

    def __init__(self, block: AdaptiveBlock, rows: int, places: int, compiled: bool) -> None:
        super().__init__()
        attention, q, k = block.attention, block.attention.norm_q, block.attention.norm_k
        (width,) = q.normalized_shape
        self.norm1, self.norm2, self.eps = block.norm1, block.norm2, q.eps
        self.adaptive = _Adaptive(block.modulation, scales=(1, 4))
        self.rows, self.heads, self.width = rows, attention.heads, width
        make = compiled_multiplier if compiled else multiplier
        self.qkv = make(attention.qkv.weight, attention.qkv.bias)
        self.out = make(attention.out.weight, attention.out.bias)
        self.up = make(block.up.weight, block.up.bias, "gelu")
        self.down = make(block.down.weight, block.down.bias)
        scale = width**-0.5  # of attention: in the queries' norm
        self.qk_weight = torch.stack([q.weight * scale, k.weight])[:, None]  # (2, 1, D/H)
        self.qk_bias = torch.stack([q.bias * scale, k.bias])[:, None]
        self.keys, self.values = (_Past(self.qk_weight, rows * self.heads, places, width) for _ in range(2))
        if compiled:
            self.compile(dynamic=False, options=COMPILER_OPTIONS)

    def forward(
        self,
        x: Tensor,
        table: Tensor,
        rows: Tensor,
        keys: Tensor,
        values: Tensor,
        place: Tensor,
        unread: Tensor,
    ) -> Tensor:
        """Return x (R, D) after the block; write the keys and values (R·H, places, D/H) of a place.

        The norms adapt as `rows` (R,) of `table` (places·C, 6, D) say.
        """
        shift1, scale1, gate1, shift2, scale2, gate2 = table.index_select(0, rows).unbind(1)
        h = torch.addcmul(shift1, self.norm1(x), scale1)
        query, key, value = self._heads(self.qkv(h))
        keys.index_copy_(1, place, key)
        values.index_copy_(1, place, value)
        scores = torch.bmm(query, keys.transpose(1, 2)) + unread  # (R·H, 1, places)
        read = torch.bmm(scores.softmax(dim=-1), values).view(self.rows, -1)  # (R, D)
        x = torch.addcmul(x, gate1, self.out(F.pad(read, (0, 0, 0, len(x) - self.rows))))
        h = torch.addcmul(shift2, self.norm2(x), scale2)
        return torch.addcmul(x, gate2, self.down(self.up(h)))

    def _heads(self, qkv: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return query, key and value, (R·H, 1, D/H) each, the first two normed."""
        qkv = qkv[: self.rows].unflatten(1, (3, self.heads, self.width))
        qk = F.layer_norm(qkv[:, :2], (self.width,), eps=self.eps)
        qk = torch.addcmul(self.qk_bias, qk, self.qk_weight)  # (R, 2, H, D/H)
        query, key, value = (part.reshape(-1, 1, self.width) for part in (qk[:, 0], qk[:, 1], qkv[:, 2]))
        return query, key, value


class _Past:
    """Keys or values of the places read so far, (R·H, places, D/H), in memory that is there from the start."""

    def __init__(self, like: Tensor, rows: int, places: int, width: int) -> None:
        self.memory = like.new_zeros(rows * places * width)
        self.tensor = self.memory[:0].view(rows, 0, width)

    def grow(self, places: int) -> None:
        """Make room for so many places, those not yet read filled with 0."""
        old, (rows, read, width) = self.tensor.clone(), self.tensor.shape
        self.tensor = self.memory[: rows * places * width].view(rows, places, width)
        self.tensor[:, :read] = old
        self.tensor[:, read:] = 0
        torch._dynamo.maybe_mark_dynamic(self.tensor, 1)
