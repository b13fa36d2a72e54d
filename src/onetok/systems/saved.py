"""Models ↔ folders with config.json and weights.safetensors, of systems and of auxiliary networks alike."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import torch
from pydantic import BaseModel, ValidationError
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.modules.module import register_module_parameter_registration_hook

from onetok import durable
from onetok.errors import OnetokError, one_line, shown
from onetok.networks.clip import CLIP
from onetok.networks.registry import NETWORKS
from onetok.nn.protocols import Generator, TextTokenizer, Tokenizer
from onetok.release.tensors import check_fit, load_strictly, read_tensors
from onetok.systems.registry import RECORDS

CPU = torch.device("cpu")

CONFIG_BYTES = 1 << 20  # of a config.json; ours have about two thousand
SMALL = 2**16  # values of a parameter that may be made before it is known to fit

MODELS: dict[str, tuple[type[nn.Module], type[BaseModel]]] = NETWORKS | {
    record.kind: (record.model, record.config) for record in RECORDS
}


class StudyArtefacts:
    """What the study in this directory has made, by the names of params, on a device."""

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def encoder(self, name: str) -> nn.Module:
        """Return a network, frozen."""
        return load_model(Path("results/encoders") / name, self.device).requires_grad_(False)

    def text_encoder(self, name: str) -> CLIP:
        """Return an encoder of captions, frozen."""
        model = self.encoder(name)
        assert isinstance(model, CLIP)
        return model

    def tokenizer(self, name: str) -> Tokenizer:
        """Return a tokenizer, frozen."""
        model = load_model(Path("results/tokenizers") / name, self.device).requires_grad_(False)
        assert isinstance(model, Tokenizer)
        return model

    def text_tokenizer(self, name: str) -> TextTokenizer:
        """Return a text tokenizer, frozen."""
        model = load_model(Path("results/text_tokenizers") / name, self.device).requires_grad_(False)
        assert isinstance(model, TextTokenizer)
        return model

    def generator(self, name: str) -> Generator:
        """Return a generator."""
        model = load_model(Path("results/generators") / name, self.device)
        assert isinstance(model, Generator)
        return model


def save_model(model: nn.Module, folder: Path) -> None:
    """Write weights.safetensors and config.json, which load_model reads.

    Raises OnetokError for a model of no kind, and for weights that are no finite numbers: a training that diverged.
    """
    kind = next((kind for kind, (known, _) in MODELS.items() if type(model) is known), None)
    if kind is None:
        found, known = type(model).__name__, ", ".join(cls.__name__ for cls, _ in MODELS.values())
        text = f"a {found} cannot be saved: load_model would not know it; known: {known}"
        raise OnetokError(f"{folder}: {text}")
    path = folder / "weights.safetensors"
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    check_fit(model, state, str(path))
    with durable.replacing(path) as temporary:
        save_file(state, temporary)
    config = cast(BaseModel, model.config).model_dump(mode="json")
    durable.write_json(folder / "config.json", {"kind": kind, "config": config})


def load_model(folder: Path, device: torch.device) -> nn.Module:
    """Return the model of a folder, in evaluation mode.

    Raises OnetokError for a missing file, for a config that is none of a model's, and for tensors that do not fit it. A
    config from elsewhere may ask for any size: a model is built only as large as the tensors that are there.
    """
    content, path = read_config(folder), folder / "config.json"
    model_class, config = _read_model_config(content, path)
    weights = folder / "weights.safetensors"
    state = read_tensors(weights)
    with _bounded_by(state):
        model = _build(model_class, config, path)
    load_strictly(model, state, str(weights))
    return model.to(device).eval()


def _read_model_config(content: dict[str, Any], path: Path) -> tuple[type[nn.Module], Any]:
    """Return the class and the config of what config.json says."""
    kind = content["kind"]
    if not isinstance(kind, str) or kind not in MODELS:
        raise OnetokError(f"{path}: kind {shown(kind)}, known: {', '.join(MODELS)}")
    model_class, config_class = MODELS[kind]
    try:  # as JSON, in which tuples are lists
        return model_class, config_class.model_validate_json(json.dumps(content["config"]))
    except ValidationError as error:
        first = min(
            error.errors(), key=lambda detail: detail["type"] == "missing"
        )  # what is wrong, then what is not there
        where = ".".join(["config", *_keys(content["config"], first["loc"])])
        if first["type"] == "value_error":  # of several keys, which the message names
            raise OnetokError(f"{path}: {where}: {first['msg'].removeprefix('Value error, ')}") from None
        raise OnetokError(f"{path}: {where}: found {shown(first['input'])}; {first['msg']}") from None


def _keys(content: Any, location: tuple[int | str, ...]) -> Iterator[str]:
    """Yield the keys of a location in a config, without the types that pydantic names where there are several."""
    for key in location[:-1]:
        if isinstance(content, dict) and key in content:
            content = content[key]
            yield str(key)
    yield from map(str, location[-1:])


def _build(model_class: type[nn.Module], config: Any, path: Path) -> nn.Module:
    try:
        return model_class(config)
    # What layers say of sizes that do not go together, or that no tensor can have.
    except (
        ArithmeticError,
        AssertionError,
        LookupError,
        MemoryError,
        RuntimeError,
        TypeError,
        ValueError,
    ) as error:
        raise OnetokError(
            f"{path}: config: no {model_class.__name__} has these sizes: {one_line(error)}"
        ) from None


@contextmanager
def _bounded_by(state: Mapping[str, Tensor]) -> Iterator[None]:
    """Stop a model that is larger than its tensors when it makes a parameter, whose memory is not touched yet."""
    shapes, most, made = {tensor.shape for tensor in state.values()}, 2 * len(state) + 1000, 0

    def check(module: nn.Module, name: str, parameter: nn.Parameter) -> None:
        nonlocal made
        made += 1
        if made > most:
            raise ValueError(f"more than {most:,} parameters, but there are weights for {len(state):,}")
        if (
            parameter.numel() > SMALL and parameter.shape not in shapes
        ):  # of smaller ones load_strictly says more
            text = f"a {type(module).__name__} would have a {name} of shape {tuple(parameter.shape)}"
            raise ValueError(f"{text}, but there are no weights of that shape")

    handle = register_module_parameter_registration_hook(check)
    try:
        yield
    finally:
        handle.remove()


def read_config(folder: Path) -> dict[str, Any]:
    """Return what config.json of a saved model says.

    Raises OnetokError where it is missing or another program's.
    """
    path = folder / "config.json"
    if not path.is_file():
        raise OnetokError(f"{path}: no such file, expected a saved model")
    if path.stat().st_size > CONFIG_BYTES:
        raise OnetokError(
            f"{path}: {path.stat().st_size:,} bytes, expected a saved model, at most {CONFIG_BYTES:,}"
        )

    def refuse(literal: str) -> None:
        raise ValueError(f"{literal} is no number of JSON")

    try:
        content = json.loads(path.read_text(encoding="utf-8"), parse_constant=refuse)
    except OSError as error:
        raise OnetokError(f"{path}: cannot be read: {error.strerror}, expected a saved model") from None
    except RecursionError:
        raise OnetokError(f"{path}: brackets too deep to be read, expected a saved model") from None
    except ValueError as error:
        raise OnetokError(f"{path}: not JSON ({one_line(error)}), expected a saved model") from None
    if not isinstance(content, dict) or not {"kind", "config"} <= content.keys():
        raise OnetokError(f"{path}: expected the keys kind and config, as save_model writes them")
    return content
