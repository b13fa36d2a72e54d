"""Trained and published generators, ready to use, and `onetok generate`.

    from onetok import load_generator

    generator = load_generator("maskgit/tiny", study="studies/miniature")
    images = generator.generate([3, 7], sampling="maskgit/tiny", seed=0)
    generator = load_generator("maskgen_tuned/vq", study="studies/miniature")
    images = generator.generate(["a red circle above a blue square"], sampling="maskgen_tuned/vq", seed=0)

Images are numbered. Those of classes as the study numbers its samples: the first image of class c is number c, the next
c + K, and so on, K classes. Those of each caption from 0. An image is a function of generator, sampling, seed, class
or caption with its aesthetic score, and number, whatever is drawn beside it.

Legend: B batch · S side of the images · N tokens · K classes.
"""

from __future__ import annotations

import json
import math
import operator
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from pydantic import TypeAdapter, ValidationError
from torch import Tensor

from onetok import inference, params
from onetok.data.captions import warn_of_cuts
from onetok.data.images import encode_png, to_uint8
from onetok.derived import token_shape, tokenizer_of
from onetok.errors import OnetokError, nearest
from onetok.errors import shown as shorten
from onetok.inference import ImageTokenizer, fetch_published, load_artefact, load_tokenizer, open_device
from onetok.inputs import as_captions, as_whole
from onetok.models.mmdit import TextCondition
from onetok.models.quantizers import tokens_from_drawn
from onetok.models.text_conditions import EncodedCaptions
from onetok.pictures import made_by_onetok, places, shown, write_all
from onetok.published import Entry, GeneratorEntry, load_published_generator
from onetok.reading import parse_yaml
from onetok.registry import build_sampling, sampling_kind
from onetok.sampling.seeds import ImageRandom
from onetok.study import as_directory, load_study

# An entry of a study's samples by name, settings as params write them, or params' own.
SamplingLike = str | Mapping[str, Any] | params.Sampling
SAMPLING: TypeAdapter[params.Sampling] = TypeAdapter(params.Sampling)


def load_generator(
    name: str, device: str = "cpu", *, study: str | Path = "."
) -> ClassImageGenerator | CaptionImageGenerator:
    """Return a generator with the tokenizer that decodes its tokens, on `device`: the first of these that `name` is.

    1. a generator of the study's params, family/variant: what the study made in results/generators;
    2. a repository on the Hub of a published generator that params know, pinned there.

    Raises OnetokError for anything else, and where a file is missing, does not fit or cannot be had.
    """
    where, directory = open_device(device), as_directory(study)
    here = load_study(directory) if (directory / "params").is_dir() else None
    if here is not None and name in here.generators:
        model = load_artefact("generators", name, directory)
        entry = here.generators[name]
        tokenizer = load_tokenizer(tokenizer_of(here, entry), device, study=directory)
        return _ready(name, entry, model, tokenizer, here, directory)
    studies = [(here, directory)] if here is not None else []
    if (inference.REPOSITORY / "params").is_dir():  # no params where the package is installed alone
        studies.append((load_study(inference.REPOSITORY), inference.REPOSITORY))
    for known, root in studies:
        if found := _published(name, known):
            return _fetch(name, found, known, root, where)
    text = nearest(name, here.generators) if here is not None else "there are no params/"
    missing = f"{name}: no generator of {directory / 'params'} ({text})"
    if re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", name):
        raise OnetokError(f"{missing}, and no repository on the Hub whose generator params know")
    raise OnetokError(f"{missing}; a repository on the Hub would be owner/name")


def _published(repo: str, study: params.Study) -> GeneratorEntry | None:
    """Return the published generator of a study whose weights a repository on the Hub holds."""
    entries = {
        name: entry
        for name, entry in study.generators.items()
        if isinstance(entry, GeneratorEntry) and entry.weights.hub == repo
    }
    if len(entries) > 1:
        raise OnetokError(f"{repo}: holds several generators of params, name one: {', '.join(entries)}")
    return next(iter(entries.values()), None)


def _fetch(
    name: str, entry: GeneratorEntry, study: params.Study, directory: Path, device: torch.device
) -> ClassImageGenerator | CaptionImageGenerator:
    """Return a published generator and its tokenizer, a published one or one that the study made."""
    source = study.tokenizers[entry.tokenizer]
    model = load_published_generator(entry, token_shape(study, source))
    if isinstance(source, Entry):
        tokenizer = ImageTokenizer(fetch_published(source, directory), entry.tokenizer, device)
    else:
        tokenizer = load_tokenizer(entry.tokenizer, str(device), study=directory)
    return _ready(name, entry, model, tokenizer, study, directory)


def _ready(
    name: str,
    entry: params.Generator,
    model: Any,
    tokenizer: ImageTokenizer,
    study: params.Study,
    directory: Path,
) -> ClassImageGenerator | CaptionImageGenerator:
    if isinstance(entry, params.READS_CAPTIONS):
        encoder = load_artefact("encoders", entry.text, directory)
        return CaptionImageGenerator(name, model, tokenizer, encoder, study)
    return ClassImageGenerator(name, model, tokenizer, study)


# ---------------------------------------------------------------------------------------------- in use


class ImageGenerator:
    """A generator with the tokenizer that turns its tokens into images."""

    def __init__(self, name: str, model: Any, tokenizer: ImageTokenizer, study: params.Study) -> None:
        self.name, self.tokenizer, self.device, self.study = name, tokenizer, tokenizer.device, study
        self.model = model.to(self.device).eval().requires_grad_(False)
        config = model.config
        drawn = (getattr(config, "codebook_size", None), config.tokens)
        decoded = (tokenizer.codebook_size, tokenizer.tokens)
        if drawn != decoded:
            text = f"{_tokens(*drawn)}, but {tokenizer.name} decodes {_tokens(*decoded)}"
            raise OnetokError(f"{name}: draws {text}")

    @property
    def image_size(self) -> int:
        """S."""
        return self.tokenizer.image_size

    @property
    def tokens(self) -> int:
        """N, tokens an image."""
        return self.tokenizer.tokens

    def _draw(
        self,
        numbers: Sequence[int],
        ask: Callable[[slice], tuple[Any, list[str] | None]],
        sampling: SamplingLike,
        seed: int,
        batch: int,
    ) -> Tensor:
        """Return images (B, 3, S, S) in [0, 1]; `ask` says what some are drawn of, and the decoder's captions."""
        settings = build_sampling(self.settings(sampling))
        seed, batch = as_whole(seed, "seed", 0), as_whole(batch, "batch", 1)
        images = [torch.empty(0, 3, self.image_size, self.image_size, device=self.device)]
        for start in range(0, len(numbers), batch):
            part = slice(start, start + batch)
            condition, texts = ask(part)
            drawn = self.model.sample(condition, settings, ImageRandom(seed, numbers[part], self.device))
            tokens = tokens_from_drawn(self.tokenizer, drawn)
            images.append(self.tokenizer.decode_silently(tokens, texts))  # (b, 3, S, S)
        return torch.cat(images)

    def settings(self, sampling: SamplingLike) -> params.Sampling:
        """Return the params of a sampling, given by name, as a mapping or as they are.

        Raises OnetokError for an unknown name, for a key or value that params would not allow, and for settings of
        another kind of generator.
        """
        settings, expected = self._settings(sampling), sampling_kind(self.model)
        if settings.kind != expected:
            raise OnetokError(f"sampling is of kind {settings.kind}, but {self.name} needs {expected}")
        return settings

    def _settings(self, sampling: SamplingLike) -> params.Sampling:
        if isinstance(
            sampling, params.MaskedSampling | params.AutoregressiveSampling | params.LatentSampling
        ):
            return sampling
        if isinstance(sampling, str):
            if sampling not in self.study.samples:
                raise OnetokError(
                    f"{sampling}: no samples of params ({nearest(sampling, self.study.samples)})"
                )
            return self.study.samples[sampling].sampling
        if not isinstance(sampling, Mapping):
            expected = "a name of the study's samples, or the settings as a mapping"
            raise OnetokError(f"sampling: found {type(sampling).__name__}, expected {expected}")
        try:
            return SAMPLING.validate_python(sampling)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(["sampling", *map(str, first["loc"][1:])])  # the first is the kind
            raise OnetokError(f"{where}: found {shorten(first['input'])}; {first['msg']}") from None


def _tokens(codebook_size: int | None, tokens: int) -> str:
    return f"{tokens} tokens of {codebook_size} codes" if codebook_size is not None else f"{tokens} latents"


class ClassImageGenerator(ImageGenerator):
    """A generator of classes."""

    @property
    def classes(self) -> int:
        """K."""
        return int(self.model.config.classes)

    def numbers(self, classes: Sequence[int]) -> list[int]:
        """Return the numbers of images of `classes`: a class that comes again goes on where it was.

        Raises OnetokError for a class that the generator does not know.
        """
        seen: Counter[int] = Counter()
        numbers = []
        try:
            listed = None if isinstance(classes, str | bytes) else list(classes)
        except TypeError:
            listed = None
        if listed is None:
            raise OnetokError(f"classes: found {shorten(classes)}, expected a list of whole numbers")
        for given in listed:
            try:  # elements of tensors are integers too, though equal ones are different keys
                label = -1 if isinstance(given, bool) else operator.index(given)
            except (TypeError, RuntimeError):  # the latter of rows of a tensor
                label = -1
            if not 0 <= label < self.classes:
                text = " ".join(str(given).split())
                raise OnetokError(f"class {text}: {self.name} knows 0 to {self.classes - 1}")
            numbers.append(label + self.classes * seen[label])
            seen[label] += 1
        return numbers

    @torch.no_grad()
    def generate(
        self, classes: Sequence[int], *, sampling: SamplingLike, seed: int, batch: int = 1
    ) -> Tensor:
        """Return images (B, 3, S, S) float32 in [0, 1] of B classes.

        `classes` are whole numbers from 0 to K - 1, a list or a tensor or array (B,) of any integer type. `sampling` is
        the name of an entry of the study's samples, or settings as params write them. `seed` is a whole number from 0
        to 2^63 - 1. `batch` images are drawn at a time: another number gives the same tokens, and pixels that differ
        in their last bits.
        Raises OnetokError for a class, a seed, a batch or settings that will not do.
        """
        numbers = self.numbers(classes)
        labels = torch.tensor(numbers, dtype=torch.int64, device=self.device) % self.classes

        def ask(part: slice) -> tuple[Tensor, None]:
            return labels[part], None

        return self._draw(numbers, ask, sampling, seed, batch)


class CaptionImageGenerator(ImageGenerator):
    """A generator of captions, with its text encoder."""

    def __init__(
        self, name: str, model: Any, tokenizer: ImageTokenizer, encoder: Any, study: params.Study
    ) -> None:
        super().__init__(name, model, tokenizer, study)
        backbone = self.model.config.backbone
        found = (encoder.text_width, encoder.pooled_width)
        expected = (backbone.text_width, backbone.pooled_width)
        if found != expected:
            text = f"{name}: its text encoder gives states of width {found[0]} and {found[1]} pooled"
            raise OnetokError(f"{text}, expected {expected[0]} and {expected[1]}")
        self.text = EncodedCaptions(encoder.to(self.device).eval().requires_grad_(False))

    def numbers(self, captions: Sequence[str]) -> list[int]:
        """Return the numbers of images of `captions`: the first of every caption is number 0.

        Raises OnetokError for what is no list of strings.
        """
        seen: Counter[str] = Counter()
        numbers = []
        for caption in self._captions(captions):
            numbers.append(seen[caption])
            seen[caption] += 1
        return numbers

    @torch.no_grad()
    def generate(
        self,
        captions: Sequence[str],
        *,
        sampling: SamplingLike,
        seed: int,
        batch: int = 1,
        aesthetic: float | None = None,
    ) -> Tensor:
        """Return images (B, 3, S, S) float32 in [0, 1] of B captions.

        `captions` is a list of strings; the end of one that is longer than the text encoder reads is cut off with a
        warning (OnetokWarning). `sampling` is the name of an entry of the study's samples, or settings as params write
        them. `seed` is a whole number from 0 to 2^63 - 1. `aesthetic` is the score that the images shall have, a finite
        number, None that of the study's samples whose name `sampling` is. `batch` images are drawn at a time: another
        number gives the same ids, and latents and pixels that differ in their last bits.
        Raises OnetokError for captions, a score, a seed, a batch or settings that will not do.
        """
        captions = self._captions(captions)
        numbers, score = self.numbers(captions), self.aesthetic(sampling) if aesthetic is None else aesthetic
        try:
            finite = math.isfinite(score)
        except TypeError:
            finite = False
        if not finite:
            raise OnetokError(f"aesthetic {score}: expected a finite number")
        warn_of_cuts(captions, self.context_length)

        def ask(part: slice) -> tuple[TextCondition, list[str] | None]:
            texts = captions[part]
            scores = torch.full((len(texts),), score, device=self.device)
            return self.text.of(texts, scores), texts if self.tokenizer.reads_text else None

        return self._draw(numbers, ask, sampling, seed, batch)

    @property
    def context_length(self) -> int:
        """Token ids of a caption that are read, its two ends included: the fewest of generator and tokenizer."""
        encoders = [self.text.encoder, self.tokenizer.text_encoder]
        return min(encoder.context_length for encoder in encoders if encoder is not None)

    def _captions(self, captions: Sequence[str]) -> list[str]:
        return as_captions(captions, "captions", f"a list of captions, which {self.name} reads")

    def aesthetic(self, sampling: SamplingLike) -> float:
        """Return the score that an entry of the study's samples asks for."""
        self.settings(sampling)  # a name is one that params know
        entry = self.study.samples[sampling].text if isinstance(sampling, str) else None
        if entry is None:
            text = f"{self.name} reads a score, and these settings have none (text.aesthetic)"
            raise OnetokError(f"aesthetic: {text}, expected one given: aesthetic=, --aesthetic")
        return entry.aesthetic


# ---------------------------------------------------------------------------------------------- command line


def generate(
    subjects: Sequence[int] | Sequence[str],
    *,
    generator: str,
    samples: str | None,
    sampling: str | None,
    aesthetic: float | None,
    count: int,
    seed: int,
    out: Path,
    device: str,
    study: Path,
) -> list[str]:
    """Write `count` images of each class or caption as PNG files; return one line for each.

    One image is written to the file `out`, several into the folder `out` under their class, or the caption's place on
    the command line, and number. Each says in its metadata how it was made. The settings are those of an entry of the
    study's `samples`, or `sampling`, YAML as in params.
    Raises OnetokError, before anything is written, for whatever will not do.
    """
    if count < 1:
        raise OnetokError(f"--count {count}: expected 1 or more")
    named = "--prompt" if isinstance(subjects[0], str) else "--class"
    _check_once(named, subjects)
    given: SamplingLike = _read_sampling(sampling) if samples is None else samples
    model = load_generator(generator, device, study=study)
    labels: list[Any] = [subject for subject in subjects for _ in range(count)]
    if isinstance(model, CaptionImageGenerator):
        if named == "--class":
            raise OnetokError(f"--class: {generator} reads captions, expected --prompt")
        prompts = [place for place in range(len(subjects)) for _ in range(count)]
        names = [f"prompt-{place}-{index % count}" for index, place in enumerate(prompts)]
        draw: Callable[..., Tensor] = partial(model.generate, aesthetic=aesthetic)
    else:
        if named == "--prompt" or aesthetic is not None:
            found = named if named == "--prompt" else "--aesthetic"
            raise OnetokError(f"{found}: {generator} is a generator of classes, expected --class alone")
        names = [f"class-{label}-{index % count}" for index, label in enumerate(labels)]
        draw = model.generate
    paths, numbers = places(names, out), model.numbers(labels)
    # One at a time, so that the bytes of a file do not depend on the others.
    images = to_uint8(draw(labels, sampling=given, seed=seed)).cpu().numpy()
    texts = {"model": generator, "tokenizer": model.tokenizer.name, "seed": str(seed)}
    settings = model.settings(given).model_dump(mode="json")
    texts |= {"sampling": json.dumps(settings, sort_keys=True, ensure_ascii=False)}
    if isinstance(model, CaptionImageGenerator):
        texts |= {"aesthetic": str(model.aesthetic(given) if aesthetic is None else aesthetic)}
    files = {}
    for label, number, path, image in zip(labels, numbers, paths, images, strict=True):
        own = {named.strip("-"): str(label), "number": str(number)}
        files[path] = encode_png(image, made_by_onetok(own | texts))
    write_all(files)
    return [
        f"{named.strip('-')} {label!r}: image {number} of seed {seed}, {model.tokens} tokens, {shown(path)}"
        for label, number, path in zip(labels, numbers, paths, strict=True)
    ]


def _check_once(named: str, subjects: Sequence[int] | Sequence[str]) -> None:
    for subject, times in Counter(subjects).items():
        if times > 1:
            text = f"{named} {subject!r}: given {times} times; --count {times} draws as many of each"
            raise OnetokError(f"{text} {named.strip('-')}")


def _read_sampling(text: str | None) -> Mapping[str, Any]:
    content = parse_yaml(text or "", "--sampling")
    if not isinstance(content, dict):
        raise OnetokError(f"--sampling: found {text!r}, expected the settings as params write them")
    return content
