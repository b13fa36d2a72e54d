"""Quantizers: what turns an encoder's output into tokens.

Vector quantization as in TiTok (arXiv 2406.07550, section 3) and TA-TiTok (arXiv 2501.07730, section 3), with the
clustering codebook of CVQ-VAE (arXiv 2307.15139) as an option of training.

Legend: B batch · N tokens · C token channels · K codebook entries.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.distributed as dist
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn


class Tokens(NamedTuple):
    """What a tokenizer makes of a batch of images. Every kind fills `latents`; codebooks fill `ids` too."""

    latents: Tensor  # (B, N, C) float32, what the decoder reads
    ids: Tensor | None  # (B, N) int64 in [0, K), or None where tokens are continuous


class Quantized(NamedTuple):
    tokens: Tokens
    losses: dict[str, Tensor]  # scalars, by name, already weighted against each other


@dataclass(frozen=True, kw_only=True, slots=True)
class VectorQuantizerConfig:
    codebook_size: int  # K
    channels: int  # C
    normalize: bool  # compare directions: L2-normalise both inputs and codebook
    commitment: float  # weight of the commitment term beside the codebook term
    clustering: bool  # move rarely used entries towards the data, in training only


class VectorQuantizer(nn.Module):
    """Replace each token by its nearest codebook entry; gradients pass straight through."""

    USAGE_DECAY = 0.99

    def __init__(self, config: VectorQuantizerConfig) -> None:
        super().__init__()
        self.config = config
        self.codebook = nn.Embedding(config.codebook_size, config.channels)
        nn.init.uniform_(self.codebook.weight, -1 / config.codebook_size, 1 / config.codebook_size)
        if config.clustering:
            self.register_buffer("usage", torch.zeros(config.codebook_size))

    @torch.autocast("cpu", enabled=False)
    @torch.autocast("cuda", enabled=False)
    def forward(self, features: Tensor) -> Quantized:
        features = features.float()  # (B, N, C)
        flat = rearrange(features, "b n c -> (b n) c")
        entries = (
            self.codebook.weight.clone()
        )  # autograd keeps this one; clustering edits the parameter in place
        if self.config.normalize:
            features, entries = F.normalize(features, dim=-1), F.normalize(entries, dim=-1)
        distances = _squared_distances(rearrange(features, "b n c -> (b n) c"), entries)  # (B·N, K)
        nearest = distances.argmin(dim=1)
        ids = nearest.view(features.shape[:2])  # (B, N)
        quantized = entries[ids]  # (B, N, C)
        losses = {
            "commitment": self.config.commitment * F.mse_loss(features, quantized.detach()),
            "codebook": F.mse_loss(quantized, features.detach()),
        }
        latents = features + (quantized - features).detach()
        if self.config.clustering and self.training:
            self._move_rare_entries(flat.detach(), nearest, distances.detach())
        return Quantized(Tokens(latents, ids), losses)

    def lookup(self, ids: Tensor) -> Tensor:
        """Return the entries of `ids`: (B, N) integers in [0, K) → (B, N, C) float32."""
        entries = self.codebook.weight
        return (F.normalize(entries, dim=-1) if self.config.normalize else entries)[ids]

    @torch.no_grad()
    def _move_rare_entries(self, features: Tensor, nearest: Tensor, distances: Tensor) -> None:
        """Move entry k towards the nearest un-normalised feature of the batch, the more the rarer k is used."""
        assert isinstance(self.usage, Tensor)
        size = self.config.codebook_size
        # Not one_hot().mean(): the count of a batch is exact in float32 and sums exactly over processes.
        share = torch.bincount(nearest, minlength=size).float() / len(nearest)
        closest = features[distances.argmin(dim=0)]  # (K, C)
        if dist.is_initialized():
            dist.all_reduce(share, op=dist.ReduceOp.AVG)
            closest = _closest_over_processes(closest, distances.amin(dim=0))
        self.usage.mul_(self.USAGE_DECAY).add_(share, alpha=1 - self.USAGE_DECAY)
        weight = torch.exp(-10 * size * self.usage / (1 - self.USAGE_DECAY) - 1e-3)[:, None]
        self.codebook.weight.lerp_(closest, weight)


def _squared_distances(x: Tensor, entries: Tensor) -> Tensor:
    """Return ||x - e||² of every pair: (M, C) and (K, C) → (M, K)."""
    return x.square().sum(dim=1, keepdim=True) + entries.square().sum(dim=1) - 2 * x @ entries.T


def _closest_over_processes(closest: Tensor, distance: Tensor) -> Tensor:
    """Pick, per entry, the candidate of the process that holds the smallest distance."""
    candidates = [torch.empty_like(closest) for _ in range(dist.get_world_size())]
    distances = [torch.empty_like(distance) for _ in range(dist.get_world_size())]
    dist.all_gather(candidates, closest)
    dist.all_gather(distances, distance)
    winner = torch.stack(distances).argmin(dim=0)  # (K,)
    return torch.stack(candidates)[winner, torch.arange(len(winner), device=winner.device)]
