"""Gaussian diffusion with a cosine schedule and a learned variance (arXiv 2102.09672), for one token at a time.

Tables are computed in float64 and kept in float32. A process of fewer steps keeps some steps of the long one and
gives the network their numbers there.

Legend: R tokens · C channels · T steps of the long process · K kept steps · t step, 0 the least noisy · ᾱ share of
        the signal's variance that is left after a step.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor

TRAINED_STEPS = 1000  # T
OFFSET = 0.008  # of the cosine schedule
MAXIMUM_BETA = 0.999
# The discretised likelihood of step 0 is that of images of 256 levels in [-1, 1], as in the released code, though
# latents know no such levels and no such range.
HALF_BIN = 1 / 255
OPEN = 0.999  # beyond it a bin has no outer end


def cosine_betas(steps: int) -> Tensor:
    """Return β (T,) float64 of ᾱ(u) = cos²((u + 0.008)/1.008 · π/2), u from 0 to 1."""
    u = torch.arange(steps + 1, dtype=torch.float64) / steps
    signal = torch.cos((u + OFFSET) / (1 + OFFSET) * math.pi / 2).square()
    return (1 - signal[1:] / signal[:-1]).clamp(max=MAXIMUM_BETA)


def respace(betas: Tensor, kept: int) -> tuple[Tensor, Tensor]:
    """Return which steps a process of `kept` steps keeps, (K,) int64, and its β (K,) float64.

    Raises ValueError for fewer than 2 steps and for more than there are.
    """
    if not 2 <= kept <= len(betas):
        raise ValueError(f"a diffusion of {kept} steps, expected 2 to {len(betas)}")
    last = len(betas) - 1
    steps = torch.tensor([round(i * last / (kept - 1)) for i in range(kept)])
    signal = (1 - betas).cumprod(dim=0)[steps]
    before = torch.cat([signal.new_ones(1), signal[:-1]])
    return steps, 1 - signal / before


class StepPosterior(NamedTuple):
    """A step back from noisy latents, the clean ones given: (K,) float64 each."""

    signal: Tensor  # ᾱ
    from_latents: Tensor  # weight of the clean latents in the mean
    from_noisy: Tensor  # weight of the noisy ones
    log_largest: Tensor  # ln β, the largest log-variance
    log_smallest: Tensor  # ln β̃, the posterior's; at step 0, where it is -∞, that of step 1


def step_posterior(betas: Tensor) -> StepPosterior:
    """Return what follows from β (K,) float64."""
    signal = (1 - betas).cumprod(dim=0)
    before = torch.cat([signal.new_ones(1), signal[:-1]])
    variance = betas * (1 - before) / (1 - signal)
    return StepPosterior(
        signal=signal,
        from_latents=betas * before.sqrt() / (1 - signal),
        from_noisy=(1 - before) * (1 - betas).sqrt() / (1 - signal),
        log_largest=betas.log(),
        log_smallest=torch.cat([variance[1:2], variance[1:]]).log(),
    )


@dataclass(frozen=True, kw_only=True)
class Diffusion:
    """What a process of K steps needs at each, (K,) float32."""

    signal: Tensor  # √ᾱ
    noise: Tensor  # √(1-ᾱ)
    from_latents: Tensor  # these four as in StepPosterior
    from_noisy: Tensor
    log_largest: Tensor
    log_smallest: Tensor

    @classmethod
    def of(cls, betas: Tensor) -> Diffusion:
        """Return the process of β (K,) float64."""
        step = step_posterior(betas)
        return cls(
            signal=step.signal.sqrt().float(),
            noise=(1 - step.signal).sqrt().float(),
            from_latents=step.from_latents.float(),
            from_noisy=step.from_noisy.float(),
            log_largest=step.log_largest.float(),
            log_smallest=step.log_smallest.float(),
        )

    def to(self, device: torch.device) -> Diffusion:
        return Diffusion(**{field.name: getattr(self, field.name).to(device) for field in fields(self)})

    def noisy(self, latents: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """Return latents (R, C) at steps t (R,) int64, with noise (R, C)."""
        return self.signal[t, None] * latents + self.noise[t, None] * noise

    def clean(self, noisy: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """Return the latents (R, C) that a prediction of the noise (R, C) stands for."""
        return (noisy - self.noise[t, None] * noise) / self.signal[t, None]

    def posterior_mean(self, latents: Tensor, noisy: Tensor, t: Tensor) -> Tensor:
        """Return the mean (R, C) of a step towards `latents`."""
        return self.from_latents[t, None] * latents + self.from_noisy[t, None] * noisy

    def log_variance(self, v: Tensor, t: Tensor) -> Tensor:
        """Return the learned log-variance (R, C): v from -1 to 1 is from the smallest to the largest."""
        share = (v + 1) / 2
        return share * self.log_largest[t, None] + (1 - share) * self.log_smallest[t, None]


@cache
def trained_diffusion(device: torch.device) -> Diffusion:
    """Return the process of T steps that the network is trained on."""
    return Diffusion.of(cosine_betas(TRAINED_STEPS)).to(device)


class ReverseStep(NamedTuple):
    """A step towards the latents, for a prediction (ε, v) of noisy ones x: () float32 each.

    The latents that ε stands for are x·grow + ε·remove; the step goes to latents·from_latents + x·from_noisy, with a
    deviation of e^(least + v·spread). The same as `clean`, `posterior_mean` and `log_variance`.
    """

    grow: Tensor
    remove: Tensor
    from_latents: Tensor
    from_noisy: Tensor
    least: Tensor
    spread: Tensor


class Reverse(NamedTuple):
    """A process of K steps as it is sampled, the noisiest step first."""

    steps: Tensor  # (K,) int64, their numbers in the process that the network was trained on
    coefficients: list[ReverseStep]  # of every step


@cache
def respaced_reverse(kept: int, device: torch.device) -> Reverse:
    """Return the process of `kept` of the T steps, its tables made once for a device."""
    steps, betas = respace(cosine_betas(TRAINED_STEPS), kept)
    step = step_posterior(betas)
    table = torch.stack(
        [
            step.signal.rsqrt(),
            -((1 - step.signal) / step.signal).sqrt(),
            step.from_latents,
            step.from_noisy,
            (step.log_largest + step.log_smallest) / 4,
            (step.log_largest - step.log_smallest) / 4,
        ],
        dim=1,
    )  # (K, 6)
    rows = table.flip(0).float().to(device).unbind(0)
    return Reverse(steps.flip(0).to(device), [ReverseStep(*row.unbind(0)) for row in rows])


def diffusion_loss(
    prediction: Tensor, latents: Tensor, noisy: Tensor, noise: Tensor, t: Tensor
) -> dict[str, Tensor]:
    """Return each token's loss (R,) and its two terms, of a network's (noise, v) (R, 2C) at steps t (R,) int64.

    Latents, noisy ones and noise are (R, C) float32, in the model's scale.
    `mse` is of the noise. `bound` trains the variance alone: the share of step t in the variational bound, in bits a
    channel.
    """
    predicted, v = prediction.float().chunk(2, dim=1)  # (R, C) each
    mse = (noise - predicted).square().mean(dim=1)
    bound = _bound(predicted.detach(), v, latents, noisy, t)
    return {"total": mse + bound, "mse": mse, "bound": bound}


def _bound(noise: Tensor, v: Tensor, latents: Tensor, noisy: Tensor, t: Tensor) -> Tensor:
    process = trained_diffusion(noisy.device)
    true_mean = process.posterior_mean(latents, noisy, t)
    mean = process.posterior_mean(process.clean(noisy, noise, t), noisy, t)
    log_variance = process.log_variance(v, t)
    divergence = _normal_divergence(true_mean, process.log_smallest[t, None], mean, log_variance)
    nats = torch.where(t[:, None] == 0, _surprise(latents, mean, log_variance), divergence)
    return nats.mean(dim=1) / math.log(2)


def _normal_divergence(mean1: Tensor, log_variance1: Tensor, mean2: Tensor, log_variance2: Tensor) -> Tensor:
    """Return KL(normal 1 ‖ normal 2), elementwise, in nats."""
    distance = (mean1 - mean2).square() * torch.exp(-log_variance2)
    return 0.5 * (log_variance2 - log_variance1 + torch.exp(log_variance1 - log_variance2) - 1 + distance)


def _surprise(x: Tensor, mean: Tensor, log_variance: Tensor) -> Tensor:
    """Return -ln of the mass that a normal has on the bin around x, elementwise."""
    centred, precision = x - mean, torch.exp(-0.5 * log_variance)
    upper = _cumulated((centred + HALF_BIN) * precision)
    lower = _cumulated((centred - HALF_BIN) * precision)
    mass = torch.where(x < -OPEN, upper, torch.where(x > OPEN, 1 - lower, upper - lower))
    return -mass.clamp(min=1e-12).log()


def _cumulated(x: Tensor) -> Tensor:
    """Return the normal's cumulated density as the released code has it: tanh in the place of the error function."""
    return 0.5 * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x.pow(3))))
