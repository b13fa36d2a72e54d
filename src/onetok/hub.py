"""Models as people pass them on: a folder or a repository on the Hub, with everything that a model needs to be used.

config.json           what registry.save_model writes, and `preprocessing`: how an image is resized and cropped
weights.safetensors
text_encoder/         of tokenizers that read captions: the same two files
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
from onetok.models.quantizers import VectorQuantizerConfig
from onetok.models.tatitok import TATiTok
from onetok.models.titok import TiTok
from onetok.models.titok_two_stage import TiTokTwoStage
from onetok.models.vqgan import VQGAN
from onetok.params import Images
from onetok.plan import artefact_at
from onetok.pretrained import download_folder, upload_folder
from onetok.receipts import Receipt, check_folder
from onetok.registry import load_model, read_config, save_model

TEXT_ENCODER = "text_encoder"
_MODEL_FILES = ("config.json", "weights.safetensors")
FILES = (*_MODEL_FILES, *(f"{TEXT_ENCODER}/{file}" for file in _MODEL_FILES))


class Paper(NamedTuple):
    title: str
    arxiv: str


TITOK = Paper("An Image is Worth 32 Tokens for Reconstruction and Generation", "2406.07550")
TATITOK = Paper("Democratizing Text-to-Image Masked Generative Models with Compact 1D Tokens", "2501.07730")
MASKGIT = Paper("MaskGIT: Masked Generative Image Transformer", "2202.04200")

# What a class of tokenizers is, for its card, and the papers that describe it.
DESCRIPTIONS: dict[type[nn.Module], tuple[str, tuple[Paper, ...]]] = {
    VQGAN: ("MaskGIT's VQGAN: a convolutional tokenizer whose tokens form a grid", (MASKGIT,)),
    TiTok: ("TiTok, single-stage: an image as a short 1D sequence of tokens", (TITOK, TATITOK)),
    TiTokTwoStage: (
        "TiTok, two-stage: a short 1D sequence of tokens, decoded by way of VQGAN codes",
        (TITOK,),
    ),
    TATiTok: ("TA-TiTok: a short 1D sequence of tokens, decoded together with the caption", (TATITOK,)),
}


@dataclass(frozen=True, kw_only=True)
class Card:
    """What a model card says that the model itself does not know."""

    name: str  # what load_tokenizer is given: a folder, or owner/name on the Hub
    summary: str  # what it was trained on, and how good it is; may be empty
    receipt: Mapping[str, object] | None  # of the run that made the weights


class Pretrained(NamedTuple):
    model: Any
    text_encoder: Any | None
    images: Images | None  # None: nothing says how images were prepared
    receipt: Receipt | None


# ---------------------------------------------------------------------------------------------- saving


def save_pretrained(
    model: nn.Module, folder: Path, *, images: Images, card: Card, text_encoder: nn.Module | None = None
) -> None:
    """Write a tokenizer with its text encoder, its preprocessing and its card into a folder, made where there is none.

    Weights keep their type, float32 for models of this package; files of the same names are replaced.
    Raises OnetokError for a tokenizer that reads text without an encoder, or the other way round; for a model that is
    no tokenizer, or of a class that load_model would not know; for weights that are NaN or infinite; and where the
    folder cannot be written.
    """
    if isinstance(model, TATiTok) != (text_encoder is not None):
        found = "no text encoder" if text_encoder is None else "a text encoder"
        reads = "captions" if isinstance(model, TATiTok) else "no captions"
        raise OnetokError(f"{folder}: {found} for a {type(model).__name__}, which reads {reads}")
    text = model_card(model, images, card)  # before anything is written: it knows which models have one
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
    """Upload what save_pretrained writes to a repository, made where there is none; return the commit's address.

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

    A study's folder says in its receipt how images were prepared and which text encoder it reads. A folder from
    elsewhere runs no code, and its config.json asks for no more memory than its weights take.
    Raises OnetokError for what is missing, does not fit or cannot be had: a config that is none of a model's, sizes
    that are not those of the tensors, weights that are NaN, infinite, integer or complex.
    """
    folder = Path(name_or_folder)
    if not folder.exists():
        folder = download_folder(str(name_or_folder), revision, FILES)
        if not (folder / "config.json").exists():
            raise OnetokError(f"{name_or_folder}: no config.json in the repository, expected a saved model")
    config = read_config(folder)
    receipt = check_folder(folder, _MODEL_FILES) if (folder / "receipt.json").exists() else None
    model = load_model(folder, torch.device("cpu"))
    encoder = _text_encoder_folder(folder, receipt) if isinstance(model, TATiTok) else None
    return Pretrained(
        model=model,
        text_encoder=load_model(encoder, torch.device("cpu")) if encoder else None,
        images=_images(folder, config, receipt),
        receipt=receipt,
    )


def _images(folder: Path, config: dict[str, Any], receipt: Receipt | None) -> Images | None:
    where, found = f"{folder / 'config.json'}: preprocessing", config.get("preprocessing")
    if found is None and receipt is not None:
        where, found = f"{folder / 'receipt.json'}: params.images", receipt["params"].get("images")
        if isinstance(found, dict):  # leave out what only training needs
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
    """Return the folder beside the weights, or the one that the params of a study's tokenizer name."""
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


def model_card(model: nn.Module, images: Images, card: Card) -> ModelCard:
    """Return the card: metadata of the Hub, what the model is, how to load it, how it was made."""
    if type(model) not in DESCRIPTIONS:
        known = ", ".join(cls.__name__ for cls in DESCRIPTIONS)
        raise OnetokError(f"{card.name}: a {type(model).__name__} has no model card, known: {known}")
    what, papers = DESCRIPTIONS[type(model)]
    kind = type(model).__name__.lower()
    data = ModelCardData(
        library_name="onetok",
        license="apache-2.0",
        tags=["onetok", "image-tokenizer", kind, *(f"arxiv:{paper.arxiv}" for paper in papers)],
    )
    name = card.name.rstrip("/")
    parts = [
        f"# {name.rsplit('/', 1)[-1]}",
        f"{what}.",
        card.summary,
        _facts(model, images),
        _usage(name, isinstance(model, TATiTok)),
        *([_made_with(card.receipt)] if card.receipt is not None else []),
        "## Papers",
        "\n".join(f"- {paper.title}, [arXiv {paper.arxiv}]({_address(paper)})" for paper in papers),
    ]
    text = "\n\n".join(part for part in parts if part)
    return ModelCard(f"---\n{data.to_yaml()}\n---\n\n{text}\n")


def _address(paper: Paper) -> str:
    return f"https://arxiv.org/abs/{paper.arxiv}"


def tokens_an_image(model: Any) -> int:
    config = model.config
    return int(config.grid**2 if isinstance(model, VQGAN) else config.tokens)


def _facts(model: Any, images: Images) -> str:
    quantizer = model.config.quantizer
    codes = f"{quantizer.channels} channels, continuous (the mean of a Gaussian posterior)"
    if isinstance(quantizer, VectorQuantizerConfig):
        codes = f"one of {quantizer.codebook_size} codes of {quantizer.channels} channels"
    rows = {
        "tokens an image": str(tokens_an_image(model)),
        "a token": codes,
        "images": f"{images.size} x {images.size} px; {images}",
        "parameters": f"{sum(p.numel() for p in model.parameters()):,}",
    }
    return "\n".join(["| | |", "|---|---|", *(f"| {key} | {value} |" for key, value in rows.items())])


def _usage(name: str, reads_text: bool) -> str:
    text = ', ["a red circle left of a blue square"]' if reads_text else ""
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
    text = without_secrets(params)  # today's params hold none, an older receipt may
    return f"## How it was made\n\nThe params of the run, from its receipt:\n\n```json\n{text}\n```"
