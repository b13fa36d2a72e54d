"""The released layouts of TiTok, and from its released configurations to ours.

A released configuration leaves much to the released code; what it leaves is written down here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from onetok.release.key_map import KeyMap
from onetok.study.schema.architecture import GaussianConfig, QuantizerConfig, VectorQuantizerConfig
from onetok.systems.titok.schema import RELEASED_INIT, SIZES, TiTokConfig, TwoStageConfig
from onetok.systems.vqgan.release import LEVELS
from onetok.systems.vqgan.schema import MASKGIT_VQGAN

VIT = (  # encoder and decoder of every 1D tokenizer
    (r"^quantize\.embedding\.", "quantizer.codebook."),
    (r"^quantize\.embed_prob$", "quantizer.usage"),
    (r"\.transformer\.(\d+)\.", r".blocks.\1."),
    (r"\.attn\.in_proj_", ".attention.qkv."),
    (r"\.attn\.out_proj\.", ".attention.out."),
    (r"\.mlp\.c_fc\.", ".mlp.up."),
    (r"\.mlp\.c_proj\.", ".mlp.down."),
    (r"\.ln_([12])\.", r".norm\1."),
    (r"\.ln_pre\.", ".norm_in."),
    (r"\.ln_post\.", ".norm_out."),
    (r"\.latent_token_positional_embedding$", ".latent_positions"),
    (r"^decoder\.text_guidance_positional_embedding$", "text.positions"),
    (r"^decoder\.text_guidance_proj\.", "text.projection."),
    (r"\.positional_embedding$", ".positions"),
    (r"^encoder\.conv_out\.", "encoder.head."),
    (r"^decoder\.decoder_embed\.", "decoder.embed."),
)

KEYS = KeyMap(
    rename=(
        *VIT,
        (r"^decoder\.ffn\.0\.", "decoder.to_pixels."),
        (r"^decoder\.conv_out\.", "decoder.smooth."),
    ),
    merge=(),
    squeeze=(r"^encoder\.head\.weight$", r"^decoder\.to_pixels\.weight$"),
    select=(),
    unused=(),
)

TWO_STAGE_KEYS = KeyMap(
    rename=(
        *VIT,
        (r"^decoder\.ffn\.(\d)\.", r"decoder.to_codes.\1."),
        (r"^pixel_quantize\.embedding\.", "pixel_codebook."),
        *LEVELS,
    ),
    merge=(),
    squeeze=(r"^encoder\.head\.weight$", r"^decoder\.to_codes\.\d\.weight$"),
    select=(),
    unused=(),
)


def _quantizer(released: Mapping[str, Any]) -> QuantizerConfig:
    if released.get("quantize_mode", "vq") == "vae":
        return GaussianConfig(channels=released["token_size"])
    return VectorQuantizerConfig(
        codebook_size=released["codebook_size"],
        channels=released["token_size"],
        normalize=released["use_l2_norm"],
        commitment=released["commitment_cost"],
        clustering=released.get("clustering_vq", False),
    )


def shared_fields(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of TiTokConfig, which the configurations of its relatives add to."""
    released = config["model"]["vq_model"]
    return {
        "image_size": config["dataset"]["preprocessing"]["crop_size"],
        "encoder": SIZES[released["vit_enc_model_size"]],
        "decoder": SIZES[released["vit_dec_model_size"]],
        "encoder_patch": released["vit_enc_patch_size"],
        "decoder_patch": released["vit_dec_patch_size"],
        "tokens": released["num_latent_tokens"],
        "quantizer": _quantizer(released),
        "init": RELEASED_INIT,
    }


def released_config(config: Mapping[str, Any]) -> TiTokConfig:
    return TiTokConfig(**shared_fields(config))


def released_two_stage_config(config: Mapping[str, Any]) -> TwoStageConfig:
    shared = shared_fields(config)
    return TwoStageConfig(
        **shared,
        stage=2 if config["model"]["vq_model"]["finetune_decoder"] else 1,
        memory="reinterpreted",
        proxy=MASKGIT_VQGAN.replace(image_size=shared["image_size"]),
    )
