"""A record of the machine that a job runs on, in what affects results: processor, threads, libraries.

PyTorch and oneDNN choose their kernels by the processor's instruction sets. Results of different kernels differ in
their low bits and, after a thousand training steps, as much as results of different seeds.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
from pathlib import Path
from typing import Any

import torch

# Environment variables that limit the instruction sets that libraries use.
LIMITS = (
    "ATEN_CPU_CAPABILITY",
    "ONEDNN_MAX_CPU_ISA",
    "MKL_CBWR",
    "MKL_ENABLE_INSTRUCTIONS",
    "OPENBLAS_CORETYPE",
)
LIBRARIES = ("torch", "torchvision", "numpy", "scipy", "scikit-learn", "pillow", "accelerate")
VECTORS = re.compile(r"sse4_\d|avx\w*|fma|f16c|amx\w*|asimd\w*|sve\w*")


def machine_record(device: torch.device) -> dict[str, Any]:
    """Return the properties of this machine and the settings of this process that affect results.

    The record is the same on every call.
    """
    return {
        "processor": processor_name(),
        "architecture": platform.machine(),
        "instructions": {
            "torch": torch.backends.cpu.get_cpu_capability(),
            "limits": {name: os.environ[name] for name in LIMITS if name in os.environ},
            "processor": instruction_sets(),
        },
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name(device) if device.type == "cuda" else None,
        "tf32": torch.backends.cuda.matmul.allow_tf32 if device.type == "cuda" else None,
        "libraries": {
            "python": platform.python_version(),
            **{name: importlib.metadata.version(name) for name in LIBRARIES},
            **_compiled_in(),
        },
    }


def processor_name() -> str:
    """Return the processor's model from /proc/cpuinfo or, without one, from Python's platform module."""
    found = re.search(r"^model name\s*:\s*(.+)$", _cpuinfo(), flags=re.MULTILINE)
    return found[1].strip() if found else platform.processor() or platform.machine()


def instruction_sets() -> list[str]:
    """Return the vector instruction sets of the processor by Linux's names; none without /proc/cpuinfo."""
    found = re.search(r"^(?:flags|Features)\s*:\s*(.+)$", _cpuinfo(), flags=re.MULTILINE)
    return sorted(flag for flag in found[1].split() if VECTORS.fullmatch(flag)) if found else []


def _cpuinfo() -> str:
    path = Path("/proc/cpuinfo")
    return path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""


def _compiled_in() -> dict[str, str]:
    """Return the versions of the kernel libraries that PyTorch was built with."""
    built = torch.__config__.show()
    patterns = {"onednn": r"(?:oneDNN|MKL-DNN) v([\d.]+)", "mkl": r"Math Kernel Library Version (\S+)"}
    found = {name: re.search(pattern, built) for name, pattern in patterns.items()}
    return {name: match[1] for name, match in found.items() if match}
