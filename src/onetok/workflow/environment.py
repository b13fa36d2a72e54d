"""Isolation of stages from environment variables, on which results must not depend.

Libraries take settings from environment variables: accelerate another compiler or precision, oneDNN products in
bfloat16, matplotlib another style. Settings that can change a result belong in params. Therefore a stage removes such
variables before it imports any library (`pin`), stops with an error for what it cannot remove (`check`), and records in
run.json what it removed and what else was set (`record`). This module imports only the standard library.
"""

from __future__ import annotations

import io
import json
import os
import re
import shlex
import sys
import warnings
from collections.abc import Iterable
from fnmatch import fnmatchcase
from pathlib import Path

from onetok.errors import OnetokError

# Variables by which libraries choose what is computed, and how. Stages remove them.
IGNORED = (
    # accelerate; `accelerate launch` sets them too, from a configuration file in the home folder
    *("ACCELERATE_*", "FSDP_*", "MEGATRON_LM_*", "PARALLELISM_CONFIG_*", "DEEPSPEED_*", "FORK_LAUNCHED"),
    *("USE_TORCH_XLA", "XLA_*"),
    # torch's launcher of several processes
    "PET_*",
    # torch and the libraries below it
    *(
        "TORCH*",
        "PYTORCH_*",
        "NVIDIA_TF32_OVERRIDE",
        "ONEDNN_DEFAULT_FPMATH_MODE",
        "DNNL_DEFAULT_FPMATH_MODE",
    ),
    # these reduce the number of threads on a busy machine, which the profile fixes
    *("OMP_DYNAMIC", "OMP_THREAD_LIMIT", "MKL_DYNAMIC", "MKL_DOMAIN_NUM_THREADS"),
    # libraries that make tables, figures and datasets
    *("MPLBACKEND", "MATPLOTLIBRC", "MPL_*", "PANDAS_*", "SCIPY_*", "SKLEARN_*", "NPY_PROMOTION_STATE"),
    *("WDS_*", "GOPEN_*", "PYTHONWARNINGS"),
)
# Exceptions to IGNORED: locations of files and logs, and communication between processes.
KEPT = (
    *("TORCH_HOME", "TORCH_EXTENSIONS_DIR", "TORCH_CUDA_ARCH_LIST", "TORCH_CPP_LOG_LEVEL"),
    *("TORCH_SHOW_CPP_STACKTRACES", "TORCH_NCCL_*", "TORCH_DISTRIBUTED_DEBUG", "TORCHELASTIC_*"),
    *("TORCHINDUCTOR_CACHE_DIR", "TORCHINDUCTOR_COMPILE_THREADS", "PYTORCH_ALLOC_CONF"),
    *("PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_NVML_BASED_CUDA_CHECK"),
)
# Variables that stay and may change low bits or which libraries are found: run.json records them.
RECORDED = (
    *("ATEN_*", "ONEDNN_*", "DNNL_*", "MKL_*", "OMP_*", "GOMP_*", "KMP_*", "OPENBLAS_*", "FBGEMM_*", "NPY_*"),
    *("CUDA_*", "CUBLAS*", "CUDNN_*", "NVIDIA_*", "NCCL_*", "TORCH*", "PYTORCH_*", "GLIBC_TUNABLES"),
    *("LD_PRELOAD", "LD_LIBRARY_PATH", "PYTHON*", "LANG", "LC_*", "TZ", "HF_HUB_OFFLINE", "TMPDIR"),
)
REMOVED_VARIABLE = (
    "ONETOK_REMOVED"  # variables that the Snakemake process removed, as JSON, for its jobs' run.json
)
SECRET = re.compile("TOKEN|KEY|SECRET|PASSWORD|CREDENTIAL")

THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
PROCESS_COUNTS = ("WORLD_SIZE", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE")
# Variables that PyTorch's launcher sets in each of several processes.
RANK_VARIABLES = ("RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
LAUNCH = (
    *PROCESS_COUNTS,
    *RANK_VARIABLES,
    "LOCAL_WORLD_SIZE",
    "PMI_RANK",
    "OMPI_COMM_WORLD_RANK",
    "MV2_COMM_WORLD_RANK",
)

# The variables that were removed from this process's environment, with their values.
removed: dict[str, str] = {}


def pin() -> None:
    """Remove the variables by which libraries choose what is computed; must run before any of them is imported.

    It also resets settings of Python: warnings that were turned into errors, and the working directory at the head of
    the module search path (`python -m` puts it there, and a study's folder may hold a random.py).
    """
    removed.update(json.loads(os.environ.get(REMOVED_VARIABLE, "{}")))
    for name in _set(IGNORED):
        if not _matches(name, KEPT):
            removed[name] = os.environ.pop(name)
    # An empty file, so that a matplotlibrc in the home folder has no effect.
    os.environ["MATPLOTLIBRC"] = os.devnull
    if "PYTHONWARNINGS" in removed or sys.warnoptions:
        sys.warnoptions.clear()
        warnings.resetwarnings()
        for quiet in (DeprecationWarning, PendingDeprecationWarning, ImportWarning, ResourceWarning):
            warnings.simplefilter("ignore", quiet)  # Python's default
    if sys.argv[:1] == ["-m"] and not sys.flags.safe_path:
        del sys.path[0]


def prepare_jobs() -> None:
    """Set the environment of the jobs that this process starts: this Python first on the PATH, and UTF-8 for all text.

    Variables are removed here too, because a job's own `pin` comes too late for launchers of several processes. The
    jobs get their names for run.json.
    """
    pin()
    os.environ[REMOVED_VARIABLE] = json.dumps(removed)
    os.environ["PATH"] = os.pathsep.join(
        [str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)]
    )
    os.environ |= {"PYTHONUTF8": "1", "PYTHONSAFEPATH": "1"}


def with_this_python(prefix: str) -> str:
    """Return a launch command for a shell in which a leading `python` is replaced by this interpreter's path."""
    program, *rest = prefix.split(maxsplit=1)
    return " ".join([shlex.quote(sys.executable) if program == "python" else program, *rest])


def check(stage: str, *, distributed: bool) -> None:
    """Raise OnetokError for an environment that would change results: a non-UTF-8 encoding, a wrong launcher."""
    encoding = sys.getfilesystemencoding()
    if encoding != "utf-8":
        raise OnetokError(
            f"environment: file names are read as {encoding} here, so names of classes and captions would be others; "
            "set PYTHONUTF8=1 or a UTF-8 locale (export LC_ALL=C.UTF-8)"
        )
    _check_processes(stage, distributed)


def _check_processes(stage: str, distributed: bool) -> None:
    """Remove the variables of a launcher that started one process; raise OnetokError for inconsistent ones."""
    counts = {name: _number(name) for name in _set(PROCESS_COUNTS)}
    several = [name for name, count in counts.items() if count > 1]
    if not several:
        for name in _set(LAUNCH):
            removed[name] = os.environ.pop(name)
        return
    said = f"{several[0]}={counts[several[0]]}"
    if not distributed:
        raise OnetokError(
            f"environment: {stage} runs in one process, but {said} says that a launcher started several; start it "
            f"without one (python -m onetok.stages.{stage} …) or unset {', '.join(_set(LAUNCH))}"
        )
    missing = [name for name in RANK_VARIABLES if name not in os.environ]
    if counts.get("WORLD_SIZE", 0) < 2:
        missing.insert(0, "WORLD_SIZE")
    if missing:
        raise OnetokError(
            f"environment: {said}, but not {', '.join(missing)}; start several processes with "
            f"`python -m torch.distributed.run --standalone --nproc_per_node N -m onetok.stages.{stage} …`, or "
            f"unset {', '.join(_set(LAUNCH))} to start one"
        )
    if not 0 <= _number("RANK") < counts["WORLD_SIZE"]:
        raise OnetokError(f"environment: RANK={os.environ['RANK']}, expected 0 to {counts['WORLD_SIZE'] - 1}")


def _number(name: str) -> int:
    try:
        return int(os.environ[name])
    except ValueError:
        raise OnetokError(f"environment: {name} is {os.environ[name]!r}, expected a whole number") from None


def set_threads(threads: int) -> None:
    """Set the number of threads of processes that this one starts; accelerate would use all cores."""
    for name in THREADS:
        os.environ[name] = str(threads)


def removed_with_effect() -> list[str]:
    """Return the names of removed variables whose value would have had an effect, for a message.

    `accelerate launch` sets a dozen to values without effect.
    """
    neutral = {"", "no", "none", "false", "0", "1", "default", "agg", os.devnull}
    return sorted(
        name for name, value in removed.items() if name not in LAUNCH and value.lower() not in neutral
    )


def record() -> dict[str, dict[str, str]]:
    """Return run.json's record of the environment: removed variables, and remaining ones that may change low bits."""
    return {
        "ignored": _shown(removed),
        "set": _shown({name: os.environ[name] for name in _set((*RECORDED, *LAUNCH))}),
    }


def escape_unprintable_text() -> None:
    """Let printing never fail: characters that a terminal's encoding lacks are written as \\u escapes."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _shown(variables: dict[str, str]) -> dict[str, str]:
    return {
        name: "(not shown)" if SECRET.search(name) else value for name, value in sorted(variables.items())
    }


def _set(patterns: Iterable[str]) -> list[str]:
    """Return the names of the variables that are set and match one of the patterns."""
    several = tuple(patterns)
    return sorted(name for name in os.environ if _matches(name, several))


def _matches(name: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)
