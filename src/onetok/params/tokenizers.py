"""Params of tokenizers and of their token caches."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from onetok.params.base import (
    BelowOne,
    BenchmarkName,
    CodebookSize,
    Count,
    DatasetName,
    Depth,
    EncoderName,
    NonNegativeFloat,
    Pixels,
    Positive,
    PositiveFloat,
    Strict,
    TokenizerName,
    Width,
)
from onetok.params.datasets import Images, TrainingImages
from onetok.params.encoders import WeightsFile
from onetok.params.training import AdamW, DiscriminatorSchedule, TokenizerTraining

Size = Literal["tiny", "small", "base", "large"]


class VectorQuantizer(Strict):
    kind: Literal["vq"]
    codebook_size: CodebookSize
    channels: Width
    normalize: bool
    commitment: NonNegativeFloat
    clustering: bool


class GaussianQuantizer(Strict):
    kind: Literal["kl"]
    channels: Width


Quantizer = VectorQuantizer | GaussianQuantizer


class TiTokInit(Strict):
    linear_std: PositiveFloat | None
    positions: Literal["normal", "sincos"]
    position_scale: PositiveFloat
    query_key_gain: PositiveFloat
    output_gain: NonNegativeFloat = Field(description="0: the decoder starts with nothing")


class TiTokModel(Strict):
    encoder: Size
    decoder: Size
    encoder_patch: Pixels
    decoder_patch: Pixels
    tokens: Width
    quantizer: Quantizer = Field(discriminator="kind")
    init: TiTokInit


class TATiTokModel(TiTokModel):
    decoder_linear: Literal["init", "torch"] = Field(
        description="torch: PyTorch's own start, as published, whatever init says of linear layers"
    )


class TwoStageModel(TiTokModel):
    quantizer: VectorQuantizer
    memory: Literal["transposed", "reinterpreted"] = Field(description="reinterpreted: as published")


class VQGANModel(Strict):
    width: Width
    multipliers: tuple[Width, ...] = Field(
        strict=False, min_length=1, max_length=14, description="widths by level, finest first"
    )
    blocks: Depth
    norm_groups: Width
    quantizer: VectorQuantizer

    @property
    def factor(self) -> int:
        """Pixels of an image's side for each place of the code grid."""
        return 1 << (len(self.multipliers) - 1)


class Perceptual(Strict):
    encoder: EncoderName
    layer: Literal["maps", "features", "logits", "lpips"]
    weight: NonNegativeFloat


class DiscriminatorModel(Strict):
    width: Width
    stages: tuple[Width, ...] = Field(
        strict=False, min_length=1, max_length=14, description="channels; each stage halves the side"
    )
    groups: Width
    side: Pixels = Field(description="of the map of logits")


class LeCam(Strict):
    weight: NonNegativeFloat
    decay: BelowOne


class Adversarial(Strict):
    discriminator: DiscriminatorModel
    weight: NonNegativeFloat = Field(description="of the tokenizer's term; constant")
    start: Count = Field(description="first step of the term and of the discriminator's training")
    lecam: LeCam
    optimizer: AdamW
    schedule: DiscriminatorSchedule = Field(description="of the discriminator: counted from `start`")


class TokenizerLosses(Strict):
    l1: NonNegativeFloat
    l2: NonNegativeFloat
    quantizer: NonNegativeFloat = Field(
        description="of commitment and codebook terms, or of the KL divergence"
    )
    perceptual: tuple[Perceptual, ...] = Field(strict=False)
    adversarial: Adversarial | None


class CodeLosses(Strict):
    quantizer: NonNegativeFloat = Field(description="beside the cross-entropy against the proxy's codes")


class TrainedTokenizer(Strict):
    dataset: DatasetName
    benchmark: BenchmarkName
    images: TrainingImages
    training: TokenizerTraining


class PixelTokenizer(TrainedTokenizer):
    losses: TokenizerLosses


class VQGANTokenizer(PixelTokenizer):
    kind: Literal["vqgan"]
    model: VQGANModel


class TiTokTokenizer(PixelTokenizer):
    kind: Literal["titok"]
    model: TiTokModel


class TATiTokTokenizer(PixelTokenizer):
    kind: Literal["tatitok"]
    text: EncoderName = Field(description="the frozen text encoder of captions")
    model: TATiTokModel


class Stage1Tokenizer(TrainedTokenizer):
    """Two-stage TiTok, warm-up: predict the codes that a frozen VQGAN gives the image."""

    kind: Literal["titok-stage-1"]
    proxy: TokenizerName
    model: TwoStageModel
    losses: CodeLosses


class Stage2Tokenizer(PixelTokenizer):
    """Two-stage TiTok, decoder fine-tuning on pixels; the model is stage 1's."""

    kind: Literal["titok-stage-2"]
    stage_1: TokenizerName


class PublishedModel(Strict):
    encoder: Size
    decoder: Size
    patch: Pixels
    tokens: Width
    quantizer: Quantizer = Field(discriminator="kind")


class PublishedTokenizer(Strict):
    benchmark: BenchmarkName
    images: Images
    weights: WeightsFile


class PublishedVQGAN(PublishedTokenizer):
    kind: Literal["published-vqgan"]
    model: VQGANModel


class PublishedTiTok(PublishedTokenizer):
    kind: Literal["published-titok"]
    stages: Literal[1, 2] = Field(description="of its training")
    model: PublishedModel


class PublishedTATiTok(PublishedTokenizer):
    kind: Literal["published-tatitok"]
    text: EncoderName
    model: PublishedModel


Tokenizer = Annotated[
    VQGANTokenizer
    | TiTokTokenizer
    | TATiTokTokenizer
    | Stage1Tokenizer
    | Stage2Tokenizer
    | PublishedVQGAN
    | PublishedTiTok
    | PublishedTATiTok,
    Field(discriminator="kind"),
]
READS_TEXT = (TATiTokTokenizer, PublishedTATiTok)


class CachedCaptions(Strict):
    augmented_prefixes: tuple[Annotated[str, Field(min_length=1)], ...] = Field(
        strict=False,
        description="what an augmented caption loses at its start; what is left begins with a capital letter",
    )


class CachedText(CachedCaptions):
    """Captions as they are, for an encoder to read at every training step."""

    kind: Literal["text"]


class CachedStates(CachedCaptions):
    """What a text encoder makes of the captions, float16: more room, and no encoder in training."""

    kind: Literal["states"]
    text: EncoderName


Captions = Annotated[CachedText | CachedStates, Field(discriminator="kind")]


class Tokens(Strict):
    """A token cache: every view of every image of a split, encoded once."""

    tokenizer: TokenizerName
    dataset: DatasetName
    split: Literal["train", "val"]
    images: Images
    crops: Literal["center", "five"] = Field(
        description="five: the corners and the centre; with `flip`, also those of the mirror image. RAR's ten crops are"
        " five of 256 px with flip, of images that `resize: adm` has cut to a square of 281"
    )
    flip: bool
    batch: Positive
    captions: Captions | None = Field(
        description="kept beside the tokens, with aesthetic scores, for generators of captions"
    )
