"""What each artefact is made from: kinds of artefacts as records, and the jobs that follow from params.

A job is one run of a stage: the slice of the params that it uses, the receipts that it reads, the files that it
writes. Its inputs are the entries that its own entry of params names, so an edge of the DAG is written once, as a
reference in params. Snakemake's rules, dvc.yaml, the stages themselves and `onetok verify` all ask here. No torch is
imported.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

from pydantic import BaseModel

from onetok.errors import OnetokError
from onetok.study.references import references
from onetok.study.schema.benchmarks import GenerationBenchmark, SampledBenchmark, TextToImageBenchmark
from onetok.study.schema.encoders import ClassifierEncoder, CLIPEncoder
from onetok.study.schema.generators import ReleasedGenerator, TrainedCaptioner, TrainedGenerator
from onetok.study.schema.speeds import ComparisonSpeed, GeneratorSpeed, StudySystem, TokenizerSpeed
from onetok.study.schema.study import Study
from onetok.study.schema.tables import CaptionsFigure, CurvesFigure, OverviewFigure, ReconstructionFigure, Row
from onetok.study.schema.tokenizers import TrainedTokenizer

# Raise it when receipts hold something else: what was made before is then made again, for nothing says what it read.
RECEIPTS = 2


@dataclass(frozen=True, kw_only=True)
class Artefact:
    """A folder below results/ with a receipt in it."""

    kind: str
    name: str  # family/variant

    @property
    def stage(self) -> str:
        """What makes it."""
        return KINDS[self.kind].stage

    @property
    def folder(self) -> str:
        return f"results/{self.kind}/{self.name}"

    @property
    def receipt(self) -> str:
        return f"{self.folder}/receipt.json"


@dataclass(frozen=True, kw_only=True)
class Job:
    artefact: Artefact
    params: dict[str, Any]  # the resolved slice; another value means another artefact
    inputs: tuple[Artefact, ...]  # whose receipts it reads
    payloads: tuple[str, ...]  # further files that it reads, covered by the receipts of the inputs
    outputs: tuple[str, ...]  # files and folders that it writes into its folder, beside the receipt

    @property
    def stage(self) -> str:
        return self.artefact.stage

    @property
    def name(self) -> str:
        return self.artefact.name

    @property
    def version(self) -> int:
        return KINDS[self.artefact.kind].version

    @property
    def slice(self) -> str:
        """The params, the stage's version and the form of receipts as canonical JSON."""
        state = {"version": self.version, "receipts": RECEIPTS, "params": self.params}
        return json.dumps(state, sort_keys=True)


class Input(NamedTuple):
    artefact: Artefact
    files: tuple[str, ...]  # of its folder, which the job opens beside its receipt
    covered: bool = False  # by the receipt of another input, which was made from it: its own is not read


# Says of an artefact whether it is made, with all that it is made from, as today's params say (receipts.Made).
IsMade = Callable[[Artefact], bool]


def nothing_made(artefact: Artefact) -> bool:
    """Say of every artefact that it is not made."""
    return False


class Needs(NamedTuple):
    """What a planner says of an artefact."""

    params: dict[str, Any]
    inputs: list[Input]
    outputs: tuple[str, ...] = ()  # beside those of every artefact of its kind


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A kind of artefact: a folder below results/, the rule and the stage that make it."""

    name: str  # the folder
    stage: str  # onetok.stages.<stage>, and the rule's name
    # Raise it when a change of the stage's code changes what it writes: everything below is then made again.
    version: int
    source: str  # the kind of params whose entries are made, one artefact each
    outputs: tuple[str, ...]  # that every job writes, beside the receipt; folders end in /
    payload: tuple[str, ...] = ()  # of the outputs, what the jobs that read it open
    distributed: bool = False  # whether several processes share a job, under the launch prefix of the machine
    needs: Callable[[Study, str], Needs]
    # What its jobs need beside that of what is made already; no other kind's jobs depend on anything but params.
    needs_of_made: Callable[[Study, str, IsMade], Needs] | None = None

    def job(self, study: Study, name: str, is_made: IsMade) -> Job:
        needs = self.needs_of_made(study, name, is_made) if self.needs_of_made else self.needs(study, name)
        outputs = (*(output.rstrip("/") for output in self.outputs), *needs.outputs)
        inputs = list(dict.fromkeys(needs.inputs))
        return Job(
            artefact=Artefact(kind=self.name, name=name),
            params=needs.params,
            inputs=tuple(read.artefact for read in inputs if not read.covered),
            payloads=tuple(f"{read.artefact.folder}/{file}" for read in inputs for file in read.files),
            outputs=outputs,
        )


# ---------------------------------------------------------------------------------------------- the DAG


def plan(study: Study, kind: str, name: str, is_made: IsMade = nothing_made) -> Job:
    """Return the job that makes an artefact.

    `is_made` matters to tables of released weights alone, which also hold the rows that are made already.

    Raises OnetokError for a name that no params file defines.
    """
    if kind not in KINDS:
        raise OnetokError(f"no kind of artefact {kind!r}, known: {', '.join(KINDS)}")
    source = KINDS[kind].source
    known = getattr(study, source)
    if name not in known:
        raise OnetokError(f"no {source} named {name!r} in params/, known: {', '.join(sorted(known))}")
    return KINDS[kind].job(study, name, is_made)


def all_jobs(study: Study) -> Iterator[Job]:
    """Yield every job that the tables and figures of a study pull, inputs before what reads them."""
    return jobs_behind(study, targets(study))


def jobs_behind(study: Study, wanted: Iterable[Artefact], is_made: IsMade = nothing_made) -> Iterator[Job]:
    """Yield the jobs that make `wanted` and all that they are made from, inputs before what reads them.

    `is_made` is that of `plan`.
    """
    done: set[Artefact] = set()

    def visit(artefact: Artefact) -> Iterator[Job]:
        if artefact in done:
            return
        done.add(artefact)
        job = plan(study, artefact.kind, artefact.name, is_made)
        for needed in job.inputs:
            yield from visit(needed)
        yield job

    for artefact in wanted:
        yield from visit(artefact)


def artefact_at(path: str) -> Artefact | None:
    """Return the artefact whose receipt a path below a study is, None for another path."""
    found = re.fullmatch(r"results/(.+)/([\w-]+/[\w-]+)/receipt\.json", path, re.ASCII)
    if found is None or found[1] not in KINDS:
        return None
    return Artefact(kind=found[1], name=found[2])


def waiting(study: Study) -> dict[Artefact, int]:
    """Return, for every artefact that is pulled, how many jobs wait for it one after the other."""
    chain: dict[Artefact, int] = {}
    for job in reversed(list(all_jobs(study))):  # what reads an artefact comes before it
        here = chain.setdefault(job.artefact, 0)
        for needed in job.inputs:
            chain[needed] = max(chain.get(needed, 0), here + 1)
    return chain


def targets(study: Study) -> list[Artefact]:
    """Return what `rule all` asks for: every table and every figure."""
    return [Artefact(kind=kind, name=name) for kind in ("tables", "figures") for name in getattr(study, kind)]


def released_targets(study: Study, is_made: IsMade) -> list[Artefact]:
    """Return what `rule released` asks for: every table with a row that can be had without any training."""
    artefacts = [Artefact(kind="released", name=name) for name in study.tables]
    return [found for found in artefacts if plan(study, found.kind, found.name, is_made).inputs]


def speed_targets(study: Study) -> list[Artefact]:
    """Return what `rule speed` asks for: every measurement of speed. No table and no receipt depends on one."""
    return [Artefact(kind="benchmarks/speed", name=name) for name in study.speeds]


# ---------------------------------------------------------------------------------------------- inputs


def _dump(model: BaseModel, *exclude: str) -> dict[str, Any]:
    return model.model_dump(mode="json", exclude=set(exclude))


def _input(kind: str, name: str, files: tuple[str, ...] | None = None) -> Input:
    """Return an input of which a job opens `files`, or what is usual of its kind."""
    payload = KINDS[kind].payload if files is None else files
    return Input(Artefact(kind=kind, name=name), tuple(file.rstrip("/") for file in payload))


def _named(entry: BaseModel, *without: str) -> list[Input]:
    """Return the artefacts that an entry names, but for those named by the fields `without`."""
    found = (found for found in references(entry) if found.path.split(".")[0] not in without)
    return [_input(kind, name) for _, kind, name in found]


def _as_params_say(source: str, study: Study, name: str) -> Needs:
    """Return the needs of an artefact whose inputs and params are those of its entry."""
    entry = getattr(study, source)[name]
    return Needs(_dump(entry), _named(entry))


def _encoder(study: Study, name: str) -> Needs:
    needs = _as_params_say("encoders", study, name)
    return needs._replace(outputs=("scalars.csv", "accuracy.json") if needs.inputs else ())


def _tokenizer(study: Study, name: str) -> Needs:
    entry = study.tokenizers[name]
    if not isinstance(entry, TrainedTokenizer):
        return Needs(_dump(entry, "benchmark"), [])
    drawn = ("pictures",) if entry.training.steps else ()  # none of a tokenizer that stays as it starts
    return Needs(_dump(entry, "benchmark"), _named(entry, "benchmark"), ("scalars.csv", *drawn))


def _text_tokenizer(study: Study, name: str) -> Needs:
    return _as_params_say("text_tokenizers", study, name)


def _tokens(study: Study, name: str) -> Needs:
    needs = _as_params_say("tokens", study, name)
    return needs._replace(outputs=("captions",) if study.tokens[name].captions else ())


def _generator(study: Study, name: str) -> Needs:
    entry = study.generators[name]
    if isinstance(entry, ReleasedGenerator):
        # Of its tokenizer only the shape of the tokens matters here.
        shape = study.tokenizers[entry.tokenizer].token_shape(study)
        return Needs({**_dump(entry, "tokenizer"), "tokens": shape._asdict()}, [])
    return Needs(_dump(entry), _named(entry), ("scalars.csv",))


def _samples(study: Study, name: str) -> Needs:
    entry = study.samples[name]
    benchmark, generator = study.benchmarks[entry.benchmark], study.generators[entry.generator]
    assert isinstance(benchmark, SampledBenchmark)
    tokenizer = generator.tokenizer_name(study)
    # Of the benchmark only the number of images and their 8 bits matter here, and where their captions are.
    params = {
        **_dump(entry, "benchmark"),
        "images": benchmark.samples,
        "eight_bits": benchmark.eight_bits,
        "tokenizer": tokenizer,
    }
    inputs = [_input("generators", entry.generator), _input("tokenizers", tokenizer)]
    if generator.reads == "captions":
        params["prompts"] = {
            "dataset": benchmark.dataset,
            "split": benchmark.split,
            "images": benchmark.reference_images,
        }
        texts = (generator.text_encoder, study.tokenizers[tokenizer].text_encoder)
        inputs += [_input("encoders", text) for text in dict.fromkeys(texts) if text is not None]
        inputs.append(_input("datasets", benchmark.dataset))
    return Needs(params, inputs)


def _captions(study: Study, name: str) -> Needs:
    entry = study.captions[name]
    benchmark, generator = study.benchmarks[entry.benchmark], study.generators[entry.generator]
    assert isinstance(generator, TrainedCaptioner)
    tokenizer = generator.tokenizer_name(study)
    # Of the benchmark only the images matter here.
    captioned = benchmark.model_dump(mode="json", include={"dataset", "split", "images", "reference_images"})
    inputs = [
        _input("generators", entry.generator),
        _input("tokenizers", tokenizer),
        _input("text_tokenizers", generator.text_tokenizer),
        _input("datasets", benchmark.dataset),
    ]
    params = {**_dump(entry, "benchmark"), "captioned": captioned, "tokenizer": tokenizer}
    return Needs({**params, "text_tokenizer": generator.text_tokenizer}, inputs)


REFERENCE_FIELDS = (
    *("dataset", "split", "reference_images", "images", "encoder", "second_encoder", "batch"),
    *("class_accuracy", "manifold_images", "statistics"),
)
# With published statistics no image of the dataset is read.
PUBLISHED_FIELDS = ("encoder", "second_encoder", "batch", "manifold_images", "statistics")


def _reference(study: Study, name: str) -> Needs:
    entry = study.benchmarks[name]
    published = isinstance(entry, GenerationBenchmark) and entry.statistics is not None
    fields = PUBLISHED_FIELDS if published else REFERENCE_FIELDS
    params = {key: value for key, value in _dump(entry).items() if key in fields}
    return Needs(params, _named(entry, *(set(type(entry).model_fields) - set(fields))))


def _scored_by(study: Study, benchmark: str, *, images: bool) -> list[Input]:
    """Return what every score reads: the reference, and the networks and, for some, images it was measured on."""
    measured_on = _reference(study, benchmark).inputs
    if not images:
        measured_on = [found for found in measured_on if found.artefact.kind != "datasets"]
    return [_input("references", benchmark), *(found._replace(covered=True) for found in measured_on)]


def _score_reconstruction(study: Study, name: str) -> Needs:
    entry = study.tokenizers[name]
    benchmark = study.benchmarks[entry.benchmark]
    inputs = [
        *_scored_by(study, entry.benchmark, images=True),
        _input("tokenizers", name),
        *([_input("encoders", entry.text_encoder)] if entry.text_encoder is not None else []),
    ]
    return Needs({"tokenizer": name, "benchmark": entry.benchmark, **_dump(benchmark)}, inputs)


def _score_samples(study: Study, name: str) -> Needs:
    samples = study.samples[name]
    benchmark, generator = study.benchmarks[samples.benchmark], study.generators[samples.generator]
    of_captions = isinstance(benchmark, TextToImageBenchmark)
    inputs = [
        *_scored_by(study, samples.benchmark, images=of_captions),
        _input("samples", name),
        _input("generators", samples.generator),
        *([_input("tokens", generator.tokens)] if isinstance(generator, TrainedGenerator) else []),
    ]
    if isinstance(benchmark, TextToImageBenchmark):
        inputs.append(_input("encoders", benchmark.clip))
    # The reference's own receipt says what its statistics are.
    return Needs({"samples": name, "benchmark": samples.benchmark, **_dump(benchmark, "statistics")}, inputs)


def scores_of(row: Row) -> Artefact | None:
    """Return the scores that a row of a table shows, or None for a row of published figures alone."""
    if row.tokenizer is not None:
        return Artefact(kind="scores/reconstruction", name=row.tokenizer)
    if row.captions is not None:
        return Artefact(kind="scores/captions", name=row.captions)
    return Artefact(kind="scores/samples", name=row.samples) if row.samples is not None else None


def _score_captions(study: Study, name: str) -> Needs:
    entry = study.captions[name]
    benchmark = study.benchmarks[entry.benchmark]
    inputs = [
        _input("captions", name),
        _input("generators", entry.generator),
        _input("datasets", benchmark.dataset),
    ]
    return Needs({"captions": name, "benchmark": entry.benchmark, **_dump(benchmark)}, inputs)


def _table(study: Study, name: str) -> Needs:
    table = study.tables[name]
    # Tokenizers come first, then samples, then captions.
    fields = ("tokenizer", "samples", "captions")
    scores = [scores_of(row) for field in fields for row in table.rows if getattr(row, field) is not None]
    # Pages and `onetok compare` read the rest.
    return Needs(
        _dump(table, "spread", "controls"), [_input(found.kind, found.name) for found in scores if found]
    )


def _released_table(study: Study, name: str, is_made: IsMade) -> Needs:
    """Return the needs of a table without the rows that only a training run could fill in."""
    needs = _table(study, name)
    absent = {
        found.artefact
        for found in needs.inputs
        if not (is_made(found.artefact) or of_released_weights(study, found.artefact))
    }
    labels = [row.label for row in study.tables[name].rows if scores_of(row) in absent]
    inputs = [found for found in needs.inputs if found.artefact not in absent]
    return Needs({**needs.params, "not_made": labels}, inputs)


TRAINED = (TrainedTokenizer, TrainedGenerator, ClassifierEncoder, CLIPEncoder)


def of_released_weights(study: Study, artefact: Artefact) -> bool:
    """Return whether nothing has to be trained to make an artefact: all weights behind it are released ones."""
    entries = (
        getattr(study, KINDS[job.artefact.kind].source)[job.name] for job in jobs_behind(study, [artefact])
    )
    return not any(isinstance(entry, TRAINED) for entry in entries)


def _figure(study: Study, name: str) -> Needs:
    entry = study.figures[name]
    if isinstance(entry, ReconstructionFigure):
        kind, file = "scores/reconstruction", ("reconstructions.png",)
        inputs = [_input(kind, tokenizer, file) for tokenizer in entry.tokenizers]
    elif isinstance(entry, CaptionsFigure):
        benchmark = study.benchmarks[study.captions[entry.captions].benchmark]
        inputs = [_input("captions", entry.captions), _input("datasets", benchmark.dataset)]
        return Needs({**_dump(entry), "dataset": benchmark.dataset, "split": benchmark.split}, inputs)
    elif isinstance(entry, OverviewFigure):
        tokenizer, sets = entry.reconstructions.tokenizer, (entry.classes.samples, entry.prompts.samples)
        inputs = [_input("scores/reconstruction", tokenizer, ("reconstructions.png",))]
        inputs += [_input("samples", samples, ("shards",)) for samples in sets]
    elif isinstance(entry, CurvesFigure):
        inputs = [_input(kind, run, ()) for kind, run in (run.split("/", 1) for run in entry.runs)]
    else:
        inputs = [_input("samples", samples, ("shards",)) for samples in entry.samples]
    return Needs(_dump(entry), inputs)


def _speed(study: Study, name: str) -> Needs:
    entry = study.speeds[name]
    return Needs({**_dump(entry), "architectures": _measured(study, entry)}, [])  # its weights are random


def _measured(study: Study, entry: TokenizerSpeed | GeneratorSpeed | ComparisonSpeed) -> dict[str, Any]:
    """Return what shapes the models whose speed is measured, by name, and how generators are sampled."""
    if isinstance(entry, TokenizerSpeed):
        return {name: _architecture(study, name) for name in entry.tokenizers}
    if isinstance(entry, GeneratorSpeed):
        runs = (*entry.cpu.runs, *entry.cuda.runs)
        return {run.samples: _sampler(study, run.samples) for run in runs}
    found: dict[str, Any] = {}
    for comparison in entry.comparisons:
        if isinstance(comparison.system, StudySystem):  # the others are in the entry
            name = comparison.system.samples
            tokenizer = study.generators[study.samples[name].generator].tokenizer_name(study)
            found[name] = {**_sampler(study, name), "tokenizer": {tokenizer: _architecture(study, tokenizer)}}
    return found


def _sampler(study: Study, samples: str) -> dict[str, Any]:
    """Return what shapes a generator, the tokens that it generates, and how it is sampled."""
    entry = study.samples[samples]
    generator = study.generators[entry.generator]
    return {
        "generator": generator.model_dump(mode="json", include={"kind", "model", "classes"}),
        "tokens": study.tokenizers[generator.tokenizer_name(study)].token_shape(study)._asdict(),
        "sampling": _dump(entry.sampling),
    }


def _architecture(study: Study, tokenizer: str) -> dict[str, Any]:
    """Return what shapes a tokenizer, without how it is trained, scored or fetched."""
    return _dump(study.tokenizers[tokenizer], "dataset", "benchmark", "losses", "training", "weights")


# ---------------------------------------------------------------------------------------------- kinds

MODEL = ("weights.safetensors", "config.json")

KINDS = {
    kind.name: kind
    for kind in (
        Kind(
            name="datasets",
            stage="convert_dataset",
            version=2,
            source="datasets",
            outputs=("shards/", "report.json"),
            payload=("shards/",),
            needs=partial(_as_params_say, "datasets"),
        ),
        Kind(
            name="encoders",
            stage="train_encoder",
            version=1,
            source="encoders",
            outputs=MODEL,
            payload=("weights.safetensors",),
            distributed=True,
            needs=_encoder,
        ),
        Kind(
            name="tokenizers",
            stage="train_tokenizer",
            version=2,
            source="tokenizers",
            outputs=MODEL,
            payload=("weights.safetensors",),
            distributed=True,
            needs=_tokenizer,
        ),
        Kind(
            name="text_tokenizers",
            stage="train_text_tokenizer",
            version=1,
            source="text_tokenizers",
            outputs=(*MODEL, "scalars.csv"),
            payload=("weights.safetensors",),
            distributed=True,
            needs=_text_tokenizer,
        ),
        Kind(
            name="tokens",
            stage="cache_tokens",
            version=2,
            source="tokens",
            outputs=("tokens.npy", "labels.npy", "keys.npy"),
            payload=("tokens.npy",),
            distributed=True,
            needs=_tokens,
        ),
        Kind(
            name="generators",
            stage="train_generator",
            version=2,
            source="generators",
            outputs=MODEL,
            payload=("weights.safetensors",),
            distributed=True,
            needs=_generator,
        ),
        Kind(
            name="samples",
            stage="sample_images",
            version=2,
            source="samples",
            outputs=("shards/", "tokens.npy", "contact-sheet.png"),
            payload=("shards/", "tokens.npy"),
            distributed=True,
            needs=_samples,
        ),
        Kind(
            name="captions",
            stage="caption_images",
            version=1,
            source="captions",
            outputs=("captions.jsonl",),
            payload=("captions.jsonl",),
            distributed=True,
            needs=_captions,
        ),
        Kind(
            name="references",
            stage="measure_reference",
            version=3,
            source="benchmarks",
            outputs=("reference.safetensors",),
            payload=("reference.safetensors",),
            needs=_reference,
        ),
        Kind(
            name="scores/reconstruction",
            stage="score_reconstruction",
            version=5,
            source="tokenizers",
            outputs=("scores.json", "reconstructions.png"),
            payload=("scores.json",),
            needs=_score_reconstruction,
        ),
        Kind(
            name="scores/samples",
            stage="score_samples",
            version=4,
            source="samples",
            outputs=("scores.json",),
            payload=("scores.json",),
            needs=_score_samples,
        ),
        Kind(
            name="scores/captions",
            stage="score_captions",
            version=1,
            source="captions",
            outputs=("scores.json",),
            payload=("scores.json",),
            needs=_score_captions,
        ),
        Kind(
            name="tables",
            stage="build_table",
            version=5,
            source="tables",
            outputs=("table.csv", "table.md", "table.tex"),
            needs=_table,
        ),
        Kind(  # never pulled by `all`: what it holds depends on what is made, and a whole table is in tables/
            name="released",
            stage="build_released_table",
            version=1,
            source="tables",
            outputs=("table.csv", "table.md", "table.tex"),
            needs=_table,
            needs_of_made=_released_table,
        ),
        Kind(
            name="figures",
            stage="plot_figure",
            version=1,
            source="figures",
            outputs=("figure.png",),
            needs=_figure,
        ),
        Kind(  # never pulled: it belongs to a machine
            name="benchmarks/speed",
            stage="measure_speed",
            version=1,
            source="speeds",
            outputs=("speed.json", "table.md", "table.csv"),
            needs=_speed,
        ),
    )
}
KIND_OF_STAGE = {kind.stage: kind for kind in KINDS.values()}
