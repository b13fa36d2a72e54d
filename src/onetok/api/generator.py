"""Trained and published generators, ready to use, and `onetok generate`.

    from onetok import load_generator

    generator = load_generator("maskgit/tiny", study="studies/miniature")
    images = generator.generate([3, 7], sampling="maskgit/tiny", seed=0)
    generator = load_generator("maskgen_tuned/vq", study="studies/miniature")
    images = generator.generate(["a red circle above a blue square"], sampling="maskgen_tuned/vq", seed=0)

Images are numbered. Images of class c have the numbers c, c + K, c + 2K and so on, as the samples of a study do; images
of a caption have the numbers 0, 1, 2 and so on. An image is a function of the generator, the sampling settings, the
seed, the class or the caption with its aesthetic score, and the number, whatever else is sampled in the same call.

Legend: B batch · S side of the images in pixels · N tokens · K classes · b images sampled at a time.
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

from onetok.api import tokenizer as tokenizers
from onetok.api.inputs import as_captions, as_whole
from onetok.api.png_files import output_paths, png_texts, write_all
from onetok.api.tokenizer import ImageTokenizer, fetch_published, load_artefact, load_tokenizer, open_device
from onetok.data.captions import warn_of_truncated_captions
from onetok.data.images import encode_png, to_uint8
from onetok.errors import OnetokError, nearest, shown, shown_path
from onetok.networks.caption_conditions import EncodedCaptions
from onetok.networks.clip import CLIP
from onetok.nn.protocols import Generator, tokens_from_sampled
from onetok.nn.text_condition import TextCondition
from onetok.sampling.seeds import ImageRandom
from onetok.study.load import as_directory, load_study
from onetok.study.schema.generators import CaptionEntry, GeneratorEntry, ReleasedGenerator
from onetok.study.schema.sampling import SamplingEntry
from onetok.study.schema.study import Study
from onetok.study.schema.systems import Sampling
from onetok.study.schema.tokenizers import ReleasedTokenizer
from onetok.study.yaml_files import parse_yaml
from onetok.systems.registry import generator_system, load_released_generator, shapes_of

# The name of an entry of a study's samples, settings in the form of params, or params that were read already.
SamplingLike = str | Mapping[str, Any] | SamplingEntry
SAMPLING: TypeAdapter[SamplingEntry] = TypeAdapter(Sampling)


def load_generator(
    name: str, device: str = "cpu", *, study: str | Path = "."
) -> ClassImageGenerator | CaptionImageGenerator:
    """Return a generator and the tokenizer that decodes its tokens, on `device`.

    `name` is looked up in this order:

    1. as a generator family/variant of the study's params: the trained model in results/generators is loaded;
    2. as a repository on the Hub: a published generator that params list is downloaded at the commit that they pin.

    `study` is the study's directory. Raises OnetokError for an unknown name, and where a file is missing, does not
    belong to the params or cannot be downloaded.
    """
    where, directory = open_device(device), as_directory(study)
    here = load_study(directory) if (directory / "params").is_dir() else None
    if here is not None and name in here.generators:
        if here.generators[name].reads == "images":
            raise OnetokError(
                f"{name}: makes captions of images, expected a generator of images; see load_captioner"
            )
        model = load_artefact("generators", name, directory)
        assert isinstance(model, Generator)
        entry = here.generators[name]
        tokenizer = load_tokenizer(entry.tokenizer_name(here), device, study=directory)
        return _ready(name, entry, model, tokenizer, here, directory)
    studies = [(here, directory)] if here is not None else []
    if (tokenizers.REPOSITORY / "params").is_dir():  # no params where the package is installed alone
        studies.append((load_study(tokenizers.REPOSITORY), tokenizers.REPOSITORY))
    for known, root in studies:
        if found := _published(name, known):
            return _fetch(name, found, known, root, where)
    text = nearest(name, here.generators) if here is not None else "there are no params/"
    missing = f"{name}: no generator of {directory / 'params'} ({text})"
    if re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", name):
        raise OnetokError(f"{missing}, and no repository on the Hub whose generator params know")
    raise OnetokError(
        f"{missing}; a repository on the Hub would be owner/name; `onetok list generators` names all"
    )


def _published(repo: str, study: Study) -> ReleasedGenerator | None:
    """Return the published generator of a study's params whose weights are in this repository on the Hub, if any."""
    entries = {
        name: entry
        for name, entry in study.generators.items()
        if isinstance(entry, ReleasedGenerator) and entry.weights.hub == repo
    }
    if len(entries) > 1:
        raise OnetokError(f"{repo}: holds several generators of params, name one: {', '.join(entries)}")
    return next(iter(entries.values()), None)


def _fetch(
    name: str, entry: ReleasedGenerator, study: Study, directory: Path, device: torch.device
) -> ClassImageGenerator | CaptionImageGenerator:
    """Return a published generator and its tokenizer, which is published too or trained by the study."""
    source = study.tokenizers[entry.tokenizer]
    model = load_released_generator(entry, shapes_of(study, entry))
    if isinstance(source, ReleasedTokenizer):
        tokenizer = ImageTokenizer(fetch_published(source, directory), entry.tokenizer, device)
    else:
        tokenizer = load_tokenizer(entry.tokenizer, str(device), study=directory)
    return _ready(name, entry, model, tokenizer, study, directory)


def _ready(
    name: str,
    entry: GeneratorEntry,
    model: Generator,
    tokenizer: ImageTokenizer,
    study: Study,
    directory: Path,
) -> ClassImageGenerator | CaptionImageGenerator:
    if isinstance(entry, CaptionEntry):
        encoder = load_artefact("encoders", entry.text, directory)
        assert isinstance(encoder, CLIP)
        return CaptionImageGenerator(name, entry, model, tokenizer, encoder, study)
    return ClassImageGenerator(name, entry, model, tokenizer, study)


# ---------------------------------------------------------------------------------------------- in use


class ImageGenerator:
    """A generator with the tokenizer that decodes its tokens to images.

    Raises OnetokError if the tokens of the two differ in number or codebook size.
    """

    def __init__(
        self, name: str, entry: GeneratorEntry, model: Generator, tokenizer: ImageTokenizer, study: Study
    ) -> None:
        self.name, self.tokenizer, self.device, self.study = name, tokenizer, tokenizer.device, study
        self.entry = entry.first_stage(study)
        self.model = model.to(self.device).eval().requires_grad_(False)
        self.system = generator_system(model)
        sampled = (model.codebook_size, model.tokens)
        decoded = (tokenizer.codebook_size, tokenizer.tokens)
        if sampled != decoded:
            text = f"{_tokens(*sampled)}, but {tokenizer.name} decodes {_tokens(*decoded)}"
            raise OnetokError(f"{name}: samples {text}")

    def __repr__(self) -> str:
        asked = "captions" if self.model.classes is None else f"{self.model.classes} classes"
        parameters = f"{sum(p.numel() for p in self.model.parameters()):,} parameters"
        made = f"{self.image_size} px images of {asked}"
        return f"<{type(self.model).__name__} {self.name}: {made}, {parameters}, with {self.tokenizer!r}>"

    @property
    def image_size(self) -> int:
        """S, the side of its images in pixels."""
        return self.tokenizer.image_size

    @property
    def tokens(self) -> int:
        """N, tokens of an image."""
        return self.tokenizer.tokens

    def _sample(
        self,
        numbers: Sequence[int],
        condition_of: Callable[[slice], tuple[Tensor | TextCondition, list[str] | None]],
        sampling: SamplingLike,
        seed: int,
        batch: int,
    ) -> Tensor:
        """Return images (B, 3, S, S) in [0, 1] of these numbers.

        `condition_of` returns the condition of a slice of them, and the captions for the tokenizer's decoder.
        """
        settings = self.settings(sampling)
        seed, batch = as_whole(seed, "seed", 0), as_whole(batch, "batch", 1)
        images = [torch.empty(0, 3, self.image_size, self.image_size, device=self.device)]
        for start in range(0, len(numbers), batch):
            part = slice(start, start + batch)
            condition, texts = condition_of(part)
            random = ImageRandom(seed, numbers[part], self.device)
            sampled = self.system.sample(self.model, condition, settings, random)  # (b, N) or (b, N, C)
            tokens = tokens_from_sampled(self.tokenizer.model, sampled)
            images.append(self.tokenizer.decode_silently(tokens, texts))  # (b, 3, S, S)
        return torch.cat(images)  # (B, 3, S, S)

    def settings(self, sampling: SamplingLike) -> SamplingEntry:
        """Return sampling settings that are given by the name of samples of params, as a mapping, or as they are.

        Raises OnetokError for an unknown name, for a key or value that params do not allow, and for settings of another
        kind of generator.
        """
        settings, expected = self._settings(sampling), self.entry.sampling_kind
        if settings.kind != expected:
            raise OnetokError(f"sampling is of kind {settings.kind}, but {self.name} needs {expected}")
        return settings

    def _settings(self, sampling: SamplingLike) -> SamplingEntry:
        if isinstance(sampling, SamplingEntry):
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
            where = ".".join(["sampling", *map(str, first["loc"][1:])])  # loc[0] is the kind of sampling
            raise OnetokError(f"{where}: found {shown(first['input'])}; {first['msg']}") from None


def _tokens(codebook_size: int | None, tokens: int) -> str:
    return f"{tokens} tokens of {codebook_size} codes" if codebook_size is not None else f"{tokens} latents"


class ClassImageGenerator(ImageGenerator):
    """A class-conditional generator."""

    @property
    def classes(self) -> int:
        """K, the number of classes."""
        assert self.model.classes is not None, "a class-conditional generator has a number of classes"
        return self.model.classes

    def numbers(self, classes: Sequence[int]) -> list[int]:
        """Return the numbers of images of `classes`: the first image of class c has number c, its second c + K.

        Raises OnetokError for a class outside 0 … K - 1.
        """
        seen: Counter[int] = Counter()
        numbers = []
        try:
            listed = None if isinstance(classes, str | bytes) else list(classes)
        except TypeError:
            listed = None
        if listed is None:
            raise OnetokError(f"classes: found {shown(classes)}, expected a list of whole numbers")
        for given in listed:
            # operator.index also takes elements of tensors, of which equal ones would be different keys of `seen`.
            try:
                label = -1 if isinstance(given, bool) else operator.index(given)
            except (TypeError, RuntimeError):  # a row of a tensor raises RuntimeError
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

        `classes` are whole numbers from 0 to K - 1, as a list, or a tensor or array (B,) of any integer type.
        `sampling` is the name of an entry of the study's samples, or settings in the form of params. `seed` is a whole
        number from 0 to 2^63 - 1. `batch` images are sampled at a time; it does not change the tokens, but pixels may
        differ in their last bits.

        Raises OnetokError for an unknown class, and for a seed, a batch size or settings out of range.
        """
        numbers = self.numbers(classes)
        labels = torch.tensor(numbers, dtype=torch.int64, device=self.device) % self.classes  # (B,)

        def condition_of(part: slice) -> tuple[Tensor, None]:
            return labels[part], None

        return self._sample(numbers, condition_of, sampling, seed, batch)


class CaptionImageGenerator(ImageGenerator):
    """A text-to-image generator, with its text encoder.

    Raises OnetokError if the text encoder's states do not have the shape that the generator was built for.
    """

    def __init__(
        self,
        name: str,
        entry: CaptionEntry,
        model: Generator,
        tokenizer: ImageTokenizer,
        encoder: CLIP,
        study: Study,
    ) -> None:
        super().__init__(name, entry, model, tokenizer, study)
        widths = self.model.text_widths
        assert widths is not None, "a generator of captions takes text states"
        pairs = {
            "states of width": (encoder.text_width, widths.states),
            "a pooled state of width": (encoder.pooled_width, widths.pooled),
            "states in number": (encoder.context_length, widths.length),
        }
        for what, (found, expected) in pairs.items():
            if expected not in (None, found):  # None: the generator takes none of them, or any number
                raise OnetokError(f"{name}: its text encoder gives {what} {found}, expected {expected}")
        self.text = EncodedCaptions(encoder.to(self.device).eval().requires_grad_(False), entry.text_layer)
        self.reads_aesthetic = entry.reads_aesthetic

    def numbers(self, captions: Sequence[str]) -> list[int]:
        """Return the numbers of images of `captions`: the first image of every caption is number 0, its second 1.

        Raises OnetokError for anything but a list of strings.
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

        `captions` is a list of strings; one that exceeds the text encoder's context length is truncated with a warning
        (OnetokWarning). `sampling` is the name of an entry of the study's samples, or settings in the form of params.
        `seed` is a whole number from 0 to 2^63 - 1. `aesthetic` is the aesthetic score to condition on, a finite
        number; None stands for the score of the samples that `sampling` names, and is the only value for a generator
        that is not conditioned on a score. `batch` images are sampled at a time; it does not change ids, but latents
        and pixels may differ in their last bits.

        Raises OnetokError for captions that are not strings, and for a score, a seed, a batch size or settings out of
        range.
        """
        captions = self._captions(captions)
        numbers, score = self.numbers(captions), self.aesthetic(sampling, aesthetic)
        warn_of_truncated_captions(captions, self.context_length)

        def condition_of(part: slice) -> tuple[TextCondition, list[str] | None]:
            texts = captions[part]
            return self.text.of(texts, score), texts if self.tokenizer.takes_text else None

        return self._sample(numbers, condition_of, sampling, seed, batch)

    @property
    def context_length(self) -> int:
        """Token ids of a caption, start- and end-of-text included: the smaller one of generator and tokenizer."""
        encoders = [self.text.encoder, self.tokenizer.text_encoder]
        return min(encoder.context_length for encoder in encoders if encoder is not None)

    def _captions(self, captions: Sequence[str]) -> list[str]:
        return as_captions(captions, "captions", f"a list of captions, which {self.name} takes")

    def aesthetic(self, sampling: SamplingLike, given: float | None = None) -> float | None:
        """Return the aesthetic score to condition on: `given`, or else that of an entry of the study's samples.

        It is None for a generator that is not conditioned on a score. Raises OnetokError as `settings` does, for a
        score that such a generator is given, for a missing score where the generator takes one, and for a score that
        is not a finite number.
        """
        self.settings(sampling)  # checks that params have samples of this name
        if not self.reads_aesthetic:
            if given is not None:
                raise OnetokError(f"aesthetic {given}: {self.name} takes no aesthetic score, expected none")
            return None
        score = given
        if score is None and isinstance(sampling, str) and (entry := self.study.samples[sampling].text):
            score = entry.aesthetic
        if score is None:
            text = f"{self.name} takes an aesthetic score, and these settings have none (text.aesthetic)"
            raise OnetokError(f"aesthetic: {text}, expected one given: aesthetic=, --aesthetic")
        try:
            finite = math.isfinite(score)
        except TypeError:
            finite = False
        if not finite:
            raise OnetokError(f"aesthetic {score}: expected a finite number")
        return score


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

    One image is written to the file `out`, several into the folder `out`, named by class or by the caption's position
    on the command line, and by number. The metadata of each file holds the settings that it was made with. They are
    those of the entry `samples` of the study, or `sampling`, YAML in the form of params.

    Raises OnetokError for arguments out of range, before anything is written.
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
            raise OnetokError(f"--class: {generator} takes captions, expected --prompt")
        prompts = [prompt for prompt in range(len(subjects)) for _ in range(count)]
        names = [f"prompt-{prompt}-{index % count}" for index, prompt in enumerate(prompts)]
        sample: Callable[..., Tensor] = partial(model.generate, aesthetic=aesthetic)
    else:
        if named == "--prompt" or aesthetic is not None:
            found = named if named == "--prompt" else "--aesthetic"
            raise OnetokError(f"{found}: {generator} is class-conditional, expected --class alone")
        names = [f"class-{label}-{index % count}" for index, label in enumerate(labels)]
        sample = model.generate
    paths, numbers = output_paths(names, out), model.numbers(labels)
    # One at a time, so that the bytes of a file do not depend on the others.
    images = to_uint8(sample(labels, sampling=given, seed=seed)).cpu().numpy()
    texts = {"model": generator, "tokenizer": model.tokenizer.name, "seed": str(seed)}
    settings = model.settings(given).model_dump(mode="json")
    texts |= {"sampling": json.dumps(settings, sort_keys=True, ensure_ascii=False)}
    if isinstance(model, CaptionImageGenerator) and (score := model.aesthetic(given, aesthetic)) is not None:
        texts |= {"aesthetic": str(score)}
    files = {}
    for label, number, path, image in zip(labels, numbers, paths, images, strict=True):
        own = {named.strip("-"): str(label), "number": str(number)}
        files[path] = encode_png(image, png_texts(own | texts))
    write_all(files)
    return [
        f"{named.strip('-')} {label!r}: image {number} of seed {seed}, {model.tokens} tokens, {shown_path(path)}"
        for label, number, path in zip(labels, numbers, paths, strict=True)
    ]


def _check_once(named: str, subjects: Sequence[int] | Sequence[str]) -> None:
    for subject, times in Counter(subjects).items():
        if times > 1:
            text = f"{named} {subject!r}: given {times} times; --count {times} makes this many images of each"
            raise OnetokError(f"{text} {named.strip('-')}")


def _read_sampling(text: str | None) -> Mapping[str, Any]:
    content = parse_yaml(text or "", "--sampling")
    if not isinstance(content, dict):
        raise OnetokError(f"--sampling: found {text!r}, expected settings in the form of params")
    return content
