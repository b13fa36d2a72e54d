"""What ImageNet's classes are called in captions, from libraries that ship the names."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from onetok.errors import OnetokError

CLASSES = 1000


def imagenet_names(
    folders: Sequence[str], form: Literal["imagenet", "imagenet-synonyms"], place: Path
) -> list[str]:
    """Return the name of each class, given its sorted folders; `place` is for messages.

    `imagenet` is one curated name a class ("tench"), as open_clip lists them for CLIP; `imagenet-synonyms` all words of
    its WordNet entry ("tench, Tinca tinca"), as ILSVRC 2012 names it.

    Raises OnetokError for another number of classes, and where synonyms are looked up for a folder that is no id.
    """
    if len(folders) != CLASSES:
        raise OnetokError(f"{place}: {len(folders)} class sub-folders, class_names {form} needs {CLASSES}")
    if form == "imagenet":
        from open_clip import IMAGENET_CLASSNAMES  # takes seconds to import: only where it is read

        return list(IMAGENET_CLASSNAMES)
    synonyms = wordnet_synonyms()
    for folder in folders:
        if folder not in synonyms:
            expected = "expected an ImageNet id such as n01440764 (class_names imagenet-synonyms)"
            raise OnetokError(f"{place}: found a class sub-folder {folder!r}, {expected}")
    return [synonyms[folder] for folder in folders]


def wordnet_synonyms() -> dict[str, str]:
    """Return all words of each of ImageNet's entries of WordNet, by its id, as timm ships them."""
    package = find_spec("timm")  # timm itself takes seconds to import
    assert package is not None and package.origin is not None
    path = Path(package.origin).parent / "data/_info/imagenet_synset_to_lemma.txt"
    lines = path.read_text(encoding="utf-8").splitlines()
    return dict(line.split("\t", 1) for line in lines if line)
