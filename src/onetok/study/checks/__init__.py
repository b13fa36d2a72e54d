"""Values of params that are fine alone and cannot hold together: checked before anything runs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from onetok.errors import OnetokError
from onetok.study.checks.benchmarks import (
    check_benchmark,
    check_figure,
    check_speed,
    check_spread,
    check_table,
)
from onetok.study.checks.datasets import check_dataset
from onetok.study.checks.encoders import check_encoder
from onetok.study.checks.generators import check_generated_captions, check_generator, check_samples
from onetok.study.checks.tokenizers import check_text_tokenizer, check_tokenizer, check_tokens
from onetok.study.schema.study import Study


def inconsistencies(study: Study) -> Iterator[tuple[str, str, str]]:
    """Yield (kind, name, what is wrong)."""
    for kind, check in CHECKS.items():
        for name, entry in getattr(study, kind).items():
            try:
                for text in check(study, entry):
                    yield kind, name, text
            except OnetokError as error:  # nothing further can be said of this entry
                yield kind, name, str(error)


CHECKS: dict[str, Any] = {
    "datasets": check_dataset,
    "encoders": check_encoder,
    "tokenizers": check_tokenizer,
    "text_tokenizers": check_text_tokenizer,
    "tokens": check_tokens,
    "generators": check_generator,
    "samples": check_samples,
    "captions": check_generated_captions,
    "benchmarks": check_benchmark,
    "tables": check_table,
    "speeds": check_speed,
    "figures": check_figure,
    "spreads": check_spread,
}
