"""From params to the configs of tokenizers, trained here or published."""

from __future__ import annotations

from typing import Any

from onetok import params
from onetok.models.quantizers import GaussianConfig, QuantizerConfig, VectorQuantizerConfig
from onetok.models.titok import SIZES, TiTokInit
from onetok.models.vqgan import VQGANConfig

PUBLISHED_INIT = TiTokInit(
    linear_std=0.02, positions="normal", position_scale=1.0, query_key_gain=1.0, output_gain=1.0
)


def titok_fields(model: params.TiTokModel | params.PublishedModel, image_size: int) -> dict[str, Any]:
    """Return the fields of TiTokConfig, which the configs of TiTok's relatives add to."""
    if isinstance(model, params.PublishedModel):
        encoder_patch, decoder_patch, init = model.patch, model.patch, PUBLISHED_INIT
    else:
        encoder_patch, decoder_patch = model.encoder_patch, model.decoder_patch
        init = TiTokInit(**model.init.model_dump())
    return {
        "image_size": image_size,
        "encoder": SIZES[model.encoder],
        "decoder": SIZES[model.decoder],
        "encoder_patch": encoder_patch,
        "decoder_patch": decoder_patch,
        "tokens": model.tokens,
        "quantizer": quantizer_config(model.quantizer),
        "init": init,
    }


def vqgan_config(model: params.VQGANModel, image_size: int) -> VQGANConfig:
    values = model.model_dump(exclude={"quantizer"})
    quantizer = VectorQuantizerConfig(**model.quantizer.model_dump(exclude={"kind"}))
    return VQGANConfig(image_size=image_size, **values, quantizer=quantizer)


def quantizer_config(quantizer: params.Quantizer) -> QuantizerConfig:
    values = quantizer.model_dump(exclude={"kind"})
    return VectorQuantizerConfig(**values) if quantizer.kind == "vq" else GaussianConfig(**values)
