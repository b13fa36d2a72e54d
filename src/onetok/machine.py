"""The machine that a job runs on, as far as it moves figures: processor, instruction sets, threads, libraries.

torch and oneDNN choose their kernels by the processor's instruction sets. Two of these give other low bits, and
after a thousand steps of training other figures, as another seed does.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
from pathlib import Path
from typing import Any

import torch

# What limits the instruction sets that libraries use on one machine.
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
    """Return what of this machine and of this process's settings moves figures. The same on every call."""
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
    """Return the processor's model as Linux names it, or what Python knows of it elsewhere."""
    found = re.search(r"^model name\s*:\s*(.+)$", _cpuinfo(), flags=re.MULTILINE)
    return found[1].strip() if found else platform.processor() or platform.machine()


def instruction_sets() -> list[str]:
    """Return the vector instruction sets of the processor by Linux's names; none where they cannot be read."""
    found = re.search(r"^(?:flags|Features)\s*:\s*(.+)$", _cpuinfo(), flags=re.MULTILINE)
    return sorted(flag for flag in found[1].split() if VECTORS.fullmatch(flag)) if found else []


def _cpuinfo() -> str:
    path = Path("/proc/cpuinfo")
    return path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""


def _compiled_in() -> dict[str, str]:
    """Return the versions of the libraries of kernels that torch was built with."""
    built = torch.__config__.show()
    patterns = {"onednn": r"(?:oneDNN|MKL-DNN) v([\d.]+)", "mkl": r"Math Kernel Library Version (\S+)"}
    found = {name: re.search(pattern, built) for name, pattern in patterns.items()}
    return {name: match[1] for name, match in found.items() if match}
