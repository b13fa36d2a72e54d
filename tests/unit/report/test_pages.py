"""Published tables as pages show them: mean ± standard deviation over the runs that are kept."""

from __future__ import annotations

import pytest

from onetok.report.pages import Pages
from onetok.study.load import load_study
from tests.factories.kept_runs import TABLE, six_runs


@pytest.fixture
def study(smallest):
    study = six_runs(smallest)
    (smallest / "evidence/tables" / TABLE / "table.md").write_text("as published")
    return study


def cells(text, label):
    line = next(line for line in text.splitlines() if line.startswith(f"| {label}"))
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_a_page_shows_mean_deviation_and_number_of_the_kept_runs(study, smallest):
    text = Pages(study, smallest).table(TABLE)
    assert cells(text, "RAR")[1].endswith(" (6)") and " ± 0.0" in cells(text, "RAR")[1]
    assert float(cells(text, "untrained")[1].split()[0]) == pytest.approx(70, rel=0.1)  # FID
    claim = "- Guidance raises accuracy. Holds in "
    assert f"{claim}" in text and " of 6 runs: 0.9" in text.split(claim)[1].splitlines()[0]
    measured = text.split("<details>")[1]
    assert "Protocol class_conditional/digits" in measured and "Columns" not in text
    assert Pages(study, smallest).table(TABLE, folded=False) == text.split("<details>")[0].strip()


def test_the_page_of_a_study_says_once_what_its_columns_mean(study, smallest):
    figure = smallest / "evidence/figures/generation/class-conditional/figure.png"
    assert "generation/class-conditional" in study.figures
    figure.parent.mkdir(parents=True, exist_ok=True)
    figure.write_bytes(b"")
    text = Pages(study, smallest).page()
    assert text.count("Mean ± standard deviation (number of runs) over 6 runs of the whole study") == 1
    assert "](evidence/figures/generation/class-conditional/figure.png)" in text
    assert Pages(study, smallest).table(TABLE) in text
    columns = text.split("## Columns")[1]
    assert columns.count("\n- FID: ") == 1 and "Fréchet distance" not in text.split("## Columns")[0]


def test_what_is_not_kept_is_shown_as_it_was_published(study, smallest):
    path = smallest / "params/generators/rar.yaml"
    path.write_text(path.read_text().replace("temperature: 1.0", "temperature: 1.1"))
    text = Pages(load_study(smallest), smallest).table(TABLE)
    assert cells(text, "RAR")[1] == "2.00" and cells(text, "untrained")[1].endswith("(6)")
    for kept in (smallest / "evidence/spread").iterdir():
        kept.unlink()
    assert Pages(load_study(smallest), smallest).table(TABLE) == "as published"


def test_a_study_that_does_not_ask_for_the_spread_shows_its_published_table(study, smallest):
    path = smallest / "params/tables/generation.yaml"
    path.write_text(path.read_text().replace("spread: true", "spread: false"))
    assert Pages(load_study(smallest), smallest).table(TABLE) == "as published"
