"""The released layouts of MaskGIT's two backbones, and from released configurations to ours."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from onetok.release.class_generators import class_fields
from onetok.release.key_map import KeyMap
from onetok.systems.maskgit.schema import MaskGITConfig, UViTConfig

VIT_KEYS = KeyMap(
    rename=(
        (r"^model\.embeddings\.word_embeddings\.weight$", "word_embedding.weight"),
        (r"^model\.embeddings\.position_embeddings\.weight$", "positions"),
        (r"^model\.embeddings\.token_type_embeddings\.weight$", "token_type"),
        (r"^model\.embeddings\.LayerNorm\.", "norm_in."),
        (r"^model\.encoder\.layer\.(\d+)\.", r"blocks.\1."),
        (r"\.attention\.self\.(query|key|value)\.", r".attention.\1."),
        (r"\.attention\.output\.dense\.", ".attention.out."),
        (r"\.attention\.output\.LayerNorm\.", ".norm1."),
        (r"\.intermediate\.dense\.", ".mlp.up."),
        (r"\.output\.dense\.", ".mlp.down."),
        (r"\.output\.LayerNorm\.", ".norm2."),
        (r"^model\.lm_head\.", "head."),
    ),
    merge=tuple(
        (tuple(f".attention.{part}.{kind}" for part in ("query", "key", "value")), f".attention.qkv.{kind}")
        for kind in ("weight", "bias")
    ),
    squeeze=(),
    select=(("token_type", 0),),
    unused=(),
)

UVIT_KEYS = KeyMap(
    rename=(
        (r"^pos_embed$", "positions"),
        (r"^embeddings\.", "embedding."),
        (r"^in_blocks\.", "down."),
        (r"^mid_block\.", "middle."),
        (r"^out_blocks\.", "up."),
        (r"\.attn\.qkv\.", ".attention.qkv."),
        (r"\.attn\.proj\.", ".attention.out."),
        (r"\.mlp\.fc1\.", ".mlp.up."),
        (r"\.mlp\.fc2\.", ".mlp.down."),
        (r"\.skip_linear\.", ".skip."),
        (r"^norm\.", "norm_out."),
        (r"^lm_head\.", "head."),
    ),
    merge=(),
    squeeze=(),
    select=(("positions", 0),),
    unused=(),
)


def released_config(config: Mapping[str, Any]) -> MaskGITConfig:
    return MaskGITConfig(**class_fields(config))


def released_uvit_config(config: Mapping[str, Any]) -> UViTConfig:
    """Without the dropout that the configuration names: the released code builds the U-ViT's blocks with 0."""
    return UViTConfig(**{**class_fields(config), "dropout": 0.0, "attention_dropout": 0.0})
