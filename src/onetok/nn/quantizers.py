"""Quantizers: they turn an encoder's output into tokens.

Vector quantization as in TiTok (arXiv 2406.07550, section 3) and TA-TiTok (arXiv 2501.07730, section 3), with
the clustering codebook of CVQ-VAE (arXiv 2307.15139) as an option of training; and the Gaussian posterior of
the KL variants (arXiv 1312.6114, appendix B), whose tokens are continuous.

Legend: B batch · N tokens · C token channels · K codebook entries · M = B·N vectors of a batch · P processes.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.distributed as dist
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from onetok.study.schema.architecture import GaussianConfig, QuantizerConfig, VectorQuantizerConfig


class Posterior(NamedTuple):
    """A diagonal Gaussian distribution of each token's latents."""

    mean: Tensor  # (B, N, C)
    log_variance: Tensor  # (B, N, C)

    def sample(self, generator: torch.Generator | None) -> Tensor:
        """Sample latents (B, N, C) with `generator`, or with PyTorch's global generator if it is None."""
        return self.at(torch.randn(self.mean.shape, generator=generator, device=self.mean.device))

    def at(self, noise: Tensor) -> Tensor:
        """Return mean + standard deviation · noise, (B, N, C), for standard normal noise (B, N, C)."""
        return self.mean + torch.exp(0.5 * self.log_variance) * noise

    def divergence(self) -> Tensor:
        """Return KL(posterior ‖ standard normal) of each token, summed over channels: (B, N), in nats."""
        mean, log_variance = self
        return 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(dim=-1)


class Tokens(NamedTuple):
    """The tokens of B images. `latents` is always there; `ids` only of VQ, `posterior` only of KL tokenizers."""

    latents: Tensor  # (B, N, C) float32, the decoder's input
    ids: Tensor | None  # (B, N) int64 in [0, K), or None where tokens are continuous
    posterior: Posterior | None = None  # that of continuous latents; None where a generator sampled them


class Quantized(NamedTuple):
    """A quantizer's output."""

    tokens: Tokens
    losses: dict[str, Tensor]  # scalar terms by name, already weighted against each other


class Reconstruction(NamedTuple):
    """A tokenizer's output in training and evaluation."""

    images: Tensor  # (B, 3, H, W), near [0, 1], not clamped
    tokens: Tokens
    losses: dict[str, Tensor]  # the quantizer's terms, scalars


class VectorQuantizer(nn.Module):
    """Replace each token by its nearest codebook entry, by squared distance; gradients are straight-through.

    Losses: `commitment`, the weighted mean squared error of features against fixed entries, and `codebook`, that of
    entries against fixed features. With `normalize`, features and entries are first scaled to unit length.
    """

    USAGE_DECAY = 0.99  # of the exponential moving average of each entry's share of the batch

    def __init__(self, config: VectorQuantizerConfig) -> None:
        super().__init__()
        self.config = config
        self.codebook = nn.Embedding(config.codebook_size, config.channels)
        nn.init.uniform_(self.codebook.weight, -1 / config.codebook_size, 1 / config.codebook_size)
        if config.clustering:
            self.register_buffer("usage", torch.zeros(config.codebook_size))

    def forward(self, features: Tensor, generator: torch.Generator | None = None) -> Quantized:
        """Quantize features (B, N, C), in float32 under any autocast. Nothing is random: `generator` is not used."""
        with torch.autocast(features.device.type, enabled=False):
            return self._quantize(features.float())

    def _quantize(self, features: Tensor) -> Quantized:
        flat = rearrange(features, "b n c -> (b n) c")  # (M, C), not normalised
        # A copy (K, C): clustering changes the parameter in place, and autograd needs the values from before.
        entries = self.codebook.weight.clone()
        if self.config.normalize:
            features, entries = F.normalize(features, dim=-1), F.normalize(entries, dim=-1)
        distances = _squared_distances(rearrange(features, "b n c -> (b n) c"), entries)  # (M, K)
        nearest = distances.argmin(dim=1)  # (M,)
        ids = nearest.view(features.shape[:2])  # (B, N)
        quantized = entries[ids]  # (B, N, C)
        losses = {
            "commitment": self.config.commitment * F.mse_loss(features, quantized.detach()),
            "codebook": F.mse_loss(quantized, features.detach()),
        }
        latents = features + (quantized - features).detach()  # (B, N, C)
        if self.config.clustering and self.training:
            self._move_rare_entries(flat.detach(), nearest, distances.detach())
        return Quantized(Tokens(latents, ids), losses)

    def lookup(self, ids: Tensor) -> Tensor:
        """Return the latents of ids: (B, N) int64 in [0, K) → (B, N, C) float32, of unit length with `normalize`."""
        entries = self.codebook.weight  # (K, C)
        return (F.normalize(entries, dim=-1) if self.config.normalize else entries)[ids]  # (B, N, C)

    @torch.no_grad()
    def _move_rare_entries(self, features: Tensor, nearest: Tensor, distances: Tensor) -> None:
        """Move each entry towards the closest feature of the global batch, the further the more rarely it is used.

        This is CVQ-VAE's online clustering. Features (M, C) are those before normalisation, nearest (M,) the entry of
        each, distances (M, K) squared.
        """
        assert isinstance(self.usage, Tensor)
        size = self.config.codebook_size
        # Not one_hot().mean(): a batch's count is exact in float32 and sums exactly over processes.
        share = torch.bincount(nearest, minlength=size).float() / len(nearest)  # (K,)
        closest = features[distances.argmin(dim=0)]  # (K, C)
        if dist.is_initialized():
            dist.all_reduce(share, op=dist.ReduceOp.AVG)
            closest = _closest_over_processes(closest, distances.amin(dim=0))
        self.usage.mul_(self.USAGE_DECAY).add_(share, alpha=1 - self.USAGE_DECAY)
        weight = torch.exp(-10 * size * self.usage / (1 - self.USAGE_DECAY) - 1e-3)[:, None]  # (K, 1)
        self.codebook.weight.lerp_(closest, weight)


class Gaussian(nn.Module):
    """Split features into the mean and log-variance of a Gaussian posterior; tokens are its mean, or a sample of it.

    They are sampled in training and the mean in evaluation. Loss: `kl`, KL(posterior ‖ standard normal) in nats, summed
    over tokens and channels and averaged over the batch.
    """

    LOG_VARIANCE_RANGE = (-30.0, 20.0)  # log-variances are clamped to it, so that exp stays finite

    def __init__(self, config: GaussianConfig) -> None:
        super().__init__()
        self.config = config

    def forward(self, features: Tensor, generator: torch.Generator | None = None) -> Quantized:
        """Return tokens of features (B, N, 2C), in float32 under any autocast, sampled with `generator` in training."""
        with torch.autocast(features.device.type, enabled=False):
            return self._quantize(features.float(), generator)

    def _quantize(self, features: Tensor, generator: torch.Generator | None) -> Quantized:
        mean, log_variance = features.chunk(2, dim=-1)  # (B, N, C) each
        posterior = Posterior(mean, log_variance.clamp(*self.LOG_VARIANCE_RANGE))
        latents = posterior.sample(generator) if self.training else mean  # (B, N, C)
        losses = {"kl": posterior.divergence().sum(dim=1).mean()}
        return Quantized(Tokens(latents, None, posterior), losses)


def build_quantizer(config: QuantizerConfig) -> VectorQuantizer | Gaussian:
    """Return the untrained quantizer that a config describes."""
    return VectorQuantizer(config) if isinstance(config, VectorQuantizerConfig) else Gaussian(config)


def _squared_distances(x: Tensor, entries: Tensor) -> Tensor:
    """Return ‖x - e‖² of every pair: (M, C) and (K, C) → (M, K)."""
    return x.square().sum(dim=1, keepdim=True) + entries.square().sum(dim=1) - 2 * x @ entries.T  # (M, K)


def _closest_over_processes(closest: Tensor, distance: Tensor) -> Tensor:
    """Return each entry's closest feature over all processes, (K, C), of this process's (K, C) and distances (K,)."""
    candidates = [torch.empty_like(closest) for _ in range(dist.get_world_size())]
    distances = [torch.empty_like(distance) for _ in range(dist.get_world_size())]
    dist.all_gather(candidates, closest)
    dist.all_gather(distances, distance)
    winner = torch.stack(distances).argmin(dim=0)  # (P, K) → (K,), the process with the smallest distance
    entry = torch.arange(len(winner), device=winner.device)  # (K,)
    return torch.stack(candidates)[winner, entry]  # (P, K, C) → (K, C)
