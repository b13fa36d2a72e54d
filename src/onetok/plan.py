"""What each artefact is made from: the one place that knows the edges of the DAG.

A job is one run of a stage: the slice of the params that it uses, the receipts that it reads, the files that it
writes. Snakemake's rules, the stages themselves and `onetok verify` all ask here. No torch is imported.

    kind                    stage                 results/…
    datasets                convert_dataset       datasets/<family>/<variant>/
    encoders                train_encoder         encoders/…
    tokenizers              train_tokenizer       tokenizers/…
    tokens                  cache_tokens          tokens/…
    generators              train_generator       generators/…
    samples                 sample_images         samples/…
    references              measure_reference     references/…         (one for each benchmark)
    scores/reconstruction   score_reconstruction  scores/reconstruction/…  (one for each tokenizer)
    scores/samples          score_samples         scores/samples/…     (one for each set of samples)
    tables                  build_table           tables/…
    figures                 plot_figure           figures/…
    benchmarks/speed        measure_speed         benchmarks/speed/…   (never pulled: it belongs to a machine)
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from onetok.derived import token_shape, tokenizer_of
from onetok.errors import OnetokError
from onetok.params import (
    READS_CAPTIONS,
    READS_TEXT,
    CachedStates,
    ClassifierEncoder,
    CLIPEncoder,
    CurvesFigure,
    FineTunedGenerator,
    GeneratorSpeed,
    PixelTokenizer,
    PromptsFigure,
    ReconstructionFigure,
    SampledBenchmark,
    SamplesFigure,
    Speed,
    Stage1Tokenizer,
    Stage2Tokenizer,
    Study,
    StudySystem,
    TextGenerator,
    TextToImageBenchmark,
    TokenizerSpeed,
    TrainedGenerator,
    TrainedTokenizer,
)

# Raise a stage's number when a change of its code changes what it writes: everything below is then made again.
VERSIONS = {
    "convert_dataset": 2,
    "train_encoder": 1,
    "train_tokenizer": 2,
    "cache_tokens": 2,
    "train_generator": 2,
    "sample_images": 2,
    "measure_reference": 1,
    "score_reconstruction": 4,
    "score_samples": 3,
    "build_table": 5,
    "plot_figure": 1,
    "measure_speed": 1,
}

# Raise it when receipts hold something else: what was made before is then made again, for nothing says what it read.
RECEIPTS = 2

# Stages that several processes share, under the launch prefix of the machine; the others run once.
DISTRIBUTED = frozenset(
    {"train_encoder", "train_tokenizer", "cache_tokens", "train_generator", "sample_images"}
)

STAGE_OF_KIND = {
    "datasets": "convert_dataset",
    "encoders": "train_encoder",
    "tokenizers": "train_tokenizer",
    "tokens": "cache_tokens",
    "generators": "train_generator",
    "samples": "sample_images",
    "references": "measure_reference",
    "scores/reconstruction": "score_reconstruction",
    "scores/samples": "score_samples",
    "tables": "build_table",
    "figures": "plot_figure",
    "benchmarks/speed": "measure_speed",
}
KIND_OF_STAGE = {stage: kind for kind, stage in STAGE_OF_KIND.items()}


@dataclass(frozen=True, kw_only=True)
class Artefact:
    """A folder below results/ with a receipt in it."""

    kind: str
    name: str  # family/variant

    @property
    def stage(self) -> str:
        """What makes it."""
        return STAGE_OF_KIND[self.kind]

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
        return VERSIONS[self.stage]

    @property
    def slice(self) -> str:
        """The params, the stage's version and the form of receipts as canonical JSON."""
        state = {"version": self.version, "receipts": RECEIPTS, "params": self.params}
        return json.dumps(state, sort_keys=True)


def plan(study: Study, kind: str, name: str) -> Job:
    """Return the job that makes an artefact.

    Raises OnetokError for a name that no params file defines.
    """
    if kind not in _PLANNERS:
        raise OnetokError(f"no kind of artefact {kind!r}, known: {', '.join(_PLANNERS)}")
    planner, source = _PLANNERS[kind]
    known = getattr(study, source)
    if name not in known:
        raise OnetokError(f"no {source} named {name!r} in params/, known: {', '.join(sorted(known))}")
    return planner(study, name)


def all_jobs(study: Study) -> Iterator[Job]:
    """Yield every job that the tables and figures of a study pull, inputs before what reads them."""
    return jobs_behind(study, targets(study))


def jobs_behind(study: Study, wanted: Iterable[Artefact]) -> Iterator[Job]:
    """Yield the jobs that make `wanted` and all that they are made from, inputs before what reads them."""
    done: set[Artefact] = set()

    def visit(artefact: Artefact) -> Iterator[Job]:
        if artefact in done:
            return
        done.add(artefact)
        job = plan(study, artefact.kind, artefact.name)
        for needed in job.inputs:
            yield from visit(needed)
        yield job

    for artefact in wanted:
        yield from visit(artefact)


def artefact_at(path: str) -> Artefact | None:
    """Return the artefact whose receipt a path below a study is, None for another path."""
    found = re.fullmatch(r"results/(.+)/([\w-]+/[\w-]+)/receipt\.json", path, re.ASCII)
    if found is None or found[1] not in _PLANNERS:
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


def speed_targets(study: Study) -> list[Artefact]:
    """Return what `rule speed` asks for: every measurement of speed. No table and no receipt depends on one."""
    return [Artefact(kind="benchmarks/speed", name=name) for name in study.speeds]


def _dump(model: BaseModel, *exclude: str) -> dict[str, Any]:
    return model.model_dump(mode="json", exclude=set(exclude))


def _dataset(study: Study, name: str) -> Job:
    return Job(
        artefact=Artefact(kind="datasets", name=name),
        params=_dump(study.datasets[name]),
        inputs=(),
        payloads=(),
        outputs=("shards", "report.json"),
    )


def _shards(dataset: str) -> str:
    return f"results/datasets/{dataset}/shards"


def _weights(kind: str, name: str) -> str:
    return f"results/{kind}/{name}/weights.safetensors"


def _encoder(study: Study, name: str) -> Job:
    entry = study.encoders[name]
    datasets = [entry.dataset] if isinstance(entry, ClassifierEncoder | CLIPEncoder) else []
    return Job(
        artefact=Artefact(kind="encoders", name=name),
        params=_dump(entry),
        inputs=tuple(Artefact(kind="datasets", name=dataset) for dataset in datasets),
        payloads=tuple(_shards(dataset) for dataset in datasets),
        outputs=(
            "weights.safetensors",
            "config.json",
            *(("scalars.csv", "accuracy.json") if datasets else ()),
        ),
    )


def _tokenizer(study: Study, name: str) -> Job:
    entry = study.tokenizers[name]
    artefact = Artefact(kind="tokenizers", name=name)
    model = ("weights.safetensors", "config.json")
    params = _dump(entry, "benchmark")
    if not isinstance(entry, TrainedTokenizer):
        return Job(artefact=artefact, params=params, inputs=(), payloads=(), outputs=model)
    networks = list(_frozen_networks(entry))
    return Job(
        artefact=artefact,
        params=params,
        inputs=(Artefact(kind="datasets", name=entry.dataset), *networks),
        payloads=(_shards(entry.dataset), *(_weights(read.kind, read.name) for read in networks)),
        outputs=(*model, "scalars.csv", "pictures"),
    )


def _frozen_networks(entry: TrainedTokenizer) -> Iterator[Artefact]:
    """Yield what a tokenizer's training reads beside the data."""
    if isinstance(entry, Stage1Tokenizer):
        yield Artefact(kind="tokenizers", name=entry.proxy)
    if isinstance(entry, Stage2Tokenizer):
        yield Artefact(kind="tokenizers", name=entry.stage_1)
    if isinstance(entry, READS_TEXT):
        yield Artefact(kind="encoders", name=entry.text)
    if isinstance(entry, PixelTokenizer):
        yield from (Artefact(kind="encoders", name=term.encoder) for term in entry.losses.perceptual)


def _tokens(study: Study, name: str) -> Job:
    entry = study.tokens[name]
    texts = [entry.captions.text] if isinstance(entry.captions, CachedStates) else []
    return Job(
        artefact=Artefact(kind="tokens", name=name),
        params=_dump(entry),
        inputs=(
            Artefact(kind="datasets", name=entry.dataset),
            Artefact(kind="tokenizers", name=entry.tokenizer),
            *(Artefact(kind="encoders", name=text) for text in texts),
        ),
        payloads=(
            _shards(entry.dataset),
            _weights("tokenizers", entry.tokenizer),
            *(_weights("encoders", text) for text in texts),
        ),
        outputs=("tokens.npy", "labels.npy", "keys.npy", *(("captions",) if entry.captions else ())),
    )


def _generator(study: Study, name: str) -> Job:
    entry = study.generators[name]
    artefact = Artefact(kind="generators", name=name)
    model = ("weights.safetensors", "config.json")
    if not isinstance(entry, TrainedGenerator):
        # Of its tokenizer only the shape of the tokens matters here.
        tokens = token_shape(study, study.tokenizers[entry.tokenizer])._asdict()
        params = {**_dump(entry, "tokenizer"), "tokens": tokens}
        return Job(artefact=artefact, params=params, inputs=(), payloads=(), outputs=model)
    read = []
    if isinstance(entry, TextGenerator):
        read.append(Artefact(kind="encoders", name=entry.text))
    if isinstance(entry, FineTunedGenerator):
        read.append(Artefact(kind="generators", name=entry.pretrained))
    return Job(
        artefact=artefact,
        params=_dump(entry),
        inputs=(Artefact(kind="tokens", name=entry.tokens), *read),
        payloads=(
            f"results/tokens/{entry.tokens}/tokens.npy",
            *(_weights(model.kind, model.name) for model in read),
        ),
        outputs=(*model, "scalars.csv"),
    )


def _samples(study: Study, name: str) -> Job:
    entry = study.samples[name]
    benchmark = study.benchmarks[entry.benchmark]
    assert isinstance(benchmark, SampledBenchmark)
    generator = study.generators[entry.generator]
    tokenizer = tokenizer_of(study, generator)
    # Of the benchmark only the number of images and their 8 bits matter here, and where their captions are.
    params = {
        **_dump(entry, "benchmark"),
        "images": benchmark.samples,
        "eight_bits": benchmark.eight_bits,
        "tokenizer": tokenizer,
    }
    models = [
        Artefact(kind="generators", name=entry.generator),
        Artefact(kind="tokenizers", name=tokenizer),
    ]
    inputs, payloads = [], []
    if isinstance(generator, READS_CAPTIONS):
        params["prompts"] = {
            "dataset": benchmark.dataset,
            "split": benchmark.split,
            "images": benchmark.reference_images,
        }
        inputs, payloads = [Artefact(kind="datasets", name=benchmark.dataset)], [_shards(benchmark.dataset)]
        source = study.tokenizers[tokenizer]
        texts = [generator.text, *([source.text] if isinstance(source, READS_TEXT) else [])]
        models += [Artefact(kind="encoders", name=text) for text in dict.fromkeys(texts)]
    return Job(
        artefact=Artefact(kind="samples", name=name),
        params=params,
        inputs=(*models, *inputs),
        payloads=(*(_weights(model.kind, model.name) for model in models), *payloads),
        outputs=("shards", "tokens.npy", "contact-sheet.png"),
    )


def _reference(study: Study, name: str) -> Job:
    entry = study.benchmarks[name]
    encoders = [entry.encoder, entry.judge]
    return Job(
        artefact=Artefact(kind="references", name=name),
        params={key: value for key, value in _dump(entry).items() if key in REFERENCE_FIELDS},
        inputs=(
            Artefact(kind="datasets", name=entry.dataset),
            *(Artefact(kind="encoders", name=encoder) for encoder in encoders),
        ),
        payloads=(_shards(entry.dataset), *(_weights("encoders", encoder) for encoder in encoders)),
        outputs=("features.safetensors",),
    )


REFERENCE_FIELDS = ("dataset", "split", "reference_images", "images", "encoder", "judge", "batch")


def _score_payloads(study: Study, benchmark: str) -> tuple[str, ...]:
    entry = study.benchmarks[benchmark]
    encoders = [entry.encoder, entry.judge]
    features = f"results/references/{benchmark}/features.safetensors"
    return (features, *(_weights("encoders", encoder) for encoder in encoders))


def _score_reconstruction(study: Study, name: str) -> Job:
    entry = study.tokenizers[name]
    benchmark = entry.benchmark
    texts = [entry.text] if isinstance(entry, READS_TEXT) else []
    return Job(
        artefact=Artefact(kind="scores/reconstruction", name=name),
        params={"tokenizer": name, "benchmark": benchmark, **_dump(study.benchmarks[benchmark])},
        inputs=(
            Artefact(kind="references", name=benchmark),
            Artefact(kind="tokenizers", name=name),
            *(Artefact(kind="encoders", name=text) for text in texts),
        ),
        payloads=(
            *_score_payloads(study, benchmark),
            _shards(study.benchmarks[benchmark].dataset),
            _weights("tokenizers", name),
            *(_weights("encoders", text) for text in texts),
        ),
        outputs=("scores.json", "reconstructions.png"),
    )


def _score_samples(study: Study, name: str) -> Job:
    benchmark, generator = study.samples[name].benchmark, study.samples[name].generator
    entry = study.benchmarks[benchmark]
    clips = [entry.clip] if isinstance(entry, TextToImageBenchmark) else []
    source = study.generators[generator]
    caches = [source.tokens] if isinstance(source, TrainedGenerator) else []
    return Job(
        artefact=Artefact(kind="scores/samples", name=name),
        params={"samples": name, "benchmark": benchmark, **_dump(entry)},
        inputs=(
            Artefact(kind="references", name=benchmark),
            Artefact(kind="samples", name=name),
            Artefact(kind="generators", name=generator),
            *(Artefact(kind="tokens", name=cache) for cache in caches),
            *(Artefact(kind="encoders", name=clip) for clip in clips),
        ),
        payloads=(
            *_score_payloads(study, benchmark),
            f"results/samples/{name}/shards",
            f"results/samples/{name}/tokens.npy",
            _weights("generators", generator),
            *(f"results/tokens/{cache}/tokens.npy" for cache in caches),
            *(_weights("encoders", clip) for clip in clips),
            *(_shards(entry.dataset) for _ in clips),
        ),
        outputs=("scores.json",),
    )


def _table(study: Study, name: str) -> Job:
    rows = study.tables[name].rows
    scores = [Artefact(kind="scores/reconstruction", name=row.tokenizer) for row in rows if row.tokenizer]
    scores += [Artefact(kind="scores/samples", name=row.samples) for row in rows if row.samples]
    return Job(
        artefact=Artefact(kind="tables", name=name),
        params=_dump(study.tables[name], "spread", "controls"),  # which pages and `onetok compare` read
        inputs=tuple(dict.fromkeys(scores)),
        payloads=tuple(f"{score.folder}/scores.json" for score in dict.fromkeys(scores)),
        outputs=("table.csv", "table.md", "table.tex"),
    )


def _figure(study: Study, name: str) -> Job:
    entry = study.figures[name]
    inputs: list[Artefact] = []
    payloads: list[str] = []
    if isinstance(entry, ReconstructionFigure):
        inputs = [Artefact(kind="scores/reconstruction", name=tokenizer) for tokenizer in entry.tokenizers]
        payloads = [f"{score.folder}/reconstructions.png" for score in inputs]
    if isinstance(entry, SamplesFigure | PromptsFigure):
        inputs = [Artefact(kind="samples", name=samples) for samples in entry.samples]
        payloads = [f"{samples.folder}/shards" for samples in inputs]
    if isinstance(entry, CurvesFigure):
        inputs = [Artefact(kind=run.split("/")[0], name=run.split("/", 1)[1]) for run in entry.runs]
    return Job(
        artefact=Artefact(kind="figures", name=name),
        params=_dump(entry),
        inputs=tuple(inputs),
        payloads=tuple(payloads),
        outputs=("figure.png",),
    )


def _speed(study: Study, name: str) -> Job:
    entry = study.speeds[name]
    return Job(
        artefact=Artefact(kind="benchmarks/speed", name=name),
        params={**_dump(entry), "architectures": _measured(study, entry)},
        inputs=(),  # its weights are random
        payloads=(),
        outputs=("speed.json", "table.md", "table.csv"),
    )


def _measured(study: Study, entry: Speed) -> dict[str, Any]:
    """Return what shapes the models whose speed is measured, by name, and how generators are sampled."""
    if isinstance(entry, TokenizerSpeed):
        return _architectures(study, entry.tokenizers)
    if isinstance(entry, GeneratorSpeed):
        runs = (*entry.cpu.runs, *entry.cuda.runs)
        return {run.samples: _sampler(study, run.samples) for run in runs}
    found: dict[str, Any] = {}
    for pair in entry.pairs:
        if isinstance(pair.system, StudySystem):  # the others are in the entry
            name = pair.system.samples
            tokenizer = tokenizer_of(study, study.generators[study.samples[name].generator])
            found[name] = {**_sampler(study, name), "tokenizer": _architectures(study, [tokenizer])}
    return found


def _sampler(study: Study, samples: str) -> dict[str, Any]:
    """Return what shapes a generator, the tokens that it draws, and how it draws them."""
    entry = study.samples[samples]
    generator = study.generators[entry.generator]
    tokenizer = study.tokenizers[tokenizer_of(study, generator)]
    return {
        "generator": generator.model_dump(mode="json", include={"kind", "model", "classes"}),
        "tokens": token_shape(study, tokenizer)._asdict(),
        "sampling": _dump(entry.sampling),
    }


def _architectures(study: Study, names: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Return what shapes the models of tokenizers, without how they are trained, scored or fetched."""
    found: dict[str, dict[str, Any]] = {}
    for name in names:
        entry = study.tokenizers[name]
        found[name] = _dump(entry, "dataset", "benchmark", "losses", "training", "weights")
        if isinstance(entry, Stage1Tokenizer):
            found |= _architectures(study, [entry.proxy])
        if isinstance(entry, Stage2Tokenizer):
            found |= _architectures(study, [entry.stage_1])
    return found


_PLANNERS: dict[str, tuple[Callable[[Study, str], Job], str]] = {
    "datasets": (_dataset, "datasets"),
    "encoders": (_encoder, "encoders"),
    "tokenizers": (_tokenizer, "tokenizers"),
    "tokens": (_tokens, "tokens"),
    "generators": (_generator, "generators"),
    "samples": (_samples, "samples"),
    "references": (_reference, "benchmarks"),
    "scores/reconstruction": (_score_reconstruction, "tokenizers"),
    "scores/samples": (_score_samples, "samples"),
    "tables": (_table, "tables"),
    "figures": (_figure, "figures"),
    "benchmarks/speed": (_speed, "speeds"),
}
