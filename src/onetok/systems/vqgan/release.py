"""The released layout of the MaskGIT-VQGAN."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from onetok.errors import OnetokError
from onetok.release.key_map import KeyMap
from onetok.systems.vqgan.schema import MASKGIT_VQGAN, VQGANConfig

LEVELS = (
    (r"\.(?:down|up)\.(\d+)\.block\.(\d+)\.", r".levels.\1.blocks.\2."),
    (r"\.up\.(\d+)\.upsample_conv\.", r".levels.\1.grow."),
    (r"\.mid\.(\d+)\.", r".middle.\1."),
    (r"\.nin_shortcut\.", ".shortcut."),
)

KEYS = KeyMap(
    rename=((r"^quantize\.embedding\.", "quantizer.codebook."), *LEVELS),
    merge=(),
    squeeze=(),
    select=(),
    unused=(),
)


def released_config(config: Mapping[str, Any]) -> VQGANConfig:
    """Return our configuration; the release has none.

    Raises OnetokError for one that somebody wrote.
    """
    if config:
        raise OnetokError(f"maskgit_vqgan is published without a configuration, found {', '.join(config)}")
    return MASKGIT_VQGAN
