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

import torch
from PIL import Image
from torch import Tensor, nn

from onetok.api.inputs import (
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
from onetok.api.saved import Card, Pretrained, from_pretrained, push_to_hub, save_pretrained
from onetok.data.captions import warn_of_truncated_captions
from onetok.data.folders import IMAGE_BYTES, read_file
from onetok.data.images import check_resized, crop_centre, decode, to_float, to_rgb
from onetok.errors import OnetokError, nearest, shown_path
from onetok.networks.clip import CLIP, CaptionStates
from onetok.nn.protocols import TextWidths, Tokenizer
from onetok.nn.quantizers import Tokens
from onetok.study.load import as_directory, load_study
from onetok.study.plan import Artefact
from onetok.study.receipts import check_artefact, read_receipt
from onetok.study.schema.datasets import Images
from onetok.study.schema.study import Study
from onetok.study.schema.tokenizers import ReleasedTokenizer, TokenizerEntry
from onetok.systems.registry import load_released_tokenizer
from onetok.systems.saved import StudyArtefacts, load_model

REPOSITORY = Path(__file__).resolve().parents[3]
CPU = torch.device("cpu")
ONE_EACH = "a list of captions, one for each image"


def load_tokenizer(
    name: str | Path, device: str = "cpu", *, study: str | Path = ".", revision: str | None = None
) -> ImageTokenizer:
    """Return a tokenizer on `device`.

    `name` is looked up in this order:

    1. as a folder with config.json, which save_pretrained or training wrote;
    2. as a tokenizer family/variant of the study's params: the trained model in results/tokenizers is loaded;
    3. as a repository on the Hub: a published tokenizer that params list, at the commit that they pin, or one that
       push_to_hub made.

    `study` is the study's directory; `revision` is the branch, tag or commit of a repository that params do not pin.
    Raises OnetokError for an unknown name, and where a file is missing, does not belong to the params or cannot be
    downloaded.
    """
    where = open_device(device)
    if not isinstance(name, str | Path):
        raise OnetokError(f"tokenizer: found {type(name).__name__}, expected a folder or a name")
    try:
        saved = (Path(name) / "config.json").exists()
    except OSError as error:  # a name longer than the file system allows, or in a folder without permission
        raise OnetokError(f"{str(name)[:80]}: cannot be looked up: {error.strerror}") from None
    found = from_pretrained(name) if saved else _by_name(str(name), as_directory(study), revision)
    return ImageTokenizer(found, str(name), where)


def open_device(name: str) -> torch.device:
    """Return a torch device. Raises OnetokError for one that is not available, and for a name of none."""
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
        listed = "`onetok list tokenizers` names all"
        raise OnetokError(f"{missing}; a repository on the Hub would be owner/name; {listed}")
    published = _published(name, study, directory)
    if published is not None:
        return published
    try:
        return from_pretrained(name, revision=revision)
    except OnetokError as error:
        raise OnetokError(f"{missing}; {error}") from None


def _of_study(name: str, study: Study, directory: Path) -> Pretrained:
    """Return a tokenizer that a study has trained."""
    entry = study.tokenizers[name]
    model = load_artefact("tokenizers", name, directory)
    encoder = _text_encoder(entry, directory)
    receipt = read_receipt(Artefact(kind="tokenizers", name=name), directory)
    return Pretrained(model, encoder, entry.images, receipt)


def _text_encoder(entry: TokenizerEntry, directory: Path) -> nn.Module | None:
    if entry.text_encoder is None:
        return None
    return load_artefact("encoders", entry.text_encoder, directory)


def load_artefact(kind: str, name: str, directory: Path) -> nn.Module:
    """Return the model of an artefact of a study, on the CPU.

    Raises OnetokError where it is not made yet, with the command that makes it, and where its receipt does not verify.
    """
    artefact = Artefact(kind=kind, name=name)
    if not (directory / artefact.receipt).exists():
        study = "" if directory == Path() else f" --study {directory}"
        command = f"onetok make{study} {artefact.receipt}"
        raise OnetokError(f"{name}: not made yet, no {directory / artefact.receipt}; make it: {command}")
    check_artefact(artefact, directory)
    return load_model(directory / artefact.folder, CPU)


def _published(repo: str, study: Study | None, directory: Path) -> Pretrained | None:
    """Return a published tokenizer by its repository, if the params of this study or of the root study list it."""
    entries, where = _entries_of(repo, study), directory
    if not entries and (REPOSITORY / "params").is_dir():  # no params where the package is installed alone
        entries, where = _entries_of(repo, load_study(REPOSITORY)), REPOSITORY
    if len(entries) > 1:
        raise OnetokError(f"{repo}: holds several tokenizers of params, name one: {', '.join(entries)}")
    for entry in entries.values():
        return fetch_published(entry, where)
    return None


def fetch_published(entry: ReleasedTokenizer, directory: Path) -> Pretrained:
    """Return a published tokenizer of the params of a study, with the text encoder among the study's artefacts.

    Raises OnetokError where either is missing or cannot be downloaded.
    """
    # Loaded before the weights, so that a missing text encoder is reported without a download.
    encoder = _text_encoder(entry, directory)
    return Pretrained(load_released_tokenizer(entry, StudyArtefacts(CPU)), encoder, entry.images, None)


def _entries_of(repo: str, study: Study | None) -> dict[str, ReleasedTokenizer]:
    """Return the published tokenizers of a study's params whose weights are in this repository on the Hub."""
    return {
        name: entry
        for name, entry in (study.tokenizers if study is not None else {}).items()
        if isinstance(entry, ReleasedTokenizer) and entry.weights.hub == repo
    }


# ---------------------------------------------------------------------------------------------- in use


class ImageTokenizer:
    """A tokenizer with its preprocessing and, if it takes captions, its text encoder.

    Raises OnetokError for a model that is no tokenizer, for preprocessing of another image size, and for a missing or
    unsuitable text encoder.
    """

    def __init__(self, pretrained: Pretrained, name: str, device: torch.device) -> None:
        model, encoder = pretrained.model, pretrained.text_encoder
        if not isinstance(model, Tokenizer):
            raise OnetokError(f"{name}: holds a {type(model).__name__}, expected a tokenizer")
        self.name, self.device, self.receipt = name, device, pretrained.receipt
        self.model = model.to(device).eval().requires_grad_(False)
        self.images = pretrained.images or _whole(model.image_size)
        if self.images.size != model.image_size:
            found, expected = f"{self.images.size} px", f"the model's {model.image_size}"
            raise OnetokError(f"{name}: images are prepared at {found}, expected {expected}")
        self.takes_text = model.text_widths is not None
        self.text_encoder: CLIP | None = None
        if model.text_widths is not None:
            _check_text_encoder(name, model.text_widths, encoder)
            assert isinstance(encoder, CLIP)  # no other network has its widths
            self.text_encoder = encoder.to(device).eval().requires_grad_(False)

    def __repr__(self) -> str:
        kind, size = type(self.model).__name__, f"{self.image_size} px"
        tokens = "continuous" if self.codebook_size is None else f"of {self.codebook_size} codes"
        tokens = f"{self.tokens} tokens, {tokens}, of {self.model.channels} channels"
        parameters = f"{sum(p.numel() for p in self.model.parameters()):,} parameters"
        captions = ", reads captions" if self.takes_text else ""
        return f"<{kind} {self.name}: {size}, {tokens}, {parameters}{captions}, on {self.device}>"

    @property
    def image_size(self) -> int:
        """S, the side of its images in pixels."""
        return self.images.size

    @property
    def tokens(self) -> int:
        """N, tokens of an image."""
        return self.model.tokens

    @property
    def codebook_size(self) -> int | None:
        """Number of codebook entries, so that ids are in [0, codebook_size), or None where tokens are continuous."""
        return self.model.codebook_size

    def prepare(self, image: Picture) -> Tensor:
        """Return a picture as pixels (1, 3, S, S) float32 in [0, 1], resized and cropped by the model's preprocessing.

        `image` is a path, an image file open for reading or its bytes, an image of Pillow, or a NumPy array of uint8,
        (H, W, 3), (H, W, 4) or (H, W), of any size and mode. EXIF orientation is applied.

        Raises OnetokError for anything that is not a readable image.
        """
        pixels = crop_centre(_open(open_picture(image), self.images), self.images)
        return to_float(torch.from_numpy(pixels)[None])  # (1, 3, S, S)

    @torch.no_grad()
    def encode(self, images: Pictures, text: Sequence[str] | None = None) -> Tokens:
        """Return the tokens of images: latents (B, N, C) float32, and ids (B, N) int64 where they are discrete.

        `images` are pixels (B, 3, S, S), of torch or NumPy, float of any precision in [0, 1] or uint8 in [0, 255]; in
        NumPy also (B, S, S, 3). Or a picture as `prepare` takes it (B = 1), or a list of pictures or pixels (3, S, S).
        `text` may be left out, since no encoder takes captions; it is only checked.

        Raises OnetokError for another shape or type, and for floats outside [0, 1]; the message gives their range.
        """
        pixels = as_pixels(images, self.image_size, self.prepare)
        if text is not None:
            self._check_text(text, len(pixels))
        return self.model.encode(pixels.to(self.device))

    @torch.no_grad()
    def decode(self, tokens: Tokens | Ids | Latents, text: Sequence[str] | None = None) -> Tensor:
        """Return images (B, 3, S, S) float32, clamped to [0, 1], of tokens.

        `tokens` are the result of `encode`; or ids (B, N) of any integer type, of torch, NumPy or as lists; or latents
        (B, N, C) of any float type. `text` has a caption for each image, for tokenizers that take captions and only for
        these; a caption that exceeds the text encoder's context length is truncated with a warning (OnetokWarning).

        Raises OnetokError for another shape, ids outside the codebook, latents that are not finite, or captions that
        are missing, too many or not strings.
        """
        if text is not None and self.text_encoder is not None:
            warn_of_truncated_captions(as_captions(text, "text", ONE_EACH), self.text_encoder.context_length)
        return self.decode_silently(tokens, text)

    @torch.no_grad()
    def decode_silently(self, tokens: Tokens | Ids | Latents, text: Sequence[str] | None) -> Tensor:
        """Decode as `decode` does, without its warning, for captions that were checked before."""
        if not isinstance(tokens, Tokens):
            found = as_tensor(tokens, "tokens")
            tokens = Tokens(found, None) if found.is_floating_point() else self.tokens_from_ids(found)
        latents = as_latents(tokens.latents, self.tokens, self.model.channels).to(self.device)
        states = self._text_states(text, len(latents))
        return self.model.decode(Tokens(latents, tokens.ids), states).clamp(0, 1)

    def tokens_from_ids(self, ids: Ids) -> Tokens:
        """Return the tokens, with latents (B, N, C) float32, of stored ids (B, N).

        `ids` are of any integer type, uint16 of token caches included, of torch, NumPy or as lists.

        Raises OnetokError for ids of another shape or outside the codebook, or where tokens are continuous.
        """
        if self.codebook_size is None:
            raise OnetokError(f"{self.name}: its tokens are continuous and have no ids")
        return self.model.tokens_from_ids(as_ids(ids, self.tokens, self.codebook_size).to(self.device))

    def save_pretrained(self, folder: str | Path, *, summary: str) -> None:
        """Write a folder that load_tokenizer can load: weights, config, preprocessing, text encoder and model card.

        `summary` is the card's paragraph on training and quality, and may be empty.

        Raises OnetokError where the folder cannot be written, and for weights that are NaN or infinite.
        """
        card = Card(name=Path(folder).name, summary=summary, receipt=self.receipt)
        save_pretrained(
            self.model, Path(folder), images=self.images, card=card, text_encoder=self.text_encoder
        )

    def push_to_hub(self, repo: str, *, summary: str, private: bool) -> str:
        """Upload the files of save_pretrained to a repository on the Hub, owner/name; return the commit's URL.

        Raises OnetokError as save_pretrained does, and without a network, a login or the right to write there.
        """
        card = Card(name=repo, summary=summary, receipt=self.receipt)
        return push_to_hub(
            self.model, repo, images=self.images, card=card, private=private, text_encoder=self.text_encoder
        )

    def _text_states(self, text: Sequence[str] | None, images: int) -> Tensor | None:
        """Return the text states (B, T, W) of captions, or None for tokenizers that take none."""
        if text is not None:
            text = self._check_text(text, images)
        elif self.takes_text:
            raise OnetokError(f"{self.name}: takes captions: expected text, a list of one for each image")
        if self.text_encoder is None or text is None:
            return None
        states = CaptionStates(self.text_encoder)
        return states(states.tokenize(text).to(self.device))

    def _check_text(self, text: Sequence[str], images: int) -> list[str]:
        if not self.takes_text:
            raise OnetokError(f"{self.name}: takes no captions, but text was given")
        captions = as_captions(text, "text", ONE_EACH)
        if len(captions) != images:
            raise OnetokError(f"text: found {len(captions)} captions, expected {images}, one for each image")
        return captions


def _whole(size: int) -> Images:
    """Return the preprocessing for models that record none: the largest square in the centre of the image."""
    return Images(resize="torchvision", shorter_edge=size, size=size, filter="bicubic")


def _check_text_encoder(name: str, widths: TextWidths, encoder: nn.Module | None) -> None:
    if encoder is None:
        raise OnetokError(f"{name}: takes captions, but there is no text encoder")
    found = (getattr(encoder, "context_length", None), getattr(encoder, "text_width", None))
    expected = (widths.length, widths.states)
    if found != expected:
        raise OnetokError(
            f"{name}: its text encoder {type(encoder).__name__} gives {found[0]} states of width {found[1]}, "
            f"expected {expected[0]} of {expected[1]}"
        )


def _open(image: Image.Image | bytes | str | Path, images: Images) -> Image.Image:
    """Return a picture as an upright RGB image. Raises OnetokError where it cannot be decoded or resized."""
    name = shown_path(image) if isinstance(image, str | Path) else "image"
    if isinstance(image, Image.Image):
        rgb = to_rgb(image, name)
    else:
        rgb = decode(image if isinstance(image, bytes) else read_file(Path(image), IMAGE_BYTES), name)
    check_resized(rgb, images, name)
    return rgb
