"""Trained and published tokenizers, ready to use.

    from onetok import load_tokenizer

    tokenizer = load_tokenizer("titok/vq-16")
    tokens = tokenizer.encode("image.png")
    images = tokenizer.decode(tokens)

Legend: B batch · S side of the tokenizer's images · N tokens · C token channels.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from onetok.data.captions import warn_of_cuts
from onetok.data.folders import IMAGE_BYTES, read_file
from onetok.data.images import check_resized, crop_centre, decode, to_float, to_rgb
from onetok.errors import OnetokError, nearest
from onetok.hub import Card, Pretrained, from_pretrained, push_to_hub, save_pretrained, tokens_an_image
from onetok.inputs import (
    Ids,
    Latents,
    Picture,
    Pictures,
    as_captions,
    as_ids,
    as_latents,
    as_pixels,
    as_tensor,
    open_picture,
)
from onetok.models.quantizers import Tokens
from onetok.models.tatitok import TATiTok, TATiTokConfig
from onetok.models.text_encoder import CaptionStates
from onetok.models.titok import TiTok
from onetok.models.vqgan import VQGAN
from onetok.params import READS_TEXT, Images, Study
from onetok.pictures import shown
from onetok.plan import Artefact
from onetok.published import Entry, load_published
from onetok.receipts import check_artefact, read_receipt
from onetok.registry import load_model
from onetok.study import as_directory, load_study

REPOSITORY = Path(__file__).resolve().parents[2]
CPU = torch.device("cpu")
ONE_EACH = "a list of captions, one for each image"


def load_tokenizer(
    name: str | Path, device: str = "cpu", *, study: str | Path = ".", revision: str | None = None
) -> ImageTokenizer:
    """Return a tokenizer, on `device`, by the first of these that `name` is.

    1. a folder with config.json, as save_pretrained and training write it;
    2. a tokenizer of the study's params, family/variant: what the study made in results/tokenizers;
    3. a repository on the Hub: a published one that params know, pinned there, or one that push_to_hub made.

    `study` is the study's directory; `revision` picks a branch, tag or commit of a repository that params do not pin.
    Raises OnetokError for anything else, and where a file is missing, does not fit or cannot be had.
    """
    where = open_device(device)
    if not isinstance(name, str | Path):
        raise OnetokError(f"tokenizer: found {type(name).__name__}, expected a folder or a name")
    try:
        saved = (Path(name) / "config.json").exists()
    except OSError as error:  # longer than a file system allows, or in a folder of somebody else's
        raise OnetokError(f"{str(name)[:80]}: cannot be looked up: {error.strerror}") from None
    found = from_pretrained(name) if saved else _by_name(str(name), as_directory(study), revision)
    return ImageTokenizer(found, str(name), where)


def open_device(name: str) -> torch.device:
    """Return a device; there is no fallback.

    Raises OnetokError for a GPU that torch does not find, or a name that is none.
    """
    try:
        torch.zeros(1, device=name).item()  # the device "meta" holds no values, and cannot give one back
    except (RuntimeError, AssertionError, TypeError) as error:
        reason = (str(error).splitlines() or ["not found"])[0]
        raise OnetokError(f"device {name!r}: torch cannot use it here: {reason}") from None
    return torch.device(name)


# ---------------------------------------------------------------------------------------------- by name


def _by_name(name: str, directory: Path, revision: str | None) -> Pretrained:
    study = load_study(directory) if (directory / "params").is_dir() else None
    if study is not None and name in study.tokenizers:
        return _of_study(name, study, directory)
    if Path(name).exists():
        raise OnetokError(f"{name}: no config.json in it, expected the folder of a saved tokenizer")
    known = nearest(name, study.tokenizers) if study is not None else "there are no params/"
    missing = f"{name}: no such folder, and no tokenizer of {directory / 'params'} ({known})"
    if not re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", name):
        raise OnetokError(f"{missing}; a repository on the Hub would be owner/name")
    published = _published(name, study, directory)
    if published is not None:
        return published
    try:
        return from_pretrained(name, revision=revision)
    except OnetokError as error:
        raise OnetokError(f"{missing}; {error}") from None


def _of_study(name: str, study: Study, directory: Path) -> Pretrained:
    """Return what a study made of one of its tokenizers."""
    entry = study.tokenizers[name]
    model = load_artefact("tokenizers", name, directory)
    encoder = load_artefact("encoders", entry.text, directory) if isinstance(entry, READS_TEXT) else None
    receipt = read_receipt(Artefact(kind="tokenizers", name=name), directory)
    return Pretrained(model, encoder, entry.images, receipt)


def load_artefact(kind: str, name: str, directory: Path) -> Any:
    """Return the model of an artefact, or say which command makes it."""
    artefact = Artefact(kind=kind, name=name)
    if not (directory / artefact.receipt).exists():
        study = "" if directory == Path() else f" --study {directory}"
        command = f"onetok make{study} {artefact.receipt}"
        raise OnetokError(f"{name}: not made yet, no {directory / artefact.receipt}; make it: {command}")
    check_artefact(artefact, directory)
    return load_model(directory / artefact.folder, CPU)


def _published(repo: str, study: Study | None, directory: Path) -> Pretrained | None:
    """Return a published tokenizer by its repository, pinned by this study's params or by the papers'."""
    entries, where = _entries_of(repo, study), directory
    if not entries and (REPOSITORY / "params").is_dir():  # no params where the package is installed alone
        entries, where = _entries_of(repo, load_study(REPOSITORY)), REPOSITORY
    if len(entries) > 1:
        raise OnetokError(f"{repo}: holds several tokenizers of params, name one: {', '.join(entries)}")
    for entry in entries.values():
        return fetch_published(entry, where)
    return None


def fetch_published(entry: Entry, directory: Path) -> Pretrained:
    """Return a published tokenizer of the params of a study, whose text encoder the study made."""
    # Before the weights, so that a missing text encoder is said sooner.
    encoder = load_artefact("encoders", entry.text, directory) if isinstance(entry, READS_TEXT) else None
    return Pretrained(load_published(entry), encoder, entry.images, None)


def _entries_of(repo: str, study: Study | None) -> dict[str, Entry]:
    """Return the published tokenizers of a study whose weights a repository on the Hub holds."""
    return {
        name: entry
        for name, entry in (study.tokenizers if study is not None else {}).items()
        if isinstance(entry, Entry) and entry.weights.hub == repo
    }


# ---------------------------------------------------------------------------------------------- in use


class ImageTokenizer:
    """A tokenizer with its preprocessing and, where it reads captions, its text encoder."""

    def __init__(self, pretrained: Pretrained, name: str, device: torch.device) -> None:
        model, encoder = pretrained.model, pretrained.text_encoder
        if not isinstance(model, VQGAN | TiTok):
            raise OnetokError(f"{name}: holds a {type(model).__name__}, expected a tokenizer")
        self.name, self.device, self.receipt = name, device, pretrained.receipt
        self.model = model.to(device).eval().requires_grad_(False)
        self.images = pretrained.images or _whole(model.config.image_size)
        if self.images.size != model.config.image_size:
            found, expected = f"{self.images.size} px", f"the model's {model.config.image_size}"
            raise OnetokError(f"{name}: images are prepared at {found}, expected {expected}")
        self.reads_text = isinstance(model, TATiTok)
        self.text_encoder = encoder.to(device).eval().requires_grad_(False) if encoder is not None else None
        if isinstance(model.config, TATiTokConfig):
            _check_text_encoder(name, model.config, encoder)

    @property
    def image_size(self) -> int:
        """S."""
        return self.images.size

    @property
    def tokens(self) -> int:
        """N, tokens an image."""
        return tokens_an_image(self.model)

    @property
    def codebook_size(self) -> int | None:
        """How many values an id has, or None where tokens are continuous."""
        return self.model.codebook_size

    def prepare(self, image: Picture) -> Tensor:
        """Return a picture as pixels (1, 3, S, S) float32 in [0, 1]: resized and cropped as the model's params say.

        `image` is a path, an image file open for reading or its bytes, an image of Pillow, or a NumPy array of uint8,
        (H, W, 3), (H, W, 4) or (H, W), of any size and mode; turned upright where EXIF says so.
        Raises OnetokError for what is no readable image.
        """
        pixels = crop_centre(_open(open_picture(image), self.images), self.images)
        return to_float(torch.from_numpy(pixels)[None])  # (1, 3, S, S)

    @torch.no_grad()
    def encode(self, images: Pictures, text: Sequence[str] | None = None) -> Tokens:
        """Return the tokens of images: latents (B, N, C) float32, and ids (B, N) int64 where they are discrete.

        `images` are pixels (B, 3, S, S), of torch or NumPy, float of any precision in [0, 1] or uint8 in [0, 255]; in
        NumPy also (B, S, S, 3). Or a picture as `prepare` takes it (B = 1), or a list of pictures or pixels (3, S, S).
        No encoder reads captions: `text` may be left out here.
        Raises OnetokError for another shape or type, and for floats outside [0, 1], whose range it says.
        """
        pixels = as_pixels(images, self.image_size, self.prepare)
        if text is not None:
            self._check_text(text, len(pixels))
        return self.model.encode(pixels.to(self.device))

    @torch.no_grad()
    def decode(self, tokens: Tokens | Ids | Latents, text: Sequence[str] | None = None) -> Tensor:
        """Return images (B, 3, S, S) float32 in [0, 1] of tokens.

        `tokens` are what `encode` gives; or ids (B, N) of any integer type, of torch, NumPy or as lists, as
        `tokens_from_ids` takes them; or latents (B, N, C) of any float type. `text` has a caption for each image, for
        tokenizers that read captions and only for these; what is longer than their text encoder reads is cut off with a
        warning (OnetokWarning).
        Raises OnetokError for another shape, ids outside the codebook, latents that are not finite, or other captions.
        """
        if text is not None and self.text_encoder is not None:
            warn_of_cuts(as_captions(text, "text", ONE_EACH), self.text_encoder.context_length)
        return self.decode_silently(tokens, text)

    @torch.no_grad()
    def decode_silently(self, tokens: Tokens | Ids | Latents, text: Sequence[str] | None) -> Tensor:
        """Decode as `decode` does, without its warning: for captions that were read before."""
        if not isinstance(tokens, Tokens):
            found = as_tensor(tokens, "tokens")
            tokens = Tokens(found, None) if found.is_floating_point() else self.tokens_from_ids(found)
        latents = as_latents(tokens.latents, self.tokens, self.model.config.quantizer.channels).to(
            self.device
        )
        states = self._read(text, len(latents))
        return self.model.decode(Tokens(latents, tokens.ids), states).clamp(0, 1)

    def tokens_from_ids(self, ids: Ids) -> Tokens:
        """Return the tokens that ids (B, N) stand for, to decode what was stored as ids: latents (B, N, C) float32.

        `ids` are of any integer type, uint16 as token caches keep them too, of torch, NumPy or as lists.
        Raises OnetokError for ids of another shape or outside the codebook, or where tokens are continuous.
        """
        if self.codebook_size is None:
            raise OnetokError(f"{self.name}: its tokens are continuous and have no ids")
        return self.model.tokens_from_ids(as_ids(ids, self.tokens, self.codebook_size).to(self.device))

    def save_pretrained(self, folder: str | Path, *, summary: str) -> None:
        """Write a folder that load_tokenizer reads on any machine: weights, config, preprocessing, text encoder, card.

        `summary` is what the card says of training and quality, and may be empty.
        Raises OnetokError where the folder cannot be written, or for weights that are no finite numbers.
        """
        card = Card(name=Path(folder).name, summary=summary, receipt=self.receipt)
        save_pretrained(
            self.model, Path(folder), images=self.images, card=card, text_encoder=self.text_encoder
        )

    def push_to_hub(self, repo: str, *, summary: str, private: bool) -> str:
        """Upload what save_pretrained writes to a repository on the Hub, owner/name; return the commit's address.

        Raises OnetokError as save_pretrained does, and without a network, a login or the right to write there.
        """
        card = Card(name=repo, summary=summary, receipt=self.receipt)
        return push_to_hub(
            self.model, repo, images=self.images, card=card, private=private, text_encoder=self.text_encoder
        )

    def _read(self, text: Sequence[str] | None, images: int) -> Tensor | None:
        """Return the text states (B, T, W) of captions, None for tokenizers that read none."""
        if text is not None:
            text = self._check_text(text, images)
        elif self.reads_text:
            raise OnetokError(f"{self.name}: reads captions: expected text, a list of one for each image")
        if self.text_encoder is None or text is None:
            return None
        states = CaptionStates(self.text_encoder)
        return states(states.tokenize(text).to(self.device))

    def _check_text(self, text: Sequence[str], images: int) -> list[str]:
        if not self.reads_text:
            raise OnetokError(f"{self.name}: reads no captions, but text was given")
        captions = as_captions(text, "text", ONE_EACH)
        if len(captions) != images:
            raise OnetokError(f"text: found {len(captions)} captions, expected {images}, one for each image")
        return captions


def _whole(size: int) -> Images:
    """Return the preprocessing of models that say nothing of theirs: as much of the image as a square can show."""
    return Images(resize="torchvision", shorter_edge=size, size=size, filter="bicubic")


def _check_text_encoder(name: str, config: TATiTokConfig, encoder: Any) -> None:
    if encoder is None:
        raise OnetokError(f"{name}: reads captions, but there is no text encoder beside it")
    found = (getattr(encoder, "context_length", None), getattr(encoder, "text_width", None))
    expected = (config.text_states, config.text_width)
    if found != expected:
        raise OnetokError(
            f"{name}: its text encoder {type(encoder).__name__} gives {found[0]} states of width {found[1]}, "
            f"expected {expected[0]} of {expected[1]}"
        )


def _open(image: Image.Image | bytes | str | Path, images: Images) -> Image.Image:
    """Return an upright RGB image whose resized form fits in memory."""
    place = shown(image) if isinstance(image, str | Path) else "image"
    if isinstance(image, Image.Image):
        rgb = to_rgb(image, place)
    else:
        rgb = decode(image if isinstance(image, bytes) else read_file(Path(image), IMAGE_BYTES), place)
    check_resized(rgb, images, place)
    return rgb
