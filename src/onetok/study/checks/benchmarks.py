"""Checks of benchmarks, and of the tables and speed runs that name what was measured."""

from __future__ import annotations

from collections.abc import Iterator

from onetok.errors import nearest
from onetok.study import metric_names
from onetok.study.checks.encoders import check_text_encoder
from onetok.study.checks.shared import check_captions, check_images, check_trained_on
from onetok.study.metric_names import SSIM_WINDOW
from onetok.study.schema.benchmarks import (
    Benchmark,
    CaptionBenchmark,
    GenerationBenchmark,
    ReconstructionBenchmark,
    Reference,
    ReferenceSplit,
    SampledBenchmark,
    TaskCounts,
    TextToImageBenchmark,
)
from onetok.study.schema.encoders import CLIPEncoder, InceptionEncoder, LPIPSEncoder, OpenCLIPEncoder
from onetok.study.schema.generators import TrainedGenerator
from onetok.study.schema.speeds import (
    ComparisonSpeed,
    DiffusionComparison,
    Speed,
    TokenizerSpeed,
    UnreleasedSystem,
)
from onetok.study.schema.spreads import Spread
from onetok.study.schema.study import Study
from onetok.study.schema.tables import CurvesFigure, Figure, OverviewFigure, PromptsFigure, Table
from onetok.study.schema.tokenizers import TrainedTokenizer
from onetok.study.shapes import images_of, prompts_of


def check_benchmark(study: Study, benchmark: Benchmark) -> Iterator[str]:
    yield from check_images(benchmark.images)
    yield from _images_of_the_split(study, benchmark)
    if isinstance(benchmark, CaptionBenchmark):
        yield from check_captions(study, benchmark.dataset)
        yield from check_trained_on(study, benchmark.dataset)  # for captions drawn at random
        if benchmark.exact is not None and study.datasets[benchmark.dataset].source.kind != benchmark.exact:
            found = study.datasets[benchmark.dataset].source.kind
            yield f"exact {benchmark.exact}: {benchmark.dataset} is of kind {found}, expected {benchmark.exact}"
        return
    yield from _counts(benchmark)
    yield from _inception(benchmark)
    if isinstance(benchmark, GenerationBenchmark) and benchmark.statistics is not None:
        if not isinstance(study.encoders[benchmark.encoder], InceptionEncoder):
            yield f"statistics: are Inception's, but encoder {benchmark.encoder} is of another kind; expected null"
        if benchmark.class_accuracy:
            yield "class_accuracy: found true with statistics, which hold no classes; expected false"
    if isinstance(benchmark, ReconstructionBenchmark) and benchmark.images.size < SSIM_WINDOW:
        yield f"images.size {benchmark.images.size} is below {SSIM_WINDOW}, the side of SSIM's window"
    if benchmark.split == "train":
        yield from check_trained_on(study, benchmark.dataset)
    for role, name in (("encoder", benchmark.encoder), ("second_encoder", benchmark.second_encoder)):
        encoder = study.encoders[name]
        if isinstance(encoder, LPIPSEncoder):
            yield f"{role}: {name} is of kind lpips, which has no features"
        if isinstance(encoder, CLIPEncoder | OpenCLIPEncoder):
            yield f"{role}: {name} is of kind {encoder.kind}, which has no classes"
        if isinstance(encoder, InceptionEncoder) and benchmark.class_accuracy:
            yield f"class_accuracy: the classes of {role} {name} are not the dataset's"
    if isinstance(benchmark, TextToImageBenchmark):
        yield from check_captions(study, benchmark.dataset)
        yield from check_text_encoder(study, "clip", benchmark.clip)
        yield from _detector(study, benchmark, benchmark.detector, benchmark.prompts)
        if benchmark.samples % benchmark.reference_images:
            text = f"samples {benchmark.samples} is not a multiple of reference_images"
            yield f"{text} {benchmark.reference_images}: captions would not be drawn equally often"
    if isinstance(benchmark, ReconstructionBenchmark) and benchmark.captions is not None:
        yield from check_captions(study, benchmark.dataset)
        captions = benchmark.captions
        yield from _detector(study, benchmark, captions.detector, captions.prompts)


def _images_of_the_split(study: Study, benchmark: ReferenceSplit) -> Iterator[str]:
    """Check the number of images against the dataset, where params alone say it."""
    found = images_of(study.datasets[benchmark.dataset], benchmark.split)
    if found is not None and benchmark.reference_images != found:
        where = f"{benchmark.dataset} {benchmark.split}"
        yield f"reference_images {benchmark.reference_images}, but {where} has {found}"


def _counts(benchmark: Reference) -> Iterator[str]:
    """Check numbers of images against each other."""
    images = benchmark.reference_images
    if isinstance(benchmark, SampledBenchmark):
        images = benchmark.samples
        if benchmark.manifold_images > benchmark.reference_images:
            text = f"manifold_images {benchmark.manifold_images} is above reference_images"
            yield f"{text} {benchmark.reference_images}"
        fewest = min(benchmark.manifold_images, benchmark.samples)
        if benchmark.neighbours >= fewest:
            text = f"neighbours {benchmark.neighbours}, expected fewer than the {fewest} images"
            yield f"{text} of manifold_images and of samples"
    if benchmark.inception_splits > images:
        yield f"inception_splits {benchmark.inception_splits} of {images} images: one would be empty"


def _inception(benchmark: Reference) -> Iterator[str]:
    splits, seed = benchmark.inception_splits, benchmark.inception_shuffle_seed
    if splits > 1 and seed is None:
        text = f"inception_shuffle_seed: found null with {splits} splits, expected a seed"
        yield f"{text}: a split of images in the order of their classes holds few classes"
    if splits == 1 and seed is not None:
        yield f"inception_shuffle_seed: found {seed} with one split, where it has no effect; expected null"


def _detector(
    study: Study, benchmark: Reference, detector: str | None, prompts: TaskCounts | None
) -> Iterator[str]:
    dataset = study.datasets[benchmark.dataset]
    kind = dataset.source.kind
    if detector == "scenes-exact" and kind != "scenes":
        yield f"detector scenes-exact: {benchmark.dataset} is of kind {kind}, expected scenes"
        return
    if detector is not None and prompts is None:
        yield "prompts: found null with a detector, expected the number of prompts of each task"
    expected = prompts_of(dataset) if benchmark.split == "val" else None
    if prompts is not None and expected is not None:
        for task, count in expected.items():
            if getattr(prompts, task) != count:
                yield f"prompts.{task} {getattr(prompts, task)}, but {benchmark.dataset} val has {count}"


def check_table(study: Study, table: Table) -> Iterator[str]:
    for index, row in enumerate(table.rows):
        named = [kind for kind in ("tokenizer", "samples", "captions") if getattr(row, kind)]
        if len(named) > 1:
            yield f"rows.{index}: names {' and '.join(named)}, expected at most one"
    measured = [metric_names.RECONSTRUCTION] * any(row.tokenizer for row in table.rows)
    measured += [metric_names.GENERATION] * any(row.samples for row in table.rows)
    measured += [metric_names.CAPTIONING] * any(row.captions for row in table.rows)
    for index, column in enumerate(table.columns):
        if column.metric == "sfid":
            yield from _spatial(study, table, f"columns.{index}.metric")
        for known in measured or [metric_names.ALL]:
            if column.metric not in known:
                text = f"columns.{index}.metric: no metric named {column.metric!r}"
                yield f"{text}; {nearest(column.metric, known)}"
    columns = [column.metric for column in table.columns]
    for index, row in enumerate(table.rows):
        for metric in row.published.figures if row.published else ():
            if metric not in columns:
                where = f"rows.{index}.published.figures.{metric}"
                yield f"{where}: no column of this metric would show it; {nearest(metric, columns)}"
    yield from _labels(table)
    labels = [row.label for row in table.rows]
    for index, label in enumerate(labels):
        if label in labels[:index]:
            yield f"rows.{index}.label: {label!r} is also that of rows.{labels.index(label)}, expected another"


def _spatial(study: Study, table: Table, where: str) -> Iterator[str]:
    """Yield a line for each row whose benchmark's network has no spatial features, as sFID needs them."""
    for row in table.rows:
        if row.samples is not None:
            benchmark = study.benchmarks[study.samples[row.samples].benchmark]
            assert isinstance(benchmark, SampledBenchmark)
            if not isinstance(study.encoders[benchmark.encoder], InceptionEncoder):
                text = f"sfid needs an encoder of kind inception, but {row.samples} is scored by {benchmark.encoder}"
                yield f"{where}: {text}"


def _labels(table: Table) -> Iterator[str]:
    """Yield what is wrong with the rows and columns that controls and claims name."""
    rows, columns = [row.label for row in table.rows], [column.metric for column in table.columns]
    named = [(f"controls.{index}", label) for index, label in enumerate(table.controls)]
    for index, claim in enumerate(table.claims):
        named += [(f"claims.{index}.row", claim.row), (f"claims.{index}.other", claim.other)]
        if claim.metric not in columns:
            yield (
                f"claims.{index}.metric: no column of {claim.metric!r} here; {nearest(claim.metric, columns)}"
            )
    for where, label in named:
        if rows.count(label) != 1:
            found = f"{rows.count(label)} rows labelled {label!r}, expected one"
            yield f"{where}: {found}; {nearest(label, rows)}"


def check_figure(study: Study, figure: Figure) -> Iterator[str]:
    if isinstance(figure, PromptsFigure):
        for name in figure.samples:
            yield from _samples_of(study, "samples", name, "captions")
    if isinstance(figure, OverviewFigure):
        yield from _samples_of(study, "classes.samples", figure.classes.samples, "classes")
        yield from _samples_of(study, "prompts.samples", figure.prompts.samples, "captions")
    if isinstance(figure, CurvesFigure):
        for run in figure.runs:
            kind, name = run.split("/", 1)
            entry = getattr(study, kind)[name]
            if not isinstance(entry, TrainedTokenizer | TrainedGenerator):
                yield f"runs: {run} of kind {entry.kind} is not trained here, so it has no scalars"


def _samples_of(study: Study, where: str, name: str, expected: str) -> Iterator[str]:
    """Yield a problem where a set of samples is not made of what is expected, classes or captions."""
    found = study.generators[study.samples[name].generator].reads
    if found != expected:
        yield f"{where}: {name} are of {found}, expected samples of {expected}"


def check_speed(study: Study, speed: Speed) -> Iterator[str]:
    if isinstance(speed, TokenizerSpeed):
        for name in speed.tokenizers:
            yield from _untrained(study, "tokenizers", name)
    if isinstance(speed, ComparisonSpeed):
        for index, comparison in enumerate(speed.comparisons):
            for text in _comparison(study, comparison):
                yield f"comparisons.{index}.{text}"


def check_spread(study: Study, spread: Spread) -> Iterator[str]:
    if len(study.spreads) > 1:
        yield f"{len(study.spreads)} spreads in this study, expected one: {', '.join(study.spreads)}"
    seen: dict[str, int] = {}
    for index, run in enumerate(spread.runs):
        conditions = f"seed_offset {run.seed_offset} and instructions {run.instructions}"
        for what in (f"name {run.name}", conditions):
            if what in seen:
                yield f"runs.{index}: {what} as runs.{seen[what]}, expected another run"
            seen.setdefault(what, index)


def _untrained(study: Study, where: str, name: str) -> Iterator[str]:
    tokenizer = study.tokenizers[name]
    if not tokenizer.buildable_alone:
        yield f"{where}: {name} of kind {tokenizer.kind} cannot be built without what it is trained from"


def _comparison(study: Study, comparison: DiffusionComparison) -> Iterator[str]:
    system, diffusion = comparison.system, comparison.diffusion
    if isinstance(system, UnreleasedSystem):
        for text in system.tokenizer.problems():
            yield f"system.tokenizer.{text}"
    else:
        generator = study.generators[study.samples[system.samples].generator]
        yield from _untrained(study, "system.samples", generator.tokenizer_name(study))
    if diffusion.latent % diffusion.patch:
        yield f"diffusion.patch {diffusion.patch} does not divide latent {diffusion.latent}"
    if diffusion.width % diffusion.heads:
        yield f"diffusion.width {diffusion.width} is not a multiple of heads {diffusion.heads}"
