"""What the shell holds and libraries would read: a stage's result must not hang on it.

Libraries take settings from environment variables: accelerate another compiler or precision, oneDNN products in
bfloat16, matplotlib another look. Values that can change a result belong in params, so a stage removes such variables
before it imports any library (`pin`), refuses what it cannot remove (`check`), and its run.json names what it removed
and what else was set (`record`). Imports nothing but Python's own library.
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

# Variables by which libraries choose what is computed, and how. No stage reads them.
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
    # fewer threads than asked for when the machine is busy; their number is the profile's
    *("OMP_DYNAMIC", "OMP_THREAD_LIMIT", "MKL_DYNAMIC", "MKL_DOMAIN_NUM_THREADS"),
    # what tables, figures and data sets are made with
    *("MPLBACKEND", "MATPLOTLIBRC", "MPL_*", "PANDAS_*", "SCIPY_*", "SKLEARN_*", "NPY_PROMOTION_STATE"),
    *("WDS_*", "GOPEN_*", "PYTHONWARNINGS"),
)
# Exceptions to IGNORED: where files and logs go, and how processes find each other.
KEPT = (
    *("TORCH_HOME", "TORCH_EXTENSIONS_DIR", "TORCH_CUDA_ARCH_LIST", "TORCH_CPP_LOG_LEVEL"),
    *("TORCH_SHOW_CPP_STACKTRACES", "TORCH_NCCL_*", "TORCH_DISTRIBUTED_DEBUG", "TORCHELASTIC_*"),
    *("TORCHINDUCTOR_CACHE_DIR", "TORCHINDUCTOR_COMPILE_THREADS", "PYTORCH_ALLOC_CONF"),
    *("PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_NVML_BASED_CUDA_CHECK"),
)
# Variables that stay and may change low bits or which libraries are found: run.json names them.
RECORDED = (
    *("ATEN_*", "ONEDNN_*", "DNNL_*", "MKL_*", "OMP_*", "GOMP_*", "KMP_*", "OPENBLAS_*", "FBGEMM_*", "NPY_*"),
    *("CUDA_*", "CUBLAS*", "CUDNN_*", "NVIDIA_*", "NCCL_*", "TORCH*", "PYTORCH_*", "GLIBC_TUNABLES"),
    *("LD_PRELOAD", "LD_LIBRARY_PATH", "PYTHON*", "LANG", "LC_*", "TZ", "HF_HUB_OFFLINE", "TMPDIR"),
)
HANDED_ON = "ONETOK_REMOVED"  # what Snakemake removed from the environment of its jobs, as JSON
SECRET = re.compile("TOKEN|KEY|SECRET|PASSWORD|CREDENTIAL")

THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
PROCESS_COUNTS = ("WORLD_SIZE", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE")
# What torch's launcher tells each of several processes.
PLACES = ("RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
LAUNCH = (
    *PROCESS_COUNTS,
    *PLACES,
    "LOCAL_WORLD_SIZE",
    "PMI_RANK",
    "OMPI_COMM_WORLD_RANK",
    "MV2_COMM_WORLD_RANK",
)

# What was removed from this process's environment, with its value.
removed: dict[str, str] = {}


def pin() -> None:
    """Remove what libraries would read; call it before any of them is imported.

    Python's own settings too: warnings that were made errors, and the working directory as the first place where
    modules are looked for (`python -m` puts it there; a study may hold a random.py).
    """
    removed.update(json.loads(os.environ.get(HANDED_ON, "{}")))
    for name in _set(IGNORED):
        if not _matches(name, KEPT):
            removed[name] = os.environ.pop(name)
    # An empty file: nothing of a matplotlibrc in the home folder.
    os.environ["MATPLOTLIBRC"] = os.devnull
    if "PYTHONWARNINGS" in removed or sys.warnoptions:
        sys.warnoptions.clear()
        warnings.resetwarnings()
        for quiet in (DeprecationWarning, PendingDeprecationWarning, ImportWarning, ResourceWarning):
            warnings.simplefilter("ignore", quiet)  # as Python does unasked
    if sys.argv[:1] == ["-m"] and not sys.flags.safe_path:
        del sys.path[0]


def prepare_jobs() -> None:
    """Set what this process hands to the jobs it starts: this Python first on the path, and UTF-8 for all text.

    A job's own `pin` comes too late for what the launchers of several processes read, so it is told what was removed.
    """
    pin()
    os.environ[HANDED_ON] = json.dumps(removed)
    os.environ["PATH"] = os.pathsep.join(
        [str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)]
    )
    os.environ |= {"PYTHONUTF8": "1", "PYTHONSAFEPATH": "1"}


def with_this_python(prefix: str) -> str:
    """Return a launch prefix for a shell in which `python`, where it comes first, is the one that runs this."""
    program, *rest = prefix.split(maxsplit=1)
    return " ".join([shlex.quote(sys.executable) if program == "python" else program, *rest])


def check(stage: str, *, distributed: bool) -> None:
    """Raises OnetokError for what cannot be removed and would matter."""
    encoding = sys.getfilesystemencoding()
    if encoding != "utf-8":
        raise OnetokError(
            f"environment: file names are read as {encoding} here, so names of classes and captions would be others; "
            "set PYTHONUTF8=1 or a UTF-8 locale (export LC_ALL=C.UTF-8)"
        )
    _check_processes(stage, distributed)


def _check_processes(stage: str, distributed: bool) -> None:
    """Forget the variables of a launcher that started one process; refuse those that no launcher can mean."""
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
    missing = [name for name in PLACES if name not in os.environ]
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
    """Give processes that this one starts its number of threads; accelerate takes all cores where none is set."""
    for name in THREADS:
        os.environ[name] = str(threads)


def ignored_aloud() -> list[str]:
    """Return the names of removed variables that asked for something, as part of a message.

    `accelerate launch` sets a dozen that ask for nothing.
    """
    neutral = {"", "no", "none", "false", "0", "1", "default", "agg", os.devnull}
    return sorted(
        name for name, value in removed.items() if name not in LAUNCH and value.lower() not in neutral
    )


def record() -> dict[str, dict[str, str]]:
    """Return what run.json says of the environment: variables that were removed, and those left that may matter."""
    return {
        "ignored": _shown(removed),
        "set": _shown({name: os.environ[name] for name in _set((*RECORDED, *LAUNCH))}),
    }


def write_any_text() -> None:
    """Let text for people never fail: what a terminal's encoding lacks is written as \\u escapes."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _shown(variables: dict[str, str]) -> dict[str, str]:
    return {
        name: "(not shown)" if SECRET.search(name) else value for name, value in sorted(variables.items())
    }


def _set(patterns: Iterable[str]) -> list[str]:
    """Return the names of the variables that are set and match."""
    kept = tuple(patterns)
    return sorted(name for name in os.environ if _matches(name, kept))


def _matches(name: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)
