import json

import pytest

from onetok.errors import OnetokError
from onetok.params import Column, Published, Row, Table, Tolerance
from onetok.study import load_study
from onetok.tables import compare_table, protocol, render, table_frame


def column(metric, label, decimals=2, better="lower", absolute=0.1, relative=0.0):
    tolerance = Tolerance(absolute=absolute, relative=relative)
    return Column(metric=metric, label=label, decimals=decimals, better=better, tolerance=tolerance)


TABLE = Table(
    title="A title",
    note="A note.",
    columns=(column("rfid", "rFID"), column("psnr", "PSNR", better="higher")),
    rows=(
        Row(label="ours", tokenizer="titok/a", samples=None, published=None),
        Row(
            label="both",
            tokenizer="titok/b",
            samples=None,
            published=Published(source="Paper, Table 1", table="t", model="m", figures={"rfid": 2.21}),
        ),
        Row(label="theirs", tokenizer=None, samples=None, published=None),
    ),
)


@pytest.fixture
def results(tmp_path):
    for name, rfid in (("a", 1.23456), ("b", 2.5)):
        folder = tmp_path / "scores/reconstruction/titok" / name
        folder.mkdir(parents=True)
        (folder / "scores.json").write_text(json.dumps({"rfid": rfid, "psnr": 20.0}))
    return tmp_path


def test_published_stands_beside_measured_and_nothing_is_made_up(results):
    rendered = render(TABLE, table_frame(TABLE, results), ["Protocol."])
    assert rendered.csv.splitlines() == [
        "label,rfid,rfid_published,psnr",
        "ours,1.23456,,20.0",
        "both,2.5,2.21,20.0",
        "theirs,,,",
    ]
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in rendered.markdown.splitlines()]
    assert ["", "rFID ↓", "rFID, published", "PSNR ↑"] in lines
    assert ["ours", "1.23", "", "20.00"] in lines
    assert ["both", "2.50", "2.21", "20.00"] in lines
    assert ["theirs", "not measured", "", "not measured"] in lines
    for note in ("- A note.", "- Published: Paper, Table 1.", "- Protocol."):
        assert note in rendered.markdown
    assert r"rFID $\downarrow$" in rendered.latex and r"\toprule" in rendered.latex


def test_a_score_that_lacks_a_metric_is_an_error(results):
    (results / "scores/reconstruction/titok/a/scores.json").write_text(json.dumps({"rfid": 1.0}))
    with pytest.raises(OnetokError, match="'ours': its scores hold no 'psnr'"):
        table_frame(TABLE, results)


def test_the_protocol_names_what_moves_a_figure(repository):
    study = load_study(repository / "studies/miniature")
    text = "\n".join(protocol(study, study.tables["generation/class-conditional"]))
    for word in ("1440 samples", "labelled/digits train", "classifiers/digits-judge", "bicubic to 32 px"):
        assert word in text
    assert (
        "MaskGIT-ViT on TiTok, guided: 8 steps, temperature 2.5, linear guidance 3, arccos schedule, seed 0"
        in text
    )
    assert "Accuracy: share of samples classified as the class they were made for" in text
    text = "\n".join(protocol(study, study.tables["reconstruction/tokenizers"]))
    assert "Accuracy: share of reconstructions" in text


@pytest.mark.parametrize(
    ("rfid", "verdict"), [(1.23456, "identical"), (1.3, "within tolerance"), (1.4, "different")]
)
def test_comparison_with_evidence(results, tmp_path, rfid, verdict):
    for folder, value in (("evidence", 1.23456), ("ours", rfid)):
        scores = results / "scores/reconstruction/titok/a/scores.json"
        scores.write_text(json.dumps({"rfid": value, "psnr": 20.0}))
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "table.csv").write_text(render(TABLE, table_frame(TABLE, results), []).csv)
    found, lines = compare_table(TABLE, tmp_path / "ours", tmp_path / "evidence")
    assert found == verdict
    assert bool(lines) == (verdict == "different")
    assert compare_table(TABLE, tmp_path / "nowhere", tmp_path / "evidence")[0] == "missing"
