"""Time a call and its floor in turns, in the same run, and take medians; take its peak memory in a fresh process.

Peak memory is what torch's allocator held at most: the whole model's weights, the inputs, and what the call needs at
once.
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
from onetok.speed.floor import Floor
from onetok.speed.products import Product, record_products, total_flops


@dataclass(frozen=True, kw_only=True)
class Case:
    """A call to be timed. `call` may be compiled; `plain` computes the same, uncompiled."""

    call: Callable[[], Tensor | tuple[Any, ...]]
    plain: Callable[[], Tensor | tuple[Any, ...]]
    images: int  # that one call handles


@dataclass(frozen=True, kw_only=True)
class Measurement(ABC):
    images: int
    seconds: float  # of a call, median over rounds
    floor: float  # seconds of its products alone, median over rounds
    ratios: tuple[float, ...]  # of call and floor, round by round: a round's two lie side by side in time
    flops: int

    @property
    def ratio(self) -> float:
        return statistics.median(self.ratios)

    @abstractmethod
    def details(self) -> dict[str, Any]:
        """Return what the floor was made of, as JSON."""


@dataclass(frozen=True, kw_only=True)
class CallMeasurement(Measurement):
    products: dict[Product, tuple[int, float]]  # count, and the median seconds of that many

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
    """Time a case; each round times the call, then every product of it."""
    clock = Clock(device)
    with torch.inference_mode(False):
        products = record_products(case.plain)
    floor = Floor(products, clock)
    for _ in range(2):  # compiles, fills caches
        case.call()
    calls: list[float] = []
    parts: list[dict[Product, float]] = []
    for _ in range(rounds):
        calls.append(clock.seconds(case.call))
        parts.append(floor.seconds())
    floors = [sum(part.values()) for part in parts]
    return CallMeasurement(
        images=case.images,
        seconds=statistics.median(calls),
        floor=statistics.median(floors),
        ratios=tuple(a / b for a, b in zip(calls, floors, strict=True)),
        flops=total_flops(products),
        products={p: (n, statistics.median(part[p] for part in parts)) for p, n in products.items()},
    )


def peak_memory(make: Callable[[], Case], device: torch.device) -> int:
    """Return the bytes of tensors that `make` and two calls of its case hold at most, in a fresh process."""
    os.environ["KINETO_LOG_LEVEL"] = "99"  # the profiler of the process below says nothing of its own start
    with ProcessPoolExecutor(max_workers=1, mp_context=get_context("spawn")) as pool:
        return pool.submit(_peak, make, device, torch.get_num_threads()).result()


@torch.inference_mode()
def _peak(make: Callable[[], Case], device: torch.device, threads: int) -> int:
    torch.set_num_threads(threads)
    if device.type == "cuda":
        case = _make(make)
        case.call()  # a compiler may need more, once
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
    """Return the most bytes that torch's CPU allocator held at a time, from its events.

    Not the peak of the process's resident memory: pages of libraries are in it, which the system takes away and
    brings back as others need memory.
    """
    recorded: Any = profiler.profiler  # torch has types for events of operations only
    events = recorded.kineto_results.events()
    changes = [(event.start_ns(), event.nbytes()) for event in events if event.name() == "[memory]"]
    held = itertools.accumulate(change for _, change in sorted(changes, key=itemgetter(0)))
    return max(held, default=0)
