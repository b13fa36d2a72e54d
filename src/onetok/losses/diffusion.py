"""Gaussian diffusion with a cosine schedule and a learned variance (arXiv 2102.09672), of each token by itself.

This is the loss of MaskGen-KL's diffusion head. Tables of coefficients are computed in float64 and stored in float32.
Sampling uses fewer steps than training (section 4): it keeps K of the T steps, and the network's timestep input is the
number that a kept step has among the T.

Legend: R tokens · C channels · T training steps · K kept steps · t step, 0 the least noisy · β noise variance that a
        step adds · ᾱ share of the signal's variance that is left after a step.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor

TRAINED_STEPS = 1000  # T
OFFSET = 0.008  # s of the cosine schedule (equation 17)
MAXIMUM_BETA = 0.999
# At step 0 the loss is the likelihood of a value rounded to 256 levels in [-1, 1]. That is a model of 8-bit images; the
# released code uses it for latents too, which have neither such levels nor such a range.
HALF_BIN = 1 / 255  # half of the distance between two levels
OPEN = 0.999  # values beyond ±OPEN are in the first and the last bin, which reach to -∞ and +∞


def cosine_betas(steps: int) -> Tensor:
    """Return β (T,) float64 of the schedule ᾱ(u) = cos²((u + 0.008)/1.008 · π/2), u from 0 to 1 (equation 17)."""
    u = torch.arange(steps + 1, dtype=torch.float64) / steps  # (T+1,)
    signal = torch.cos((u + OFFSET) / (1 + OFFSET) * math.pi / 2).square()  # (T+1,), ᾱ
    return (1 - signal[1:] / signal[:-1]).clamp(max=MAXIMUM_BETA)  # (T,)


def respace(betas: Tensor, kept: int) -> tuple[Tensor, Tensor]:
    """Return the `kept` evenly spaced steps of a process with β (T,), as numbers (K,) int64, and their β (K,) float64.

    Raises ValueError unless 2 ≤ K ≤ T.
    """
    if not 2 <= kept <= len(betas):
        raise ValueError(f"a diffusion of {kept} steps, expected 2 to {len(betas)}")
    last = len(betas) - 1
    steps = torch.tensor([round(i * last / (kept - 1)) for i in range(kept)])  # (K,)
    signal = (1 - betas).cumprod(dim=0)[steps]  # (K,), ᾱ
    before = torch.cat([signal.new_ones(1), signal[:-1]])  # (K,), ᾱ of the step before
    return steps, 1 - signal / before


class StepPosterior(NamedTuple):
    """The posterior q(x_{t-1} | x_t, x_0) of each step: (K,) float64 each."""

    signal: Tensor  # ᾱ
    from_latents: Tensor  # weight of the clean latents x_0 in the mean
    from_noisy: Tensor  # weight of the noisy latents x_t in the mean
    log_largest: Tensor  # ln β, the upper bound of the reverse process's log-variance
    log_smallest: Tensor  # ln β̃, its lower bound, the posterior's; at step 0, where it is -∞, that of step 1


def step_posterior(betas: Tensor) -> StepPosterior:
    """Return the posterior of each step of a process with β (K,) float64."""
    signal = (1 - betas).cumprod(dim=0)  # (K,)
    before = torch.cat([signal.new_ones(1), signal[:-1]])  # (K,)
    variance = betas * (1 - before) / (1 - signal)  # (K,), β̃
    return StepPosterior(
        signal=signal,
        from_latents=betas * before.sqrt() / (1 - signal),
        from_noisy=(1 - before) * (1 - betas).sqrt() / (1 - signal),
        log_largest=betas.log(),
        log_smallest=torch.cat([variance[1:2], variance[1:]]).log(),
    )


@dataclass(frozen=True, kw_only=True)
class Diffusion:
    """The coefficients of a process of K steps, (K,) float32 each."""

    signal: Tensor  # √ᾱ
    noise: Tensor  # √(1-ᾱ)
    from_latents: Tensor  # this and the next three are those of StepPosterior
    from_noisy: Tensor
    log_largest: Tensor
    log_smallest: Tensor

    @classmethod
    def of(cls, betas: Tensor) -> Diffusion:
        """Return the coefficients of a process with β (K,) float64."""
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
        """Return the noisy latents x_t (R, C) of clean latents (R, C) at steps t (R,) int64, with noise (R, C)."""
        return self.signal[t, None] * latents + self.noise[t, None] * noise  # (R, C)

    def clean(self, noisy: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """Return the clean latents (R, C) that noisy latents and a prediction of their noise, (R, C) each, imply."""
        return (noisy - self.noise[t, None] * noise) / self.signal[t, None]  # (R, C)

    def posterior_mean(self, latents: Tensor, noisy: Tensor, t: Tensor) -> Tensor:
        """Return the mean (R, C) of q(x_{t-1} | x_t, x_0) for clean latents x_0 and noisy latents x_t, (R, C) each."""
        return self.from_latents[t, None] * latents + self.from_noisy[t, None] * noisy  # (R, C)

    def log_variance(self, v: Tensor, t: Tensor) -> Tensor:
        """Return the learned log-variance (R, C), interpolated from ln β̃ at v = -1 to ln β at v = 1 (equation 15)."""
        share = (v + 1) / 2  # (R, C)
        return share * self.log_largest[t, None] + (1 - share) * self.log_smallest[t, None]


@cache
def trained_diffusion(device: torch.device) -> Diffusion:
    """Return the coefficients of the T steps that the network is trained on."""
    return Diffusion.of(cosine_betas(TRAINED_STEPS)).to(device)


class ReverseStep(NamedTuple):
    """The coefficients of a sampling step from x_t to x_{t-1}, given the network's prediction (ε, v): () float32 each.

    The estimate of the clean latents is x_0 = x_t·grow + ε·remove. The step samples a Gaussian of mean
    x_0·from_latents + x_t·from_noisy and standard deviation e^(least + v·spread). This is `clean`, `posterior_mean` and
    `log_variance` of Diffusion, with fewer operations.
    """

    grow: Tensor  # 1/√ᾱ
    remove: Tensor  # -√((1-ᾱ)/ᾱ)
    from_latents: Tensor
    from_noisy: Tensor
    least: Tensor  # log of the standard deviation at v = 0, (ln β + ln β̃)/4
    spread: Tensor  # (ln β - ln β̃)/4


class Reverse(NamedTuple):
    """The sampling steps of a process of K steps, the noisiest first."""

    steps: Tensor  # (K,) int64, the numbers of the steps among the T of training
    coefficients: list[ReverseStep]  # of each of the K steps


@cache
def respaced_reverse(kept: int, device: torch.device) -> Reverse:
    """Return the sampling steps of a process that keeps `kept` of the T steps, computed once for each device.

    Raises ValueError unless 2 ≤ kept ≤ T.
    """
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
    rows = table.flip(0).float().to(device).unbind(0)  # K x (6,)
    return Reverse(steps.flip(0).to(device), [ReverseStep(*row.unbind(0)) for row in rows])


def diffusion_loss(
    prediction: Tensor, latents: Tensor, noisy: Tensor, noise: Tensor, t: Tensor
) -> dict[str, Tensor]:
    """Return each token's loss `total` (R,), the sum of two terms (R,), for a prediction (noise, v) (R, 2C).

    Clean latents, noisy latents and noise are (R, C) float32, in the model's scale; steps t are (R,) int64. The first
    term, `mse`, is the mean squared error of the noise. The second, `bound`, trains the variance alone: it is step t's
    term of the variational lower bound, in bits per channel, with the predicted noise detached (section 3.1).
    """
    predicted, v = prediction.float().chunk(2, dim=1)  # (R, C) each
    mse = (noise - predicted).square().mean(dim=1)  # (R,)
    bound = _bound(predicted.detach(), v, latents, noisy, t)  # (R,)
    return {"total": mse + bound, "mse": mse, "bound": bound}


def _bound(noise: Tensor, v: Tensor, latents: Tensor, noisy: Tensor, t: Tensor) -> Tensor:
    process = trained_diffusion(noisy.device)
    true_mean = process.posterior_mean(latents, noisy, t)  # (R, C)
    mean = process.posterior_mean(process.clean(noisy, noise, t), noisy, t)  # (R, C)
    log_variance = process.log_variance(v, t)  # (R, C)
    divergence = _normal_divergence(true_mean, process.log_smallest[t, None], mean, log_variance)  # (R, C)
    nats = torch.where(t[:, None] == 0, _negative_log_likelihood(latents, mean, log_variance), divergence)
    return nats.mean(dim=1) / math.log(2)  # (R,), in bits


def _normal_divergence(mean1: Tensor, log_variance1: Tensor, mean2: Tensor, log_variance2: Tensor) -> Tensor:
    """Return KL(normal 1 ‖ normal 2) in nats, elementwise over means and log-variances that broadcast to one shape."""
    distance = (mean1 - mean2).square() * torch.exp(-log_variance2)
    return 0.5 * (log_variance2 - log_variance1 + torch.exp(log_variance1 - log_variance2) - 1 + distance)


def _negative_log_likelihood(x: Tensor, mean: Tensor, log_variance: Tensor) -> Tensor:
    """Return -ln of a normal distribution's probability of the bin x ± HALF_BIN, elementwise, in nats."""
    centred, inverse_deviation = x - mean, torch.exp(-0.5 * log_variance)
    upper = _normal_cdf((centred + HALF_BIN) * inverse_deviation)
    lower = _normal_cdf((centred - HALF_BIN) * inverse_deviation)
    probability = torch.where(x < -OPEN, upper, torch.where(x > OPEN, 1 - lower, upper - lower))
    return -probability.clamp(min=1e-12).log()


def _normal_cdf(x: Tensor) -> Tensor:
    """Return the cumulative distribution function of the standard normal, by the released code's tanh approximation."""
    return 0.5 * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x.pow(3))))
