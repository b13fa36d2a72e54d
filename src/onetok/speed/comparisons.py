"""Images per second of a 1D system, sampling and decoding, and of a guided diffusion transformer, in the same run.

Legend: B batch · H,W pixels.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from onetok.networks.dit import DiT
from onetok.nn.protocols import Tokenizer
from onetok.sampling.seeds import ImageRandom
from onetok.speed import tokenizers
from onetok.speed.clock import Clock
from onetok.speed.generators import DTYPES, MeasuredGenerator, generator_of, random_condition
from onetok.study.schema.shapes import TokenShape
from onetok.study.schema.speeds import (
    ComparisonExecution,
    DiffusionComparison,
    DiTModel,
    StudySystem,
    UnreleasedSystem,
)
from onetok.study.schema.study import Study
from onetok.systems.records import Shapes
from onetok.systems.registry import build_generator, generator_system

GUIDANCE = 4.0  # guidance scale of diffusion; any scale but 1 needs both branches


@dataclass(frozen=True, kw_only=True)
class ComparisonMeasurement:
    """The times of a 1D system and of a diffusion model."""

    images: int  # of one call of the 1D system, and of one diffusion step
    seconds: tuple[float, ...]  # of a call in each round
    step_seconds: tuple[float, ...]  # of a diffusion step in each round
    steps: int  # of the diffusion model for one image

    @property
    def images_per_second(self) -> float:
        """Return the 1D system's images per second, median over rounds."""
        return self.images / statistics.median(self.seconds)

    @property
    def diffusion_images_per_second(self) -> float:
        """Return the diffusion model's images per second, assuming that all its steps take the same time."""
        return self.images / (self.steps * statistics.median(self.step_seconds))

    @property
    def ratios(self) -> tuple[float, ...]:
        """Return how many times faster the 1D system is, in each round."""
        rounds = zip(self.seconds, self.step_seconds, strict=True)
        return tuple(self.steps * step / call for call, step in rounds)


def measure_comparison(
    study: Study,
    comparison: DiffusionComparison,
    execution: ComparisonExecution,
    seed: int,
    rounds: int,
    device: torch.device,
) -> ComparisonMeasurement:
    """Time both systems of a comparison; each round times a call of the 1D system, then one diffusion step."""
    torch.manual_seed(seed)
    call = images_call(study, comparison.system, execution, seed, device)
    step = diffusion_step(comparison.diffusion, execution, device)
    clock = Clock(device)
    call()
    step()
    times = [(clock.seconds(call), clock.seconds(step)) for _ in range(rounds)]
    seconds, step_seconds = zip(*times, strict=True)
    return ComparisonMeasurement(
        images=execution.batch, seconds=seconds, step_seconds=step_seconds, steps=comparison.steps
    )


def images_call(
    study: Study,
    entry: StudySystem | UnreleasedSystem,
    execution: ComparisonExecution,
    seed: int,
    device: torch.device,
) -> Callable[[], Tensor]:
    """Return the call that samples the tokens of a batch and decodes them to images (B, 3, H, W)."""
    measured, tokenizer = build_system(study, entry)
    batch, precision = execution.batch, execution.precision
    generator = build_generator(measured.entry, measured.shapes)
    generator = generator.eval().requires_grad_(False).to(device, DTYPES[precision])
    decoder: Any = tokenizers.cast(tokenizer.eval().requires_grad_(False), precision).to(device)
    system = generator_system(generator)
    settings = measured.sampling
    condition = random_condition(generator, measured.shapes, batch, device)
    autocast = torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16")

    @torch.inference_mode()
    def call() -> Tensor:
        ids = system.sample(generator, condition, settings, ImageRandom(seed, range(batch), device))
        with autocast:
            images: Tensor = decoder.decode(decoder.tokens_from_ids(ids))
        return images

    return call


def build_system(study: Study, entry: StudySystem | UnreleasedSystem) -> tuple[MeasuredGenerator, Tokenizer]:
    """Return a generator and its tokenizer, both with untrained weights."""
    if isinstance(entry, StudySystem):
        name = study.generators[study.samples[entry.samples].generator].tokenizer_name(study)
        return generator_of(study, entry.samples), tokenizers.build_untrained(study.tokenizers[name])
    tokenizer = tokenizers.build_untrained(entry.tokenizer)
    shape = TokenShape(tokenizer.codebook_size, tokenizer.channels, tokenizer.tokens)
    measured = MeasuredGenerator(entry=entry.generator, shapes=Shapes(shape, None), sampling=entry.sampling)
    return measured, tokenizer


def diffusion_step(
    entry: DiTModel, execution: ComparisonExecution, device: torch.device
) -> Callable[[], Tensor]:
    """Return the call that predicts the guided noise of a batch at one timestep."""
    batch, dtype = execution.batch, DTYPES[execution.precision]
    model = DiT(entry).eval().requires_grad_(False).to(device, dtype)
    latents = torch.randn(batch, entry.channels, entry.latent, entry.latent).to(device, dtype)
    labels = torch.arange(batch, device=device) % entry.classes
    return lambda: model.guided_noise(latents, 500, labels, GUIDANCE)
