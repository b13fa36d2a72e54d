"""Trained generators of captions, ready to use, and `onetok caption`.

    from onetok import load_captioner

    captioner = load_captioner("flowtok/image-to-text", study="studies/miniature")
    captions = captioner.caption(["scene.png"], captions="flowtok/image-to-text", seed=0)

A caption is a function of the captioner, the sampling settings, the seed and the image, whatever else is captioned in
the same call: each image is number 0 of its own.

Legend: B images · N tokens · C token channels · S side of the images in pixels.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import torch

from onetok.api.inputs import Pictures, as_pixels, as_whole
from onetok.api.tokenizer import ImageTokenizer, load_artefact, load_tokenizer
from onetok.data.captions import captions_of
from onetok.errors import OnetokError, nearest, shown_path
from onetok.nn.protocols import Generator, TextTokenizer
from onetok.sampling.seeds import ImageRandom
from onetok.study.load import as_directory, load_study
from onetok.study.schema.generators import TrainedCaptioner
from onetok.study.schema.sampling import SamplingEntry
from onetok.study.schema.study import Study
from onetok.systems.registry import generator_system


def load_captioner(name: str, device: str = "cpu", *, study: str | Path = ".") -> Captioner:
    """Return a generator of captions with its tokenizers of images and of text, on `device`.

    `name` is a generator family/variant of the study's params whose model is in results/generators. Raises OnetokError
    for an unknown name, for a generator of images, and where a file is missing or does not belong to the params.
    """
    directory = as_directory(study)
    known = load_study(directory)
    captioners = {key: entry for key, entry in known.generators.items() if entry.reads == "images"}
    entry = known.generators.get(name)
    if not isinstance(entry, TrainedCaptioner):
        found = "no generator" if entry is None else "a generator of images"
        raise OnetokError(
            f"{name}: {found} in {directory / 'params'}, expected one of captions; {nearest(name, captioners)}"
        )
    model = load_artefact("generators", name, directory)
    text = load_artefact("text_tokenizers", entry.text_tokenizer, directory)
    assert isinstance(model, Generator) and isinstance(text, TextTokenizer)
    tokenizer = load_tokenizer(entry.tokenizer_name(known), device, study=directory)
    return Captioner(name, model, tokenizer, text, known)


class Captioner:
    """A generator of captions with the tokenizer that encodes images and the one that decodes text tokens."""

    def __init__(
        self, name: str, model: Generator, tokenizer: ImageTokenizer, text: TextTokenizer, study: Study
    ) -> None:
        self.name, self.tokenizer, self.device, self.study = name, tokenizer, tokenizer.device, study
        self.model = model.to(self.device).eval().requires_grad_(False)
        self.text = text.to(self.device).eval().requires_grad_(False)
        self.system = generator_system(model)

    def settings(self, captions: str) -> SamplingEntry:
        """Return the sampling settings of an entry of the study's captions. Raises OnetokError for an unknown name."""
        if captions not in self.study.captions:
            raise OnetokError(f"{captions}: no captions of params ({nearest(captions, self.study.captions)})")
        settings, expected = (
            self.study.captions[captions].sampling,
            self.study.generators[self.name].sampling_kind,
        )
        if settings.kind != expected:
            raise OnetokError(f"sampling is of kind {settings.kind}, but {self.name} needs {expected}")
        return settings

    @torch.no_grad()
    def caption(self, images: Pictures, *, captions: str, seed: int) -> list[str]:
        """Return a caption of each image.

        `images` are what the tokenizer's `encode` takes: a path or another picture, a list of pictures, or pixels
        (B, 3, S, S) in [0, 1]. `captions` is the name of an entry of the study's captions, whose sampling settings are
        taken. `seed` is a whole number from 0 to 2^63 - 1.

        Raises OnetokError for an unreadable image, for pixels of another shape or range, and for a name or a seed that
        cannot be used.
        """
        settings, seed = self.settings(captions), as_whole(seed, "seed", 0)
        pixels = as_pixels(images, self.tokenizer.image_size, self.tokenizer.prepare)  # (B, 3, S, S)
        found: list[str] = []
        for image in pixels:  # one at a time: a caption does not depend on the others
            posterior = self.tokenizer.encode(image[None]).posterior  # (1, N, C)
            assert posterior is not None, "a captioner reads continuous tokens"
            random = ImageRandom(seed, [0], self.device)
            tokens = self.system.sample(self.model, posterior, settings, random)  # (1, N, C)
            found += captions_of(self.text.decode(tokens).cpu())
        return found


# ---------------------------------------------------------------------------------------------- command line


def caption(
    images: Sequence[Path], *, captioner: str, captions: str | None, seed: int, device: str, study: Path
) -> list[str]:
    """Return one line of JSON for each image, with the keys of a study's captions: {"key": file, "caption", "seed"}.

    The settings are those of the entry `captions` of the study; by default, the one with the captioner's name.

    Raises OnetokError for an image or a captioner that cannot be used.
    """
    for image in images:
        if not image.is_file():
            found = "a folder" if image.is_dir() else "no such file"
            raise OnetokError(f"{shown_path(image)}: {found}, expected an image file")
    model = load_captioner(captioner, device, study=study)
    found_captions = model.caption(images, captions=captions or captioner, seed=seed)
    return [
        json.dumps({"key": str(image), "caption": text, "seed": seed}, ensure_ascii=False)
        for image, text in zip(images, found_captions, strict=True)
    ]
