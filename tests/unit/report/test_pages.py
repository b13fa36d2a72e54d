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
    text = Pages(study, smallest).page(TABLE)
    assert cells(text, "RAR")[1].endswith(" (6)") and " ± 0.0" in cells(text, "RAR")[1]
    assert float(cells(text, "untrained")[1].split()[0]) == pytest.approx(70, rel=0.1)  # FID
    assert "- Mean ± standard deviation (number of runs) over 6 runs of the whole study" in text
    claim = "- Guidance raises accuracy. Holds in "
    assert f"{claim}" in text and " of 6 runs: 0.9" in text.split(claim)[1].splitlines()[0]
    assert "Protocol class_conditional/digits" in text


def test_what_is_not_kept_is_shown_as_it_was_published(study, smallest):
    path = smallest / "params/generators/rar.yaml"
    path.write_text(path.read_text().replace("temperature: 1.0", "temperature: 1.1"))
    text = Pages(load_study(smallest), smallest).page(TABLE)
    assert cells(text, "RAR")[1] == "2.00" and cells(text, "untrained")[1].endswith("(6)")
    for kept in (smallest / "evidence/spread").iterdir():
        kept.unlink()
    assert Pages(load_study(smallest), smallest).page(TABLE) == "as published"


def test_a_study_that_does_not_ask_for_the_spread_shows_its_published_table(study, smallest):
    path = smallest / "params/tables/generation.yaml"
    path.write_text(path.read_text().replace("spread: true", "spread: false"))
    assert Pages(load_study(smallest), smallest).page(TABLE) == "as published"
