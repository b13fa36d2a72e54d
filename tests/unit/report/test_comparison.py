"""Verdicts of `onetok compare` on the smallest study, with figures that are made up: no job is run."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest

from onetok.errors import OnetokError
from onetok.report import comparison
from onetok.report.comparison import Comparison, report
from onetok.spread.machines import read_machines
from onetok.study.load import load_study
from tests.factories.kept_runs import TABLE, UNTRAINED, six_runs, write_tables


@pytest.fixture
def study(smallest, monkeypatch):
    """The smallest study with six runs kept, evidence written, and receipts that hold."""
    monkeypatch.setattr(comparison, "verify", lambda job, directory, digests: [])
    return six_runs(smallest)


def verdict(study, directory, changed=None):
    write_tables(study, directory, "results", changed)
    found = Comparison(study, directory).table(TABLE)
    lines, failed = report(study, directory, every_figure=False)
    assert f"{TABLE}: {found.verdict}" in "\n".join(lines)
    assert failed == found.failed  # the other tables are identical
    return found.verdict, found.failed, "\n".join(found.lines)


def test_the_same_bytes_are_identical(study, smallest):
    assert verdict(study, smallest) == ("identical", False, "")


def test_another_machine_s_figures_are_within_the_spread(study, smallest):
    changed = {("RAR", "fid"): 2.1, ("RAR", "accuracy"): 0.97, ("MaskGIT-ViT, guidance 3", "recall"): 0.62}
    assert verdict(study, smallest, changed) == ("within the spread", False, "")


@pytest.mark.parametrize(("fid", "direction"), [(3.2, "worse"), (1.3, "better")])
def test_a_figure_outside_is_shown_with_its_interval_and_is_no_failure(study, smallest, fid, direction):
    name, failed, text = verdict(study, smallest, {("RAR", "fid"): fid})
    assert (name, failed) == ("outside", False)
    line = rf"RAR, FID: {fid}, [12]\.\d+ ± 0\.0\d+ in 6 runs, interval 1\.\d+ to 2\.\d+, {direction}"
    assert re.fullmatch(line, text)


def test_a_figure_beyond_the_gate_is_a_fault(study, smallest):
    name, failed, text = verdict(study, smallest, {("RAR", "fid"): 12.0})
    assert (name, failed) == ("broken", True) and "; the gate is " in text


def test_a_row_like_the_untrained_control_is_a_fault(study, smallest):
    changed = {("RAR", metric): value for metric, value in UNTRAINED.items()}
    name, failed, text = verdict(study, smallest, changed)
    assert (name, failed) == ("broken", True)
    assert "RAR: 9 of its 9 figures are nearer to those of the control, untrained MaskGIT-ViT, than" in text


def test_a_figure_that_is_there_on_one_side_alone_is_a_fault(study, smallest):
    name, failed, text = verdict(study, smallest, {("RAR", "accuracy"): np.nan})
    assert (name, failed) == ("broken", True)
    assert "RAR, Accuracy: –" in text and "there is a figure on one side alone" in text


def test_a_score_that_is_no_number_is_a_fault(study, smallest):
    name, failed, text = verdict(study, smallest, {("RAR", "accuracy"): "NaN"})
    assert (name, failed) == ("broken", True) and "computed and is no number" in text


def test_without_kept_runs_figures_are_shown_and_only_a_row_like_a_control_fails(study, smallest):
    for path in (smallest / "evidence/spread").iterdir():
        path.unlink()
    name, failed, text = verdict(study, smallest, {("RAR", "fid"): 3.2})
    assert (name, failed, text) == ("no spread kept", False, "RAR, FID: 3.2, evidence 2")
    changed = {("RAR", metric): value for metric, value in UNTRAINED.items()}
    assert verdict(study, smallest, changed)[:2] == ("broken", True)


def test_evidence_of_other_params_is_said_to_be_so_and_judges_nothing(study, smallest):
    path = smallest / "params/generators/rar.yaml"
    path.write_text(path.read_text().replace("temperature: 1.0", "temperature: 1.1"))
    changed = {("RAR", metric): value for metric, value in UNTRAINED.items()}
    name, failed, text = verdict(load_study(smallest), smallest, changed)
    assert (name, failed) == ("other params", False)
    assert "RAR, FID: 70, evidence 2, of other params" in text


def test_a_missing_table_and_other_rows_are_failures(study, smallest):
    write_tables(study, smallest, "results")
    path = smallest / "results/tables" / TABLE / "table.csv"
    path.write_text(path.read_text().replace("RAR", "another row"))
    found = Comparison(study, smallest).table(TABLE)
    assert found.failed and found.lines[0].startswith(f"{path}: its rows are ")
    assert found.lines[0].endswith("make the table again")
    path.unlink()
    found = Comparison(study, smallest).table(TABLE)
    assert found.failed and found.lines == [
        f"{path}: no such file; make it: onetok make results/tables/{TABLE}/receipt.json"
    ]


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (
            "rows:\n",
            "rows:\n        - {label: One more, tokenizer: null, samples: rar/titok, published: null}\n",
            "rows",
        ),
        ("- {metric: fid, label: FID, ", "- {metric: distinct, label: Distinct, ", "columns"),
    ],
)
def test_a_table_of_other_params_is_said_to_be_one(study, smallest, old, new, said):
    """Rows and columns are those of params: results and evidence that agree with each other alone are not compared."""
    write_tables(study, smallest, "results")
    path = smallest / "params/tables/generation.yaml"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    changed = load_study(smallest)
    found = Comparison(changed, smallest).table(TABLE)
    assert (found.verdict, found.failed) == ("other rows or columns", True)
    assert re.match(
        rf".*results/tables/{TABLE}/table\.csv: its {said} are .*, in params they are ", found.lines[0]
    )
    assert report(changed, smallest, every_figure=True)[1]


@pytest.mark.parametrize("top", ["results", "evidence"])
@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "No columns to parse"),
        (b"label,\xff\xfe\n", "codec can't decode"),
        (b'label,"fid\n', "EOF inside string"),
        (None, "row 1, fid: found 'much', expected a number or nothing"),
    ],
)
def test_a_damaged_table_is_a_failure_that_names_it(study, smallest, top, content, said):
    write_tables(study, smallest, "results")
    path = smallest / top / "tables" / TABLE / "table.csv"
    if content is None:
        rows = path.read_text().splitlines()
        cells = rows[1].rsplit(",", rows[0].count(","))
        content = "\n".join([rows[0], ",".join([cells[0], "much", *cells[2:]]), *rows[2:]]).encode()
    path.write_bytes(content)
    found = Comparison(study, smallest).table(TABLE)
    assert (found.verdict, found.failed) == ("damaged", True)
    assert found.lines[0].startswith(f"{path}: ") and said in found.lines[0]


def test_a_spread_without_a_number_of_images_is_one_line(study, smallest):
    path = next((smallest / "evidence/spread").iterdir())
    content = json.loads(path.read_text())
    next(iter(content["scores"].values()))["figures"].pop("images")
    path.write_text(json.dumps(content))
    with pytest.raises(OnetokError, match=rf"^{path}: scores\..*\.figures: .*no figure named 'images'"):
        Comparison(study, smallest)


@pytest.mark.parametrize("content", ['{"machines": [{}]}', "[1]", "[" * 100_000, '{"machines": [1]}', ""])
def test_a_damaged_record_of_machines_is_one_line(study, smallest, content):
    write_tables(study, smallest, "results")
    path = smallest / "evidence/machine.json"
    path.write_text(content)
    with pytest.raises(OnetokError, match=rf"^{path}: .*onetok publish did not write this"):
        read_machines(path)


def test_receipts_that_do_not_hold_are_failures(study, smallest, monkeypatch):
    write_tables(study, smallest, "results")
    monkeypatch.setattr(comparison, "verify", lambda job, directory, digests: [f"{job.name}: damaged"])
    lines, failed = report(study, smallest, every_figure=False)
    assert failed and "  labelled/digits: damaged" in lines
    assert any(line.endswith("more: onetok verify") for line in lines)


def test_every_figure_is_shown_where_asked_for(study, smallest):
    write_tables(study, smallest, "results", {("RAR", "fid"): 2.05})
    lines, failed = report(study, smallest, every_figure=True)
    assert not failed
    assert len([line for line in lines if " in 6 runs, interval " in line]) == sum(
        len(table.rows) * len(table.columns) for table in study.tables.values()
    )


def test_the_machine_is_compared_with_that_of_the_evidence(study, smallest):
    write_tables(study, smallest, "results")

    def said():
        lines, _ = report(study, smallest, every_figure=False)
        return lines[next(i for i, line in enumerate(lines) if line.startswith("machine:")) :]

    assert said()[0].startswith("machine: ") and "is not there" in said()[0]
    theirs = {"processor": "A", "instructions": {"torch": "AVX512", "limits": {}}, "threads": 1}
    theirs |= {"libraries": {"torch": "2.0", "numpy": "2.1"}}
    kept = smallest / "evidence/machine.json"
    kept.write_text(json.dumps({"machines": [{"jobs": 50, "machine": theirs}]}))
    assert "results/logs hold no run.json" in said()[0]
    ours = theirs | {"processor": "B", "libraries": {"torch": "2.0"}}
    ours |= {"instructions": {"torch": "DEFAULT", "limits": {"ATEN_CPU_CAPABILITY": "default"}}}
    log = smallest / "results/logs/build_table" / TABLE
    log.mkdir(parents=True)
    (log / "run.json").write_text(json.dumps({"machine": ours}))
    assert said() == [
        "machine: differs from that of the evidence",
        "  instructions limits ATEN_CPU_CAPABILITY: default, evidence none",
        "  instructions torch: DEFAULT, evidence AVX512",
        "  libraries numpy: none, evidence 2.1",
        "  processor: B, evidence A",
    ]
    (log / "run.json").write_text(json.dumps({"machine": theirs}))
    assert said() == ["machine: as that of the evidence"]
