"""Captions as sequences of token ids, the input of CLIP's text encoder.

    start-of-text  the first T - 2 ids of the text at most  end-of-text  0 0 0 …

Legend: b captions · T context length.
"""

from __future__ import annotations

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
from onetok.progress import is_first_process

VOCABULARY = 49_408  # ids of CLIP's byte-pair encoding, start-of-text and end-of-text included
LOOKED_AT = 10_000  # captions of a dataset whose length is checked: a million would take minutes


@lru_cache(maxsize=1)
def _byte_pairs() -> Any:
    from open_clip.tokenizer import SimpleTokenizer  # takes seconds to import, so only when it is needed

    return SimpleTokenizer()


@dataclass(frozen=True)
class CaptionTokenizer:
    """b captions → token ids (b, T) int64.

    The text of start-of-text or end-of-text inside a caption is dropped, so that no caption ends early.
    """

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
        """Return how many ids of a caption fit, start-of-text and end-of-text not counted."""
        return self.context_length - 2


def captions_of(ids: Tensor) -> list[str]:
    """Return the captions (b,) that token ids (b, T) int64 stand for: what is before the first end-of-text.

    It is the reverse of CaptionTokenizer, but for case and spaces, which the byte-pair encoding does not keep.
    """
    start, end = _byte_pairs().all_special_ids
    captions = []
    for row in ids.tolist():
        text = row[: row.index(end)] if end in row else row
        captions.append(_byte_pairs().decode([i for i in text if i != start]).strip())
    return captions


def _ids(caption: str) -> list[int]:
    byte_pairs = _byte_pairs()
    return [i for i in byte_pairs.encode(caption) if i not in byte_pairs.all_special_ids]


def warn_of_truncated_captions(captions: Sequence[str], context_length: int) -> None:
    """Warn of each caption that exceeds a text encoder's context length, because its end has no effect on the image."""
    room = CaptionTokenizer(context_length).room
    for caption in dict.fromkeys(captions):
        if (tokens := len(_ids(caption))) > room:
            text = (
                f"the last {tokens - room} of its {tokens} tokens are cut off, the text encoder takes {room}"
            )
            warnings.warn(f"caption {_beginning(caption)}: {text}", OnetokWarning, stacklevel=3)


def report_truncated_captions(what: str, captions: Iterable[str], context_length: int) -> None:
    """Print to stderr how many captions exceed a text encoder's context length, of at most the first 10,000.

    Prints nothing if there is none; `what` names the stage and variant. Of several processes, rank 0 prints.
    """
    room, looked_at, cut = CaptionTokenizer(context_length).room, 0, []
    for caption in islice(captions, LOOKED_AT):
        looked_at += 1
        if len(_ids(caption)) > room:
            cut.append(caption)
    if cut and is_first_process():
        found = f"{len(cut):,} of {'the first ' if looked_at == LOOKED_AT else ''}{looked_at:,} captions"
        text = f"are longer than the {room} tokens that the text encoder takes and are truncated"
        print(f"warning: {what}: {found} {text}, the first {_beginning(cut[0])}", file=sys.stderr, flush=True)


def _beginning(caption: str) -> str:
    return repr(caption if len(caption) <= 40 else f"{caption[:40]}…")
