"""The released layouts of FlowTok and of its image tokenizer, and from their released configurations to ours."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from onetok.release.key_map import KeyMap
from onetok.study.schema.architecture import GaussianConfig, TransformerSize
from onetok.study.schema.shapes import RELEASED_TEXT
from onetok.systems.flowtok.schema import RELEASED_TRAINING, FlowTiTokConfig, FlowTokConfig, ProjectorSettings
from onetok.systems.titok.release import VIT
from onetok.systems.titok.schema import RELEASED_INIT, SIZES

RELEASED_SCALE = 1.0143  # factor on the latents, in the configuration of the tokenizer alone
RELEASED_DECODER: dict[str, Any] = {"text_states": RELEASED_TEXT.length, "text_width": RELEASED_TEXT.width}

TOKENIZER_KEYS = KeyMap(
    rename=(
        *VIT,
        (r"\.attn\.qkv\.", ".attention.qkv."),
        (r"\.attn\.proj\.", ".attention.out."),
        (r"\.mlp\.w12\.", ".mlp.up."),
        (r"\.mlp\.w3\.", ".mlp.down."),
        (r"^decoder\.ffn\.0\.", "decoder.to_pixels."),
        (r"^decoder\.conv_out\.", "decoder.smooth."),
    ),
    merge=(),
    squeeze=(r"^encoder\.head\.weight$", r"^decoder\.to_pixels\.weight$"),
    select=(),
    unused=(r"\.positional_embedding\.freqs_(cos|sin)$",),  # computed from the size of the grid
)

KEYS = KeyMap(
    rename=(
        (r"^x_embedder\.", "input."),
        (r"^t_embedder\.mlp\.", "time."),
        (r"^y_embedder\.embedding_table\.", "indicator."),
        (r"^t2t_temperature$", "log_scale"),
        (r"^context_projector\.", "alignment."),
        (r"^context_encoder\.linear\.", "projector.head."),
        (r"^context_encoder\.layers\.", "projector.blocks."),
        (r"\.attn\.W_([QKVO])\.", r".attention.\1."),
        (r"\.attention\.O\.", ".attention.out."),
        (r"\.feed_forward\.ffn_1\.", ".up."),
        (r"\.feed_forward\.ffn_2\.", ".down."),
        (r"\.(norm[12])\.g$", r".\1.weight"),
        (r"\.(norm[12])\.b$", r".\1.bias"),
        (r"\.attn\.qkv\.", ".attention.qkv."),
        (r"\.attn\.proj\.", ".attention.out."),
        (r"\.mlp\.fc1\.", ".up."),
        (r"\.mlp\.fc2\.", ".down."),
        (r"^final_layer\.linear\.", "output."),
        (r"^final_layer\.adaLN_modulation\.1\.", "final_modulation."),
        (r"\.adaLN_modulation\.1\.", ".modulation."),
    ),
    merge=tuple(
        (tuple(f".attention.{part}.{kind}" for part in "QKV"), f".attention.qkv.{kind}")
        for kind in ("weight", "bias")
    ),
    squeeze=(),
    select=(),
    unused=(r"^pos_embed$",),  # the fixed position table, which the model computes
)


def released_tokenizer_config(config: Mapping[str, Any]) -> FlowTiTokConfig:
    released = config["vq_model"]
    return FlowTiTokConfig(
        image_size=config["dataset"]["crop_size"],
        encoder=SIZES[released["vit_enc_model_size"]],
        decoder=SIZES[released["vit_dec_model_size"]],
        encoder_patch=released["vit_enc_patch_size"],
        decoder_patch=released["vit_dec_patch_size"],
        tokens=released["num_latent_tokens"],
        quantizer=GaussianConfig(channels=released["token_size"]),
        init=RELEASED_INIT,
        **RELEASED_DECODER,
    )


def released_config(config: Mapping[str, Any]) -> FlowTokConfig:
    projector = config["textVAE"]
    return FlowTokConfig.of(
        RELEASED_TRAINING,
        size=TransformerSize(width=config["hidden_size"], layers=config["depth"], heads=config["num_heads"]),
        projector=ProjectorSettings(
            layers=projector["num_blocks"],
            heads=projector["num_attention_heads"],
            hidden=projector["hidden_dim"],
            dropout=projector["dropout_prob"],
        ),
        tokens=config.get("num_latent_tokens", RELEASED_TEXT.length),
        channels=config["channels"],
        text_width=config["clip_dim"],
        scale=RELEASED_SCALE,
    )
