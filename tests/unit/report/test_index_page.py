"""results/index.html: figures beside what is published or kept, pictures inside the page, and no other file."""

from __future__ import annotations

import json
import math
import re
import shutil
import subprocess
from html.parser import HTMLParser

import pytest

from onetok.report.index_page import PAGE, deviation_of, make_cell, write_index
from onetok.spread.intervals import Interval
from onetok.study.load import load_study
from onetok.study.schema.tables import Column, Row
from tests.conftest import REPOSITORY

MINIATURE = REPOSITORY / "studies/miniature"


class Page(HTMLParser):
    """What a browser would show: cells of tables by their headings, pictures, and addresses."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tables: dict[str, list[list[str]]] = {}
        self.classes: list[str] = []
        self.sources: list[str] = []
        self.links: list[str] = []
        self.ids: set[str] = set()
        self._cell = False
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        self.ids |= {found["id"]} if "id" in found else set()
        if tag == "table":
            self.rows = self.tables.setdefault(found["data-name"], [])
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
            self._cell = True
            self.classes += [found["class"]] if "class" in found else []
        if tag == "img" and "src" in found:
            self.sources.append(found["src"])
        self.links += [found[key] for key in ("href", "src") if key in found and tag != "img"]

    def handle_data(self, data):
        if self._cell:
            self.rows[-1][-1] += data

    def handle_endtag(self, tag):
        self._cell = self._cell and tag not in ("td", "th")


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    """The miniature with its evidence as results, and what a run leaves of one job."""
    directory = tmp_path_factory.mktemp("page") / "miniature"
    shutil.copytree(MINIATURE / "params", directory / "params")
    for name in ("evidence", "results"):
        shutil.copytree(MINIATURE / "evidence", directory / name)
    log = directory / "results/logs/train_tokenizer/titok/vq-16"
    log.mkdir(parents=True)
    (log / "run.json").write_text(json.dumps({"seconds": 120.0, "machine": {"processor": "P", "threads": 1}}))
    benchmark = directory / "results/benchmarks/train_tokenizer/titok/vq-16.tsv"
    benchmark.parent.mkdir(parents=True)
    benchmark.write_text("s\th:m:s\tmax_rss\n120\t0:02:00\t700.5\n")
    return directory


@pytest.fixture(scope="module")
def page(directory):
    path = write_index(load_study(directory), directory)
    assert path == directory / PAGE
    return Page(path.read_text(encoding="utf-8"))


def test_a_figure_of_a_table_stands_beside_that_of_the_kept_runs(directory, page):
    rows = page.tables["reconstruction/tokenizers"]
    headings = rows[0]
    (row,) = [row for row in rows if row[0] == "TiTok VQ, one stage"]
    scores = json.loads((directory / "results/scores/reconstruction/titok/vq-16/scores.json").read_text())
    cell = row[headings.index("rFID ↓")]
    assert cell.startswith(f"{scores['rfid']:.2f}") and " ± " in cell
    assert "near" in page.classes  # a published run is within the spread


def test_every_table_and_picture_is_there(directory, page):
    study = load_study(directory)
    assert set(study.tables) <= page.tables.keys()
    assert len(page.tables["receipts"]) > 1
    figures = [name for name in study.figures if (directory / f"results/figures/{name}/figure.png").exists()]
    sheets = [
        name for name in study.samples if (directory / f"results/samples/{name}/contact-sheet.png").exists()
    ]
    assert len(page.sources) == len(figures) + len(sheets) > 0
    assert all(source.startswith("data:image/png;base64,iVBOR") for source in page.sources)


def test_the_page_needs_no_other_file(page):
    for link in page.links:
        assert link == "data:," or link.removeprefix("#") in page.ids


def test_runs_and_receipts_are_told_with_the_command_that_makes_them_again(directory, page):
    headings = page.tables["receipts"][0]
    (row,) = [row for row in page.tables["receipts"] if row[:2] == ["tokenizers", "titok/vq-16"]]
    told = dict(zip(headings, row, strict=True))
    assert (told["minutes"], told["memory, MiB"]) == ("2.0", "700")
    assert len(told["receipt, sha256"]) == 12
    assert told["command"] == f"onetok make --study {directory} results/tokenizers/titok/vq-16/receipt.json"


# What a reader does, and what is then on the page.
READER = """
<pre id="seen"></pre><script>
window.addEventListener("load", () => {
  const table = document.querySelector('table[data-name="reconstruction/token-count"]');
  const headings = [...table.tHead.rows[0].cells], column = headings.findIndex(h => h.textContent === "PSNR ↑");
  const read = () => [...table.tBodies[0].rows].map(row => Number(row.cells[column].dataset.value));
  headings[column].click();
  const up = read();
  headings[column].click();
  const button = document.querySelector("figure button"), large = document.getElementById("large");
  button.click();
  document.getElementById("seen").textContent = JSON.stringify({
    up, down: read(), sort: headings[column].getAttribute("aria-sort"),
    widths: [...document.querySelectorAll("figure img")].map(image => image.naturalWidth),
    opened: large.open && large.querySelector("img").src === button.querySelector("img").src,
    caption: large.querySelector("p").textContent,
  });
});
</script>
"""


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("chromium") is None, reason="Debian's package chromium is not installed")
def test_in_a_browser_tables_are_sorted_and_pictures_are_loaded_and_open(directory, page, tmp_path):
    path = tmp_path / "page.html"
    text = (directory / PAGE).read_text(encoding="utf-8")
    path.write_text(text.replace("</body>", f"{READER}</body>"), encoding="utf-8")
    command = [
        "chromium",
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--dump-dom",
    ]
    command += [
        "--host-resolver-rules=MAP * ~NOTFOUND",
        f"--user-data-dir={tmp_path / 'profile'}",
    ]  # no network
    done = subprocess.run([*command, path.as_uri()], capture_output=True, encoding="utf-8", check=True)
    (found,) = re.findall(r'<pre id="seen">(.*?)</pre>', done.stdout, re.DOTALL)
    seen = json.loads(found.replace("&amp;", "&"))
    assert seen["up"] == sorted(seen["up"]) == seen["down"][::-1] and len(seen["up"]) == 3
    assert seen["sort"] == "descending"
    assert len(seen["widths"]) == len(page.sources) and min(seen["widths"]) > 100
    assert seen["opened"] and seen["caption"]


def test_of_a_study_without_results_the_page_says_what_makes_them(smallest):
    text = write_index(load_study(smallest), smallest).read_text(encoding="utf-8")
    assert f"Not made yet: <code>onetok make --study {smallest} results/tables/" in text
    assert Page(text).sources == []


COLUMN = Column(metric="fid", label="FID", decimals=2, better="lower")


def row(value, unverified=False):
    figures = {"fid": {"value": value, "source": "paper, table 1", "unverified": unverified}}
    published = {"table": "t", "model": "m", "figures": figures}
    return Row.model_validate({"label": "a", "tokenizer": None, "samples": "a/b", "published": published})


@pytest.mark.parametrize(
    ("measured", "deviation"), [(2.05, "near"), (1.5, "better"), (2.5, "worse"), (math.nan, ""), ("NaN", "")]
)
def test_a_published_figure_is_beside_the_measured_one_and_the_deviation_is_coloured(measured, deviation):
    cell = make_cell(row(2.0), COLUMN, measured, None)
    assert (cell.reference, cell.deviation) == ("2.00", deviation)
    assert "paper, table 1" in cell.title
    assert make_cell(row(2.0, unverified=True), COLUMN, measured, None).reference == "2.00 ?"


def test_kept_runs_stand_where_nothing_is_published():
    bare = row(2.0).model_copy(update={"published": None})
    kept = Interval(n=5, mean=2.0, deviation=0.1, low=1.5, high=2.5, gate_low=0.5, gate_high=3.5)
    assert make_cell(bare, COLUMN, 2.4, kept).deviation == "near"
    assert make_cell(bare, COLUMN, 2.6, kept).deviation == "worse"
    assert make_cell(bare, COLUMN, 2.6, kept).reference == "2.00 ± 0.10"
    assert deviation_of(3.0, 2.0, 0.1, "neither") == "other"
