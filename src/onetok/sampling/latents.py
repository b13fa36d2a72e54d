"""Revealing continuous tokens round by round (MaskGen-KL, arXiv 2501.07730, section 4.2; MAR, arXiv 2406.11838).

A round runs the backbone over all tokens, then a diffusion of many steps over the few that it reveals. The steps cost
most, so nothing is done in them that can be done before: how the head's norms are modulated depends on token and step
and not on the latents, and is computed for many steps at once; both branches of guidance share a batch, their latents
and their noise, which is drawn before the first round; tables stay on the device, and nothing is read back.

Legend: B images · N tokens · n tokens of an image revealed in a round · R = B·n · C channels · K steps of the diffusion
        D width of the backbone · W width of the head · m tokens masked after a round.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from onetok.losses.diffusion import respaced_reverse
from onetok.sampling.guidance import RevealGuidance, guided
from onetok.sampling.packing import multiplier, padding
from onetok.sampling.schedules import MaskSchedule
from onetok.sampling.seeds import ImageRandom

if TYPE_CHECKING:
    from onetok.models.diffusion_head import DiffusionHead, HeadBlock
    from onetok.models.maskgen_kl import MaskGenKL
    from onetok.models.mmdit import Reading, TextCondition

CONDITION_ROWS = 1024  # conditions, steps times rows, whose adaptive norms are kept at a time


@dataclass(frozen=True, kw_only=True, slots=True)
class LatentSampling:
    rounds: int
    diffusion_steps: int  # K, of the 1000 that the head was trained on
    temperature: float  # of the noise that a step of the diffusion adds
    clip: float | None  # bound of the latents that a prediction stands for, in the model's scale
    guidance: RevealGuidance
    schedule: MaskSchedule  # share of tokens masked after a share of the rounds


def masked_counts(sampling: LatentSampling, tokens: int) -> list[int]:
    """Return m of every round, 0 in the last."""
    counts, masked = [], tokens
    for round_ in range(1, sampling.rounds):
        masked = sampling.schedule.remaining(round_ / sampling.rounds, tokens, masked)
        counts.append(masked)
    return [*counts, 0]


def sample_latents(
    model: MaskGenKL, condition: TextCondition, sampling: LatentSampling, random: ImageRandom
) -> Tensor:
    """Draw latents (B, N, C) float32; order and noise of row i come from image i's generator."""
    config, guidance, device = model.config, sampling.guidance, random.device
    tokens, channels = config.tokens, config.channels
    order = random.uniform(tokens).argsort(dim=1)  # (B, N); revealed from its end
    noise = random.normal(tokens, sampling.diffusion_steps, channels)  # (B, N, K, C), of places in the order
    guides = guidance.scale != 1
    reading = model.read(condition.with_unconditional() if guides else condition)
    head = HeadSampler(model.head, sampling, device)
    latents = noise.new_zeros(len(order), tokens, channels)
    masked = torch.ones_like(order, dtype=torch.bool)
    before = tokens
    for after in masked_counts(sampling, tokens):
        if after == before:
            continue  # more rounds than tokens: the last one is revealed in the last round
        places = order[:, after:before]  # (B, n)
        states = _states(model, latents, masked, reading, guides)
        states = states.gather(1, _of(places, states))  # (B or 2B, n, D)
        weight = guidance.weight(
            max(1, after), tokens
        )  # the released code has one masked in the last round too
        drawn = head.draw(states.flatten(0, 1), noise[:, after:before].flatten(0, 1), weight)  # (R, C)
        latents.scatter_(1, _of(places, latents), drawn.view(*places.shape, channels))
        masked.scatter_(1, places, False)
        before = after
    return latents / config.scale


def _states(model: MaskGenKL, latents: Tensor, masked: Tensor, reading: Reading, guides: bool) -> Tensor:
    """Return the head's states (B, N, D), and in the same batch, where guided, those without text."""
    latents = latents.to(model.positions.dtype)
    if guides:
        latents, masked = torch.cat([latents, latents]), torch.cat([masked, masked])
    states: Tensor = model(latents, masked, reading)
    return states


def _of(places: Tensor, x: Tensor) -> Tensor:
    """Return places (B, n) as an index into x (B or 2B, N, C)."""
    copies, channels = len(x) // len(places), x.shape[-1]
    return places.repeat(copies, 1)[..., None].expand(-1, -1, channels)


class HeadSampler:
    """A diffusion head that draws the latents of tokens from the backbone's states."""

    def __init__(self, head: DiffusionHead, sampling: LatentSampling, device: torch.device) -> None:
        self.head, self.temperature, self.clip = head, sampling.temperature, sampling.clip
        process = respaced_reverse(sampling.diffusion_steps, device)
        self.coefficients = process.coefficients
        self.steps = head.embed_steps(process.steps)  # (K, W)
        self.layers = [_Layer(block) for block in head.each_block()]
        self.final = _Adaptive(head.final_modulation)

    def draw(self, states: Tensor, noise: Tensor, weight: float) -> Tensor:
        """Return latents (R, C) under states (R, D), or (2R, D) to be guided by `weight`, from noise (R, K, C).

        The first noise is what the diffusion starts from; its last step adds none.
        """
        tokens, rows = len(noise), len(states)
        pad = padding(rows, self.head.condition.weight)
        token_of = F.pad(torch.arange(rows, device=states.device) % tokens, (0, pad))  # rows and padding
        conditions = self.head.condition(states)  # (rows, W)
        chunk = max(1, CONDITION_ROWS // rows)
        x, *noises = noise.unbind(1)
        noises = [self.temperature * noise for noise in noises]
        for index, step in enumerate(self.coefficients):
            if index % chunk == 0:
                self._prepare(conditions, self.steps[index : index + chunk], pad)
            predicted, v = self._predict(x, token_of, index % chunk)[:rows].chunk(2, dim=1)  # (R or 2R, C)
            if rows > tokens:
                conditional, unconditional = predicted.chunk(2)
                predicted = guided(conditional, unconditional, weight)
            latents = torch.addcmul(x * step.grow, predicted, step.remove)
            if self.clip is not None:  # the first steps divide a prediction's error by next to nothing
                latents = latents.clamp(-self.clip, self.clip)
            x = torch.addcmul(x * step.from_noisy, latents, step.from_latents)
            if index < len(noises):
                deviation = torch.addcmul(step.least, v[:tokens], step.spread).exp()
                x = torch.addcmul(x, deviation, noises[index])
        return x

    def _prepare(self, conditions: Tensor, steps: Tensor, pad: int) -> None:
        """Compute every norm's scale and shift for conditions (rows, W) at steps (chunk, W)."""
        both = F.silu(steps[:, None] + conditions)  # (chunk, rows, W)
        for adaptive in (*(layer.adaptive for layer in self.layers), self.final):
            adaptive.prepare(both, pad)

    def _predict(self, x: Tensor, token_of: Tensor, index: int) -> Tensor:
        """Return (noise, v) (rows, 2C) float32 at one of the prepared steps."""
        h = self.head.input(x.to(self.steps.dtype)).index_select(0, token_of)  # (rows, W)
        for layer in self.layers:
            h = layer(h, index)
        shift, scale = self.final.parts[index]
        h = torch.addcmul(shift, torch.layer_norm(h, h.shape[1:], eps=self.head.final_norm.eps), scale)
        prediction: Tensor = self.head.output(h)
        return prediction.float()


class _Adaptive:
    """A linear layer of the condition: shift, 1 + scale, and a gate if it has one, for many steps at once."""

    def __init__(self, modulation: nn.Linear) -> None:
        bias = modulation.bias.clone()
        bias.view(-1, modulation.in_features)[1] += 1
        self.multiply = multiplier(modulation.weight, bias)
        self.parts: list[tuple[Tensor, ...]] = []  # (rows, W) each, of every step

    def prepare(self, conditions: Tensor, pad: int) -> None:
        """Compute the parts for conditions (steps, rows, W), with so many rows of zeros added."""
        out = self.multiply(conditions.flatten(0, 1)).unflatten(0, conditions.shape[:2])
        out = F.pad(out, (0, 0, 0, pad)) if pad else out  # (steps, rows, parts·W)
        self.parts = [step.split(conditions.shape[2], dim=1) for step in out.unbind(0)]


class _Layer:
    """A block of the head, its weights packed."""

    def __init__(self, block: HeadBlock) -> None:
        self.norm, self.adaptive = block.norm, _Adaptive(block.modulation)
        self.up, self.down = (multiplier(linear.weight, linear.bias) for linear in (block.up, block.down))

    def __call__(self, x: Tensor, index: int) -> Tensor:
        """Return x (rows, W) after the block at one of the prepared steps."""
        shift, scale, gate = self.adaptive.parts[index]
        normed = torch.layer_norm(x, x.shape[1:], self.norm.weight, self.norm.bias, self.norm.eps)
        hidden = F.silu(self.up(torch.addcmul(shift, normed, scale)), inplace=True)
        return torch.addcmul(x, gate, self.down(hidden))
