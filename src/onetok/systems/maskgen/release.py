"""The released layouts of MaskGen, and from its released configurations to ours."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from onetok.release.key_map import KeyMap
from onetok.study.schema.shapes import RELEASED_TEXT
from onetok.systems.maskgen.schema import MaskGenKLConfig, MaskGenVQConfig, MMDiTConfig

RELEASED_INIT_STD = 0.02
SPARE_ROWS = 1001  # of MaskGen-VQ's embedding: classes once

BLOCKS = (  # of both MaskGens, below `blocks`
    (r"\.norm1\.linear\.", ".image.modulation."),
    (r"\.norm1_context\.linear\.", ".text.modulation."),
    (r"\.attn\.to_([qkv])\.", r".image.\1."),
    (r"\.attn\.add_([qkv])_proj\.", r".text.\1."),
    (r"\.attn\.to_out\.0\.", ".image.out."),
    (r"\.attn\.to_add_out\.", ".text.out."),
    (r"\.ff\.net\.0\.proj\.", ".image.up."),
    (r"\.ff\.net\.2\.", ".image.down."),
    (r"\.ff_context\.net\.0\.proj\.", ".text.up."),
    (r"\.ff_context\.net\.2\.", ".text.down."),
)

BLOCKS_MERGE = tuple(
    (tuple(f".{stream}.{part}.{kind}" for part in "qkv"), f".{stream}.qkv.{kind}")
    for stream in ("image", "text")
    for kind in ("weight", "bias")
)

VQ_KEYS = KeyMap(
    rename=(
        (r"^pos_embed$", "positions"),
        (r"^embeddings\.", "embedding."),
        (r"^text_embed_proj\.", "backbone.text_projection."),
        (r"^cond_pooled_proj\.", "backbone.pooled_projection."),
        (r"^blocks\.", "backbone.blocks."),
        (r"^norm\.linear\.", "backbone.final_modulation."),
        *BLOCKS,
    ),
    merge=BLOCKS_MERGE,
    squeeze=(),
    select=(("positions", 0),),
    unused=(),
    tied=(("lm_head.weight", "embeddings.weight"),),
)

KL_KEYS = KeyMap(
    rename=(
        (r"^decoder_pos_embed_learned$", "positions"),
        (r"^diffusion_pos_embed_learned$", "output_positions"),
        (r"^z_proj\.", "input."),
        (r"^z_proj_ln\.", "norm_in."),
        (r"^text_emb\.", "backbone.text_projection."),
        (r"^text_pooled_emb\.", "backbone.pooled_projection."),
        (r"^decoder_blocks\.", "backbone.blocks."),
        (r"^decoder_norm\.linear\.", "backbone.final_modulation."),
        (r"^diffloss\.net\.", "head."),
        (r"^head\.input_proj\.", "head.input."),
        (r"^head\.time_embed\.mlp\.", "head.time."),
        (r"^head\.cond_embed\.", "head.condition."),
        (r"^head\.res_blocks\.", "head.blocks."),
        (r"^head\.final_layer\.linear\.", "head.output."),
        (r"^head\.final_layer\.adaLN_modulation\.1\.", "head.final_modulation."),
        (r"\.adaLN_modulation\.1\.", ".modulation."),
        (r"\.in_ln\.", ".norm."),
        (r"^head\.(.*)\.mlp\.0\.", r"head.\1.up."),
        (r"^head\.(.*)\.mlp\.2\.", r"head.\1.down."),
        *BLOCKS,
    ),
    merge=BLOCKS_MERGE,
    squeeze=(),
    select=(("positions", 0), ("output_positions", 0), ("mask_token", (0, 0))),
    unused=(),
)


def backbone_config(config: Mapping[str, Any]) -> MMDiTConfig:
    released = config["model"]["maskgen"]
    return MMDiTConfig(
        width=released["decoder_embed_dim"],
        layers=released["decoder_depth"],
        heads=released["decoder_num_heads"],
        text_width=RELEASED_TEXT.width,
        pooled_width=RELEASED_TEXT.pooled_width,
        aesthetic_width=released["micro_condition_embed_dim"],
        checkpointing=False,
    )


def shared_fields(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields that both MaskGens share."""
    return {
        "tokens": config["model"]["vq_model"]["num_latent_tokens"],
        "backbone": backbone_config(config),
        "text_dropout": config["model"]["maskgen"]["text_drop_prob"],
        "init_std": RELEASED_INIT_STD,
    }


def released_vq_config(config: Mapping[str, Any]) -> MaskGenVQConfig:
    return MaskGenVQConfig(
        **shared_fields(config),
        codebook_size=config["model"]["vq_model"]["codebook_size"],
        spare_rows=config["model"]["maskgen"]["condition_num_classes"] + 1,
    )


def released_kl_config(config: Mapping[str, Any]) -> MaskGenKLConfig:
    tokenizer = config["model"]["vq_model"]
    return MaskGenKLConfig(
        **shared_fields(config),
        channels=tokenizer["token_size"],
        scale=tokenizer["scale_factor"],
        head_width=config["losses"]["diffloss_w"],
        head_layers=config["losses"]["diffloss_d"],
    )
