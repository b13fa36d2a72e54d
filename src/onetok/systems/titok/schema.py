"""Settings of TiTok and of what its relatives share: of params, and the configs of its models."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from onetok.errors import OnetokError
from onetok.study.schema.architecture import (
    Quantizer,
    QuantizerConfig,
    TransformerSize,
    VectorQuantizerConfig,
    VectorQuantizerParams,
)
from onetok.study.schema.base import (
    Entries,
    NonNegativeFloat,
    Pixels,
    PositiveFloat,
    Strict,
    TokenizerName,
    Width,
    violations,
)
from onetok.study.schema.shapes import TokenShape
from onetok.study.schema.starts import FromTokenizer
from onetok.study.schema.tokenizers import (
    PixelTokenizer,
    ReleasedTokenizer,
    TokenizerEntry,
    TrainedTokenizer,
)
from onetok.systems.vqgan.schema import VQGANConfig, VQGANEntry

Size = Literal["tiny", "small", "base", "large"]
Memory = Literal["transposed", "reinterpreted"]

SIZES: dict[str, TransformerSize] = {
    "tiny": TransformerSize(width=128, layers=2, heads=4),  # of the miniature study
    "small": TransformerSize(width=512, layers=8, heads=8),
    "base": TransformerSize(width=768, layers=12, heads=12),
    "large": TransformerSize(width=1024, layers=24, heads=16),
}


class TiTokInit(Strict):
    """How parameters start. The papers: normal positions, gains of 1."""

    linear_std: PositiveFloat | None = Field(
        description="standard deviation of linear and convolution weights; null: fan_in^-1/2"
    )
    positions: Literal["normal", "sincos"] = Field(description="how position embeddings start")
    position_scale: PositiveFloat = Field(
        description="of position embeddings: the standard deviation in units of D^-1/2 (normal), the amplitude (sincos)"
    )
    query_key_gain: PositiveFloat = Field(description="factor on the product of query and key projections")
    output_gain: NonNegativeFloat = Field(
        description="factor on the decoder's last linear layer; 0: the decoder starts with a constant image"
    )


class TiTokSettings(Strict):
    """What params and the config of the model have in common."""

    encoder_patch: Pixels = Field(description="side of the encoder's patches")
    decoder_patch: Pixels = Field(description="side of the decoder's patches")
    tokens: Width = Field(description="N, latent tokens of an image")
    init: TiTokInit = Field(description="how parameters start")


class TiTokModel(TiTokSettings):
    """A TiTok as params describe it."""

    encoder: Size = Field(description="size of the encoder's transformer, by its name in the paper")
    decoder: Size = Field(description="size of the decoder's transformer, by its name in the paper")
    quantizer: Quantizer = Field(discriminator="kind", description="vq: discrete tokens; kl: continuous ones")


class TiTokConfig(TiTokSettings):
    """All that the network is built from."""

    image_size: Pixels = Field(description="H = W")
    encoder: TransformerSize
    decoder: TransformerSize
    quantizer: QuantizerConfig

    @model_validator(mode="after")
    def _patches_tile_the_image(self) -> Self:
        for key, patch in (("encoder_patch", self.encoder_patch), ("decoder_patch", self.decoder_patch)):
            if self.image_size % patch:
                raise ValueError(f"{key} {patch} does not divide image size {self.image_size}")
        return self


class TwoStageModel(TiTokModel):
    quantizer: VectorQuantizerParams = Field(description="discrete tokens")
    memory: Memory = Field(
        description="how latent tokens reach the encoder's head; reinterpreted: as published"
    )


class TwoStageConfig(TiTokConfig):
    """All that the network of a TiTok with proxy codes is built from."""

    stage: Literal[1, 2] = Field(description="what is trained; the rest is frozen")
    memory: Memory = Field(description="how latent tokens reach the encoder's head (two_stage.mix)")
    proxy: VQGANConfig = Field(description="the VQGAN whose codes the decoder predicts")

    @model_validator(mode="after")
    def _a_code_for_every_patch(self) -> Self:
        proxy, grid = self.proxy, self.image_size // self.decoder_patch
        if (self.image_size, grid) != (proxy.image_size, proxy.grid):
            expected = f"the proxy's {proxy.image_size} px on a grid of {proxy.grid}"
            raise ValueError(f"{self.image_size} px on a grid of {grid} do not match {expected}")
        return self


class ReleasedModel(Strict):
    """What a released TiTok is, whose initialisation no longer matters."""

    encoder: Size = Field(description="size of the encoder's transformer, by its name in the paper")
    decoder: Size = Field(description="size of the decoder's transformer, by its name in the paper")
    patch: Pixels = Field(description="side of the encoder's and the decoder's patches")
    tokens: Width = Field(description="N, latent tokens of an image")
    quantizer: Quantizer = Field(discriminator="kind", description="vq: discrete tokens; kl: continuous ones")


# The released code's: what a model whose weights are loaded starts with does not matter, but is part of its config.
RELEASED_INIT = TiTokInit(
    linear_std=0.02, positions="normal", position_scale=1.0, query_key_gain=1.0, output_gain=1.0
)


def config_fields(model: TiTokModel | ReleasedModel, image_size: int) -> dict[str, Any]:
    """Return the fields of TiTokConfig, which the configs of TiTok's relatives add to."""
    patches: dict[str, Any] = (
        {"encoder_patch": model.patch, "decoder_patch": model.patch, "init": RELEASED_INIT}
        if isinstance(model, ReleasedModel)
        else {"encoder_patch": model.encoder_patch, "decoder_patch": model.decoder_patch, "init": model.init}
    )
    return {
        "image_size": image_size,
        "encoder": SIZES[model.encoder],
        "decoder": SIZES[model.decoder],
        "tokens": model.tokens,
        "quantizer": model.quantizer.config,
        **patches,
    }


class CodeLosses(Strict):
    quantizer: NonNegativeFloat = Field(description="beside the cross-entropy against the proxy's codes")


class TiTokEntry(TokenizerEntry):
    """What all TiToks with a model of their own have in common."""

    model: TiTokModel | ReleasedModel = Field(description="the transformers, their patches and the tokens")

    @property
    def config(self) -> TiTokConfig:
        """The config of the model, without what its relatives add."""
        return TiTokConfig(**config_fields(self.model, self.images.size))

    def quantizer(self, study: Entries) -> Quantizer:
        return self.model.quantizer

    def token_count(self, study: Entries) -> int:
        return self.model.tokens

    def problems(self, study: Entries) -> Iterator[str]:
        yield from violations(lambda: self.config)


class TiTokTokenizer(PixelTokenizer, TiTokEntry):
    """A TiTok that is trained in one stage."""

    kind: Literal["titok"]
    model: TiTokModel = Field(description="the transformers, their patches and the tokens")


class Stage1Tokenizer(TrainedTokenizer, TiTokEntry):
    """Two-stage TiTok, warm-up: predict the codes that a frozen VQGAN gives the image."""

    kind: Literal["titok-stage-1"]
    proxy: TokenizerName = Field(description="the VQGAN whose codes the decoder predicts")
    model: TwoStageModel = Field(description="the transformers, their patches and the tokens")
    losses: CodeLosses = Field(description="weights of the terms that training minimises")

    buildable_alone = False

    def problems(self, study: Entries) -> Iterator[str]:
        yield from super().problems(study)
        proxy = study.tokenizers[self.proxy]
        if not isinstance(proxy, VQGANEntry):
            yield f"proxy: {self.proxy} is of kind {proxy.kind}, expected a VQGAN"
            return
        size, patch = self.images.size, self.model.decoder_patch
        if (proxy.images.size, proxy.model.factor) != (size, patch):
            text = (
                f"proxy {self.proxy} has a code for every {proxy.model.factor} px of {proxy.images.size} px"
            )
            yield f"{text}, expected model.decoder_patch {patch} of images.size {size}"


class Stage2Tokenizer(PixelTokenizer):
    """Two-stage TiTok, decoder fine-tuning on pixels; the model is stage 1's."""

    kind: Literal["titok-stage-2"]
    stage_1: TokenizerName = Field(description="whose model and weights training starts from")

    buildable_alone = False

    @property
    def starts_from(self) -> FromTokenizer:
        return FromTokenizer(kind="artefact", name=self.stage_1)

    def first(self, study: Entries) -> Stage1Tokenizer | ReleasedTiTok:
        """Return stage 1, or a released TiTok of two stages whose decoder is trained further.

        Raises OnetokError where stage 2 follows something else.
        """
        found = study.tokenizers[self.stage_1]
        released = isinstance(found, ReleasedTiTok) and found.stages == 2
        if not (released or isinstance(found, Stage1Tokenizer)):
            text = f"stage_1: {self.stage_1} is of kind {found.kind}"
            raise OnetokError(f"{text}, expected titok-stage-1, or published-titok of two stages")
        assert isinstance(found, Stage1Tokenizer | ReleasedTiTok)
        return found

    def quantizer(self, study: Entries) -> Quantizer:
        return self.first(study).quantizer(study)

    def token_count(self, study: Entries) -> int:
        return self.first(study).token_count(study)

    def problems(self, study: Entries) -> Iterator[str]:
        if self.init_from is not None:
            yield f"init_from: {self.kind} starts from {self.stage_1} (stage_1), expected none"
        found = self.first(study).images.size
        if found != self.images.size:
            yield f"images.size {self.images.size}, but stage 1's is {found}"


class ReleasedTiTok(ReleasedTokenizer, TiTokEntry):
    """A TiTok with released weights."""

    kind: Literal["published-titok"]
    stages: Literal[1, 2] = Field(description="of its training")
    model: ReleasedModel = Field(description="the transformers, their patches and the tokens")


class UnreleasedTiTok(Strict):
    """A TiTok of which no weights were released; what is known of it is written here."""

    kind: Literal["titok"]
    size: Pixels = Field(description="of an image's side")
    stages: Literal[1, 2] = Field(description="1: the decoder makes pixels; 2: it makes a VQGAN's codes")
    model: ReleasedModel = Field(description="the transformers, their patches and the tokens")

    @property
    def token_shape(self) -> TokenShape:
        quantizer = self.model.quantizer
        size = quantizer.codebook_size if isinstance(quantizer, VectorQuantizerConfig) else None
        return TokenShape(size, quantizer.channels, self.model.tokens)

    def problems(self) -> Iterator[str]:
        yield from violations(lambda: TiTokConfig(**config_fields(self.model, self.size)))
        if self.token_shape.codebook_size is None:
            yield "model.quantizer: continuous tokens, expected those of a codebook"


TOKENIZERS = (TiTokTokenizer, Stage1Tokenizer, Stage2Tokenizer, ReleasedTiTok)
UNRELEASED_TOKENIZERS = (UnreleasedTiTok,)
