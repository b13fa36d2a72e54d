"""Fast sampling of MaskGen-KL (arXiv 2501.07730, section 4.2; after MAR, arXiv 2406.11838): tokens unmasked in rounds.

A round runs the backbone over all tokens, then a diffusion of many steps over the few tokens that it unmasks. Those
steps cost most of the time, so nothing is left in them that can be done before: the head's adaptive norms depend on
token and step and not on the latents, and are computed for many steps at once; both branches of classifier-free
guidance share a batch; noise is drawn before the first round, and nothing is read back to the host. HeadSampler is a
second implementation of the diffusion head; tests/unit/systems/test_maskgen.py holds the two equal.

Legend: B images · N tokens · n tokens of an image unmasked in a round · R = B·n · C channels · K steps of the diffusion
        D width of the backbone · W width of the head · m tokens still masked after a round.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from onetok.losses.diffusion import respaced_reverse
from onetok.nn.packed_linear import PrecomputedModulation, multiplier, padding
from onetok.nn.text_condition import TextCondition
from onetok.sampling.guidance import guided
from onetok.sampling.schedules import MaskSchedule
from onetok.sampling.seeds import ImageRandom
from onetok.systems.maskgen.diffusion_head import DiffusionHead, HeadBlock
from onetok.systems.maskgen.kl import MaskGenKL
from onetok.systems.maskgen.mmdit import EmbeddedCondition
from onetok.systems.maskgen.schema import LatentSampling, RevealGuidance

CONDITION_ROWS = 1024  # conditions (steps times rows) whose adaptive norms are computed at once


def guidance_weight(guidance: RevealGuidance, masked: int, tokens: int) -> float:
    """Return w of cond + (cond - uncond)·w in a round after which `masked` of `tokens` stay masked."""
    if guidance.kind == "constant":
        return guidance.scale - 1
    return (guidance.scale - 1) * (tokens - masked) / tokens


def masked_counts(sampling: LatentSampling, tokens: int) -> list[int]:
    """Return m of every round, 0 in the last."""
    schedule = MaskSchedule(sampling.mask_schedule)
    counts, masked = [], tokens
    for round_ in range(1, sampling.rounds):
        masked = schedule.remaining(round_ / sampling.rounds, tokens, masked)
        counts.append(masked)
    return [*counts, 0]


def sample_latents(
    model: MaskGenKL, condition: TextCondition, sampling: LatentSampling, random: ImageRandom
) -> Tensor:
    """Sample latents (B, N, C) float32; order and noise of row i come from image i's generator."""
    config, guidance, device = model.config, sampling.guidance, random.device
    tokens, channels = config.tokens, config.channels
    order = random.uniform(tokens).argsort(dim=1)  # (B, N); unmasked from its end
    noise = random.normal(tokens, sampling.diffusion_steps, channels)  # (B, N, K, C), by index in the order
    guides = guidance.scale != 1
    embedded = model.embed_condition(condition.with_unconditional() if guides else condition)
    head = HeadSampler(model.head, sampling, device)
    latents = noise.new_zeros(len(order), tokens, channels)  # (B, N, C)
    masked = torch.ones_like(order, dtype=torch.bool)  # (B, N)
    before = tokens
    for after in masked_counts(sampling, tokens):
        if after == before:
            continue  # more rounds than tokens: the last token is unmasked in the last round
        unmasked = order[:, after:before]  # (B, n), indices of tokens
        states = _states(model, latents, masked, embedded, guides)  # (B or 2B, N, D)
        states = states.gather(1, _index(unmasked, states))  # (B or 2B, n, D)
        # In the last round, too, the released code computes the weight with one token masked.
        weight = guidance_weight(guidance, max(1, after), tokens)
        sampled = head.draw(states.flatten(0, 1), noise[:, after:before].flatten(0, 1), weight)  # (R, C)
        latents.scatter_(1, _index(unmasked, latents), sampled.view(*unmasked.shape, channels))
        masked.scatter_(1, unmasked, False)
        before = after
    return latents / config.scale


def _states(
    model: MaskGenKL, latents: Tensor, masked: Tensor, embedded: EmbeddedCondition, guides: bool
) -> Tensor:
    """Return the states (B, N, D) that condition the head; with guidance (2B, N, D), the second half without text."""
    latents = latents.to(model.positions.dtype)
    if guides:
        latents, masked = torch.cat([latents, latents]), torch.cat([masked, masked])
    states: Tensor = model(latents, masked, embedded)
    return states


def _index(tokens: Tensor, x: Tensor) -> Tensor:
    """Return token indices (B, n) in the shape that gather and scatter over x (B or 2B, N, C) take."""
    copies, channels = len(x) // len(tokens), x.shape[-1]
    return tokens.repeat(copies, 1)[..., None].expand(-1, -1, channels)  # (B or 2B, n, C)


class HeadSampler:
    """The diffusion head's sampling of latents, with its adaptive norms computed for many steps at once."""

    def __init__(self, head: DiffusionHead, sampling: LatentSampling, device: torch.device) -> None:
        self.head, self.temperature, self.clip = head, sampling.temperature, sampling.clip
        process = respaced_reverse(sampling.diffusion_steps, device)
        self.coefficients = process.coefficients
        self.steps = head.embed_steps(process.steps)  # (K, W)
        self.layers = [_Layer(block) for block in head.each_block()]
        self.final = _Modulation(head.final_modulation)

    def draw(self, states: Tensor, noise: Tensor, weight: float) -> Tensor:
        """Return latents (R, C) given states (R, D), or (2R, D) to be guided by `weight`, and noise (R, K, C).

        The diffusion starts from the first noise; its last step adds none.
        """
        tokens, rows = len(noise), len(states)
        pad = padding(rows, self.head.condition.weight)
        token_of = F.pad(torch.arange(rows, device=states.device) % tokens, (0, pad))  # (rows + pad,)
        conditions = self.head.condition(states)  # (rows, W)
        chunk = max(1, CONDITION_ROWS // rows)
        x, *noises = noise.unbind(1)  # K x (R, C)
        noises = [self.temperature * noise for noise in noises]
        for index, step in enumerate(self.coefficients):
            if index % chunk == 0:
                self._prepare(conditions, self.steps[index : index + chunk], pad)
            predicted, v = self._predict(x, token_of, index % chunk)[:rows].chunk(2, dim=1)  # (R or 2R, C)
            if rows > tokens:
                conditional, unconditional = predicted.chunk(2)  # (R, C) each
                predicted = guided(conditional, unconditional, weight)
            latents = torch.addcmul(x * step.grow, predicted, step.remove)
            if (
                self.clip is not None
            ):  # the noisiest steps divide a prediction's error by √ᾱ, which is nearly 0
                latents = latents.clamp(-self.clip, self.clip)
            x = torch.addcmul(x * step.from_noisy, latents, step.from_latents)
            if index < len(noises):
                deviation = torch.addcmul(step.least, v[:tokens], step.spread).exp()
                x = torch.addcmul(x, deviation, noises[index])
        return x

    def _prepare(self, conditions: Tensor, steps: Tensor, pad: int) -> None:
        """Compute every norm's scale and shift for conditions (rows, W) at steps (chunk, W)."""
        both = F.silu(steps[:, None] + conditions)  # (chunk, rows, W)
        for modulation in (*(layer.modulation for layer in self.layers), self.final):
            modulation.prepare(both, pad)

    def _predict(self, x: Tensor, token_of: Tensor, index: int) -> Tensor:
        """Return the predicted noise and v, (rows + pad, 2C) float32, at one of the prepared steps."""
        h = self.head.input(x.to(self.steps.dtype)).index_select(0, token_of)  # (rows + pad, W)
        for layer in self.layers:
            h = layer(h, index)  # (rows + pad, W)
        shift, scale = self.final.parts[index]  # (rows + pad, W) each
        h = torch.addcmul(shift, torch.layer_norm(h, h.shape[1:], eps=self.head.final_norm.eps), scale)
        prediction: Tensor = self.head.output(h)  # (rows + pad, 2C)
        return prediction.float()


class _Modulation(PrecomputedModulation):
    """Shift, 1 + scale, and a gate if there is one, of every row at each of many steps."""

    def __init__(self, modulation: nn.Linear) -> None:
        super().__init__(modulation, scales=(1,))
        self.parts: list[tuple[Tensor, ...]] = []  # of each step (rows + pad, W) each

    def prepare(self, conditions: Tensor, pad: int) -> None:
        """Compute the parts for conditions (steps, rows, W), with `pad` rows of zeros added."""
        parts = self.compute(conditions.flatten(0, 1)).unflatten(
            0, conditions.shape[:2]
        )  # (steps, rows, parts, W)
        parts = F.pad(parts, (0, 0, 0, 0, 0, pad)) if pad else parts  # (steps, rows + pad, parts, W)
        self.parts = [step.unbind(1) for step in parts.unbind(0)]


class _Layer:
    """A block of the head, with its weights packed."""

    def __init__(self, block: HeadBlock) -> None:
        self.norm, self.modulation = block.norm, _Modulation(block.modulation)
        self.up, self.down = (multiplier(linear.weight, linear.bias) for linear in (block.up, block.down))

    def __call__(self, x: Tensor, index: int) -> Tensor:
        """Return x (rows + pad, W) after the block at one of the prepared steps."""
        shift, scale, gate = self.modulation.parts[index]
        normed = torch.layer_norm(x, x.shape[1:], self.norm.weight, self.norm.bias, self.norm.eps)
        hidden = F.silu(self.up(torch.addcmul(shift, normed, scale)), inplace=True)
        return torch.addcmul(x, gate, self.down(hidden))
