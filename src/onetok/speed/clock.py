"""The time of a call on a device: wall-clock time on a CPU, CUDA events on a GPU, whose work is asynchronous."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Clock:
    """Times calls whose work is on `device`."""

    device: torch.device

    def seconds(self, call: Callable[[], object], repetitions: int = 1) -> float:
        """Return the time in seconds of `repetitions` consecutive calls, until all their work on the device is done."""
        if self.device.type == "cuda":
            return self._on_gpu(call, repetitions)
        started = time.perf_counter()
        for _ in range(repetitions):
            call()
        return time.perf_counter() - started

    def _on_gpu(self, call: Callable[[], object], repetitions: int) -> float:
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda.synchronize(self.device)
        start.record()
        for _ in range(repetitions):
            call()
        end.record()
        torch.cuda.synchronize(self.device)
        milliseconds: float = start.elapsed_time(end)
        return milliseconds / 1000
