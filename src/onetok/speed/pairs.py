"""Images/s of a 1D system, tokens and decoding, beside those of a guided diffusion transformer, in the same run."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from onetok import params
from onetok.derived import TokenShape, tokenizer_of
from onetok.models.dit import DiT, DiTConfig
from onetok.published import titok_as_published
from onetok.registry import build_sampling
from onetok.sampling.seeds import ImageRandom
from onetok.speed import tokenizers
from onetok.speed.clock import Clock
from onetok.speed.generators import DTYPES, System, build_condition, build_untrained, system_of

GUIDANCE = 4.0  # of diffusion; any but 1 needs both branches


@dataclass(frozen=True, kw_only=True)
class PairMeasurement:
    images: int  # of a call, and of a step of diffusion
    seconds: tuple[float, ...]  # of a call, round by round
    step_seconds: tuple[float, ...]  # of a step of diffusion
    steps: int  # of diffusion

    @property
    def images_per_second(self) -> float:
        return self.images / statistics.median(self.seconds)

    @property
    def beside(self) -> float:
        """Images/s of the diffusion model, all of whose steps take the time of those measured."""
        return self.images / (self.steps * statistics.median(self.step_seconds))

    @property
    def ratios(self) -> tuple[float, ...]:
        rounds = zip(self.seconds, self.step_seconds, strict=True)
        return tuple(self.steps * step / call for call, step in rounds)


def measure_pair(
    study: params.Study,
    pair: params.Pair,
    execution: params.PairExecution,
    seed: int,
    rounds: int,
    device: torch.device,
) -> PairMeasurement:
    """Time a pair; each round times a call of the 1D system, then a step of diffusion."""
    torch.manual_seed(seed)
    call = images_call(study, pair.system, execution, seed, device)
    step = diffusion_step(pair.diffusion, execution, device)
    clock = Clock(device)
    call()
    step()
    times = [(clock.seconds(call), clock.seconds(step)) for _ in range(rounds)]
    seconds, step_seconds = zip(*times, strict=True)
    return PairMeasurement(
        images=execution.batch, seconds=seconds, step_seconds=step_seconds, steps=pair.steps
    )


def images_call(
    study: params.Study,
    entry: params.StudySystem | params.UnreleasedSystem,
    execution: params.PairExecution,
    seed: int,
    device: torch.device,
) -> Callable[[], Tensor]:
    """Return the call that draws the tokens of a batch and decodes them to images (B, 3, H, W)."""
    system, tokenizer = build_system(study, entry)
    batch, precision = execution.batch, execution.precision
    generator: Any = build_untrained(system).eval().requires_grad_(False).to(device, DTYPES[precision])
    decoder: Any = tokenizers.cast(tokenizer.eval().requires_grad_(False), precision).to(device)
    sampling = build_sampling(system.sampling)
    condition = build_condition(system, generator, batch, device)
    autocast = torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16")

    @torch.inference_mode()
    def call() -> Tensor:
        ids = generator.sample(condition, sampling, ImageRandom(seed, range(batch), device))
        with autocast:
            images: Tensor = decoder.decode(decoder.tokens_from_ids(ids))
        return images

    return call


def build_system(
    study: params.Study, entry: params.StudySystem | params.UnreleasedSystem
) -> tuple[System, Any]:
    """Return a system and the tokenizer that decodes it, its weights as they start."""
    if isinstance(entry, params.StudySystem):
        system = system_of(study, entry.samples)
        name = tokenizer_of(study, study.generators[study.samples[entry.samples].generator])
        return system, tokenizers.build_untrained(study.tokenizers[name])
    quantizer = entry.tokenizer.quantizer
    assert quantizer.kind == "vq"
    shape = TokenShape(quantizer.codebook_size, quantizer.channels, entry.tokenizer.tokens)
    system = System(generator=entry.generator, shape=shape, sampling=entry.sampling, study=study)
    return system, titok_as_published(entry.tokenizer, entry.size, entry.stages)


def diffusion_step(
    entry: params.DiTModel, execution: params.PairExecution, device: torch.device
) -> Callable[[], Tensor]:
    """Return the call that predicts the noise of a batch at one time, guided."""
    batch, dtype = execution.batch, DTYPES[execution.precision]
    model = DiT(DiTConfig(**entry.model_dump())).eval().requires_grad_(False).to(device, dtype)
    latents = torch.randn(batch, entry.channels, entry.latent, entry.latent).to(device, dtype)
    labels = torch.arange(batch, device=device) % entry.classes
    return lambda: model.guided_noise(latents, 500, labels, GUIDANCE)
