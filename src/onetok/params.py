"""Params: every number that can move a result, read from `params/`, strictly, before anything runs.

A file `params/<folder>/<family>.yaml` holds, per kind of artefact, the variants of one family:

    tokenizers:                 # kind
      titok:                    # family = the file's name
        vq-16: {...}            # variant; other files call it titok/vq-16

Top-level keys that start with an underscore hold YAML anchors that variants share. No field has a default.
This module imports no torch: Snakemake reads it at every start.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from onetok.errors import OnetokError
from onetok.metrics import names

Fraction = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[int, Field(gt=0)]
Count = Annotated[int, Field(ge=0)]
VariantKey = Annotated[str, Field(pattern=r"^[a-z0-9_]+/[a-z0-9][a-z0-9-]*$", description="family/variant")]
Sha256 = Annotated[
    str, Field(pattern=r"^[0-9a-f]{8,64}$", description="the digest, or its first 8 or more digits")
]


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


class ImageFolderSource(Strict):
    """Class sub-folders of images; a `.txt` beside an image is its caption. Bytes are kept as they are."""

    kind: Literal["imagefolder"]
    path: str


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
    """Published weights: a file on the Hub or at an address, pinned by its digest."""

    hub: str | None
    revision: str | None
    url: str | None
    file: str
    sha256: Sha256


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


Encoder = Annotated[
    ClassifierEncoder | InceptionEncoder | ConvNeXtEncoder | LPIPSEncoder, Field(discriminator="kind")
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


class TiTokInit(Strict):
    linear_std: float | None
    positions: Literal["normal", "sincos"]
    position_scale: float
    query_key_gain: float


class TiTokModel(Strict):
    encoder: Size
    decoder: Size
    encoder_patch: Positive
    decoder_patch: Positive
    tokens: Positive
    quantizer: VectorQuantizer
    init: TiTokInit


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
    quantizer: float
    perceptual: tuple[Perceptual, ...] = Field(strict=False)
    adversarial: Adversarial | None


class TiTokTokenizer(Strict):
    kind: Literal["titok"]
    dataset: DatasetName
    benchmark: BenchmarkName
    images: TrainingImages
    model: TiTokModel
    losses: TokenizerLosses
    training: TokenizerTraining


Tokenizer = TiTokTokenizer


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


class MaskGITModel(Strict):
    width: Positive
    layers: Positive
    heads: Positive
    hidden: Positive
    dropout: Fraction
    attention_dropout: Fraction
    class_dropout: Fraction
    init_std: float


class MaskedLoss(Strict):
    mask_schedule: MaskSchedule
    label_smoothing: Fraction
    unmasked_weight: Fraction


class MaskGITGenerator(Strict):
    kind: Literal["maskgit-vit"]
    tokens: TokensName
    classes: Positive
    model: MaskGITModel
    loss: MaskedLoss
    training: Training


Generator = MaskGITGenerator


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


class Samples(Strict):
    """Images drawn for a benchmark, which says how many."""

    generator: GeneratorName
    benchmark: BenchmarkName
    seed: Count
    micro_batch: Positive
    sampling: MaskedSampling


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


class GenerationBenchmark(Reference):
    kind: Literal["generation"]
    samples: Positive
    inception_splits: Positive
    manifold_images: Positive = Field(description="reference images of precision and recall")
    neighbours: Positive


Benchmark = Annotated[ReconstructionBenchmark | GenerationBenchmark, Field(discriminator="kind")]

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
    tables: dict[str, Table]
    figures: dict[str, Figure]


# Which kinds a file in each folder of params/ may define.
FOLDERS = {
    "datasets": ("datasets",),
    "encoders": ("encoders",),
    "tokenizers": ("tokenizers", "tokens"),
    "generators": ("generators", "samples"),
    "benchmarks": ("benchmarks",),
    "tables": ("tables", "figures"),
}


def load_study(directory: Path = Path()) -> Study:
    """Read and check every params file of a study.

    Raises OnetokError with one line for each thing that is wrong: file, path, what was found, what is known.
    """
    root = directory / "params"
    if not root.is_dir():
        raise OnetokError(f"{root}: no such folder; a study is a directory with params/")
    problems: list[str] = []
    raw: dict[str, dict[str, Any]] = {kind: {} for kind in Study.model_fields}
    files: dict[tuple[str, str], str] = {}
    for path in sorted(p for p in root.rglob("*") if p.is_file() and p.name != "schema.json"):
        if path.suffix != ".yaml":
            problems.append(
                f"{path.relative_to(directory).as_posix()}: expected only files named *.yaml in params/"
            )
            continue
        shown = path.relative_to(directory).as_posix()
        try:
            variants = list(_variants(path, shown))
        except OnetokError as error:
            problems.append(str(error))
            continue
        for kind, name, value in variants:
            if name in raw[kind]:
                problems.append(
                    f"{shown}: {kind}.{name.replace('/', '.')}: also defined in {files[kind, name]}"
                )
            raw[kind][name] = value
            files[kind, name] = shown
    try:
        study = Study.model_validate(raw)
    except ValidationError as error:
        problems += [_explain(dict(detail), files) for detail in error.errors()]
        raise OnetokError(_report(problems)) from None
    problems += _check_references(study, files)
    if not problems:
        problems += [f"{_place(files, kind, name)}: {text}" for kind, name, text in _inconsistencies(study)]
    if problems:
        raise OnetokError(_report(problems))
    return study


def _report(problems: list[str]) -> str:
    return "\n".join(["params are not valid:", *(f"  {problem}" for problem in problems)])


def _variants(path: Path, shown: str) -> Iterator[tuple[str, str, Any]]:
    """Yield (kind, family/variant, value) of one file."""
    folder, family = path.parent.name, path.stem
    if folder not in FOLDERS:
        raise OnetokError(f"{shown}: folder {folder!r} is unknown; {_nearest(folder, FOLDERS)}")
    content = _read_yaml(path, shown)
    for kind, families in content.items():
        if kind.startswith("_"):
            continue
        if kind not in FOLDERS[folder]:
            raise OnetokError(f"{shown}: {kind}: unknown key; {_nearest(kind, FOLDERS[folder])}")
        if not isinstance(families, dict) or list(families) != [family]:
            found = list(families) if isinstance(families, dict) else families
            raise OnetokError(
                f"{shown}: {kind}: expected one family named {family!r} as the file, found {found}"
            )
        if not isinstance(families[family], dict):
            raise OnetokError(f"{shown}: {kind}.{family}: expected variants, found {families[family]!r}")
        for variant, value in families[family].items():
            yield kind, f"{family}/{variant}", value


# ---------------------------------------------------------------------------------------------- YAML


class _Loader(yaml.SafeLoader):
    """YAML 1.2 floats (1e-4 is a number), and no key twice."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+$"), list("-+0123456789")
)


def _mapping_without_duplicates(loader: _Loader, node: yaml.MappingNode) -> dict[Any, Any]:
    seen: set[Any] = set()
    for key_node, _ in node.value:
        key = loader.construct_object(key_node) if key_node.tag != "tag:yaml.org,2002:merge" else None
        if key is not None and key in seen:
            raise yaml.constructor.ConstructorError(
                None, None, f"key {key!r} appears twice", key_node.start_mark
            )
        seen.add(key)
    loader.flatten_mapping(node)
    return loader.construct_mapping(node, deep=True)


_Loader.add_constructor("tag:yaml.org,2002:map", _mapping_without_duplicates)


def _read_yaml(path: Path, shown: str) -> dict[str, Any]:
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), _Loader)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise OnetokError(f"{shown}: not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        raise OnetokError(f"{shown}: expected a mapping of kinds, found {type(content).__name__}")
    return content


# ---------------------------------------------------------------------------------------------- messages


def _place(files: Mapping[tuple[str, str], str], kind: str, name: str) -> str:
    return f"{files[kind, name]}: {kind}.{name.replace('/', '.')}"


def _nearest(word: str, known: Mapping[str, Any] | tuple[str, ...] | list[str]) -> str:
    names = sorted(known)
    close = difflib.get_close_matches(word, names, n=1, cutoff=0.0)
    return f"nearest known: {close[0]}" if close else "nothing of this kind is defined"


def _explain(detail: dict[str, Any], files: Mapping[tuple[str, str], str]) -> str:
    """Turn one pydantic error into one line."""
    kind, name, *path = detail["loc"]
    keys, siblings, path = _walk(kind, path)
    where = ".".join([_place(files, kind, name), *keys])
    found = detail["input"]
    match detail["type"]:
        case "extra_forbidden":
            return f"{where}: unknown key, found value {found!r}; {_nearest(str(path[-1]), siblings)}"
        case "missing":
            return f"{where}: missing key; found {', '.join(found) if isinstance(found, dict) else found!r}"
        case "union_tag_invalid":
            tags = [tag.strip(" '") for tag in detail["ctx"]["expected_tags"].split(",")]
            return f"{where}.kind: found {detail['ctx']['tag']!r}; {_nearest(detail['ctx']['tag'], tags)}"
        case "union_tag_not_found":
            return f"{where}: missing key 'kind'"
        case "literal_error":
            options = re.findall(r"'([^']*)'", detail["ctx"]["expected"])
            expected = f"expected {detail['ctx']['expected']}; {_nearest(str(found), options)}"
            return f"{where}: found {found!r}, {expected}"
    return f"{where}: found {found!r} ({type(found).__name__}); {detail['msg'][0].lower()}{detail['msg'][1:]}"


def _walk(kind: str, path: list[Any]) -> tuple[list[str], list[str], list[Any]]:
    """Follow a location through the models: (keys as in the file, keys known at its end, keys left)."""
    (_, known_type) = get_args(Study.model_fields[kind].annotation)
    keys: list[str] = []
    siblings: list[str] = []
    current: Any = known_type
    for step in path:
        current, is_tag = _descend_union(current, step)
        if is_tag:
            continue
        keys.append(str(step))
        model = current if isinstance(current, type) and issubclass(current, BaseModel) else None
        siblings = list(model.model_fields) if model else []
        if model and step in model.model_fields:
            current = model.model_fields[step].annotation
            if model.model_fields[step].discriminator:
                current = Annotated[current, model.model_fields[step]]
        elif get_origin(current) is tuple and isinstance(step, int):
            current = get_args(current)[0]
    return keys, siblings, path


def _descend_union(current: Any, step: Any) -> tuple[Any, bool]:
    """Strip Annotated, None and union layers; pick the member whose `kind` is `step`."""
    if get_origin(current) is Annotated:
        current = get_args(current)[0]
    members = (
        [m for m in get_args(current) if m is not type(None)] if get_origin(current) is not tuple else []
    )
    models = [m for m in members if isinstance(m, type) and issubclass(m, BaseModel)]
    for member in models:
        if "kind" in member.model_fields and step in get_args(member.model_fields["kind"].annotation):
            return member, True
    return (models[0] if len(models) == 1 else current), False


def _check_references(study: Study, files: Mapping[tuple[str, str], str]) -> list[str]:
    problems = []
    for kind in Study.model_fields:
        for name, entry in getattr(study, kind).items():
            if not re.fullmatch(r"[a-z0-9_]+/[a-z0-9][a-z0-9-]*", name):
                problems.append(
                    f"{_place(files, kind, name)}: a variant's name is lower case letters, digits and hyphens"
                )
            for path, referred, target in _references(entry):
                known = getattr(study, referred)
                if target not in known:
                    where = f"{_place(files, kind, name)}.{path}"
                    problems.append(f"{where}: no {referred} named {target!r}; {_nearest(target, known)}")
    for name, figure in study.figures.items():
        if isinstance(figure, CurvesFigure):
            for run in figure.runs:
                known = [f"{k}/{n}" for k in ("tokenizers", "generators") for n in getattr(study, k)]
                if run not in known:
                    where = f"{_place(files, 'figures', name)}.runs"
                    problems.append(f"{where}: no run named {run!r}; {_nearest(run, known)}")
    return problems


def _references(model: BaseModel, prefix: str = "") -> Iterator[tuple[str, str, str]]:
    """Yield (path, kind referred to, name) of every field below `model` that names a variant."""
    for field, info in type(model).model_fields.items():
        value = getattr(model, field)
        kinds = [m.kind for m in _metadata(info) if isinstance(m, RefersTo)]
        values = value if isinstance(value, tuple) else (value,)
        for item in values:
            if isinstance(item, BaseModel):
                yield from _references(item, f"{prefix}{field}.")
            elif kinds and item is not None:
                yield f"{prefix}{field}", kinds[0], item


def _metadata(info: Any) -> Iterator[Any]:
    """Yield the annotations of a field, those inside `X | None` and `tuple[X, ...]` too."""
    yield from info.metadata
    pending = [info.annotation]
    while pending:
        annotation = pending.pop()
        if get_origin(annotation) is Annotated:
            yield from annotation.__metadata__
        pending += [arg for arg in get_args(annotation) if arg is not ...]


# ---------------------------------------------------------------------------------------------- consistency


def _inconsistencies(study: Study) -> Iterator[tuple[str, str, str]]:
    """Yield (kind, name, what is wrong) where two values cannot both hold."""
    for kind in ("encoders", "tokenizers", "generators"):
        for name, entry in getattr(study, kind).items():
            training = getattr(entry, "training", None)
            if training and training.batch % training.accumulation:
                text = f"training.batch {training.batch} is not a multiple of accumulation"
                yield kind, name, f"{text} {training.accumulation}"
            if training and training.checkpoint_every % training.log_every:
                # A row of scalars must not straddle a checkpoint of an interrupted run.
                text = f"training.checkpoint_every {training.checkpoint_every} is not a multiple of log_every"
                yield kind, name, f"{text} {training.log_every}"
    for name, tokenizer in study.tokenizers.items():
        for side in ("encoder_patch", "decoder_patch"):
            if tokenizer.images.size % getattr(tokenizer.model, side):
                text = f"model.{side} {getattr(tokenizer.model, side)} does not divide images.size"
                yield "tokenizers", name, f"{text} {tokenizer.images.size}"
        for text in _inconsistent_losses(study, tokenizer):
            yield "tokenizers", name, text
    for name, benchmark in study.benchmarks.items():
        for field in ("encoder", "judge"):
            encoder = getattr(benchmark, field)
            if encoder and isinstance(study.encoders[encoder], LPIPSEncoder):
                yield "benchmarks", name, f"{field}: {encoder} is of kind lpips, which has no features"
    for name, tokens in study.tokens.items():
        size = study.tokenizers[tokens.tokenizer].images.size
        if tokens.images.size != size:
            yield "tokens", name, f"images.size {tokens.images.size} is not the tokenizer's {size}"
    for name, generator in study.generators.items():
        classes = study.datasets[study.tokens[generator.tokens].dataset].classes
        if generator.classes != classes:
            yield "generators", name, f"classes {generator.classes}, but the dataset has {classes}"
    for name, samples in study.samples.items():
        benchmark = study.benchmarks[samples.benchmark]
        classes = study.generators[samples.generator].classes
        if not isinstance(benchmark, GenerationBenchmark):
            yield (
                "samples",
                name,
                f"benchmark {samples.benchmark} is of kind {benchmark.kind}, expected generation",
            )
        elif benchmark.samples % classes:
            text = (
                f"the benchmark's {benchmark.samples} samples cannot be spread evenly over {classes} classes"
            )
            yield "samples", name, text
    for name, encoder in study.encoders.items():
        if isinstance(encoder, ClassifierEncoder):
            for channels in encoder.model.channels:
                if channels % CLASSIFIER_GROUPS:
                    text = (
                        f"model.channels: {channels} is not a multiple of the {CLASSIFIER_GROUPS} norm groups"
                    )
                    yield "encoders", name, text
    for name, generator in study.generators.items():
        if generator.model.width % generator.model.heads:
            text = f"model.width {generator.model.width} is not a multiple of heads {generator.model.heads}"
            yield "generators", name, text
    for kind, name, images in _all_images(study):
        if images.shorter_edge < images.size:
            yield kind, name, f"images.shorter_edge {images.shorter_edge} is below images.size {images.size}"
    for name, tokenizer in study.tokenizers.items():
        size = study.benchmarks[tokenizer.benchmark].images.size
        if size != tokenizer.images.size:
            text = f"images.size {tokenizer.images.size}, but its benchmark's is {size}"
            yield "tokenizers", name, text
    for name, tokenizer in study.tokenizers.items():
        kind = study.benchmarks[tokenizer.benchmark].kind
        if kind != "reconstruction":
            yield (
                "tokenizers",
                name,
                f"benchmark {tokenizer.benchmark} is of kind {kind}, expected reconstruction",
            )
    for name, table in study.tables.items():
        for index, row in enumerate(table.rows):
            if row.tokenizer and row.samples:
                yield "tables", name, f"rows.{index}: names a tokenizer and samples, expected at most one"
        for index, column in enumerate(table.columns):
            kinds = [names.RECONSTRUCTION] * any(row.tokenizer for row in table.rows)
            kinds += [names.GENERATION] * any(row.samples for row in table.rows)
            for known in kinds or [names.ALL]:
                if column.metric not in known:
                    text = f"columns.{index}.metric: no metric named {column.metric!r}"
                    yield "tables", name, f"{text}; {_nearest(column.metric, known)}"


def _all_images(study: Study) -> Iterator[tuple[str, str, Images]]:
    for kind in ("encoders", "tokenizers", "tokens", "benchmarks"):
        for name, entry in getattr(study, kind).items():
            if hasattr(entry, "images"):
                yield kind, name, entry.images


def _inconsistent_losses(study: Study, tokenizer: Tokenizer) -> Iterator[str]:
    for index, term in enumerate(tokenizer.losses.perceptual):
        encoder = study.encoders[term.encoder]
        where = f"losses.perceptual.{index}"
        if isinstance(encoder, InceptionEncoder):
            text = f"{where}.encoder: {term.encoder} is of kind inception"
            yield f"{text}, which rounds images and passes no gradient"
        if isinstance(encoder, LPIPSEncoder) != (term.layer == "lpips"):
            yield f"{where}.layer: {term.encoder} of kind {encoder.kind} has no layer {term.layer!r}"
    adversarial = tokenizer.losses.adversarial
    if adversarial is None:
        return
    if adversarial.start >= tokenizer.training.steps:
        text = f"losses.adversarial.start {adversarial.start} is not below training.steps"
        yield f"{text} {tokenizer.training.steps}; without a discriminator, adversarial is null"
    for channels in adversarial.discriminator.stages:
        if channels % adversarial.discriminator.groups:
            text = f"losses.adversarial.discriminator.groups {adversarial.discriminator.groups}"
            yield f"{text} does not divide a stage of {channels} channels"
