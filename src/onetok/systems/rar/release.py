"""The released layout of RAR, and from its released configuration to ours."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from onetok.release.class_generators import class_fields
from onetok.release.key_map import KeyMap
from onetok.systems.rar.schema import RARConfig

KEYS = KeyMap(
    rename=(
        (r"^embeddings\.", "embedding."),
        (r"^cls_token$", "start"),
        (r"^pos_embed$", "positions"),
        (r"^target_aware_pos_embed$", "target_positions"),
        (r"^timesteps_embeddings$", "timesteps"),
        (r"^adaln_before_head\.adaLN_modulation\.1\.", "final_modulation."),
        (r"\.adaLN_modulation\.1\.", ".modulation."),
        (r"\.attn\.qkv\.", ".attention.qkv."),
        (r"\.attn\.([qk])_norm\.", r".attention.norm_\1."),
        (r"\.attn\.proj\.", ".attention.out."),
        (r"\.mlp\.fc1\.", ".up."),
        (r"\.mlp\.fc2\.", ".down."),
        (r"^lm_head\.", "head."),
    ),
    merge=(),
    squeeze=(),
    select=tuple((table, 0) for table in ("start", "positions", "target_positions", "timesteps")),
    unused=(),
)


def released_config(config: Mapping[str, Any]) -> RARConfig:
    return RARConfig(**class_fields(config), checkpointing=False)  # a setting of training, not of the model
