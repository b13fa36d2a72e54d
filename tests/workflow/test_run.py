"""What a run says before its first job, and at its end where jobs have failed."""

from __future__ import annotations

import re

import pytest

from onetok.study.load import load_study
from onetok.study.plan import Artefact, jobs_behind

TABLE = "results/tables/generation/class-conditional/receipt.json"


def with_folders(study, folders):
    """Replace the digits by folders of images, one dataset for each of `folders`."""
    path = study / "params/datasets/labelled.yaml"
    text = path.read_text()
    entry = text[text.index("    digits:\n") :]
    sources = {
        name: re.sub(
            r"\{kind: digits.*\}",
            f"{{kind: imagefolder, path: {folder}, caption: null, class_names: folders}}",
            entry,
        )
        for name, folder in folders.items()
    }
    variants = [source.replace("    digits:\n", f"    {name}:\n") for name, source in sources.items()]
    path.write_text(text.replace(entry, "".join(variants)))


@pytest.mark.slow
def test_a_run_that_lacks_something_stops_before_its_first_job_and_a_dry_run_says_so(smallest, snakemake):
    with_folders(smallest, {"digits": "data/digits"})
    line = "params/datasets/labelled.yaml: datasets.labelled.digits.source.path: data/digits: no such folder"
    dry = snakemake(smallest, "-n", TABLE)
    assert dry.returncode == 0, dry.stdout
    assert "onetok: a run would stop before its first job, because this is missing:\n  " + line in dry.stdout
    done = snakemake(smallest, TABLE)
    assert done.returncode == 1
    assert "onetok: nothing was run, because this is missing:\n  " + line in done.stdout
    assert "rule convert_dataset" not in done.stdout and not (smallest / "results/logs").exists()
    scenes = snakemake(smallest, "-n", "results/datasets/captioned/scenes/receipt.json")
    assert scenes.returncode == 0 and "missing" not in scenes.stdout


@pytest.mark.slow
def test_a_failing_run_says_each_cause_once_and_ends_with_a_summary(smallest, snakemake):
    with_folders(smallest, {"digits": "data/a", "others": "data/b"})
    for folder, content in (("data/a/x", b"no image"), ("data/b/y", b"")):
        (smallest / folder).mkdir(parents=True)
        (smallest / folder / "1.png").write_bytes(content)
    others = "results/datasets/labelled/others/receipt.json"
    done = snakemake(smallest, "--cores", "2", TABLE, others)
    assert done.returncode == 1
    assert len(re.findall(r"^error: ", done.stdout, flags=re.MULTILINE)) == 2
    assert "Traceback" not in done.stdout and "Error in rule" not in done.stdout
    assert "RuleException" not in done.stdout and "non-zero exit status" not in done.stdout
    summary = done.stdout[done.stdout.index("2 jobs failed:") :]
    for name in ("digits", "others"):
        log = smallest / f"results/logs/convert_dataset/labelled/{name}/log.txt"
        assert re.search(rf"  convert_dataset labelled/{name}: .+\n    log: {log}\n", summary)
    job = Artefact(kind="tables", name="generation/class-conditional")
    behind = len(list(jobs_behind(load_study(smallest), [job])))
    assert f"\n{behind - 1} jobs not run because of them:\n" in summary
    assert "  build_table generation/class-conditional\n" in summary
    assert len(done.stdout.splitlines()) < 66
