"""Names of ImageNet's classes for captions, from libraries that ship them."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from onetok.errors import OnetokError

CLASSES = 1000


def imagenet_names(
    folders: Sequence[str], form: Literal["imagenet", "imagenet-synonyms"], source: Path
) -> list[str]:
    """Return the name of each class of ImageNet-1K, given its sorted class folders in the folder `source`.

    Form `imagenet` is one curated name for each class ("tench"), as open_clip lists them for zero-shot CLIP;
    `imagenet-synonyms` all words of its WordNet entry ("tench, Tinca tinca"), as in ILSVRC 2012.

    Raises OnetokError unless there are 1000 folders and, for synonyms, unless every folder is a WordNet id.
    """
    if len(folders) != CLASSES:
        raise OnetokError(f"{source}: {len(folders)} class sub-folders, class_names {form} needs {CLASSES}")
    if form == "imagenet":
        from open_clip import IMAGENET_CLASSNAMES  # takes seconds to import, so only when it is needed

        return list(IMAGENET_CLASSNAMES)
    synonyms = wordnet_synonyms()
    for folder in folders:
        if folder not in synonyms:
            expected = "expected an ImageNet id such as n01440764 (class_names imagenet-synonyms)"
            raise OnetokError(f"{source}: found a class sub-folder {folder!r}, {expected}")
    return [synonyms[folder] for folder in folders]


def wordnet_synonyms() -> dict[str, str]:
    """Return the words of each WordNet entry of ImageNet by its id, "n01440764" → "tench, Tinca tinca", from timm."""
    package = find_spec("timm")  # finds timm's folder without importing it, which takes seconds
    assert package is not None and package.origin is not None
    path = Path(package.origin).parent / "data/_info/imagenet_synset_to_lemma.txt"
    lines = path.read_text(encoding="utf-8").splitlines()
    return dict(line.split("\t", 1) for line in lines if line)
