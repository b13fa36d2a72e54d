"""How much generated captions have in common with reference captions: BLEU-4, ROUGE-L, CIDEr-D, METEOR and SPICE.

All are those of pycocoevalcap, which has the code of the COCO caption evaluation. That code splits captions into words
by a program in Java; here they are split by a regular expression instead, so that scores need no Java. METEOR and SPICE
are programs in Java themselves.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from importlib import import_module
from typing import Any

from onetok.errors import OnetokError
from onetok.study.metric_names import JAVA

# Of each metric: module of pycocoevalcap, class, its arguments, and which of the scores that it returns.
_SCORERS: dict[str, tuple[str, str, tuple[int, ...]]] = {
    "bleu_4": ("bleu.bleu", "Bleu", (4,)),
    "rouge_l": ("rouge.rouge", "Rouge", ()),
    "cider_d": ("cider.cider", "Cider", ()),
    "meteor": ("meteor.meteor", "Meteor", ()),
    "spice": ("spice.spice", "Spice", ()),
}


def words(caption: str) -> str:
    """Return a caption's words in lower case, separated by spaces, without punctuation."""
    return " ".join(re.findall(r"[a-z0-9]+(?:'[a-z]+)?", caption.lower()))


def overlap_scores(
    captions: Sequence[str], references: Sequence[Sequence[str]], *, java: bool
) -> dict[str, float | None]:
    """Return the scores of captions in percent, given the reference captions of each.

    METEOR and SPICE are None unless they are asked for by `java` and Java is installed. Raises OnetokError where
    pycocoevalcap is not installed.
    """
    found = {i: [words(caption)] for i, caption in enumerate(captions)}
    expected = {i: [words(caption) for caption in several] for i, several in enumerate(references)}
    able = java and shutil.which("java") is not None
    return {
        metric: 100 * _score(metric, expected, found) if able or metric not in JAVA else None
        for metric in _SCORERS
    }


def _score(metric: str, expected: dict[int, list[str]], found: dict[int, list[str]]) -> float:
    module, name, arguments = _SCORERS[metric]
    try:
        scorer: Any = getattr(import_module(f"pycocoevalcap.{module}"), name)(*arguments)
    except ImportError:
        text = "pycocoevalcap is not installed, which scores captions; pip install 'onetok[captions]'"
        raise OnetokError(text) from None
    score = scorer.compute_score(expected, found, **({"verbose": 0} if metric == "bleu_4" else {}))[0]
    return float(score[-1] if isinstance(score, list) else score)
