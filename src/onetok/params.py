"""Params: every number that can move a result, read from `params/`, strictly, before anything runs.

A file `params/<folder>/<family>.yaml` holds, per kind of artefact, the variants of one family:

    tokenizers:                 # kind
      titok:                    # family = the file's name
        vq-16: {...}            # variant; other files call it titok/vq-16

Top-level keys that start with an underscore hold YAML anchors that variants share. No field has a default.
This is the schema; onetok.study reads the files, onetok.consistency says which values cannot hold together.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Fraction = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[int, Field(gt=0)]
Count = Annotated[int, Field(ge=0)]
VariantKey = Annotated[str, Field(pattern=r"^[a-z0-9_]+/[a-z0-9][a-z0-9-]*$", description="family/variant")]
Sha256 = Annotated[
    str, Field(pattern=r"^[0-9a-f]{8,64}$", description="the digest, or its first 8 or more digits")
]


Caption = Annotated[str, Field(description="template with {class} in it; null: no captions")]


@dataclass(frozen=True)
class RefersTo:
    """Marks a field that names a variant of another kind."""

    kind: str


DatasetName = Annotated[VariantKey, RefersTo("datasets")]
EncoderName = Annotated[VariantKey, RefersTo("encoders")]
TokenizerName = Annotated[VariantKey, RefersTo("tokenizers")]
TokensName = Annotated[VariantKey, RefersTo("tokens")]
GeneratorName = Annotated[VariantKey, RefersTo("generators")]
SamplesName = Annotated[VariantKey, RefersTo("samples")]
BenchmarkName = Annotated[VariantKey, RefersTo("benchmarks")]


class Strict(BaseModel):
    """Unknown keys, missing keys and values of another type are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


# ---------------------------------------------------------------------------------------------- datasets


class DigitsSource(Strict):
    """The 1,797 scanned digits that scikit-learn ships, upscaled to square RGB images."""

    kind: Literal["digits"]
    size: Positive
    filter: Literal["nearest", "bilinear", "bicubic"]
    caption: Caption | None = Field(description="{class} is zero … nine")


class ImageFolderSource(Strict):
    """Class sub-folders of images; a `.txt` beside an image is its caption. Bytes are kept as they are."""

    kind: Literal["imagefolder"]
    path: str
    caption: Caption | None = Field(description="of images without a `.txt` beside them")
    class_names: Literal["folders", "imagenet"] = Field(description="what {class} is in the caption")


class HoldOut(Strict):
    """Validation images drawn from each class of one pool, at random from the seed."""

    kind: Literal["hold-out"]
    per_class: Positive
    seed: Count


class SplitFolders(Strict):
    """The source has one sub-folder for each split, with the classes below."""

    kind: Literal["folders"]
    train: str
    val: str


class Dataset(Strict):
    source: DigitsSource | ImageFolderSource = Field(discriminator="kind")
    split: HoldOut | SplitFolders = Field(discriminator="kind")
    classes: Positive
    samples_per_shard: Positive


class Images(Strict):
    """How a stored image becomes a square tensor: shorter edge resized, then cropped."""

    shorter_edge: Positive
    size: Positive
    filter: Literal["nearest", "bilinear", "bicubic"]


class TrainingImages(Images):
    crop: Literal["center", "random"]
    flip: bool
    shift: Count = Field(description="random translation of up to so many pixels, edges repeated")


# ---------------------------------------------------------------------------------------------- training


class AdamW(Strict):
    learning_rate: float
    betas: tuple[Fraction, Fraction] = Field(strict=False)
    epsilon: float
    weight_decay: float


class Schedule(Strict):
    kind: Literal["cosine", "constant"]
    warmup: Count
    end: float = Field(description="learning rate at the last step; unused by constant")


class Training(Strict):
    steps: Count
    batch: Positive = Field(description="global: over all processes and accumulation steps")
    accumulation: Positive
    seed: Count
    precision: Literal["float32", "bfloat16", "float16"]
    max_gradient_norm: float
    ema_decay: Fraction | None
    optimizer: AdamW
    schedule: Schedule
    log_every: Positive
    checkpoint_every: Positive


class CodebookFloor(Strict):
    """Stops training where less of the codebook is used, counted over the steps between two log rows."""

    usage: Fraction
    after: Count = Field(description="steps that are not checked")


class TokenizerTraining(Training):
    picture_every: Positive
    codebook_floor: CodebookFloor | None


# ---------------------------------------------------------------------------------------------- encoders


class WeightsFile(Strict):
    """Published weights: a file on the Hub or at an address, pinned by its digest.

    Pins that are null stop the download; `onetok pin` prints what to write.
    """

    hub: str | None
    revision: str | None
    url: str | None
    file: str
    sha256: Sha256 | None


CLASSIFIER_GROUPS = 8  # of every GroupNorm


class ClassifierModel(Strict):
    channels: tuple[Positive, ...] = Field(strict=False)
    features: Positive
    dropout: Fraction


class ClassifierEncoder(Strict):
    """A small CNN trained on the study's labels."""

    kind: Literal["classifier"]
    dataset: DatasetName
    images: TrainingImages
    model: ClassifierModel
    label_smoothing: Fraction
    training: Training


class InceptionEncoder(Strict):
    """Inception-v3 as torch-fidelity ports it from TensorFlow: 2048 features, 1008 logits."""

    kind: Literal["inception"]
    weights: WeightsFile


class ConvNeXtEncoder(Strict):
    """ConvNeXt-S as torchvision publishes it: the perceptual network of the papers."""

    kind: Literal["convnext"]
    input_size: Positive
    weights: WeightsFile


class LPIPSEncoder(Strict):
    """LPIPS 0.1 on VGG16: a distance, so a perceptual network only."""

    kind: Literal["lpips"]
    backbone: WeightsFile = Field(description="VGG16 as torchvision publishes it")
    weights: WeightsFile = Field(description="the channel weights")


class CLIPModel(Strict):
    patch_size: Positive
    vision_width: Positive
    vision_layers: Positive
    vision_head_width: Positive
    context_length: Positive = Field(description="token ids of a caption, both ends included")
    text_width: Positive
    text_layers: Positive
    text_heads: Positive
    embedding: Positive = Field(description="width of the space that images and texts share")
    quick_gelu: bool


class CLIPEncoder(Strict):
    """A small CLIP trained on the study's captions."""

    kind: Literal["clip"]
    dataset: DatasetName
    images: TrainingImages
    model: CLIPModel
    training: Training


class OpenCLIPEncoder(Strict):
    """A CLIP as open_clip publishes it."""

    kind: Literal["open-clip"]
    architecture: str = Field(description="as open_clip names it; OpenAI's weights need a quickgelu one")
    weights: WeightsFile


Encoder = Annotated[
    ClassifierEncoder | InceptionEncoder | ConvNeXtEncoder | LPIPSEncoder | CLIPEncoder | OpenCLIPEncoder,
    Field(discriminator="kind"),
]

# ---------------------------------------------------------------------------------------------- tokenizers

Size = Literal["tiny", "small", "base", "large"]


class VectorQuantizer(Strict):
    kind: Literal["vq"]
    codebook_size: Positive
    channels: Positive
    normalize: bool
    commitment: float
    clustering: bool


class GaussianQuantizer(Strict):
    kind: Literal["kl"]
    channels: Positive


Quantizer = VectorQuantizer | GaussianQuantizer


class TiTokInit(Strict):
    linear_std: float | None
    positions: Literal["normal", "sincos"]
    position_scale: float
    query_key_gain: float
    output_gain: float


class TiTokModel(Strict):
    encoder: Size
    decoder: Size
    encoder_patch: Positive
    decoder_patch: Positive
    tokens: Positive
    quantizer: Quantizer = Field(discriminator="kind")
    init: TiTokInit


class TATiTokModel(TiTokModel):
    decoder_linear: Literal["init", "torch"] = Field(description="torch: PyTorch's own start, as published")


class TwoStageModel(TiTokModel):
    quantizer: VectorQuantizer
    memory: Literal["transposed", "reinterpreted"] = Field(description="reinterpreted: as published")


class VQGANModel(Strict):
    width: Positive
    multipliers: tuple[Positive, ...] = Field(strict=False, description="widths by level, finest first")
    blocks: Positive
    norm_groups: Positive
    quantizer: VectorQuantizer

    @property
    def factor(self) -> int:
        """Pixels of an image's side for each place of the code grid."""
        return 1 << (len(self.multipliers) - 1)


class Perceptual(Strict):
    encoder: EncoderName
    layer: Literal["maps", "features", "logits", "lpips"]
    weight: float


class DiscriminatorModel(Strict):
    width: Positive
    stages: tuple[Positive, ...] = Field(strict=False, description="channels; each stage halves the side")
    groups: Positive
    side: Positive = Field(description="of the map of logits")


class LeCam(Strict):
    weight: float
    decay: Fraction


class Adversarial(Strict):
    discriminator: DiscriminatorModel
    weight: float = Field(description="of the tokenizer's term; constant")
    start: Count = Field(description="first step of the term and of the discriminator's training")
    lecam: LeCam
    optimizer: AdamW
    schedule: Schedule = Field(description="of the discriminator: counted from `start`, ends with training")


class TokenizerLosses(Strict):
    l1: float
    l2: float
    quantizer: float = Field(description="of commitment and codebook terms, or of the KL divergence")
    perceptual: tuple[Perceptual, ...] = Field(strict=False)
    adversarial: Adversarial | None


class CodeLosses(Strict):
    quantizer: float = Field(description="beside the cross-entropy against the proxy's codes")


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
    patch: Positive
    tokens: Positive
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


class Tokens(Strict):
    """A token cache: every view of every image of a split, encoded once."""

    tokenizer: TokenizerName
    dataset: DatasetName
    split: Literal["train", "val"]
    images: Images
    crops: Literal["center", "five"]
    flip: bool
    batch: Positive


# ---------------------------------------------------------------------------------------------- generators

MaskSchedule = Literal["arccos", "cosine", "linear", "root", "square"]


class GeneratorModel(Strict):
    width: Positive
    layers: Positive = Field(description="even for the U-ViT, which has one more block in the middle")
    heads: Positive
    hidden: Positive
    dropout: Fraction
    attention_dropout: Fraction
    class_dropout: Fraction


class MaskGITModel(GeneratorModel):
    init_std: float


class RARModel(MaskGITModel):
    checkpointing: bool = Field(description="compute activations twice rather than keep them: less memory")


class MaskedLoss(Strict):
    mask_schedule: MaskSchedule
    label_smoothing: Fraction
    unmasked_weight: Fraction


class TrainedGenerator(Strict):
    tokens: TokensName
    classes: Positive
    training: Training


class MaskGITGenerator(TrainedGenerator):
    model: MaskGITModel
    loss: MaskedLoss


class MaskGITViTGenerator(MaskGITGenerator):
    kind: Literal["maskgit-vit"]


class MaskGITUViTGenerator(MaskGITGenerator):
    kind: Literal["maskgit-uvit"]


class RandomnessAnnealing(Strict):
    """How often a sample's tokens are predicted in random order: always, then less and less, then never."""

    start: Count = Field(description="last step of always")
    end: Count = Field(description="first step of never; 0 for plain autoregressive training")


class RARGenerator(TrainedGenerator):
    kind: Literal["rar"]
    model: RARModel
    annealing: RandomnessAnnealing


class PublishedGenerator(Strict):
    tokenizer: TokenizerName = Field(description="whose ids it draws")
    classes: Positive
    model: GeneratorModel
    weights: WeightsFile


class PublishedMaskGITViT(PublishedGenerator):
    kind: Literal["published-maskgit-vit"]


class PublishedMaskGITUViT(PublishedGenerator):
    kind: Literal["published-maskgit-uvit"]


class PublishedRAR(PublishedGenerator):
    kind: Literal["published-rar"]


Generator = Annotated[
    MaskGITViTGenerator
    | MaskGITUViTGenerator
    | RARGenerator
    | PublishedMaskGITViT
    | PublishedMaskGITUViT
    | PublishedRAR,
    Field(discriminator="kind"),
]


class Guidance(Strict):
    kind: Literal["constant", "linear", "power-cosine"]
    scale: Annotated[float, Field(ge=0)]
    power: float = Field(description="exponent of power-cosine; unused by the others")


class MaskedSampling(Strict):
    kind: Literal["masked"]
    steps: Positive
    temperature: float
    guidance: Guidance
    mask_schedule: MaskSchedule
    softmax_annealing: bool


class AutoregressiveSampling(Strict):
    kind: Literal["autoregressive"]
    temperature: float
    guidance: Guidance


Sampling = Annotated[MaskedSampling | AutoregressiveSampling, Field(discriminator="kind")]


class Samples(Strict):
    """Images drawn for a benchmark, which says how many."""

    generator: GeneratorName
    benchmark: BenchmarkName
    seed: Count
    micro_batch: Positive
    sampling: Sampling


# ---------------------------------------------------------------------------------------------- benchmarks


class Reference(Strict):
    """The images that a benchmark compares with, and the networks that look at them."""

    dataset: DatasetName
    split: Literal["train", "val"]
    images: Images
    encoder: EncoderName
    judge: EncoderName = Field(description="independent of the encoder; its figures are marked")
    class_accuracy: bool = Field(description="whether the encoder's classes are the dataset's")
    batch: Positive


class ReconstructionBenchmark(Reference):
    kind: Literal["reconstruction"]
    inception_splits: Positive


class GenerationBenchmark(Reference):
    kind: Literal["generation"]
    samples: Positive
    inception_splits: Positive
    manifold_images: Positive = Field(description="reference images of precision and recall")
    neighbours: Positive


Benchmark = Annotated[ReconstructionBenchmark | GenerationBenchmark, Field(discriminator="kind")]

# ---------------------------------------------------------------------------------------------- speed


class Execution(Strict):
    """How a system is run on one type of device."""

    batch: Positive = Field(description="images of a call")
    precision: Literal["float32", "bfloat16"]
    compiled: bool = Field(description="by torch.compile")


class TokenizerSpeed(Strict):
    """Encode and decode of tokenizers with random weights, each beside the time of its products alone."""

    kind: Literal["tokenizers"]
    title: str
    tokenizers: tuple[TokenizerName, ...] = Field(strict=False, min_length=1)
    seed: Count
    rounds: Positive = Field(description="in each, a call and its products are timed once; medians count")
    cpu: Execution
    cuda: Execution


class SamplingRun(Strict):
    """One call of a generator, with the settings of an entry of samples."""

    samples: SamplesName
    batch: Positive = Field(description="images of a call")


class GeneratorExecution(Strict):
    """Which generators are run on one type of device, and how."""

    precision: Literal["float32", "bfloat16"]
    runs: tuple[SamplingRun, ...] = Field(strict=False, min_length=1)


class GeneratorSpeed(Strict):
    """Token sampling with random weights, beside the time of reading its weights and of its products."""

    kind: Literal["generators"]
    title: str
    seed: Count
    rounds: Positive = Field(description="in each, a call is timed between two measurements of the machine")
    cpu: GeneratorExecution
    cuda: GeneratorExecution


class StudySystem(Strict):
    """A generator of the study with its tokenizer, by the samples that it draws."""

    kind: Literal["samples"]
    samples: SamplesName


class UnreleasedGenerator(Strict):
    """A MaskGIT-ViT."""

    classes: Positive
    model: GeneratorModel


class UnreleasedSystem(Strict):
    """TiTok and MaskGIT-ViT of which no weights were released; what is known of them is written here."""

    kind: Literal["unreleased"]
    size: Positive = Field(description="of an image's side")
    stages: Literal[1, 2] = Field(description="1: the decoder makes pixels; 2: it makes a VQGAN's codes")
    tokenizer: PublishedModel
    generator: UnreleasedGenerator
    sampling: MaskedSampling


class DiTModel(Strict):
    width: Positive
    layers: Positive
    heads: Positive
    patch: Positive
    latent: Positive = Field(description="side of the VAE's latent image")
    channels: Positive = Field(description="of the latent image")
    classes: Positive


class PublishedPair(Strict):
    source: str = Field(description="where people find it")
    images_per_second: float
    beside: float = Field(description="images/s of the diffusion model")
    ratio: float = Field(description="as it is published")


class Pair(Strict):
    label: str
    system: StudySystem | UnreleasedSystem = Field(discriminator="kind")
    diffusion: DiTModel
    steps: Positive = Field(description="of diffusion; all of them take the time of the measured ones")
    published: PublishedPair | None


class PairExecution(Strict):
    batch: Positive = Field(description="images of a call, of both")
    precision: Literal["float32", "bfloat16"]


class PairSpeed(Strict):
    """Images/s of token sampling and decoding beside those of a guided DiT, both with random weights."""

    kind: Literal["pairs"]
    title: str
    note: str
    pairs: tuple[Pair, ...] = Field(strict=False, min_length=1)
    seed: Count
    rounds: Positive = Field(description="in each, a call and one step of diffusion are timed")
    cpu: PairExecution
    cuda: PairExecution


Speed = Annotated[TokenizerSpeed | GeneratorSpeed | PairSpeed, Field(discriminator="kind")]

# ---------------------------------------------------------------------------------------------- tables


class Tolerance(Strict):
    """How far another machine's figure may lie: |a - b| ≤ absolute + relative · |b|."""

    absolute: float
    relative: float


class Column(Strict):
    metric: str
    label: str
    decimals: Count
    better: Literal["higher", "lower", "neither"]
    tolerance: Tolerance


class Published(Strict):
    source: str = Field(description="where people find it")
    table: str = Field(description="table of the collection of published figures")
    model: str = Field(description="row of that table")
    figures: dict[str, float] = Field(description="metric → figure, in the column's unit")


class Row(Strict):
    label: str
    tokenizer: TokenizerName | None
    samples: SamplesName | None
    published: Published | None


class Table(Strict):
    title: str
    note: str
    columns: tuple[Column, ...] = Field(strict=False)
    rows: tuple[Row, ...] = Field(strict=False)


class ReconstructionFigure(Strict):
    kind: Literal["reconstructions"]
    title: str
    tokenizers: tuple[TokenizerName, ...] = Field(strict=False)


class SamplesFigure(Strict):
    kind: Literal["samples"]
    title: str
    samples: tuple[SamplesName, ...] = Field(strict=False)
    per_class: Positive


class CurvesFigure(Strict):
    kind: Literal["curves"]
    title: str
    runs: tuple[str, ...] = Field(strict=False, description="kind/family/variant of trained artefacts")
    scalar: str


Figure = Annotated[ReconstructionFigure | SamplesFigure | CurvesFigure, Field(discriminator="kind")]

# ---------------------------------------------------------------------------------------------- the study


class Study(Strict):
    """All params of a study directory, by kind, then by family/variant."""

    datasets: dict[str, Dataset]
    encoders: dict[str, Encoder]
    tokenizers: dict[str, Tokenizer]
    tokens: dict[str, Tokens]
    generators: dict[str, Generator]
    samples: dict[str, Samples]
    benchmarks: dict[str, Benchmark]
    speeds: dict[str, Speed]
    tables: dict[str, Table]
    figures: dict[str, Figure]
