"""Captions: any text as the token ids that CLIP's text tower reads.

    start-of-text  up to T - 2 ids of the text, the rest cut off  end-of-text  0 0 0 …

Legend: b captions · T context length.
"""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from typing import Any

import torch
from torch import Tensor

from onetok.errors import OnetokWarning

VOCABULARY = 49_408  # of CLIP's byte pairs, the two control tokens included
LOOKED_AT = 10_000  # captions of a data set that are counted: a million take minutes


@lru_cache(maxsize=1)
def _byte_pairs() -> Any:
    from open_clip.tokenizer import SimpleTokenizer  # takes seconds to import: only where captions are read

    return SimpleTokenizer()


@dataclass(frozen=True)
class CaptionTokenizer:
    """Captions → (b, T) int64. Text that spells a control token is dropped: a caption cannot end itself early."""

    context_length: int  # T

    def __call__(self, captions: Sequence[str]) -> Tensor:
        start, end = _byte_pairs().all_special_ids
        ids = torch.zeros(len(captions), self.context_length, dtype=torch.int64)
        for row, caption in zip(ids, captions, strict=True):
            tokens = [start, *_ids(caption)[: self.room], end]
            row[: len(tokens)] = torch.tensor(tokens)
        return ids

    @property
    def room(self) -> int:
        """Return how many ids of a caption are read, its two ends not counted."""
        return self.context_length - 2


def _ids(caption: str) -> list[int]:
    byte_pairs = _byte_pairs()
    return [i for i in byte_pairs.encode(caption) if i not in byte_pairs.all_special_ids]


def warn_of_cuts(captions: Sequence[str], context_length: int) -> None:
    """Warn of each caption that is longer than a text encoder reads: two that begin alike would be one."""
    room = CaptionTokenizer(context_length).room
    for caption in dict.fromkeys(captions):
        if (tokens := len(_ids(caption))) > room:
            text = (
                f"the last {tokens - room} of its {tokens} tokens are cut off, the text encoder reads {room}"
            )
            warnings.warn(f"caption {_beginning(caption)}: {text}", OnetokWarning, stacklevel=3)


def say_cuts(what: str, captions: Iterable[str], context_length: int) -> None:
    """Say on stderr how many captions are longer than a text encoder reads, of at most the first 10,000."""
    room, looked_at, cut = CaptionTokenizer(context_length).room, 0, []
    for caption in islice(captions, LOOKED_AT):
        looked_at += 1
        if len(_ids(caption)) > room:
            cut.append(caption)
    if cut and os.environ.get("RANK", "0") == "0":  # of several processes one speaks
        found = f"{len(cut):,} of {'the first ' if looked_at == LOOKED_AT else ''}{looked_at:,} captions"
        text = f"are longer than the {room} tokens that the text encoder reads and are cut off there"
        print(f"warning: {what}: {found} {text}, the first {_beginning(cut[0])}", file=sys.stderr, flush=True)


def _beginning(caption: str) -> str:
    return repr(caption if len(caption) <= 40 else f"{caption[:40]}…")
