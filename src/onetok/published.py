"""Published models: from params or from a released configuration to ours, by system (pretrained.KEY_MAPS).

A released configuration leaves much to the released code; what it leaves is written down here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from inspect import signature
from pathlib import Path
from typing import Any, NamedTuple

from torch import nn

from onetok import params
from onetok.configs import PUBLISHED_INIT, titok_fields, vqgan_config
from onetok.derived import PUBLISHED_TEXT, TokenShape
from onetok.errors import OnetokError, nearest
from onetok.models.maskgen_kl import MaskGenKL, MaskGenKLConfig
from onetok.models.maskgen_vq import MaskGenVQ, MaskGenVQConfig
from onetok.models.maskgit import MaskGIT, MaskGITConfig
from onetok.models.maskgit_uvit import MaskGITUViT
from onetok.models.mmdit import MMDiTConfig
from onetok.models.quantizers import GaussianConfig, QuantizerConfig, VectorQuantizerConfig
from onetok.models.rar import RAR, RARConfig
from onetok.models.tatitok import TATiTok, TATiTokConfig
from onetok.models.text_encoder import CLIPConfig
from onetok.models.titok import SIZES, TiTok, TiTokConfig
from onetok.models.titok_two_stage import TiTokTwoStage, TwoStageConfig
from onetok.models.vqgan import MASKGIT_VQGAN, VQGAN, VQGANConfig
from onetok.pretrained import fetch, from_published, load_strictly, read_tensors

PUBLISHED_INIT_STD = 0.02
RELEASED_TATITOK: dict[str, Any] = {
    "text_states": PUBLISHED_TEXT.length,
    "text_width": PUBLISHED_TEXT.width,
    "decoder_linear": "torch",
}
SPARE_ROWS = 1001  # of MaskGen-VQ's embedding: classes once


class System(NamedTuple):
    model: type[nn.Module]
    config: Callable[[Mapping[str, Any]], Any]  # released configuration → ours


def config_from_published(system: str, config: Mapping[str, Any]) -> Any:
    """Return the config of ours that a released configuration stands for."""
    return _system(system).config(config)


def model_from_published(system: str, config: Mapping[str, Any]) -> nn.Module:
    """Return the model of a released configuration, its weights still to be loaded."""
    return _system(system).model(config_from_published(system, config))


def _system(name: str) -> System:
    if name not in SYSTEMS:
        raise OnetokError(f"no published system {name!r}, known: {', '.join(sorted(SYSTEMS))}")
    return SYSTEMS[name]


# ---------------------------------------------------------------------------------------------- from params

Entry = params.PublishedVQGAN | params.PublishedTiTok | params.PublishedTATiTok
GeneratorEntry = (
    params.PublishedMaskGITViT
    | params.PublishedMaskGITUViT
    | params.PublishedRAR
    | params.PublishedMaskGenVQ
    | params.PublishedMaskGenKL
)


def published_system(entry: Entry | GeneratorEntry) -> str:
    """Return the system whose released layout an entry's file has."""
    match entry:
        case params.PublishedVQGAN():
            return "maskgit_vqgan"
        case params.PublishedMaskGITViT():
            return "maskgit_vit"
        case params.PublishedMaskGITUViT():
            return "maskgit_uvit"
        case params.PublishedRAR():
            return "rar"
        case params.PublishedMaskGenVQ():
            return "maskgen_vq"
        case params.PublishedMaskGenKL():
            return "maskgen_kl"
    quantizer = entry.model.quantizer.kind
    if isinstance(entry, params.PublishedTATiTok):
        return f"tatitok_{quantizer}"
    if entry.stages == 2:
        return "titok_vq_two_stage"
    return "titok_kl" if quantizer == "kl" else "titok_vq_single_stage"


def build_published(entry: Entry) -> nn.Module:
    """Return the model of a published tokenizer, its weights still to be loaded."""
    size = entry.images.size
    if isinstance(entry, params.PublishedVQGAN):
        return VQGAN(vqgan_config(entry.model, size))
    if isinstance(entry, params.PublishedTATiTok):
        return TATiTok(TATiTokConfig(**titok_fields(entry.model, size), **RELEASED_TATITOK))
    return titok_as_published(entry.model, size, entry.stages)


def titok_as_published(model: params.PublishedModel, size: int, stages: int) -> TiTok:
    """Return a TiTok of the released form, trained in one stage or two."""
    fields = titok_fields(model, size)
    if stages == 2:
        proxy = replace(MASKGIT_VQGAN, image_size=size)
        return TiTokTwoStage(TwoStageConfig(**fields, stage=2, memory="reinterpreted", proxy=proxy))
    return TiTok(TiTokConfig(**fields))


def load_published(entry: Entry) -> nn.Module:
    """Return the model of a published tokenizer with its weights, in evaluation mode.

    Raises OnetokError where the file is not pinned, cannot be had, or does not fit.
    """
    path = fetch(entry.weights)
    return _filled(build_published(entry), entry, path)


def build_published_generator(
    entry: GeneratorEntry | params.UnreleasedGenerator, shape: TokenShape
) -> nn.Module:
    """Return the model of a published generator of tokens of a shape, without its weights."""
    match entry:
        case params.PublishedMaskGenVQ():
            assert shape.codebook_size is not None
            return MaskGenVQ(
                MaskGenVQConfig(
                    **_text_fields(entry, shape), codebook_size=shape.codebook_size, spare_rows=SPARE_ROWS
                )
            )
        case params.PublishedMaskGenKL():
            head = entry.model.head
            config = MaskGenKLConfig(
                **_text_fields(entry, shape),
                channels=shape.channels,
                scale=entry.model.scale,
                head_width=head.width,
                head_layers=head.layers,
            )
            return MaskGenKL(config)
    fields: dict[str, Any] = {
        "codebook_size": shape.codebook_size,
        "tokens": shape.length,
        "classes": entry.classes,
        **entry.model.model_dump(),
        "init_std": PUBLISHED_INIT_STD,
    }
    if isinstance(entry, params.PublishedRAR):
        return RAR(RARConfig(**fields, checkpointing=False))
    maskgit = MaskGITUViT if isinstance(entry, params.PublishedMaskGITUViT) else MaskGIT
    return maskgit(MaskGITConfig(**fields))


def _text_fields(
    entry: params.PublishedMaskGenVQ | params.PublishedMaskGenKL, shape: TokenShape
) -> dict[str, Any]:
    """Return the fields that both MaskGens share."""
    backbone = MMDiTConfig(
        width=entry.model.width,
        layers=entry.model.layers,
        heads=entry.model.heads,
        text_width=PUBLISHED_TEXT.width,
        pooled_width=PUBLISHED_TEXT.pooled_width,
        aesthetic_width=entry.model.aesthetic_width,
        checkpointing=False,
    )
    dropout = entry.model.text_dropout
    return {
        "tokens": shape.length,
        "backbone": backbone,
        "text_dropout": dropout,
        "init_std": PUBLISHED_INIT_STD,
    }


def load_published_generator(entry: GeneratorEntry, shape: TokenShape) -> nn.Module:
    """Return the model of a published generator with its weights, in evaluation mode.

    Raises OnetokError where the file is not pinned, cannot be had, or does not fit.
    """
    path = fetch(entry.weights)
    return _filled(build_published_generator(entry, shape), entry, path)


def _filled(model: nn.Module, entry: Entry | GeneratorEntry, path: Path) -> nn.Module:
    load_strictly(model, from_published(published_system(entry), read_tensors(path)), str(path))
    return model.eval()


# ---------------------------------------------------------------------------------------------- text encoders

_TOP = {"embed_dim", "quick_gelu", "vision_cfg", "text_cfg"}
_VISION = {"image_size", "patch_size", "width", "layers", "head_width"}
_TEXT = {"context_length", "vocab_size", "width", "layers", "heads"}


def clip_config(architecture: str) -> CLIPConfig:
    """Return the config of an architecture that open_clip lists.

    Raises OnetokError for a name that it does not list, and for towers with more than the original CLIP's.
    """
    import open_clip  # takes seconds to import: only where it is asked
    from open_clip import CLIPTextCfg, CLIPVisionCfg

    known = open_clip.list_models()
    if architecture not in known:  # of other names open_clip would ask the Hub
        raise OnetokError(
            f"architecture: open_clip has none named {architecture!r}; {nearest(architecture, known)}"
        )
    released = open_clip.get_model_config(architecture)
    towers = released["vision_cfg"].keys() <= _VISION and released["text_cfg"].keys() <= _TEXT
    if not (towers and released.keys() <= _TOP) or isinstance(released["vision_cfg"]["layers"], list):
        raise OnetokError(f"architecture: {architecture!r} is not the original CLIP's pair of transformers")
    # What an architecture leaves out, open_clip's own classes say.
    vision, text = CLIPVisionCfg(**released["vision_cfg"]), CLIPTextCfg(**released["text_cfg"])
    quick_gelu = signature(open_clip.CLIP).parameters["quick_gelu"].default
    return CLIPConfig(
        image_size=vision.image_size,
        patch_size=vision.patch_size,
        vision_width=vision.width,
        vision_layers=vision.layers,
        vision_head_width=vision.head_width,
        context_length=text.context_length,
        vocab_size=text.vocab_size,
        text_width=text.width,
        text_layers=text.layers,
        text_heads=text.heads,
        embedding=released["embed_dim"],
        quick_gelu=released.get("quick_gelu", quick_gelu),
    )


# ---------------------------------------------------------------------------------------------- from a release


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


def _shared(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of TiTokConfig."""
    released = config["model"]["vq_model"]
    return {
        "image_size": config["dataset"]["preprocessing"]["crop_size"],
        "encoder": SIZES[released["vit_enc_model_size"]],
        "decoder": SIZES[released["vit_dec_model_size"]],
        "encoder_patch": released["vit_enc_patch_size"],
        "decoder_patch": released["vit_dec_patch_size"],
        "tokens": released["num_latent_tokens"],
        "quantizer": _quantizer(released),
        "init": PUBLISHED_INIT,
    }


def _titok(config: Mapping[str, Any]) -> TiTokConfig:
    return TiTokConfig(**_shared(config))


def _titok_two_stage(config: Mapping[str, Any]) -> TwoStageConfig:
    shared = _shared(config)
    return TwoStageConfig(
        **shared,
        stage=2 if config["model"]["vq_model"]["finetune_decoder"] else 1,
        memory="reinterpreted",
        proxy=replace(MASKGIT_VQGAN, image_size=shared["image_size"]),
    )


def _tatitok(config: Mapping[str, Any]) -> TATiTokConfig:
    return TATiTokConfig(**_shared(config), **RELEASED_TATITOK)


def _maskgit_vqgan(config: Mapping[str, Any]) -> VQGANConfig:
    if config:
        raise OnetokError(f"maskgit_vqgan is published without a configuration, found {', '.join(config)}")
    return MASKGIT_VQGAN


def _generator(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields that all class-conditional generators share."""
    released = config["model"]["generator"]
    return {
        "codebook_size": config["model"]["vq_model"]["codebook_size"],
        "tokens": released["image_seq_len"],
        "classes": released["condition_num_classes"],
        "width": released["hidden_size"],
        "layers": released["num_hidden_layers"],
        "heads": released["num_attention_heads"],
        "hidden": released["intermediate_size"],
        "dropout": released["dropout"],
        "attention_dropout": released["attn_drop"],
        "class_dropout": released["class_label_dropout"],
        "init_std": PUBLISHED_INIT_STD,
    }


def _maskgit(config: Mapping[str, Any]) -> MaskGITConfig:
    return MaskGITConfig(**_generator(config))


def _maskgit_uvit(config: Mapping[str, Any]) -> MaskGITConfig:
    """Without the dropout that the configuration names: the released code builds the U-ViT's blocks with 0."""
    return replace(_maskgit(config), dropout=0.0, attention_dropout=0.0)


def _rar(config: Mapping[str, Any]) -> RARConfig:
    return RARConfig(**_generator(config), checkpointing=False)  # a setting of training, not of the model


def _mmdit(config: Mapping[str, Any]) -> MMDiTConfig:
    released = config["model"]["maskgen"]
    return MMDiTConfig(
        width=released["decoder_embed_dim"],
        layers=released["decoder_depth"],
        heads=released["decoder_num_heads"],
        text_width=PUBLISHED_TEXT.width,
        pooled_width=PUBLISHED_TEXT.pooled_width,
        aesthetic_width=released["micro_condition_embed_dim"],
        checkpointing=False,
    )


def _maskgen(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields that both MaskGens share."""
    return {
        "tokens": config["model"]["vq_model"]["num_latent_tokens"],
        "backbone": _mmdit(config),
        "text_dropout": config["model"]["maskgen"]["text_drop_prob"],
        "init_std": PUBLISHED_INIT_STD,
    }


def _maskgen_vq(config: Mapping[str, Any]) -> MaskGenVQConfig:
    return MaskGenVQConfig(
        **_maskgen(config),
        codebook_size=config["model"]["vq_model"]["codebook_size"],
        spare_rows=config["model"]["maskgen"]["condition_num_classes"] + 1,
    )


def _maskgen_kl(config: Mapping[str, Any]) -> MaskGenKLConfig:
    tokenizer = config["model"]["vq_model"]
    return MaskGenKLConfig(
        **_maskgen(config),
        channels=tokenizer["token_size"],
        scale=tokenizer["scale_factor"],
        head_width=config["losses"]["diffloss_w"],
        head_layers=config["losses"]["diffloss_d"],
    )


SYSTEMS = {
    "maskgit_vqgan": System(VQGAN, _maskgit_vqgan),
    "titok_vq_two_stage": System(TiTokTwoStage, _titok_two_stage),
    "titok_vq_single_stage": System(TiTok, _titok),
    "titok_kl": System(TiTok, _titok),
    "tatitok_vq": System(TATiTok, _tatitok),
    "tatitok_kl": System(TATiTok, _tatitok),
    "maskgit_vit": System(MaskGIT, _maskgit),
    "maskgit_uvit": System(MaskGITUViT, _maskgit_uvit),
    "rar": System(RAR, _rar),
    "maskgen_vq": System(MaskGenVQ, _maskgen_vq),
    "maskgen_kl": System(MaskGenKL, _maskgen_kl),
}
