"""Measures the time of a call and of its lower bound in alternation, and the peak memory of the call.

Times are medians over rounds. Peak memory is measured in a fresh process: the largest number of bytes that torch's
allocator held at a time, for the model's weights, the inputs and the intermediate results.
"""

from __future__ import annotations

import itertools
import os
import statistics
from abc import ABC, abstractmethod
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from operator import itemgetter
from typing import Any

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from onetok.speed.clock import Clock
from onetok.speed.lower_bound import LowerBound
from onetok.speed.products import Product, record_products, total_flops


@dataclass(frozen=True, kw_only=True)
class Case:
    """A call to be timed."""

    call: Callable[[], Tensor | tuple[Any, ...]]  # perhaps compiled
    plain: Callable[[], Tensor | tuple[Any, ...]]  # the same computation, not compiled
    images: int  # of one call


@dataclass(frozen=True, kw_only=True)
class Measurement(ABC):
    """The measured time of a call and of its lower bound."""

    images: int  # of one call
    seconds: float  # of a call, median over rounds
    lower_bound: float  # of the call's seconds, median over rounds
    # Call over lower bound in each round, in which both are measured one after the other.
    ratios: tuple[float, ...]
    flops: int  # floating-point operations of a call's products

    @property
    def ratio(self) -> float:
        """Return the median over rounds of call over lower bound."""
        return statistics.median(self.ratios)

    @abstractmethod
    def details(self) -> dict[str, Any]:
        """Return the parts of the lower bound, as JSON."""


@dataclass(frozen=True, kw_only=True)
class CallMeasurement(Measurement):
    """The time of a call; `lower_bound` is that of its products alone."""

    products: dict[Product, tuple[int, float]]  # count, and median seconds of all its repetitions

    def details(self) -> dict[str, Any]:
        return {
            "products": [
                {**_described(product), "count": count, "seconds": seconds}
                for product, (count, seconds) in self.products.items()
            ]
        }


def _described(product: Product) -> dict[str, Any]:
    values = {**asdict(product), "dtype": str(product.dtype).removeprefix("torch.")}
    return {"kind": type(product).__name__, **values, "flops": product.flops}


@torch.inference_mode()
def measure(case: Case, rounds: int, device: torch.device) -> CallMeasurement:
    """Time a case; each round times the call, then all its products."""
    clock = Clock(device)
    with torch.inference_mode(False):
        products = record_products(case.plain)
    bound = LowerBound(products, clock)
    for _ in range(2):  # for warm-up: compiles and fills caches
        case.call()
    calls: list[float] = []
    parts: list[dict[Product, float]] = []
    for _ in range(rounds):
        calls.append(clock.seconds(case.call))
        parts.append(bound.seconds())
    bounds = [sum(part.values()) for part in parts]
    return CallMeasurement(
        images=case.images,
        seconds=statistics.median(calls),
        lower_bound=statistics.median(bounds),
        ratios=tuple(a / b for a, b in zip(calls, bounds, strict=True)),
        flops=total_flops(products),
        products={p: (n, statistics.median(part[p] for part in parts)) for p, n in products.items()},
    )


def peak_memory(make: Callable[[], Case], device: torch.device) -> int:
    """Return the peak memory in bytes of making a case and calling it twice, in a fresh process."""
    os.environ["KINETO_LOG_LEVEL"] = (
        "99"  # keeps the profiler of the process below from logging its own start
    )
    with ProcessPoolExecutor(max_workers=1, mp_context=get_context("spawn")) as pool:
        return pool.submit(_peak, make, device, torch.get_num_threads()).result()


@torch.inference_mode()
def _peak(make: Callable[[], Case], device: torch.device, threads: int) -> int:
    torch.set_num_threads(threads)
    if device.type == "cuda":
        case = _make(make)
        case.call()  # for warm-up: a compiler may need more memory in the first call
        torch.cuda.reset_peak_memory_stats(device)
        case.call()
        return torch.cuda.max_memory_allocated(device)
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        case = _make(make)
        case.call()
        case.call()
    return _most_allocated(profiler)


def _make(make: Callable[[], Case]) -> Case:
    with torch.inference_mode(False):
        return make()


def _most_allocated(profiler: profile) -> int:
    """Return the largest number of bytes that torch's CPU allocator held at a time, from the profiler's events.

    The process's peak resident memory would be less exact: it includes pages of libraries, which the operating system
    evicts and reloads as other processes need memory.
    """
    recorded: Any = profiler.profiler  # torch has types for events of operations only
    events = recorded.kineto_results.events()
    changes = [(event.start_ns(), event.nbytes()) for event in events if event.name() == "[memory]"]
    held = itertools.accumulate(change for _, change in sorted(changes, key=itemgetter(0)))
    return max(held, default=0)
