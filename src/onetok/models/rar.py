"""RAR: randomized autoregressive generation of token sequences (arXiv 2411.00776).

A causal transformer that predicts tokens in an order of its own for each sample: at random at first, in raster order
at the end of training. So that it knows what to predict, every place also sees the position of the *next* token.
Class and place condition each block by adaptive LayerNorm. Sampling is in raster order (sampling.autoregressive).

    token ids   0 … V-1      image codes
                V            mask, never used: the vocabulary is MaskGIT's
                V+1 … V+K    classes
                V+1+K        "no class", for guidance

    place              0        1              2              …  N              N+1
    input              start    class          token o(0)     …  token o(N-2)   token o(N-1)
    position row       0        1              2+o(0)         …  2+o(N-2)       2+o(N-1)
    target row         -        2+o(0)         2+o(1)         …  2+o(N-1)       -
    timestep row       0        1              2              …  N              N+1
    predicts           -        token o(0)     token o(1)     …  token o(N-1)   nothing

Legend: B batch · N tokens · o order · V codebook entries · K classes · S = N+2 places · D width · H heads.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from onetok.losses.autoregressive import next_token_loss
from onetok.models.layers import init_linear
from onetok.sampling.autoregressive import AutoregressiveSampling, sample_autoregressive
from onetok.sampling.seeds import ImageRandom

EPS = 1e-6  # of every norm
POSITION_ROWS, TIMESTEP_ROWS = 1024, 100  # of the tables, beside N; as published, more than are read


@dataclass(frozen=True, kw_only=True, slots=True)
class RARConfig:
    codebook_size: int  # V
    tokens: int  # N
    classes: int  # K
    width: int  # D
    layers: int
    heads: int  # H
    hidden: int  # of the feed-forward
    dropout: float
    attention_dropout: float
    class_dropout: float  # share of training samples that see "no class"
    init_std: float
    checkpointing: bool  # in training, compute the blocks' activations twice rather than keep them

    def __post_init__(self) -> None:
        if self.width % self.heads:
            raise ValueError(f"width {self.width} is not divisible by {self.heads} heads")

    @property
    def no_class_id(self) -> int:
        return self.codebook_size + 1 + self.classes

    @property
    def vocabulary(self) -> int:
        return self.codebook_size + self.classes + 2


class CausalAttention(nn.Module):
    """Multi-head attention to this and earlier places, with LayerNorm on the queries and keys of each head."""

    def __init__(self, config: RARConfig) -> None:
        super().__init__()
        self.heads, self.dropout = config.heads, config.attention_dropout
        self.qkv = nn.Linear(config.width, 3 * config.width)
        self.norm_q = nn.LayerNorm(config.width // config.heads, eps=EPS)
        self.norm_k = nn.LayerNorm(config.width // config.heads, eps=EPS)
        self.out = nn.Linear(config.width, config.width)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = rearrange(self.qkv(x), "b s (three h d) -> three b h s d", three=3, h=self.heads)
        q, k = self.norm_q(q), self.norm_k(k)
        dropout = self.dropout if self.training else 0.0
        x = F.scaled_dot_product_attention(q, k, v, dropout_p=dropout, is_causal=True)  # (B, H, S, D/H)
        out: Tensor = self.out(rearrange(x, "b h s d -> b s (h d)"))  # (B, S, D)
        return out


class AdaptiveBlock(nn.Module):
    """Pre-norm block whose norms are scaled and shifted, and whose branches are gated, by a condition."""

    def __init__(self, config: RARConfig) -> None:
        super().__init__()
        self.modulation = nn.Linear(config.width, 6 * config.width)
        self.norm1 = nn.LayerNorm(config.width, eps=EPS)
        self.attention = CausalAttention(config)
        self.norm2 = nn.LayerNorm(config.width, eps=EPS)
        self.up = nn.Linear(config.width, config.hidden)
        self.down = nn.Linear(config.hidden, config.width)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """Return x (B, S, D) after the block, under condition (B, S, D)."""
        shift1, scale1, gate1, shift2, scale2, gate2 = self.modulation(condition).chunk(6, dim=-1)
        x = x + gate1 * self.dropout(self.attention(self.norm1(x) * (1 + scale1) + shift1))
        x = x + gate2 * self._feed_forward(self.norm2(x) * (1 + scale2) + shift2)
        return x

    def _feed_forward(self, x: Tensor) -> Tensor:
        hidden = self.dropout(F.gelu(self.up(x)))  # (B, S, hidden)
        out: Tensor = self.dropout(self.down(hidden))
        return out


class RAR(nn.Module):
    """Generator: class labels (B,) → token ids (B, N)."""

    def __init__(self, config: RARConfig) -> None:
        super().__init__()
        self.config = config
        self.compiled = False  # whether sample() compiles a step, and on a GPU records it
        self.embedding = nn.Embedding(config.vocabulary, config.width)
        self.start = nn.Parameter(torch.empty(1, config.width))
        self.positions = nn.Parameter(torch.empty(POSITION_ROWS + config.tokens, config.width))
        self.target_positions = nn.Parameter(torch.empty(POSITION_ROWS + config.tokens, config.width))
        self.timesteps = nn.Parameter(torch.empty(TIMESTEP_ROWS + config.tokens, config.width))
        self.blocks = nn.ModuleList(AdaptiveBlock(config) for _ in range(config.layers))
        self.final_modulation = nn.Linear(config.width, 2 * config.width)
        self.final_norm = nn.LayerNorm(config.width, eps=EPS, elementwise_affine=False)
        self.head = nn.Linear(config.width, config.codebook_size)
        self._initialise()

    def forward(self, ids: Tensor, labels: Tensor | None, orders: Tensor | None) -> Tensor:
        """Return logits (B, N+1, V) of ids (B, N), given in raster order and predicted in `orders` (B, N).

        Row k is for token `orders[k]` and the last row for nothing. None stands for "no class" and for raster order.
        """
        if orders is None:
            orders = torch.arange(self.config.tokens, device=ids.device).expand_as(ids)
        classes = self.class_states(labels, len(ids))  # (B, D)
        tokens = self.embedding(ids.gather(1, orders))  # (B, N, D)
        start = self.start.expand(len(ids), 1, -1)
        x = torch.cat([start, classes[:, None], tokens], dim=1)  # (B, S, D)
        x = x + self._positions_of(orders)
        condition = self.conditions(classes)  # (B, S, D)
        for block in self.blocks:
            if self.config.checkpointing and self.training:
                x = checkpoint(block, x, condition, use_reentrant=False)
            else:
                x = block(x, condition)
        scale, shift = self.final_modulation(condition[:, 1:]).chunk(2, dim=-1)
        logits: Tensor = self.head(self.final_norm(x[:, 1:]) * (1 + scale) + shift)  # (B, N+1, V)
        return logits

    def loss(self, ids: Tensor, labels: Tensor, random_order: float) -> dict[str, Tensor]:
        """Score the prediction of ids (B, N) under labels (B,), in random order with probability `random_order`.

        The order is drawn for each sample; in training some labels are dropped.
        """
        orders = draw_orders(ids, random_order)
        if self.training:
            dropped = torch.rand(len(ids), device=ids.device) < self.config.class_dropout
            labels = torch.where(dropped, self.config.classes, labels)  # one past the last class: "no class"
        logits = self(ids, labels, orders)
        return next_token_loss(logits[:, :-1], ids.gather(1, orders))

    @torch.inference_mode()
    def sample(self, labels: Tensor, sampling: AutoregressiveSampling, random: ImageRandom) -> Tensor:
        """Draw ids (B, N) int64 for labels (B,); row i uses its own generator of `random`."""
        assert not self.training, (
            "sample() is for evaluation: call eval() first, dropout would change the images"
        )
        return sample_autoregressive(self, labels, sampling, random)

    def adaptive_blocks(self) -> list[AdaptiveBlock]:
        return [block for block in self.blocks if isinstance(block, AdaptiveBlock)]

    def class_states(self, labels: Tensor | None, batch: int) -> Tensor:
        """Return the embedding (B, D) of labels (B,), or of "no class" for None; label K is "no class" too."""
        if labels is None:
            labels = torch.full((batch,), self.config.classes, device=self.embedding.weight.device)
        states: Tensor = self.embedding(labels + self.config.codebook_size + 1)
        return states

    def conditions(self, classes: Tensor) -> Tensor:
        """Return what each place's blocks are conditioned on, (B, S, D), of class states (B, D)."""
        return F.silu(classes[:, None] + self.timesteps[: self.config.tokens + 2])

    def _positions_of(self, orders: Tensor) -> Tensor:
        own = self.positions[2 + orders]  # (B, N, D)
        own = torch.cat([self.positions[:2].expand(len(orders), -1, -1), own], dim=1)  # (B, S, D)
        return own + F.pad(self.target_positions[2 + orders], (0, 0, 1, 1))

    def _initialise(self) -> None:
        std = self.config.init_std
        for module in self.modules():
            init_linear(module, std)
        for table in (self.positions, self.target_positions, self.timesteps):
            nn.init.trunc_normal_(table, std=std)
        nn.init.zeros_(self.start)
        for block in self.adaptive_blocks():
            nn.init.zeros_(block.modulation.weight)
        nn.init.zeros_(self.final_modulation.weight)


def draw_orders(ids: Tensor, random_order: float) -> Tensor:
    """Return an order (B, N) int64 for each row of ids: random with probability `random_order`, else raster."""
    batch, tokens = ids.shape
    raster = torch.arange(tokens, device=ids.device).expand(batch, tokens)
    permutations = torch.rand(batch, tokens, device=ids.device).argsort(dim=1)
    shuffled = torch.rand(batch, 1, device=ids.device) < random_order
    return torch.where(shuffled, permutations, raster)
