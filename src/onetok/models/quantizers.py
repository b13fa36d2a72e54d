"""Quantizers: what turns an encoder's output into tokens.

Vector quantization as in TiTok (arXiv 2406.07550, section 3) and TA-TiTok (arXiv 2501.07730, section 3), with
the clustering codebook of CVQ-VAE (arXiv 2307.15139) as an option of training; and the Gaussian posterior of
the KL variants (arXiv 1312.6114, appendix B), whose tokens are continuous.

Legend: B batch · N tokens · C token channels · K codebook entries.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn


class Posterior(NamedTuple):
    """A diagonal Gaussian for each token."""

    mean: Tensor  # (B, N, C)
    log_variance: Tensor  # (B, N, C)

    def sample(self, generator: torch.Generator | None) -> Tensor:
        """Draw latents (B, N, C), from the global generator where `generator` is None."""
        return self.at(torch.randn(self.mean.shape, generator=generator, device=self.mean.device))

    def at(self, noise: Tensor) -> Tensor:
        """Return the latents that standard normal noise (B, N, C) stands for."""
        return self.mean + torch.exp(0.5 * self.log_variance) * noise

    def divergence(self) -> Tensor:
        """Return KL(posterior || standard normal) of each token: (B, N), in nats."""
        mean, log_variance = self
        return 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(dim=-1)


class Tokens(NamedTuple):
    """What a tokenizer makes of images. Every kind fills `latents`; VQ and KL differ in the rest."""

    latents: Tensor  # (B, N, C) float32, what the decoder reads
    ids: Tensor | None  # (B, N) int64 in [0, K), or None where tokens are continuous
    posterior: Posterior | None = None  # what continuous tokens were drawn from, where an encoder made them


def tokens_from_drawn(tokenizer: Any, drawn: Tensor) -> Tokens:
    """Return the tokens that a generator has drawn: ids (B, N) int64, or latents (B, N, C) float32."""
    if drawn.is_floating_point():
        return Tokens(drawn, None)
    tokens: Tokens = tokenizer.tokens_from_ids(drawn)
    return tokens


class Quantized(NamedTuple):
    tokens: Tokens
    losses: dict[str, Tensor]  # scalars, by name, already weighted against each other


class Reconstruction(NamedTuple):
    images: Tensor  # (B, 3, H, W), near [0, 1], not clamped
    tokens: Tokens
    losses: dict[str, Tensor]  # the quantizer's terms


@dataclass(frozen=True, kw_only=True, slots=True)
class VectorQuantizerConfig:
    codebook_size: int  # K
    channels: int  # C
    normalize: bool  # compare directions: L2-normalise both inputs and codebook
    commitment: float  # weight of the commitment term beside the codebook term
    clustering: bool  # move rarely used entries towards the data, in training only

    @property
    def features(self) -> int:
        """Channels that the encoder has to give."""
        return self.channels


@dataclass(frozen=True, kw_only=True, slots=True)
class GaussianConfig:
    channels: int  # C

    @property
    def features(self) -> int:
        """Channels that the encoder has to give: a mean and a log-variance for each of the token's."""
        return 2 * self.channels


QuantizerConfig = VectorQuantizerConfig | GaussianConfig


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

    def forward(self, features: Tensor, generator: torch.Generator | None = None) -> Quantized:
        """Quantize features (B, N, C) in float32. Nothing is drawn, so `generator` is not used."""
        with torch.autocast(features.device.type, enabled=False):
            return self._quantize(features.float())

    def _quantize(self, features: Tensor) -> Quantized:
        flat = rearrange(features, "b n c -> (b n) c")
        entries = self.codebook.weight.clone()  # clustering edits the parameter in place, autograd keeps this
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
        """Move entry k towards the batch's nearest un-normalised feature, the more the rarer k is used."""
        assert isinstance(self.usage, Tensor)
        size = self.config.codebook_size
        # Not one_hot().mean(): a batch's count is exact in float32 and sums exactly over processes.
        share = torch.bincount(nearest, minlength=size).float() / len(nearest)
        closest = features[distances.argmin(dim=0)]  # (K, C)
        if dist.is_initialized():
            dist.all_reduce(share, op=dist.ReduceOp.AVG)
            closest = _closest_over_processes(closest, distances.amin(dim=0))
        self.usage.mul_(self.USAGE_DECAY).add_(share, alpha=1 - self.USAGE_DECAY)
        weight = torch.exp(-10 * size * self.usage / (1 - self.USAGE_DECAY) - 1e-3)[:, None]
        self.codebook.weight.lerp_(closest, weight)


class Gaussian(nn.Module):
    """Read features as a posterior of continuous tokens: its mean in evaluation, a sample in training."""

    LOG_VARIANCE_RANGE = (-30.0, 20.0)

    def __init__(self, config: GaussianConfig) -> None:
        super().__init__()
        self.config = config

    def forward(self, features: Tensor, generator: torch.Generator | None = None) -> Quantized:
        """Read features (B, N, 2C) in float32."""
        with torch.autocast(features.device.type, enabled=False):
            return self._quantize(features.float(), generator)

    def _quantize(self, features: Tensor, generator: torch.Generator | None) -> Quantized:
        mean, log_variance = features.chunk(2, dim=-1)  # (B, N, C) each
        posterior = Posterior(mean, log_variance.clamp(*self.LOG_VARIANCE_RANGE))
        latents = posterior.sample(generator) if self.training else mean
        losses = {"kl": posterior.divergence().sum(dim=1).mean()}
        return Quantized(Tokens(latents, None, posterior), losses)


def build_quantizer(config: QuantizerConfig) -> VectorQuantizer | Gaussian:
    return VectorQuantizer(config) if isinstance(config, VectorQuantizerConfig) else Gaussian(config)


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
