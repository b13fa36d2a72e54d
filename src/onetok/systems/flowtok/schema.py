"""Settings of FlowTok and of its image tokenizer: of params, and the configs of their models."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from onetok.study.schema.architecture import GaussianConfig, GaussianParams, TransformerSize
from onetok.study.schema.base import (
    BelowOne,
    Count,
    Depth,
    Fraction,
    Iterations,
    NonNegativeFloat,
    PositiveFloat,
    Strict,
    Width,
)
from onetok.study.schema.generators import (
    CaptionEntry,
    FineTunedCaptionGenerator,
    Latents,
    ReleasedGenerator,
    TrainedCaptioner,
    TrainedCaptionGenerator,
)
from onetok.study.schema.sampling import SamplingEntry
from onetok.study.schema.shapes import TextShape
from onetok.study.schema.text_tokenizers import TextTokenizerEntry
from onetok.study.schema.tokenizers import PixelTokenizer, ReleasedTokenizer
from onetok.systems.tatitok.schema import CaptionedConfig, CaptionedEntry
from onetok.systems.titok.schema import ReleasedModel, TiTokModel

# ---------------------------------------------------------------------------------------------- the image tokenizer


class FlowTiTokModel(TiTokModel):
    """FlowTok's image tokenizer as params describe it."""

    quantizer: GaussianParams = Field(description="continuous tokens")


class ReleasedFlowTiTokModel(ReleasedModel):
    """A released image tokenizer of FlowTok, whose initialisation no longer matters."""

    quantizer: GaussianParams = Field(description="continuous tokens")


class FlowTiTokConfig(CaptionedConfig):
    """All that the network is built from."""

    quantizer: GaussianConfig = Field(description="continuous tokens")

    @model_validator(mode="after")
    def _rotary_embedding_fits_the_heads(self) -> Self:
        for key, size in (("encoder", self.encoder), ("decoder", self.decoder)):
            if size.width % (4 * size.heads):
                found = f"{key}: heads of {size.width // size.heads} channels"
                text = "a rotary embedding needs pairs of channels for the row and as many for the column"
                raise ValueError(f"{found}, but {text}, expected a multiple of 4")
        return self


class FlowTiTokEntry(CaptionedEntry):
    """What FlowTok's tokenizers that are trained here and released ones have in common."""

    model: FlowTiTokModel | ReleasedFlowTiTokModel = Field(
        description="the transformers, their patches and the tokens"
    )


class FlowTiTokTokenizer(PixelTokenizer, FlowTiTokEntry):
    """FlowTok's image tokenizer, trained here."""

    kind: Literal["flowtitok"]
    model: FlowTiTokModel = Field(description="the transformers, their patches and the tokens")


class ReleasedFlowTiTok(ReleasedTokenizer, FlowTiTokEntry):
    """FlowTok's image tokenizer with released weights."""

    kind: Literal["published-flowtitok"]
    model: ReleasedFlowTiTokModel = Field(description="the transformers, their patches and the tokens")

    buildable_alone = True


# ---------------------------------------------------------------------------------------------- the flow

Size = Literal["tiny", "B", "XL", "H"]

SIZES: dict[str, TransformerSize] = {
    "tiny": TransformerSize(width=128, layers=4, heads=4),  # of small studies; not in the paper
    "B": TransformerSize(width=768, layers=12, heads=12),
    "XL": TransformerSize(width=1152, layers=28, heads=16),
    "H": TransformerSize(width=1280, layers=36, heads=20),
}


class ProjectorSettings(Strict):
    """The transformer that maps text states to text tokens; its width is that of the text states."""

    layers: Depth = Field(description="blocks, one after the other; published: 6")
    heads: Width = Field(
        description="heads of the attention; they divide the width of text states; published: 8"
    )
    hidden: Width = Field(description="channels between the two layers of a feed-forward; published: 1024")
    dropout: BelowOne = Field(
        description="of the attention's weights, of the feed-forward's hidden channels and of both branches of a"
        " block; published: 0.1"
    )


class FlowTokSettings(Latents):
    """What params and the config of the model have in common."""

    projector: ProjectorSettings = Field(description="the transformer that maps text states to text tokens")


class FlowTokModel(FlowTokSettings):
    """FlowTok as params describe it."""

    size: Size = Field(description="size of the DiT, by its name in the paper")


class TrainingSettings(Strict):
    """What concerns training alone, which releases leave out."""

    alignment_target: Literal["mlp", "average"] = Field(
        description="what text tokens are compared with: mlp: an MLP of the text states, as published; average: the"
        " means of neighbouring channels of the text states"
    )
    init_std: PositiveFloat = Field(
        description="standard deviation of the embeddings of time and indicator as they start; published: 0.02"
    )


# The released code's.
RELEASED_TRAINING = TrainingSettings(alignment_target="mlp", init_std=0.02)


class TrainedFlowTokModel(FlowTokModel, TrainingSettings):
    """FlowTok as params describe it, with what concerns its training."""


class FlowTokConfig(FlowTokSettings, TrainingSettings):
    """All that the network is built from."""

    size: TransformerSize = Field(description="size of the DiT")
    tokens: Width = Field(description="N, tokens of an image, and as many text states")
    channels: Width = Field(description="C, channels of a token")
    text_width: Width = Field(description="S, channels of a text state")

    @model_validator(mode="after")
    def _heads_divide_the_width_of_text_states(self) -> Self:
        if self.text_width % self.projector.heads:
            text = f"text states of width {self.text_width} are not divisible by {self.projector.heads} heads"
            raise ValueError(f"projector.heads: {text}")
        return self


class TextPrior(Strict):
    """The term that keeps text tokens near a standard normal distribution."""

    form: Literal["normal", "flat"] = Field(
        description="normal: the KL divergence, as in the paper; flat: the released code's form, with (0.3·mean)⁶ in"
        " the place of mean², which hardly penalises means within ±3"
    )
    weight: NonNegativeFloat = Field(
        description="factor of the term, which is summed over the tokens of a caption and averaged over captions;"
        " paper: 1e-4. The released code multiplies the sum over the 128 captions of a process by 0.01, which is 1.28"
        " here"
    )


class ContrastiveAlignment(Strict):
    """Text tokens are classified by the text states of a batch, and the reverse, as published."""

    kind: Literal["contrastive"]
    weight: NonNegativeFloat = Field(description="factor of the term; published: 1")


class CosineAlignment(Strict):
    """Each text token is to have the direction of its text state."""

    kind: Literal["cosine"]
    weight: NonNegativeFloat = Field(description="factor of the term")
    margin: Fraction = Field(description="difference of the cosine similarity from 1 that is not penalised")


Alignment = ContrastiveAlignment | CosineAlignment


class FlowLoss(Strict):
    """What is added to the flow matching loss, whose weight is 1, and how often guidance is trained."""

    prior: TextPrior = Field(
        description="the term that keeps text tokens near a standard normal distribution"
    )
    alignment: Alignment = Field(
        discriminator="kind", description="the term that compares text tokens with text states"
    )
    null_share: BelowOne = Field(
        description="share of training samples with the null indicator, whose target is the image of another caption;"
        " published: 0.1"
    )


# ---------------------------------------------------------------------------------------------- image to text


class FlowTextSettings(Strict):
    """What params and the config of the text tokenizer have in common."""

    channels: Width = Field(description="C, channels of a text token: those of an image token; published: 16")
    projector: ProjectorSettings = Field(description="the transformer that maps text states to text tokens")
    decoder: TransformerSize = Field(
        description="the transformer that maps text tokens to token ids of the caption; published: 6 blocks, whose"
        " width is not stated"
    )


class FlowTextModel(FlowTextSettings):
    """The text tokenizer as params describe it."""

    vocabulary: Literal["clip", "seen"] = Field(
        description="token ids that the decoder can name: clip: all 49,408; seen: those of the training captions,"
        " which makes the last layer small where captions have few words"
    )


class FlowTextConfig(FlowTextSettings):
    """All that the network is built from."""

    tokens: Width = Field(description="N, text tokens, and as many text states and token ids")
    text_width: Width = Field(description="S, channels of a text state")
    vocabulary: tuple[Count, ...] = Field(
        strict=False, description="token ids that the decoder can name; none stands for all of CLIP's"
    )


class FlowTextLoss(Strict):
    """What is added to the cross-entropy of the caption's token ids, whose weight is 1."""

    prior: TextPrior = Field(
        description="the term that keeps text tokens near a standard normal distribution"
    )


class FlowTextTokenizer(TextTokenizerEntry):
    """FlowTok's text tokenizer: the text projector, and a decoder that maps text tokens back to captions."""

    kind: Literal["flowtok-text"]
    model: FlowTextModel = Field(description="projector and decoder")
    loss: FlowTextLoss = Field(description="the term beside the cross-entropy")

    @property
    def channels(self) -> int:
        return self.model.channels

    def text_problems(self, text: TextShape) -> Iterator[str]:
        heads = self.model.projector.heads
        if text.width % heads:
            yield f"model.projector.heads: {heads} do not divide the width {text.width} of {self.text}'s states"


class CaptionFlowSettings(Latents):
    """What params and the config of the flow from images to captions have in common."""

    text_scale: PositiveFloat = Field(description="factor on the text tokens, to a variance near 1")
    init_std: PositiveFloat = Field(
        description="standard deviation of the embeddings of time and indicator as they start; published: 0.02"
    )


class CaptionFlowModel(CaptionFlowSettings):
    """The flow from images to captions as params describe it."""

    size: Size = Field(description="size of the DiT, by its name in the paper")


class CaptionFlowConfig(CaptionFlowSettings):
    """All that the network is built from."""

    size: TransformerSize = Field(description="size of the DiT")
    tokens: Width = Field(description="N, tokens of an image, and as many text tokens")
    channels: Width = Field(description="C, channels of a token")


class CaptionFlowLoss(Strict):
    """How often guidance is trained. There is no prior and no alignment loss, as in the paper."""

    null_share: BelowOne = Field(
        description="share of training samples with the null indicator, whose target is another image's caption; 0"
        " where sampling has no guidance"
    )


class FlowCaptioner(TrainedCaptioner):
    """FlowTok from images to captions."""

    kind: Literal["flowtok-captioner"]
    model: CaptionFlowModel = Field(description="the DiT and the scales of both kinds of tokens")
    loss: CaptionFlowLoss = Field(description="the training of guidance")

    text_layer = "final"
    reads_aesthetic = False
    sampling_kind = "flow"
    continuous = True

    def text_problems(self, text: TextShape, tokens: int) -> Iterator[str]:
        if text.length != tokens:
            found = f"{self.text} gives {text.length} states, but an image has {tokens} tokens"
            yield f"text: {found}, expected as many: each text token is made from an image token"


# ---------------------------------------------------------------------------------------------- text to image


class FlowTokText(CaptionEntry):
    """What all FlowToks take of a caption."""

    text_layer = "final"
    reads_aesthetic = False


class FlowTokEntry(FlowTokText):
    """What FlowToks with a model of their own have in common."""

    sampling_kind = "flow"
    continuous = True
    model: FlowTokModel = Field(description="the DiT, the text projector and the scale of latents")

    def text_problems(self, text: TextShape, tokens: int) -> Iterator[str]:
        if text.length != tokens:
            found = f"{self.text} gives {text.length} states, but an image has {tokens} tokens"
            yield f"text: {found}, expected as many: each text token is made from a state"
        heads = self.model.projector.heads
        if text.width % heads:
            yield f"model.projector.heads: {heads} do not divide the width {text.width} of {self.text}'s states"


class FlowTokGenerator(TrainedCaptionGenerator, FlowTokEntry):
    """A FlowTok that is trained here."""

    kind: Literal["flowtok"]
    model: TrainedFlowTokModel = Field(description="the DiT, the text projector and the scale of latents")
    loss: FlowLoss = Field(description="the terms beside flow matching, and the training of guidance")


class FineTunedFlowTok(FineTunedCaptionGenerator, FlowTokText):
    """FlowTok's second stage: the model and the loss are those of the first, whose weights it starts from."""

    kind: Literal["flowtok-tuned"]

    first_types = (FlowTokGenerator,)


class ReleasedFlowTok(ReleasedGenerator, FlowTokEntry):
    """A FlowTok with released weights."""

    kind: Literal["published-flowtok"]


class FlowSampling(SamplingEntry):
    """Euler's method from text tokens to image tokens."""

    kind: Literal["flow"]
    steps: Iterations = Field(description="K, steps of equal length, each with one forward pass")
    guidance: Annotated[PositiveFloat, Field(ge=1)] = Field(
        description="g of null + g·(conditional - null), both velocities; 1 is no guidance"
    )

    def summary(self) -> str:
        return f"{self.steps} Euler steps, guidance {self.guidance:g}"


TOKENIZERS = (FlowTiTokTokenizer, ReleasedFlowTiTok)
TEXT_TOKENIZERS = (FlowTextTokenizer,)
GENERATORS = (FlowTokGenerator, FineTunedFlowTok, ReleasedFlowTok, FlowCaptioner)
SAMPLINGS = (FlowSampling,)
