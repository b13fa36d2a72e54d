"""From released configurations of TA-TiTok to ours. The released layout is TiTok's (systems/titok/release.py)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from onetok.study.schema.shapes import RELEASED_TEXT
from onetok.systems.tatitok.schema import TATiTokConfig
from onetok.systems.titok.release import shared_fields

RELEASED_DECODER: dict[str, Any] = {
    "text_states": RELEASED_TEXT.length,
    "text_width": RELEASED_TEXT.width,
    "decoder_linear": "torch",
}


def released_config(config: Mapping[str, Any]) -> TATiTokConfig:
    return TATiTokConfig(**shared_fields(config), **RELEASED_DECODER)
