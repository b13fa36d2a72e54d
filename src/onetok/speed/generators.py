"""The speed of generators: the time to sample the tokens of a batch, with random weights, compared with its roofline.

Decoding tokens to images is measured with the tokenizer.

Legend: B batch.
"""

from __future__ import annotations

import os
import shutil
import statistics
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from onetok.errors import OnetokError
from onetok.nn.protocols import Generator
from onetok.nn.text_condition import TextCondition
from onetok.sampling.seeds import ImageRandom
from onetok.speed.clock import Clock
from onetok.speed.machine import Machine, Rates
from onetok.speed.measure import Case, Measurement
from onetok.speed.steps import Work, work_of
from onetok.study.schema.sampling import SamplingEntry
from onetok.study.schema.study import Study
from onetok.systems.records import GeneratorSystem, Shapes
from onetok.systems.registry import build_generator, generator_system, shapes_of

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


@dataclass(frozen=True, kw_only=True)
class MeasuredGenerator:
    """A generator of params and the settings with which it is sampled."""

    entry: (
        Any  # the generator's params; for a fine-tuned one those of its first stage, which define the model
    )
    shapes: Shapes
    sampling: SamplingEntry


def generator_of(study: Study, samples: str) -> MeasuredGenerator:
    """Return the generator and the sampling settings of an entry of samples in params."""
    entry = study.samples[samples]
    generator = study.generators[entry.generator]
    return MeasuredGenerator(
        entry=generator.first_stage(study), shapes=shapes_of(study, generator), sampling=entry.sampling
    )


@dataclass(frozen=True, kw_only=True)
class SamplingCase(Case):
    """The call that samples a batch, and its model."""

    model: nn.Module


@dataclass(frozen=True, kw_only=True)
class SamplingMeasurement(Measurement):
    """The time of sampling a batch; `lower_bound` is its roofline."""

    work: Work
    rates: Rates  # the machine's, medians over rounds

    def details(self) -> dict[str, Any]:
        return {
            **asdict(self.rates),
            "steps_bound_by_reading": self.work.bandwidth_bound_steps(self.rates),
            "steps": self.work.summary(),
        }


def sampling_case(
    measured: MeasuredGenerator, batch: int, precision: str, compiled: bool, seed: int, device: torch.device
) -> SamplingCase:
    """Return the case of sampling `batch` images of different classes or captions.

    Raises OnetokError if `compiled` is asked for and the system has no compiled sampler, or no C++ compiler is found.
    """
    torch.manual_seed(seed)
    model = build_generator(measured.entry, measured.shapes)
    model = model.eval().requires_grad_(False).to(device, DTYPES[precision])
    system = generator_system(model)
    settings = measured.sampling
    condition = random_condition(model, measured.shapes, batch, device)
    if compiled:
        _check_compiling(system, device)

    def call(compiled: bool) -> Tensor:
        random = ImageRandom(seed, range(batch), device)
        return system.sample(model, condition, settings, random, compiled=compiled)

    return SamplingCase(call=partial(call, compiled), plain=partial(call, False), images=batch, model=model)


def _check_compiling(system: GeneratorSystem, device: torch.device) -> None:
    if not system.compiles:
        name = system.model.__name__
        raise OnetokError(f"compiled: found true, expected false: {name} has no compiled sampler")
    compiler = os.environ.get("CXX", "g++")
    if device.type == "cpu" and shutil.which(compiler) is None:
        raise OnetokError(
            f"compiled: found true, but no C++ compiler {compiler}; install one or name it in CXX"
        )


def random_condition(model: Generator, shapes: Shapes, batch: int, device: torch.device) -> Any:
    """Return a condition for B images: class labels (B,) in turn, or random text states of captions of full length."""
    if model.classes is not None:
        return torch.arange(batch, device=device) % model.classes
    assert shapes.text is not None
    return random_texts(model, batch, shapes.text.length, device)


def random_texts(model: Generator, batch: int, length: int, device: torch.device) -> TextCondition:
    """Return a condition of B captions with random text states, since values do not change the time."""
    dtype, text = next(model.parameters()).dtype, model.text_widths
    assert text is not None
    sequence = torch.randn(batch + 1, length, text.states, device=device).to(dtype)
    pooled = torch.randn(batch + 1, text.pooled or 0, device=device).to(dtype)
    aesthetic = torch.full((batch,), 6.0, device=device)
    return TextCondition(sequence[1:], pooled[1:], aesthetic, sequence[0], pooled[0])


@torch.inference_mode()
def measure_sampling(case: SamplingCase, rounds: int, device: torch.device) -> SamplingMeasurement:
    """Time a case; each round measures the machine's rates, times the call, and measures the rates again."""
    work = work_of(case.model, case.plain)
    clock = Clock(device)
    machine = Machine(clock, next(case.model.parameters()).dtype)
    case.call()  # for warm-up: packs weights and fills caches
    calls: list[float] = []
    rates: list[Rates] = []
    for _ in range(rounds):
        before = machine.probe()
        calls.append(clock.seconds(case.call))
        rates.append(mean(before, machine.probe()))
    bounds = [work.seconds(rate) for rate in rates]
    return SamplingMeasurement(
        images=case.images,
        seconds=statistics.median(calls),
        lower_bound=statistics.median(bounds),
        ratios=tuple(a / b for a, b in zip(calls, bounds, strict=True)),
        flops=work.flops,
        work=work,
        rates=Rates(
            bandwidth=statistics.median(rate.bandwidth for rate in rates),
            flops_per_second=statistics.median(rate.flops_per_second for rate in rates),
        ),
    )


def mean(a: Rates, b: Rates) -> Rates:
    """Return the mean of two measurements of a machine's rates."""
    return Rates(
        bandwidth=(a.bandwidth + b.bandwidth) / 2,
        flops_per_second=(a.flops_per_second + b.flops_per_second) / 2,
    )
