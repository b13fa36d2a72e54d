"""Writes the params of a study of one's own images, and its dvc.yaml."""

from __future__ import annotations

import json
import os
import re
import tempfile
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from onetok import durable
from onetok.errors import OnetokError, shown_path
from onetok.scaffold.recipe import Recipe, recipe
from onetok.scaffold.starts import Starts, find_starts
from onetok.scaffold.survey import Survey, missing_caption, survey
from onetok.store.dvc_yaml import dvc_yaml
from onetok.study.load import load_study

REPOSITORY = Path(__file__).resolve().parents[3]
SIZE = 64  # pixels of a side, where nothing else is said
NAMED = 12  # classes that a comment names


def new_study(
    directory: Path,
    images: Path,
    *,
    captions: bool,
    size: int | None = None,
    start: str | None = None,
    max_bad_share: float | None = None,
) -> list[str]:
    """Write a study of the images of a folder, and return what to tell: what was found, and the commands that follow.

    With `captions`, a generator of captions is trained; else one of classes, where there are two or more; else a
    tokenizer alone. `size` is the side of the images in pixels. With `start`, the tokenizer, or the generator on its
    tokenizer as it is, is fine-tuned from a trained or released one. Nothing is written where something is wrong.

    Raises OnetokError for a study that exists, and for images that do not make one.
    """
    if directory.exists() and any(directory.iterdir()):
        raise OnetokError(f"{directory}: exists and is not empty, expected the name of a new study")
    found = survey(images, max_bad_share)
    if captions and not found.captions:
        first = missing_caption(found.path)
        text = f"expected one beside every image, as {shown_path(first.with_suffix('.txt'))}" if first else ""
        raise OnetokError(f"--captions: {shown_path(found.path)}: not every image has a caption, {text}")
    starts = find_starts(start, REPOSITORY) if start is not None else None
    if starts is not None:
        size = check_start(starts, found, size, captions=captions)
    numbers = recipe(found, size or SIZE)
    files = params_files(directory, found, numbers, captions=captions, starts=starts)
    with tempfile.TemporaryDirectory() as name:  # checked before anything is written
        draft = Path(name)
        for file, content in files.items():
            durable.write_text(_made(draft / file), content)
        study = load_study(draft)
    for file, content in files.items():
        durable.write_text(_made(directory / file), content)
    if found.flat:
        link = _made(directory / "images" / found.classes[0])
        link.symlink_to(found.path)
    durable.write_text(directory / "dvc.yaml", dvc_yaml(study))
    return report(directory, found, captions=captions)


def check_start(starts: Starts, found: Survey, size: int | None, *, captions: bool) -> int:
    """Return the size of the images that a model to start from asks for.

    Raises OnetokError where it does not fit the images or what is asked for.
    """
    if captions:
        raise OnetokError(f"--from: {starts.name} reads no captions, expected no --captions")
    if size not in (None, starts.size):
        raise OnetokError(f"--size: found {size}, but {starts.name} is of {starts.size} px; leave --size out")
    single = len(found.classes) == 1
    if single and starts.generator is not None:
        raise OnetokError(
            f"--from: {starts.name} draws images of classes, but {shown_path(found.path)} has one class"
        )
    if not single and starts.tokenizer.model["quantizer"]["kind"] != "vq":
        raise OnetokError(
            f"--from: {starts.name} has continuous tokens, expected ones of a codebook for MaskGIT"
        )
    return starts.size


def _made(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


# ---------------------------------------------------------------------------------------------- what is written


def params_files(
    directory: Path, found: Survey, numbers: Recipe, *, captions: bool, starts: Starts | None = None
) -> dict[str, str]:
    """Return the params files of a study by their names in it."""
    has_classes = len(found.classes) > 1
    values = _values(directory, found, numbers, captions=captions) | _values_of(starts)
    templates = {
        f"datasets/{values['dataset_family']}": "datasets/images",
        "encoders/classifiers" if has_classes else "encoders/published": None,
        **({"encoders/clip": None} if captions else {}),
        f"tokenizers/{values['tokenizer_family']}": "tokenizers/tokenizer",
        "benchmarks/reconstruction": None,
        "tables/reconstruction": None,
    }
    if captions:
        templates |= dict.fromkeys(("generators/maskgen", "benchmarks/text_to_image", "tables/text_to_image"))
    elif has_classes:
        more = ("generators/maskgit", "benchmarks/class_conditional", "tables/generation")
        templates |= dict.fromkeys(more)
    environment = _environment()
    files = {}
    for file, template in templates.items():
        path = f"params/{file}.yaml"
        text = environment.get_template(f"{template or file}.yaml").render(values)
        schema = os.path.relpath(REPOSITORY / "params/schema.json", (directory / path).absolute().parent)
        files[path] = f"# yaml-language-server: $schema={schema}\n{text}"
    return files


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("onetok.scaffold"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # YAML
    )
    # JSON is YAML.
    environment.filters["quoted"] = environment.filters["flow"] = lambda value: json.dumps(
        value, ensure_ascii=False
    )
    return environment


def _values(directory: Path, found: Survey, numbers: Recipe, *, captions: bool) -> dict[str, Any]:
    """Return what the templates are filled with."""
    has_classes = len(found.classes) > 1
    name = variant_name(directory.absolute().name)
    dataset_family, tokenizer_family = ("captioned", "tatitok") if captions else ("labelled", "titok")
    tokenizer_variant = f"vq-{numbers.tokens}"
    tokenizer = f"{tokenizer_family}/{tokenizer_variant}"
    own = (f"classifiers/{name}", f"classifiers/{name}-second", f"classifiers/{name}")
    published = ("published/inception", "published/convnext-small", "published/convnext-small")
    encoder, second_encoder, perceptual = own if has_classes else published

    def passes(steps: int, batch: int) -> str:
        return f"{steps * batch / found.train:.0f} passes over {found.train} images"

    return {
        "found": found,
        "recipe": numbers,
        "name": name,
        "title": directory.absolute().name,
        "path": "images" if found.flat else str(found.path),
        "classes": found.classes,
        "class_list": class_list(found.classes),
        "has_classes": has_classes,
        "reads_captions": captions,
        "generates": captions or has_classes,
        "size": numbers.size,
        # With captions, left would be right.
        "flip": "false" if captions else "true",
        "dataset_family": dataset_family,
        "dataset": f"{dataset_family}/{name}",
        "encoder": encoder,
        "second_encoder": second_encoder,
        "perceptual": perceptual,
        "perceptual_layer": "maps" if has_classes else "logits",
        "tokenizer_family": tokenizer_family,
        "tokenizer_variant": tokenizer_variant,
        "tokenizer": tokenizer,
        "tokenizers": [
            {"label": f"{'TA-TiTok' if captions else 'TiTok'} VQ, {numbers.tokens} tokens", "name": tokenizer}
        ],
        "generator_variant": "tiny",
        "entries": {} if has_classes else _published_encoders(),
        "passes": passes,
    }


def _values_of(starts: Starts | None) -> dict[str, Any]:
    """Return what the templates are filled with where a model is fine-tuned; None: nothing is."""
    if starts is None:
        return {"starts": None, "tokenizer_start": None, "generator_start": None}
    variant = (
        f"vq-{starts.tokens}"
        if starts.tokenizer.model["quantizer"]["kind"] == "vq"
        else f"kl-{starts.tokens}"
    )
    label = f"TiTok, {starts.tokens} tokens, from {starts.name}"
    return {
        "starts": starts,
        "tokenizer_start": starts.tokenizer,
        "generator_start": starts.generator,
        "tokenizer_variant": variant,
        "tokenizer": f"titok/{variant}",
        "tokenizers": [{"label": label, "name": f"titok/{variant}"}],
    }


def _published_encoders() -> dict[str, Any]:
    """Return the entries of published networks of images, as the repository's own params pin them."""
    encoders = load_study(REPOSITORY).encoders
    names = ("inception", "convnext-small")
    return {name: encoders[f"published/{name}"].model_dump(mode="json") for name in names}


def variant_name(text: str) -> str:
    """Return a name of a variant: lower case letters, digits and hyphens. Raises OnetokError where nothing is left."""
    name = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")
    if not name:
        raise OnetokError(f"{text!r}: expected letters or digits in the name of a study")
    return name


def class_list(classes: tuple[str, ...]) -> str:
    """Return the names of classes for a comment: 0 heron, 1 wren …"""
    shown = ", ".join(f"{label} {shown_path(name)}" for label, name in enumerate(classes[:NAMED]))
    return f"{shown}, …" if len(classes) > NAMED else shown


# ---------------------------------------------------------------------------------------------- what is said


def report(directory: Path, found: Survey, *, captions: bool) -> list[str]:
    """Return the lines that `onetok new` prints."""
    what = "a tokenizer"
    if captions:
        what = "a tokenizer and a generator of captions"
    elif len(found.classes) > 1:
        what = "a tokenizer and a generator of classes"
    skipped = f", {found.skipped} left out" if found.skipped else ""
    at = shown_path(directory)
    lines = [
        f"{found.images} images{skipped}, {found.train} to train on and {found.val} to validate; "
        f"classes: {class_list(found.classes)}",
        f"{at}: params of {what} are written; change what you like in {at}/params, then:",
        f"  onetok make --study {at}",
    ]
    study = load_study(directory)
    for samples, entry in list(study.samples.items())[:1]:
        subject = '--prompt "…"' if captions else "--class 0"
        named = f"--generator {entry.generator} --samples {samples}"
        lines.append(f"  onetok generate --study {at} {named} {subject} --seed 0 --out image.png")
    first = shown_path(found.path / ("" if found.flat else found.classes[0]))
    text = ' --text "…"' if captions else ""
    named = f"--tokenizer {next(iter(study.tokenizers))}{text}"
    lines.append(f"  onetok reconstruct {first}/….jpg --study {at} {named} --out rebuilt.png")
    return lines
