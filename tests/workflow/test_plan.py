"""The DAG: planned from params alone, with nothing that no rule makes."""

from __future__ import annotations

import re
import shutil
import sys
from dataclasses import replace

import pytest
import yaml

from onetok.store.dvc_yaml import dvc_yaml, stage_name, stale_dvc_yaml
from onetok.study.load import load_study
from onetok.study.plan import KIND_OF_STAGE, KINDS, all_jobs, plan, speed_targets

STUDIES = [".", "studies/miniature", "tests/e2e/smallest"]


@pytest.mark.parametrize("study", STUDIES)
def test_a_fresh_clone_plans_every_job(repository, snakemake, tmp_path, study):
    """In a copy without results: each job of the plan appears once, and no input lacks a rule."""
    shutil.copytree(repository / study / "params", tmp_path / "params")
    dry = snakemake(tmp_path, "-n")
    assert dry.returncode == 0, dry.stdout
    jobs = list(all_jobs(load_study(tmp_path)))
    assert re.search(rf"^total +{len(jobs) + 1}$", dry.stdout, flags=re.MULTILINE), dry.stdout
    # Published models and caches of classes have none, so the rules cannot declare them.
    not_always = {
        "train_encoder": {"scalars.csv", "accuracy.json"},
        "train_tokenizer": {"scalars.csv", "pictures"},
        "cache_tokens": {"captions"},
        "train_generator": {"scalars.csv"},
    }
    for job in jobs:
        assert job.artefact.receipt in dry.stdout
        for output in job.outputs:
            declared = f"{job.artefact.folder}/{output}" in dry.stdout
            assert declared or output in not_always.get(job.stage, ()), (job.artefact, output)


@pytest.mark.parametrize("study", STUDIES)
def test_every_payload_is_written_by_a_job_whose_receipt_is_upstream(repository, study):
    """A payload is an `ancient()` input: only the receipts make it current, so one of them must stand above it."""
    jobs = {job.artefact: job for job in all_jobs(load_study(repository / study))}

    def upstream(artefact):
        found = set()
        for needed in jobs[artefact].inputs:
            found |= {needed} | upstream(needed)
        return found

    for artefact, job in jobs.items():
        written = {f"{a.folder}/{output}" for a in upstream(artefact) for output in jobs[a].outputs}
        assert set(job.payloads) <= written, artefact


def test_stages_rules_and_modules_have_the_same_names(repository):
    rules = re.findall(
        r"^rule (\w+):", "".join(p.read_text() for p in repository.glob("workflow/rules/*.smk")), re.M
    )
    modules = {p.stem for p in repository.glob("src/onetok/stages/*.py")}
    pages = ["write_index", "write_site"]  # no artefacts
    assert sorted(rules) == sorted([*KIND_OF_STAGE, *pages])
    assert {*rules} - {*pages} <= modules


def test_a_mistake_in_params_stops_snakemake_before_any_job(smallest, snakemake):
    path = smallest / "params/tokenizers/titok.yaml"
    path.write_text(path.read_text().replace("        tokens: 16", "        tokns: 16"))
    run = snakemake(smallest)
    assert run.returncode != 0
    assert "params/tokenizers/titok.yaml: tokenizers.titok.vq-16.model.tokns: unknown key" in run.stdout
    assert "nearest known: tokens" in run.stdout
    assert not (smallest / "results").exists()
    assert "Traceback" not in run.stdout


def test_an_unknown_target_names_what_is_known(smallest, snakemake):
    run = snakemake(smallest, "results/tables/generation/nothing/receipt.json")
    assert run.returncode != 0
    assert (
        "no tables named 'generation/nothing' in params/, known: captioning/scenes, generation/class-conditional"
        in run.stdout
    )


def test_a_slice_holds_what_its_job_uses_and_no_more(repository, smallest):
    before = {job.artefact: job.slice for job in all_jobs(load_study(smallest))}

    def changed(file, old, new):
        path = smallest / "params" / file
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new, 1))
        after = {job.artefact: job.slice for job in all_jobs(load_study(smallest))}
        path.write_text(text)
        return {f"{a.kind}/{a.name}" for a in after if after[a] != before[a]}

    assert changed("generators/maskgit.yaml", "linear, scale: 3.0", "linear, scale: 2.0") == {
        "samples/maskgit/tiny-guided"
    }
    assert changed("tables/generation.yaml", "Samples by class", "Samples") == {
        "figures/generation/class-conditional"
    }
    assert changed("tokenizers/titok.yaml", "# TiTok", "# A comment. TiTok") == set()
    assert changed("benchmarks/class_conditional.yaml", "neighbours: 3", "neighbours: 2") == {
        f"scores/samples/{name}"
        for name in ("maskgit/tiny", "maskgit/tiny-guided", "maskgit/untrained", "rar/titok")
    }


def test_a_cache_with_captions_is_made_of_its_text_encoder(smallest):
    study = load_study(smallest)
    encoder = plan(study, "encoders", "clip/digits").artefact
    text, states = (plan(study, "tokens", f"captioned/{name}") for name in ("scenes-vq", "scenes-kl"))
    assert encoder not in text.inputs and encoder in states.inputs
    assert text.outputs == states.outputs == ("tokens.npy", "labels.npy", "keys.npy", "captions")
    assert "captions" not in plan(study, "tokens", "titok/vq-16").outputs
    for kind, name in (("generators", "maskgen/vq"), ("generators", "maskgen_tuned/vq")):
        assert encoder in plan(study, kind, name).inputs
    drawn = plan(study, "samples", "maskgen/kl-shuffled")
    assert {encoder, plan(study, "datasets", "captioned/scenes").artefact} < set(drawn.inputs)
    assert drawn.params["prompts"] == {"dataset": "captioned/scenes", "split": "val", "images": 16}


def test_a_slurm_profile_overrides_the_device(repository, snakemake):
    dry = snakemake(repository, "-n", "-p", "--profile", "slurm")
    assert dry.returncode == 0, dry.stdout
    assert f"{sys.executable} -m onetok.stages.train_tokenizer" in dry.stdout
    assert re.search(r"--device cuda --tf32 --threads 8\s+\\\s+--workers 8", dry.stdout)
    plain = snakemake(repository, "-n", "-p")
    assert f"{sys.executable} -m onetok.stages.train_tokenizer" in plain.stdout
    assert "--device cpu" in plain.stdout


def test_a_misspelt_machine_value_is_an_error(smallest, snakemake):
    run = snakemake(smallest, "-n", "--config", "devise=cuda")
    assert run.returncode != 0
    assert "onetok: profile: config holds unknown ['devise'] and lacks []" in run.stdout


@pytest.mark.parametrize("study", STUDIES)
def test_speed_is_its_own_target_and_has_the_machine_to_itself(repository, snakemake, tmp_path, study):
    shutil.copytree(repository / study / "params", tmp_path / "params")
    loaded = load_study(tmp_path)
    assert not any(job.stage == "measure_speed" for job in all_jobs(loaded))
    dry = snakemake(tmp_path, "-n", "-p", "--cores", "2", "speed")
    assert dry.returncode == 0, dry.stdout
    assert re.search(rf"^total +{len(speed_targets(loaded)) + 1}$", dry.stdout, flags=re.MULTILINE), (
        dry.stdout
    )
    for target in speed_targets(loaded):
        assert target.receipt in dry.stdout
    assert (
        "threads: 2" in dry.stdout
    )  # as many as there are cores, so that Snakemake starts nothing beside it
    assert "--device cpu --threads 1" in dry.stdout  # what torch uses is the profile's


def test_a_speed_depends_on_architectures_and_not_on_training(smallest):
    def slice_after(file, old, new):
        path = smallest / "params" / file
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new, 1))
        found = plan(load_study(smallest), "benchmarks/speed", "speed/tokenizers").slice
        path.write_text(text)
        return found

    before = plan(load_study(smallest), "benchmarks/speed", "speed/tokenizers").slice
    assert slice_after("tokenizers/titok.yaml", "seed: 42", "seed: 43") == before
    assert slice_after("tokenizers/titok.yaml", "tokens: 16", "tokens: 8") != before


def test_every_stage_has_a_plan(repository):
    study = load_study(repository / "studies/miniature")
    assert plan(study, "references", "class_conditional/digits").stage == "measure_reference"


def test_what_is_made_needs_no_snakemake(smallest):
    """The quick answer of `onetok make` for one receipt after another, which is what `dvc repro` asks."""
    from onetok.commands.make import is_made
    from onetok.study.plan import artefact_at
    from onetok.study.receipts import write_receipt

    receipt = "results/datasets/labelled/digits/receipt.json"
    job = plan(load_study(smallest), "datasets", "labelled/digits")
    assert artefact_at(receipt) == job.artefact and artefact_at("all") is None
    assert not is_made(smallest, [receipt])
    shards = smallest / job.artefact.folder / "shards"
    shards.mkdir(parents=True)
    (shards / "one").write_text("1")
    (shards.parent / "report.json").write_text("{}")
    write_receipt(job, smallest, {})
    assert is_made(smallest, [receipt]) and not is_made(smallest, [receipt, "all"])
    (shards / "one").write_text("12")
    assert not is_made(smallest, [receipt])


def test_a_raised_version_makes_the_same_stages_changed_for_dvc_as_for_snakemake(repository, monkeypatch):
    study = load_study(repository / "studies/miniature")
    before = {job.artefact: job.slice for job in all_jobs(study)}, yaml.safe_load(dvc_yaml(study))["stages"]
    monkeypatch.setitem(KINDS, "tokens", replace(KINDS["tokens"], version=99))
    after = {job.artefact: job.slice for job in all_jobs(study)}, yaml.safe_load(dvc_yaml(study))["stages"]
    by_snakemake = {
        stage_name(artefact) for artefact in before[0] if before[0][artefact] != after[0][artefact]
    }
    by_dvc = {name for name in before[1] if before[1][name] != after[1][name]}
    assert by_dvc == by_snakemake == {name for name in before[1] if name.startswith("cache_tokens-")}


def test_check_says_when_dvc_yaml_is_stale(smallest, capsys):
    study = load_study(smallest)
    assert stale_dvc_yaml(study, smallest) is None  # there is none
    (smallest / "dvc.yaml").write_text(dvc_yaml(study))
    assert stale_dvc_yaml(study, smallest) is None
    (smallest / "dvc.yaml").write_text(dvc_yaml(study).replace("# version", "# another version"))
    assert "dvc.yaml: stale" in stale_dvc_yaml(study, smallest)
