"""The runs of a spread: their params, what is asked for, and what is kept. Snakemake is played by a function."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from onetok.errors import OnetokError
from onetok.spread import runs as spread_runs
from onetok.spread.kept import chains, kept_intervals, kept_runs, key_of, score_artefacts
from onetok.spread.runs import ENVIRONMENTS, params_of, spread, write_params
from onetok.study import plan
from onetok.study.load import load_study
from onetok.study.plan import Artefact, jobs_behind
from onetok.study.schema.spreads import SpreadRun

OFFSET = SpreadRun(name="other", seed_offset=1000, instructions="sse41")
GUIDED = "scores/samples/maskgit/tiny-guided"


def change(study, file, old, new):
    path = study / "params" / file
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))


def test_a_run_raises_the_seeds_of_training_and_sampling_and_leaves_those_of_data(smallest):
    study = load_study(smallest)
    raised = write_params(smallest, study, OFFSET, smallest / "results/spread/other")
    for kind in ("encoders", "tokenizers", "generators"):
        for name, entry in getattr(raised, kind).items():
            assert entry.training.seed == getattr(study, kind)[name].training.seed + 1000
    assert {s.seed - study.samples[name].seed for name, s in raised.samples.items()} == {1000}
    assert raised.datasets == study.datasets and raised.benchmarks == study.benchmarks
    unchanged = write_params(smallest, study, OFFSET, smallest / "results/spread/other")
    assert unchanged == raised


def test_the_params_of_a_run_are_those_of_the_study_but_for_its_seeds(repository):
    for root in (repository, repository / "studies/miniature", repository / "tests/e2e/smallest"):
        study = load_study(root)
        same = params_of(study, SpreadRun(name="same", seed_offset=0, instructions="native"), root)
        for kind in set(type(study).model_fields) - {"datasets", "spreads"}:
            assert getattr(same, kind) == getattr(study, kind)


def test_a_folder_of_images_is_found_from_the_folder_of_a_run(smallest):
    source = "source: {kind: imagefolder, path: ../birds, caption: null, class_names: folders}"
    change(smallest, "datasets/labelled.yaml", load_line(smallest), source)
    raised = params_of(load_study(smallest), OFFSET, smallest)
    path = raised.datasets["labelled/digits"].source.path
    assert path.startswith("/") and path.endswith("study/../birds")


def load_line(study):
    text = (study / "params/datasets/labelled.yaml").read_text()
    return next(line.strip() for line in text.splitlines() if "source:" in line)


def test_the_chain_of_scores_is_that_of_all_that_they_follow_from(smallest, monkeypatch):
    before = chains(load_study(smallest))
    scores = set(score_artefacts(load_study(smallest)))

    def changed():
        after = chains(load_study(smallest))
        return {key_of(artefact) for artefact in scores if after[artefact] != before[artefact]}

    assert changed() == set()
    change(smallest, "generators/maskgit.yaml", "linear, scale: 3.0", "linear, scale: 5.0")
    assert changed() == {GUIDED}
    change(smallest, "generators/maskgit.yaml", "linear, scale: 5.0", "linear, scale: 3.0")
    change(smallest, "tables/generation.yaml", "title: Class-conditional", "title: Conditional")
    assert changed() == set()
    monkeypatch.setitem(plan.KINDS, "generators", replace(plan.KINDS["generators"], version=99))
    assert changed() == {key_of(a) for a in scores if a.kind in ("scores/samples", "scores/captions")}
    monkeypatch.undo()
    change(smallest, "benchmarks/reconstruction.yaml", "inception_splits: 10", "inception_splits: 5")
    assert changed() == {key_of(a) for a in scores if a.kind == "scores/reconstruction"} - {
        "scores/reconstruction/tatitok/scenes-vq"
    }


class Snakemake:
    """Writes what is asked for: scores that are a function of the seeds, with receipts that nobody reads."""

    def __init__(self, monkeypatch):
        self.asked, self.environments, self.fails = [], [], False
        monkeypatch.setattr(spread_runs, "verify", lambda job, directory, digests: [])

    def __call__(self, folder, targets, environment, lock):
        self.asked.append(
            [target.removeprefix("results/").removesuffix("/receipt.json") for target in targets]
        )
        self.environments.append(dict(environment))
        study = load_study(folder)
        if self.fails:
            return 1
        for artefact in score_artefacts(study):
            if artefact.receipt in targets:
                self.make(folder, study, artefact, {k: v for k, v in environment.items() if v is not None})
        return 0

    @staticmethod
    def make(folder, study, artefact, limits):
        machine = {"processor": "P", "instructions": {"limits": limits}}
        for job in jobs_behind(study, [artefact]):
            log = folder / "results/logs" / job.stage / job.name
            log.mkdir(parents=True, exist_ok=True)
            (log / "run.json").write_text(json.dumps({"machine": machine}))
        (folder / artefact.folder).mkdir(parents=True, exist_ok=True)
        seeds = sum(samples.seed for samples in study.samples.values())
        scores = {"fid": 1.0 + seeds, "images": 20, "accuracy": 0.5, "parameters": 7, "codebook_usage": None}
        (folder / artefact.folder / "scores.json").write_text(json.dumps(scores))
        (folder / artefact.receipt).write_text("{}")


def test_every_run_is_made_once_under_its_instruction_set_and_only_what_is_stale_is_made_again(
    smallest, monkeypatch, capsys
):
    snakemake = Snakemake(monkeypatch)
    assert spread(smallest, None, snakemake) == 0
    everything = {key_of(artefact) for artefact in score_artefacts(load_study(smallest))}
    assert [set(targets) for targets in snakemake.asked] == [everything, everything]
    assert snakemake.environments == [
        {"ATEN_CPU_CAPABILITY": None, "ONEDNN_MAX_CPU_ISA": None},
        {"ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "SSE41"},
    ]
    study = load_study(smallest)
    found = kept_intervals(study, kept_runs(study, smallest))
    interval = found[Artefact(kind="scores/samples", name="maskgit/tiny"), "fid"]
    assert interval.n == 2 and interval.mean == 1 + 500 * len(study.samples)
    kept = json.loads((smallest / "evidence/spread/seeds-1000-sse41.json").read_text())
    (machine,) = kept["machines"].values()
    assert machine["instructions"]["limits"] == ENVIRONMENTS["sse41"]
    assert kept["scores"][GUIDED]["figures"]["accuracy"] == 0.5

    assert spread(smallest, None, snakemake) == 0
    assert len(snakemake.asked) == 2  # nothing was asked for

    change(smallest, "generators/maskgit.yaml", "linear, scale: 3.0", "linear, scale: 5.0")
    study = load_study(smallest)
    found = kept_intervals(study, kept_runs(study, smallest))
    assert not any(key_of(artefact) == GUIDED for artefact, _ in found) and found
    # The folders of runs are not needed for what is kept.
    (smallest / "results").rename(smallest / "elsewhere")
    assert spread(smallest, ["seeds-1000-sse41"], snakemake) == 0
    assert snakemake.asked[2:] == [[GUIDED]]
    assert "seeds-1000-sse41: 1 of 14 scores to be made" in capsys.readouterr().out


def test_a_run_that_fails_keeps_what_it_made_and_says_what_is_missing(smallest, monkeypatch, capsys):
    snakemake = Snakemake(monkeypatch)
    snakemake.fails = True
    assert spread(smallest, ["seeds-0-native"], snakemake) == 1
    assert "keeps 0 scores of today's params, 14 missing: scores/" in capsys.readouterr().out


def test_the_study_s_own_results_are_the_run_without_offset(smallest, monkeypatch):
    """Where they were made under the run's instruction set; else they are made again."""
    snakemake, study = Snakemake(monkeypatch), load_study(smallest)
    native, other = score_artefacts(study)[:2]
    Snakemake.make(smallest, study, native, {})
    Snakemake.make(smallest, study, other, ENVIRONMENTS["avx2"])
    shared = {job.artefact for job in jobs_behind(study, [native])}
    for job in jobs_behind(study, [native]):  # the second write changed what both are made from
        log = smallest / "results/logs" / job.stage / job.name / "run.json"
        log.write_text(json.dumps({"machine": {"instructions": {"limits": {}}}}))
    assert other not in shared
    assert spread(smallest, ["seeds-0-native"], snakemake) == 0
    assert key_of(native) not in snakemake.asked[0] and key_of(other) in snakemake.asked[0]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "content: invalid json"),
        ('{"run": 1}', "evidence/spread/seeds-0-native.json: run: "),
        (
            '{"run": {"name": "x", "seed_offset": 0, "instructions": "native"}, "machines": {}}',
            ": scores: field",
        ),
    ],
)
def test_a_damaged_file_of_a_run_is_one_line(smallest, content, message):
    path = smallest / "evidence/spread/seeds-0-native.json"
    path.parent.mkdir(parents=True)
    path.write_text(content)
    with pytest.raises(OnetokError) as error:
        kept_runs(load_study(smallest), smallest)
    assert message in str(error.value) and "onetok spread" in str(error.value)
    assert "\n" not in str(error.value)


def test_runs_that_params_do_not_have_are_named(smallest):
    with pytest.raises(
        OnetokError, match="no run named 'seeds-0' in the study's spread; nearest known: seeds-0-native"
    ):
        spread(smallest, ["seeds-0"], lambda *_: 0)
    (smallest / "params/benchmarks/spread.yaml").unlink()
    with pytest.raises(OnetokError, match=r"no spread in benchmarks/; docs/how-to/spread\.md"):
        spread(smallest, None, lambda *_: 0)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("name: seeds-1000-sse41", "name: seeds-0-native", "runs.1: name seeds-0-native as runs.0"),
        (
            "seed_offset: 1000, instructions: sse41",
            "seed_offset: 0, instructions: native",
            "runs.1: seed_offset 0 and instructions native as runs.0, expected another run",
        ),
        ("chance: 0.001", "chance: 1.0", "chance: found 1.0"),
        ("gate: 3.0", "gate: 0.5", "gate: found 0.5"),
        ("instructions: sse41", "instructions: mmx", "runs.1.instructions: found 'mmx'"),
    ],
)
def test_a_spread_that_cannot_be_made_is_one_line(smallest, old, new, message):
    change(smallest, "benchmarks/spread.yaml", old, new)
    with pytest.raises(OnetokError) as error:
        load_study(smallest)
    assert message in str(error.value)
