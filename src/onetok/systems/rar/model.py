"""RAR: randomized autoregressive generation of token sequences (arXiv 2411.00776).

A causal transformer predicts the tokens of each sample in an order of its own, which is random at the start of training
and raster order at its end. So that the transformer knows which token comes next, the input at each sequence position
includes an embedding of the *next* token's image position (the target-aware embedding of section 3.2). Each block is
conditioned on the class and the sequence position by adaptive LayerNorm. Sampling is in raster order (sampling.py).

    token ids   0 … V-1      image codes
                V            mask, never used: the vocabulary is MaskGIT's
                V+1 … V+K    classes
                V+1+K        the null class, for guidance

    sequence position        0        1              2              …  N              N+1
    input                    start    class          token o(0)     …  token o(N-2)   token o(N-1)
    row of positions         0        1              2+o(0)         …  2+o(N-2)       2+o(N-1)
    row of target_positions  -        2+o(0)         2+o(1)         …  2+o(N-1)       -
    row of timesteps         0        1              2              …  N              N+1
    output predicts          -        token o(0)     token o(1)     …  token o(N-1)   nothing

Legend: B batch · N tokens · o order · V codebook entries · K classes · S = N+2 sequence length · D width · H heads
        · F hidden width of the feed-forward.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from onetok.losses.autoregressive import next_token_loss
from onetok.nn.layers import init_linear
from onetok.nn.protocols import Generator
from onetok.systems.rar.schema import RARConfig

EPS = 1e-6  # of every norm
POSITION_ROWS, TIMESTEP_ROWS = 1024, 100  # rows of the tables in addition to N, as published; most are unused


class CausalAttention(nn.Module):
    """Causal multi-head self-attention, (B, S, D) → (B, S, D), with LayerNorm on the queries and keys of each head."""

    def __init__(self, config: RARConfig) -> None:
        super().__init__()
        self.heads, self.dropout = config.heads, config.attention_dropout
        self.qkv = nn.Linear(config.width, 3 * config.width)
        self.norm_q = nn.LayerNorm(config.width // config.heads, eps=EPS)
        self.norm_k = nn.LayerNorm(config.width // config.heads, eps=EPS)
        self.out = nn.Linear(config.width, config.width)

    def forward(self, x: Tensor) -> Tensor:
        # (B, S, 3D) → 3 x (B, H, S, D/H)
        q, k, v = rearrange(self.qkv(x), "b s (three h d) -> three b h s d", three=3, h=self.heads)
        q, k = self.norm_q(q), self.norm_k(k)
        dropout = self.dropout if self.training else 0.0
        x = F.scaled_dot_product_attention(q, k, v, dropout_p=dropout, is_causal=True)  # (B, H, S, D/H)
        out: Tensor = self.out(rearrange(x, "b h s d -> b s (h d)"))  # (B, S, D)
        return out


class AdaptiveBlock(nn.Module):
    """Pre-norm block with adaptive LayerNorm: a condition scales and shifts its norms and gates its branches."""

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
        shift1, scale1, gate1, shift2, scale2, gate2 = self.modulation(condition).chunk(
            6, dim=-1
        )  # (B, S, D) each
        x = x + gate1 * self.dropout(self.attention(self.norm1(x) * (1 + scale1) + shift1))  # (B, S, D)
        x = x + gate2 * self._feed_forward(self.norm2(x) * (1 + scale2) + shift2)  # (B, S, D)
        return x

    def _feed_forward(self, x: Tensor) -> Tensor:
        hidden = self.dropout(F.gelu(self.up(x)))  # (B, S, F)
        out: Tensor = self.dropout(self.down(hidden))  # (B, S, D)
        return out


class RAR(Generator):
    """Class-conditional generator: labels (B,) int64 → token ids (B, N)."""

    def __init__(self, config: RARConfig) -> None:
        super().__init__()
        self.config = config
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

    @property
    def tokens(self) -> int:
        return self.config.tokens

    @property
    def codebook_size(self) -> int:
        return self.config.codebook_size

    @property
    def classes(self) -> int:
        return self.config.classes

    def forward(self, ids: Tensor, labels: Tensor | None, orders: Tensor | None) -> Tensor:
        """Return logits (B, N+1, V) of ids (B, N) int64, for labels (B,) int64 and orders (B, N) int64.

        Ids are given in raster order. Row k of the logits predicts token orders[:, k]; the last row predicts nothing.
        Labels None stands for the null class, orders None for raster order.
        """
        if orders is None:
            orders = torch.arange(self.config.tokens, device=ids.device).expand_as(ids)  # (B, N)
        classes = self.class_states(labels, len(ids))  # (B, D)
        tokens = self.embedding(ids.gather(1, orders))  # (B, N, D)
        start = self.start.expand(len(ids), 1, -1)  # (B, 1, D)
        x = torch.cat([start, classes[:, None], tokens], dim=1)  # (B, S, D)
        x = x + self._positions_of(orders)  # (B, S, D)
        condition = self.conditions(classes)  # (B, S, D)
        for block in self.blocks:
            if self.config.checkpointing and self.training:
                x = checkpoint(block, x, condition, use_reentrant=False)  # (B, S, D)
            else:
                x = block(x, condition)  # (B, S, D)
        scale, shift = self.final_modulation(condition[:, 1:]).chunk(2, dim=-1)  # (B, N+1, D) each
        logits: Tensor = self.head(self.final_norm(x[:, 1:]) * (1 + scale) + shift)  # (B, N+1, V)
        return logits

    def loss(self, ids: Tensor, labels: Tensor, random_order: float) -> dict[str, Tensor]:
        """Return the next-token loss `total` and the `accuracy`, scalars, of ids (B, N) for labels (B,), int64 each.

        With probability `random_order` the order of a sample is a random permutation, otherwise raster order. In
        training some labels are replaced by the null class.
        """
        orders = draw_orders(ids, random_order)  # (B, N)
        if self.training:
            dropped = torch.rand(len(ids), device=ids.device) < self.config.class_dropout  # (B,)
            labels = torch.where(dropped, self.config.classes, labels)  # (B,); label K is the null class
        logits = self(ids, labels, orders)  # (B, N+1, V)
        return next_token_loss(logits[:, :-1], ids.gather(1, orders))

    def adaptive_blocks(self) -> list[AdaptiveBlock]:
        return [block for block in self.blocks if isinstance(block, AdaptiveBlock)]

    def class_states(self, labels: Tensor | None, batch: int) -> Tensor:
        """Return the embeddings (B, D) of labels (B,) int64; label K, and None, stand for the null class."""
        if labels is None:
            labels = torch.full((batch,), self.config.classes, device=self.embedding.weight.device)
        states: Tensor = self.embedding(labels + self.config.codebook_size + 1)  # (B, D)
        return states

    def conditions(self, classes: Tensor) -> Tensor:
        """Return the condition of all blocks at each sequence position, (B, S, D), for class states (B, D)."""
        return F.silu(classes[:, None] + self.timesteps[: self.config.tokens + 2])  # (B, S, D)

    def _positions_of(self, orders: Tensor) -> Tensor:
        """Return the sum of each input's own position embedding and that of the token to predict, (B, S, D)."""
        own = self.positions[2 + orders]  # (B, N, D)
        own = torch.cat([self.positions[:2].expand(len(orders), -1, -1), own], dim=1)  # (B, S, D)
        return own + F.pad(self.target_positions[2 + orders], (0, 0, 1, 1))  # (B, S, D)

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
    """Return an order for each row of ids (B, N): (B, N) int64, random with probability `random_order`, else raster."""
    batch, tokens = ids.shape
    raster = torch.arange(tokens, device=ids.device).expand(batch, tokens)  # (B, N)
    permutations = torch.rand(batch, tokens, device=ids.device).argsort(dim=1)  # (B, N)
    shuffled = torch.rand(batch, 1, device=ids.device) < random_order  # (B, 1)
    return torch.where(shuffled, permutations, raster)  # (B, N)
