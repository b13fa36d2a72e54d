"""Captions: any text as the token ids that CLIP's text tower reads.

    start-of-text  up to T - 2 ids of the text, the rest cut off  end-of-text  0 0 0 …

Legend: b captions · T context length.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

VOCABULARY = 49_408  # of CLIP's byte pairs, the two control tokens included


@lru_cache(maxsize=1)
def _byte_pairs() -> Any:
    from open_clip.tokenizer import SimpleTokenizer  # takes seconds to import: only where captions are read

    return SimpleTokenizer()


@dataclass(frozen=True)
class CaptionTokenizer:
    """Captions → (b, T) int64. Text that spells a control token is dropped: a caption cannot end itself early."""

    context_length: int  # T

    def __call__(self, captions: Sequence[str]) -> Tensor:
        byte_pairs = _byte_pairs()
        start, end = byte_pairs.all_special_ids
        ids = torch.zeros(len(captions), self.context_length, dtype=torch.int64)
        for row, caption in zip(ids, captions, strict=True):
            text = [i for i in byte_pairs.encode(caption) if i not in (start, end)]
            tokens = [start, *text[: self.context_length - 2], end]
            row[: len(tokens)] = torch.tensor(tokens)
        return ids
