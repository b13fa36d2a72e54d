"""Seconds of a call on a device: by the wall on a CPU, by events on a GPU, which runs behind its caller."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Clock:
    device: torch.device

    def seconds(self, call: Callable[[], object], repetitions: int = 1) -> float:
        """Return the seconds of `repetitions` calls one after another, all work on the device included."""
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
