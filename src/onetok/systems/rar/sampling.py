"""Fast sampling of RAR: the network of model.py, rewritten for one position at a time with a KV cache.

Tests hold the two equal (tests/unit/systems/test_rar.py: cached logits are those of the whole sequence). With few
rows a decoding step takes as long as reading all weights once, so nothing else is left in it:

- keys and values are cached, in memory that is allocated before the first step;
- both branches of classifier-free guidance share a batch;
- the adaptive norms depend on class and position alone, and are computed for many positions at once;
- noise is drawn before the first step, and tokens are never read back to the host.

All inputs of a decoding step live in fixed buffers and the KV cache grows in blocks of 32 positions, so that on a GPU
one CUDA graph per cache size can be replayed.

Legend: B images · R rows, B or 2B with guidance · N tokens · V codebook entries · C classes of the batch
        L layers · D width · H heads · P positions that the KV cache has room for.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from onetok.nn.packed_linear import (
    COMPILER_OPTIONS,
    PrecomputedModulation,
    compiled_multiplier,
    compiles,
    multiplier,
    padding,
)
from onetok.sampling.guidance import guidance_weights, guided
from onetok.sampling.seeds import ImageRandom
from onetok.systems.rar.model import RAR, AdaptiveBlock
from onetok.systems.rar.schema import AutoregressiveSampling

CONDITION_ROWS = 1024  # conditions (positions times classes) whose adaptive norms are computed at once
# Positions by which the KV cache grows: attention over a whole tensor takes half the time of attention over a slice.
GROWTH = 32


def sample_autoregressive(
    model: RAR,
    labels: Tensor,
    sampling: AutoregressiveSampling,
    random: ImageRandom,
    *,
    compiled: bool = False,
) -> Tensor:
    """Sample ids (B, N) int64 for labels (B,) in raster order; row i of the noise comes from image i's generator.

    `compiled` compiles a step, and on a GPU records it as a CUDA graph.
    """
    sampler = _Sampler(model, labels, sampling, random, compiled)
    sampler.first()
    following = _GraphReplay(sampler) if _records(model, compiled) else sampler
    for _ in range(1, model.config.tokens):
        following.next()
    return sampler.ids


def _records(model: RAR, compiled: bool) -> bool:
    return compiled and model.head.weight.is_cuda


class _Sampler:
    """The tokens of a batch, sampled one position a step.

    The index of the step is kept in a tensor, not in a Python number, so that one recorded CUDA graph serves all steps.
    """

    def __init__(
        self,
        model: RAR,
        labels: Tensor,
        sampling: AutoregressiveSampling,
        random: ImageRandom,
        compiled: bool,
    ) -> None:
        config = model.config
        # Gumbel-max sampling: robust to the rounding differences between batch sizes, unlike inverse-CDF sampling.
        noise = random.gumbel(config.tokens, config.codebook_size)
        self.noise = noise.mul_(sampling.temperature)  # (B, N, V)
        weights = guidance_weights(sampling.guidance, config.tokens)
        self.guides, self.weights = any(weights), noise.new_tensor(weights)  # (N,)
        if self.guides:
            labels = torch.cat([labels, torch.full_like(labels, config.classes)])  # (R,)
        self.decoder = CachedDecoder(model, labels, compiled=compiled)
        self.ids = torch.zeros(noise.shape[:2], dtype=torch.int64, device=labels.device)  # (B, N)
        self.index = torch.zeros(1, dtype=torch.int64, device=labels.device)  # (1,), of the next token

    def first(self) -> None:
        self._sample(self.decoder.first())

    def next(self) -> None:
        self.decoder.prepare()
        self.step()

    def step(self) -> None:
        """Sample the next token; `self.decoder.prepare()` must have been called for its position."""
        previous = self.ids.index_select(1, self.index - 1)[:, 0]  # (B,)
        self._sample(self.decoder.step(torch.cat([previous, previous]) if self.guides else previous))

    def _sample(self, logits: Tensor) -> None:
        logits = logits.float()  # (R, V)
        if self.guides:
            conditional, unconditional = logits.chunk(2)  # (B, V) each
            logits = guided(conditional, unconditional, self.weights.index_select(0, self.index))  # (B, V)
        noisy = logits + self.noise.index_select(1, self.index)[:, 0]  # (B, V)
        self.ids.index_copy_(1, self.index, noisy.argmax(dim=-1, keepdim=True))
        self.index += 1


class _GraphReplay:
    """Steps as CUDA graphs: of each cache size the first runs eagerly, the second is recorded, the rest replay it."""

    def __init__(self, sampler: _Sampler) -> None:
        self.sampler, self.warm = sampler, False
        self.graph: torch.cuda.CUDAGraph | None = None

    def next(self) -> None:
        if self.sampler.decoder.prepare() or not self.warm:
            self.warm, self.graph = True, None
            self.sampler.step()
            return
        if self.graph is None:
            self.graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self.graph):  # records and computes nothing yet
                self.sampler.step()
        self.graph.replay()


class CachedDecoder:
    """RAR with a KV cache: decodes one position a call in raster order, for labels (R,); label K is the null class."""

    def __init__(self, model: RAR, labels: Tensor, *, compiled: bool = False) -> None:
        config, device = model.config, labels.device
        self.model, self.rows, self.positions = model, len(labels), config.tokens + 1
        compiled = compiled and compiles(model.head.weight, self.rows)
        self.padding = 0 if compiled else padding(self.rows, model.head.weight)
        classes, class_of = labels.unique(return_inverse=True)  # (C,), (R,)
        self.class_of = F.pad(class_of, (0, self.padding))  # (R,); from here on R counts the padding too
        self.class_states = model.class_states(classes, len(classes))  # (C, D)
        # The position embeddings that are added to each input: its own and that of the token to predict.
        self.embeddings = model.positions[: self.positions].clone()  # (N+1, D)
        self.embeddings[0] += model.start[0]
        self.embeddings[1:] += model.target_positions[2 : self.positions + 1]
        self.conditions = model.conditions(self.class_states).transpose(0, 1)  # (N+2, C, D)
        self.chunk = max(
            1, CONDITION_ROWS // len(classes)
        )  # positions whose adaptive norms are computed at once
        self.layers = [
            _Layer(block, self.rows, self.positions, compiled) for block in model.adaptive_blocks()
        ]
        self.final = PrecomputedModulation(model.final_modulation, scales=(0,))
        self.head = multiplier(model.head.weight, model.head.bias)
        # Added to attention scores: 0 at the positions decoded so far, -inf at those to come.
        self.mask = self.embeddings.new_full((self.positions,), -torch.inf)  # (N+1,)
        self.prepared = 0  # positions for which `prepare` was called
        self.position = torch.zeros(1, dtype=torch.int64, device=device)  # (1,), to be decoded next

    def first(self) -> Tensor:
        """Decode the start and the class; return the logits (R, V) of the first token."""
        assert self.prepared == 0
        self.prepare()
        self._states(self.class_states.new_zeros(len(self.class_of), self.class_states.shape[1]))
        self.prepare()
        return self._logits(self._states(self.class_states[self.class_of]))

    def next(self, tokens: Tensor) -> Tensor:
        """Decode the tokens (R,) sampled last; return the logits (R, V) of the next."""
        self.prepare()
        return self.step(tokens)

    def prepare(self) -> bool:
        """Make room in the KV cache and compute adaptive norms for the next position; return whether the cache grew."""
        assert self.prepared < self.positions
        if self.prepared % self.chunk == 0:
            conditions = self.conditions[self.prepared : self.prepared + self.chunk].flatten(
                0, 1
            )  # (chunk·C, D)
            for modulation in (*(layer.modulation for layer in self.layers), self.final):
                modulation.compute(conditions)
        grows = self.prepared % GROWTH == 0
        if grows:
            positions = min(self.prepared + GROWTH, self.positions)
            self.cache_mask = self.mask[:positions]  # (P,)
            torch._dynamo.maybe_mark_dynamic(self.cache_mask, 0)  # compiled once for any number of positions
            for layer in self.layers:
                layer.keys.grow(positions)
                layer.values.grow(positions)
        self.prepared += 1
        return grows

    def step(self, tokens: Tensor) -> Tensor:
        """Do what `next` does, at a position for which `prepare` was called."""
        return self._logits(self._states(self.model.embedding(F.pad(tokens, (0, self.padding)))))

    def _states(self, x: Tensor) -> Tensor:
        """Return the states (R, D) from which the head predicts, given embedded inputs (R, D) of one position."""
        x = x + self.embeddings.index_select(0, self.position)  # (R, D)
        rows = self.position % self.chunk * self.conditions.shape[1] + self.class_of  # (R,), of the tables
        self.mask.index_fill_(0, self.position, 0)
        for layer in self.layers:
            keys, values = layer.keys.tensor, layer.values.tensor
            x = layer(x, layer.modulation.table, rows, keys, values, self.position, self.cache_mask)  # (R, D)
        scale, shift = self.final.table.index_select(0, rows).unbind(1)  # (R, D) each
        self.position += 1
        return torch.addcmul(shift, F.layer_norm(x, x.shape[1:], eps=self.model.final_norm.eps), scale)

    def _logits(self, x: Tensor) -> Tensor:
        return self.head(x)[: self.rows]  # (R, V), without the padding


class _Layer(nn.Module):
    """A block of the model with the keys and values of the positions decoded so far."""

    def __init__(self, block: AdaptiveBlock, rows: int, positions: int, compiled: bool) -> None:
        super().__init__()
        attention, q, k = block.attention, block.attention.norm_q, block.attention.norm_k
        (width,) = q.normalized_shape
        self.norm1, self.norm2, self.eps = block.norm1, block.norm2, q.eps
        self.modulation = PrecomputedModulation(block.modulation, scales=(1, 4))
        self.rows, self.heads, self.width = rows, attention.heads, width
        make = compiled_multiplier if compiled else multiplier
        self.qkv = make(attention.qkv.weight, attention.qkv.bias)
        self.out = make(attention.out.weight, attention.out.bias)
        self.up = make(block.up.weight, block.up.bias, "gelu")
        self.down = make(block.down.weight, block.down.bias)
        scale = width**-0.5  # of attention, folded into the norm of the queries
        self.qk_weight = torch.stack([q.weight * scale, k.weight])[:, None]  # (2, 1, D/H)
        self.qk_bias = torch.stack([q.bias * scale, k.bias])[:, None]  # (2, 1, D/H)
        self.keys, self.values = (
            _Cache(self.qk_weight, rows * self.heads, positions, width) for _ in range(2)
        )
        if compiled:
            self.compile(dynamic=False, options=COMPILER_OPTIONS)

    def forward(
        self,
        x: Tensor,
        table: Tensor,
        rows: Tensor,
        keys: Tensor,
        values: Tensor,
        position: Tensor,
        mask: Tensor,
    ) -> Tensor:
        """Return x (R, D) after the block; write this position's keys and values into the caches (R·H, P, D/H).

        The adaptive norms and gates are rows (R,) of `table` (chunk·C, 6, D). `mask` (P,) is added to attention scores.
        """
        shift1, scale1, gate1, shift2, scale2, gate2 = table.index_select(0, rows).unbind(1)  # (R, D) each
        h = torch.addcmul(shift1, self.norm1(x), scale1)  # (R, D)
        query, key, value = self._heads(self.qkv(h))  # (R·H, 1, D/H) each
        keys.index_copy_(1, position, key)
        values.index_copy_(1, position, value)
        scores = torch.bmm(query, keys.transpose(1, 2)) + mask  # (R·H, 1, P)
        out = torch.bmm(scores.softmax(dim=-1), values).view(self.rows, -1)  # (R, D)
        x = torch.addcmul(x, gate1, self.out(F.pad(out, (0, 0, 0, len(x) - self.rows))))  # (R, D)
        h = torch.addcmul(shift2, self.norm2(x), scale2)  # (R, D)
        return torch.addcmul(x, gate2, self.down(self.up(h)))  # (R, D)

    def _heads(self, qkv: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return query, key and value, (R·H, 1, D/H) each, the first two normed, of qkv (R, 3D)."""
        qkv = qkv[: self.rows].unflatten(1, (3, self.heads, self.width))  # (R, 3, H, D/H)
        qk = F.layer_norm(qkv[:, :2], (self.width,), eps=self.eps)  # (R, 2, H, D/H)
        qk = torch.addcmul(self.qk_bias, qk, self.qk_weight)  # (R, 2, H, D/H)
        query, key, value = (
            x.reshape(-1, 1, self.width) for x in (qk[:, 0], qk[:, 1], qkv[:, 2])
        )  # (R·H, 1, D/H)
        return query, key, value


class _Cache:
    """Keys or values of the positions decoded so far, (R·H, P, D/H), in memory allocated for all positions."""

    def __init__(self, like: Tensor, rows: int, positions: int, width: int) -> None:
        self.memory = like.new_zeros(rows * positions * width)
        self.tensor = self.memory[:0].view(rows, 0, width)  # (R·H, P, D/H) with P = 0

    def grow(self, positions: int) -> None:
        """Make room for this number of positions; the new ones hold 0 until they are decoded."""
        old, (rows, held, width) = self.tensor.clone(), self.tensor.shape
        self.tensor = self.memory[: rows * positions * width].view(rows, positions, width)  # (R·H, P, D/H)
        self.tensor[:, :held] = old
        self.tensor[:, held:] = 0
        torch._dynamo.maybe_mark_dynamic(self.tensor, 1)
