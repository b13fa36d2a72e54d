"""What is timed of a generator: drawing the tokens of a batch, with random weights. Decoding is the tokenizer's."""

from __future__ import annotations

import os
import shutil
import statistics
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from onetok import params
from onetok.derived import TokenShape, pretrained_of, text_shape, token_shape, tokenizer_of
from onetok.errors import OnetokError
from onetok.models.mmdit import TextCondition
from onetok.published import GeneratorEntry, build_published_generator
from onetok.registry import build_generator, build_sampling
from onetok.sampling.seeds import ImageRandom
from onetok.speed.clock import Clock
from onetok.speed.machine import Machine, Rates
from onetok.speed.measure import Case, Measurement
from onetok.speed.steps import Work, work_of

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


@dataclass(frozen=True, kw_only=True)
class System:
    """A generator and how it is sampled, as params have it."""

    generator: params.TrainedGenerator | GeneratorEntry | params.UnreleasedGenerator
    shape: TokenShape
    sampling: params.Sampling
    study: params.Study  # where the generator's entry stands, with what it names


def system_of(study: params.Study, samples: str) -> System:
    """Return the system that draws an entry of samples."""
    entry = study.samples[samples]
    generator = study.generators[entry.generator]
    shape = token_shape(study, study.tokenizers[tokenizer_of(study, generator)])
    return System(generator=generator, shape=shape, sampling=entry.sampling, study=study)


@dataclass(frozen=True, kw_only=True)
class SamplingCase(Case):
    model: nn.Module


@dataclass(frozen=True, kw_only=True)
class SamplingMeasurement(Measurement):
    work: Work
    rates: Rates  # medians over rounds

    def details(self) -> dict[str, Any]:
        return {
            **asdict(self.rates),
            "steps_bound_by_reading": self.work.steps_bound_by_reading(self.rates),
            "steps": self.work.summary(),
        }


def sampling_case(
    system: System, batch: int, precision: str, compiled: bool, seed: int, device: torch.device
) -> SamplingCase:
    """Return the case of drawing a batch of images of different classes or captions.

    Raises OnetokError where it is to be compiled and cannot be.
    """
    torch.manual_seed(seed)
    model = build_untrained(system).eval().requires_grad_(False).to(device, DTYPES[precision])
    sampling = build_sampling(system.sampling)
    condition = build_condition(system, model, batch, device)

    if compiled:
        _check_compiling(model, device)

    def call(compiled: bool) -> Tensor:
        model.compiled = compiled
        tokens: Tensor = model.sample(condition, sampling, ImageRandom(seed, range(batch), device))
        return tokens

    return SamplingCase(call=partial(call, compiled), plain=partial(call, False), images=batch, model=model)


def _check_compiling(model: nn.Module, device: torch.device) -> None:
    if not hasattr(model, "compiled"):
        raise OnetokError(
            f"compiled: found true, expected false: {type(model).__name__} has no compiled sampler"
        )
    compiler = os.environ.get("CXX", "g++")
    if device.type == "cpu" and shutil.which(compiler) is None:
        raise OnetokError(
            f"compiled: found true, but no C++ compiler {compiler}; install one or name it in CXX"
        )


def build_untrained(system: System) -> Any:
    """Return the model of a generator of params, trained here or published, with weights as they start."""
    generator = system.generator
    if isinstance(generator, params.FineTunedGenerator):
        generator = pretrained_of(system.study, generator)
    if isinstance(generator, params.TrainedGenerator):
        return build_generator(system.study, generator)
    return build_published_generator(generator, system.shape)


def build_condition(system: System, model: Any, batch: int, device: torch.device) -> Any:
    """Return what a batch is drawn of: classes in turn, or random states of captions of full length."""
    generator = system.generator
    if not isinstance(generator, params.TextGenerator | params.PublishedTextGenerator):
        return torch.arange(batch, device=device) % model.config.classes
    return random_texts(model, batch, text_shape(system.study, generator.text).length, device)


def random_texts(model: Any, batch: int, length: int, device: torch.device) -> TextCondition:
    """Return the condition of captions that no text encoder has read: values do not change the time."""
    dtype, backbone = next(model.parameters()).dtype, model.config.backbone
    sequence = torch.randn(batch + 1, length, backbone.text_width, device=device).to(dtype)
    pooled = torch.randn(batch + 1, backbone.pooled_width, device=device).to(dtype)
    aesthetic = torch.full((batch,), 6.0, device=device)
    return TextCondition(sequence[1:], pooled[1:], aesthetic, sequence[0], pooled[0])


@torch.inference_mode()
def measure_sampling(case: SamplingCase, rounds: int, device: torch.device) -> SamplingMeasurement:
    """Time a case whole; each round measures the machine, times the call, and measures the machine again."""
    work = work_of(case.model, case.plain)
    clock = Clock(device)
    machine = Machine(clock, next(case.model.parameters()).dtype)
    case.call()  # packs weights, fills caches
    calls: list[float] = []
    rates: list[Rates] = []
    for _ in range(rounds):
        before = machine.probe()
        calls.append(clock.seconds(case.call))
        rates.append(mean(before, machine.probe()))
    floors = [work.seconds(rate) for rate in rates]
    return SamplingMeasurement(
        images=case.images,
        seconds=statistics.median(calls),
        floor=statistics.median(floors),
        ratios=tuple(a / b for a, b in zip(calls, floors, strict=True)),
        flops=work.flops,
        work=work,
        rates=Rates(
            bandwidth=statistics.median(rate.bandwidth for rate in rates),
            flops_per_second=statistics.median(rate.flops_per_second for rate in rates),
        ),
    )


def mean(a: Rates, b: Rates) -> Rates:
    return Rates(
        bandwidth=(a.bandwidth + b.bandwidth) / 2,
        flops_per_second=(a.flops_per_second + b.flops_per_second) / 2,
    )
