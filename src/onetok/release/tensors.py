"""Reading state dicts from files of any origin, and checking that they match a model."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from onetok.errors import OnetokError, one_line, shown

# The first bytes of files that hold no tensors, with a description of the file and advice.
_NO_WEIGHTS = (
    (
        rb"version https://git-lfs\.",
        "a Git LFS pointer, not the file itself: `git lfs pull` in its folder gets it",
    ),
    (
        rb"(?i)\s*<(!doctype )?html",
        "an HTML page, as sites send for a file that needs a login or is not there",
    ),
    (rb"\s*<", "XML text, as storage sends for a file that needs a login or is not there"),
    (rb"\s*[{[]", "JSON text, expected the file of tensors that it lists or stands for"),
    (rb"\x89HDF", "an HDF5 file, expected safetensors or torch's format"),
    (rb"\x93NUMPY", "an array of NumPy, expected safetensors or torch's format"),
    (rb"GGUF", "a GGUF file, expected safetensors or torch's format"),
    (
        rb"\x1f\x8b|BZh|\xfd7zXZ|\x28\xb5\x2f\xfd|7z\xbc\xaf|.{257}ustar",
        "an archive: unpack it and name the file in it",
    ),
)
_WRAPPERS = ("module.", "_orig_mod.")  # the prefixes of DistributedDataParallel and torch.compile


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read a state dict, names to tensors, from safetensors or PyTorch's format, recognised by the content.

    A training checkpoint is accepted if it holds a single state dict, under any key ({"state_dict": …}, {"ema": …}).
    The prefixes `module.` of DistributedDataParallel and `_orig_mod.` of torch.compile are removed from names. Code in
    a pickle is never executed.

    Raises OnetokError for any other file, and for one with several state dicts.
    """
    if not path.is_file():
        raise OnetokError(f"{path}: no such file, expected a file of tensors")
    try:
        with path.open("rb") as stream:
            head = stream.read(512)
    except OSError as error:
        raise OnetokError(f"{path}: cannot be read: {error.strerror}") from None
    size = path.stat().st_size
    if not size:
        raise OnetokError(f"{path}: not a file of tensors but empty, 0 bytes: get it again")
    length = int.from_bytes(head[:8], "little")  # of the header of safetensors, which is JSON
    content: Any
    if head[8:9] == b"{" and length < 2**40:
        content = _read_safetensors(path, size, length)
    elif kind := kind_without_tensors(head):
        raise OnetokError(f"{path}: not a file of tensors but {kind}")
    else:
        content = _read_pickle(path, size)
    return _unwrapped(_only_state_dict(content, path), path)


def kind_without_tensors(head: bytes) -> str | None:
    """Return a description of a file that holds no tensors, by its first bytes; None if it may hold tensors."""
    kinds = (kind for pattern, kind in _NO_WEIGHTS if re.match(pattern, head, re.DOTALL))
    return next(kinds, None)


def _read_safetensors(path: Path, size: int, length: int) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError, KeyError, RuntimeError) as error:
        # KeyError and RuntimeError are raised for unknown dtypes.
        cut = f", or cut: its header alone takes {length:,} of {size:,} bytes" if length > size else ""
        text = f"safetensors that are damaged or cut, {size:,} bytes ({one_line(error)})"
        raise OnetokError(f"{path}: not a file of tensors but {text}{cut}: get it again") from None


def _read_pickle(path: Path, size: int) -> Any:
    """Load a file of torch.save without executing code from its pickle."""
    try:
        # Opened here, because torch would look at the suffix of a path.
        with warnings.catch_warnings(), path.open("rb") as stream:
            warnings.simplefilter("ignore")
            return torch.load(stream, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged pickle can raise any exception
        text = str(error)  # not shown, because torch's message advises to load the pickle unsafely
    mend = "where it was made, save the state_dict() alone"
    if found := re.search(r"GLOBAL (\S+)", text):
        kind = f"a pickle with other things than tensors in it ({found[1]}), which could run code"
    elif "TorchScript" in text:
        kind = "a TorchScript archive"
    elif "Unsupported operand" in text:
        kind = "a pickle that torch did not write"
    else:
        kind, mend = f"torch's format damaged or cut, or another program's ({size:,} bytes)", "get it again"
    raise OnetokError(f"{path}: not a file of tensors but {kind}: {mend}")


def _only_state_dict(content: Any, path: Path) -> dict[str, Tensor]:
    """Return the single state dict in a file's content. Raises OnetokError for none and for several."""
    if not isinstance(content, dict):
        raise OnetokError(f"{path}: found {type(content).__name__}, expected a mapping of names to tensors")
    found = dict(_state_dicts(content))
    if len(found) > 1:
        names = ", ".join(map(repr, found))
        raise OnetokError(f"{path}: holds the state dicts {names}, expected one: save the one you mean alone")
    if not found:
        other = next((key for key, value in content.items() if not isinstance(value, Tensor)), None)
        text = "an empty mapping" if other is None else f"{type(content[other]).__name__} at {shown(other)}"
        raise OnetokError(f"{path}: found {text}, expected a mapping of names to tensors")
    return next(iter(found.values()))


def _state_dicts(
    content: dict[Any, Any], key: str = "", depth: int = 0
) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """Yield every mapping of names to tensors with its path of keys, except those of optimizers."""
    if content and all(isinstance(k, str) and isinstance(v, Tensor) for k, v in content.items()):
        yield key, content
        return
    for name, value in content.items():
        if isinstance(name, str) and isinstance(value, dict) and depth < 4 and not re.search("optim", name):
            yield from _state_dicts(value, f"{key}.{name}" if key else name, depth + 1)


def _unwrapped(state: dict[str, Tensor], path: Path) -> dict[str, Tensor]:
    """Return the tensors under names without the prefixes of wrappers."""
    own = {name for name in state if name != "n_averaged"}  # AveragedModel's counter has no prefix
    wrapped = all(name.startswith("module.") for name in own)
    names = {name: name for name in state if name in own or not wrapped}
    while prefix := next((w for w in _WRAPPERS if all(n.startswith(w) for n in names.values())), None):
        names = {old: name.removeprefix(prefix) for old, name in names.items()}
    renamed = {name.replace("._orig_mod.", "."): state[old] for old, name in names.items()}
    if len(renamed) < len(names):
        raise OnetokError(f"{path}: tensors of one name with and without '_orig_mod.', expected one of them")
    return renamed


def load_strictly(model: nn.Module, state: Mapping[str, Tensor], source: str) -> None:
    """Load `state` into `model`. Raises OnetokError as `check_fit` does, before anything is loaded."""
    check_fit(model, state, source)
    model.load_state_dict(state)


def check_fit(model: nn.Module, state: Mapping[str, Tensor], source: str) -> None:
    """Check that `state` can be loaded into `model`, which may be on PyTorch's meta device.

    Raises OnetokError that names the first missing name, the first unexpected name, or the first tensor of another
    shape, of another kind of dtype, or with values that are not finite.
    """
    expected = model.state_dict()
    missing, unexpected = expected.keys() - state.keys(), state.keys() - expected.keys()
    if missing:
        hint = _prefix(state, expected)
        raise OnetokError(f"{source}: {len(missing)} tensors missing, first {min(missing)!r}{hint}")
    if unexpected:
        raise OnetokError(f"{source}: {len(unexpected)} unexpected tensors, first {min(unexpected)!r}")
    for name, tensor in state.items():
        if tensor.shape != expected[name].shape:
            found, wanted = tuple(tensor.shape), tuple(expected[name].shape)
            raise OnetokError(f"{source}: tensor {name!r} has shape {found}, expected {wanted}")
    for name, tensor in state.items():
        if problem := _unusable(tensor, expected[name].dtype):
            raise OnetokError(f"{source}: tensor {name!r} {problem}")


def _prefix(state: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> str:
    """Return a hint, for the error message, on a prefix that the names in the file have and ours do not."""
    firsts = {name.partition(".")[0] + "." for name in state if "." in name}
    for first in sorted(firsts):
        behind = {name.removeprefix(first) for name in state if name.startswith(first)}
        foreign = not any(name.startswith(first) for name in expected)
        if foreign and (2 * len(behind) > len(state) or expected.keys() <= behind):
            return f"; names in the file begin with {first!r}: save those alone, without it"
    if any(".module." in name for name in state):
        return "; names in the file hold '.module.' of DistributedDataParallel: save the model inside it"
    return ""


def _unusable(tensor: Tensor, dtype: torch.dtype) -> str | None:
    """Return why a tensor cannot be the value of a parameter or buffer of this dtype; None if it can."""
    found = str(tensor.dtype).removeprefix("torch.")
    if tensor.layout is not torch.strided:
        return f"is {str(tensor.layout).removeprefix('torch.')}, expected it dense"
    if not tensor.is_meta and tensor.numel() * tensor.itemsize > tensor.untyped_storage().nbytes():
        return (
            f"has {tensor.numel():,} values, but only {tensor.untyped_storage().nbytes():,} bytes are stored"
        )
    if not dtype.is_floating_point:
        same = not (tensor.is_floating_point() or tensor.is_complex()) and (tensor.dtype is torch.bool) == (
            dtype is torch.bool
        )
        return None if same else f"holds {found}, expected {str(dtype).removeprefix('torch.')}"
    if not tensor.is_floating_point():
        return f"holds {found}, expected floating point numbers"
    if tensor.is_meta:
        return None
    values = tensor.to(dtype)
    if values.isnan().any():
        return f"holds NaN in {int(values.isnan().sum()):,} of {values.numel():,} places"
    if not values.isfinite().all():
        return f"holds infinite values in {int((~values.isfinite()).sum()):,} of {values.numel():,} places"
    return None
