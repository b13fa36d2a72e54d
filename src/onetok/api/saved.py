"""Saved tokenizers: a folder or a repository on the Hub with everything that is needed to use one.

config.json           the model's configuration, and `preprocessing`: how an image is resized and cropped
weights.safetensors   the model's weights
text_encoder/         the same two files of the text encoder, for tokenizers that take captions
README.md             the model card
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from huggingface_hub import ModelCard, ModelCardData
from pydantic import ValidationError
from torch import nn

from onetok import durable
from onetok.errors import OnetokError, shown, without_secrets
from onetok.nn.protocols import Tokenizer
from onetok.release.download import download_folder, upload_folder
from onetok.study.plan import artefact_at
from onetok.study.receipts import Receipt, check_folder
from onetok.study.schema.datasets import Images
from onetok.systems.records import Paper
from onetok.systems.registry import tokenizer_system
from onetok.systems.saved import load_model, read_config, save_model

TEXT_ENCODER = "text_encoder"
_MODEL_FILES = ("config.json", "weights.safetensors")
FILES = (*_MODEL_FILES, *(f"{TEXT_ENCODER}/{file}" for file in _MODEL_FILES))


@dataclass(frozen=True, kw_only=True)
class Card:
    """The content of a model card that cannot be derived from the model."""

    name: str  # the argument of load_tokenizer: a folder, or owner/name on the Hub
    summary: str  # training data and quality; may be empty
    receipt: Mapping[str, object] | None  # of the training run


class Pretrained(NamedTuple):
    """A loaded model."""

    model: nn.Module
    text_encoder: nn.Module | None  # None for a model that takes no captions, or if there is none
    images: Images | None  # preprocessing of images; None if it is not recorded
    receipt: Receipt | None  # of the training run, if it is there


# ---------------------------------------------------------------------------------------------- saving


def save_pretrained(
    model: nn.Module, folder: Path, *, images: Images, card: Card, text_encoder: nn.Module | None = None
) -> None:
    """Write a tokenizer with its text encoder, its preprocessing and its card into a folder, which is created.

    Weights keep their dtype, float32 for models of this package. Existing files of the same names are replaced.

    Raises OnetokError for a tokenizer that takes captions without an encoder, or the other way round; for a model that
    is no tokenizer, or of a class that load_model does not know; for weights that are NaN or infinite; and where the
    folder cannot be written.
    """
    if not isinstance(model, Tokenizer):
        raise OnetokError(f"{folder}: a {type(model).__name__} is no tokenizer")
    takes_text = model.text_widths is not None
    if takes_text != (text_encoder is not None):
        found = "no text encoder" if text_encoder is None else "a text encoder"
        input_ = "captions" if takes_text else "no captions"
        raise OnetokError(f"{folder}: {found} for a {type(model).__name__}, which takes {input_}")
    text = model_card(model, images, card)  # before anything is written, since it fails for an unknown class
    _make_folder(folder)
    save_model(model, folder)
    config = read_config(folder) | {"preprocessing": _preprocessing(images)}
    durable.write_json(folder / "config.json", config)
    if text_encoder is not None:
        _make_folder(folder / TEXT_ENCODER)
        save_model(text_encoder, folder / TEXT_ENCODER)
    durable.write_text(folder / "README.md", str(text))


def push_to_hub(
    model: nn.Module,
    repo: str,
    *,
    images: Images,
    card: Card,
    private: bool,
    text_encoder: nn.Module | None = None,
) -> str:
    """Upload the files of save_pretrained to a repository, which is created if needed; return the commit's URL.

    Raises OnetokError as save_pretrained does, before anything is uploaded, and without a network, a login or the right
    to write there.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        card = replace(card, name=repo)
        save_pretrained(model, folder, images=images, card=card, text_encoder=text_encoder)
        return upload_folder(repo, folder, private=private, message=f"Upload {type(model).__name__}")


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OnetokError(f"{folder}: cannot be made a folder: {error.strerror}") from None


def _preprocessing(images: Images) -> dict[str, Any]:
    return {key: getattr(images, key) for key in Images.model_fields}


# ---------------------------------------------------------------------------------------------- loading


def from_pretrained(name_or_folder: str | Path, *, revision: str | None = None) -> Pretrained:
    """Load a folder that save_pretrained or a study's training wrote, or such a repository on the Hub, on the CPU.

    The receipt in a study's folder records the preprocessing and the text encoder. Loading a folder executes no code
    from it, and its config.json cannot make the model take more memory than its weights do.

    Raises OnetokError for files that are missing or cannot be downloaded, for a config of no known model, for tensors
    of other sizes than the config's, and for weights that are NaN, infinite, integer or complex.
    """
    folder = Path(name_or_folder)
    if not folder.exists():
        folder = download_folder(str(name_or_folder), revision, FILES)
        if not (folder / "config.json").exists():
            raise OnetokError(f"{name_or_folder}: no config.json in the repository, expected a saved model")
    config = read_config(folder)
    receipt = check_folder(folder, _MODEL_FILES) if (folder / "receipt.json").exists() else None
    model = load_model(folder, torch.device("cpu"))
    takes_text = isinstance(model, Tokenizer) and model.text_widths is not None
    encoder = _text_encoder_folder(folder, receipt) if takes_text else None
    return Pretrained(
        model=model,
        text_encoder=load_model(encoder, torch.device("cpu")) if encoder else None,
        images=_images(folder, config, receipt),
        receipt=receipt,
    )


def _images(folder: Path, config: dict[str, Any], receipt: Receipt | None) -> Images | None:
    """Return the preprocessing in the config or else in the receipt. Raises OnetokError if it is not valid."""
    where, found = f"{folder / 'config.json'}: preprocessing", config.get("preprocessing")
    if found is None and receipt is not None:
        where, found = f"{folder / 'receipt.json'}: params.images", receipt["params"].get("images")
        if isinstance(found, dict):  # without the fields of training, such as augmentation
            found = {key: value for key, value in found.items() if key in Images.model_fields}
    try:
        images = None if found is None else Images.model_validate(found)
    except ValidationError as error:
        first, expected = error.errors()[0], ", ".join(Images.model_fields)
        reason = ": ".join([*map(str, first["loc"]), first["msg"]])
        raise OnetokError(f"{where}: found {shown(found)}, expected {expected} ({reason})") from None
    if images is not None and images.shorter_edge < images.size:
        text = f"shorter_edge {images.shorter_edge} is below size {images.size}"
        raise OnetokError(f"{where}: {text}, expected it as large or larger")
    return images


def _text_encoder_folder(folder: Path, receipt: Receipt | None) -> Path:
    """Return the folder of the text encoder: next to the weights, or among the study's encoders, by the receipt."""
    inside = folder / TEXT_ENCODER
    named = receipt["params"].get("text") if receipt is not None else None
    if inside.exists() or named is None:
        return inside
    if artefact_at(f"results/encoders/{named}/receipt.json") is None:
        path = folder / "receipt.json"
        raise OnetokError(f"{path}: params.text: found {named!r}, expected the name of an encoder")
    results = (folder / "../../..").resolve()  # of results/tokenizers/<family>/<variant>
    return results / "encoders" / str(named)


# ---------------------------------------------------------------------------------------------- the card


def model_card(model: Tokenizer, images: Images, card: Card) -> ModelCard:
    """Return the model card: metadata for the Hub, a description, how to load the model, and its training params."""
    system = tokenizer_system(model)
    kind = type(model).__name__.lower()
    data = ModelCardData(
        library_name="onetok",
        license="apache-2.0",
        tags=["onetok", "image-tokenizer", kind, *(f"arxiv:{paper.arxiv}" for paper in system.papers)],
    )
    name = card.name.rstrip("/")
    parts = [
        f"# {name.rsplit('/', 1)[-1]}",
        f"{system.description}.",
        card.summary,
        _facts(model, images),
        _usage(name, model.text_widths is not None),
        *([_made_with(card.receipt)] if card.receipt is not None else []),
        "## Papers",
        "\n".join(f"- {paper.title}, [arXiv {paper.arxiv}]({_address(paper)})" for paper in system.papers),
    ]
    text = "\n\n".join(part for part in parts if part)
    return ModelCard(f"---\n{data.to_yaml()}\n---\n\n{text}\n")


def _address(paper: Paper) -> str:
    return f"https://arxiv.org/abs/{paper.arxiv}"


def _facts(model: Tokenizer, images: Images) -> str:
    codes = f"{model.channels} channels, continuous (the mean of a Gaussian posterior)"
    if model.codebook_size is not None:
        codes = f"one of {model.codebook_size} codes of {model.channels} channels"
    rows = {
        "tokens an image": str(model.tokens),
        "a token": codes,
        "images": f"{images.size} x {images.size} px; {images}",
        "parameters": f"{sum(p.numel() for p in model.parameters()):,}",
    }
    return "\n".join(["| | |", "|---|---|", *(f"| {key} | {value} |" for key, value in rows.items())])


def _usage(name: str, takes_text: bool) -> str:
    text = ', ["a red circle left of a blue square"]' if takes_text else ""
    return "\n".join(
        [
            "## How to use",
            "",
            "```python",
            "from onetok import load_tokenizer",
            "",
            f"tokenizer = load_tokenizer({json.dumps(name)})",
            'tokens = tokenizer.encode(tokenizer.prepare("image.png"))',
            f"images = tokenizer.decode(tokens{text})  # (1, 3, H, W) in [0, 1]",
            "```",
        ]
    )


def _made_with(receipt: Mapping[str, object]) -> str:
    params = json.dumps(receipt["params"], indent=2, sort_keys=True, ensure_ascii=False)
    text = without_secrets(params)  # params hold none now, but those of an older receipt may
    return f"## How it was made\n\nThe params of the run, from its receipt:\n\n```json\n{text}\n```"
