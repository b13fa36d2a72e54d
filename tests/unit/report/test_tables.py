import html
import io
import json
import re

import pandas as pd
import pytest
from markdown_it import MarkdownIt

from onetok.errors import OnetokError
from onetok.report.claims import claim_lines
from onetok.report.markup import latex_rows, markdown_text
from onetok.report.tables import protocol, render, small_sets, table_frame
from onetok.study.load import load_study
from onetok.study.schema.tables import Claim, Column, Published, PublishedFigure, Row, Table


def column(metric, label, decimals=2, better="lower"):
    return Column(metric=metric, label=label, decimals=decimals, better=better)


TABLE = Table(
    title="A title",
    note="A note.",
    spread=False,
    controls=(),
    claims=(
        Claim(text="Ours has a lower rFID.", metric="rfid", row="ours", relation="below", other="both"),
        Claim(text="Ours has a higher PSNR.", metric="psnr", row="ours", relation="above", other="both"),
        Claim(text="Ours is lower than theirs.", metric="rfid", row="ours", relation="below", other="theirs"),
    ),
    columns=(column("rfid", "rFID"), column("psnr", "PSNR", better="higher")),
    rows=(
        Row(label="ours", tokenizer="titok/a", samples=None, published=None),
        Row(
            label="both",
            tokenizer="titok/b",
            samples=None,
            published=Published(
                table="t",
                model="m",
                figures={
                    "psnr": PublishedFigure(value=21.5, source="A plot", unverified=True),
                    "rfid": PublishedFigure(value=2.21, source="Paper, Table 1", unverified=False),
                },
            ),
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
        "label,rfid,rfid_published,psnr,psnr_published",
        "ours,1.23456,,20.0,",
        "both,2.5,2.21,20.0,21.5",
        "theirs,,,,",
    ]
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in rendered.markdown.splitlines()]
    assert ["", "rFID ↓", "rFID, published", "PSNR ↑", "PSNR, published"] in lines
    assert ["ours", "1.23", "", "20.00", ""] in lines
    assert ["both", "2.50", r"2.21 \[1\]", "20.00", r"21.50 \[2, unverified\]"] in lines
    assert ["theirs", "not measured", "", "not measured", ""] in lines
    for note in (
        "- A note.",
        r"- Published: \[1\] Paper, Table 1; \[2\] A plot.",
        "- Unverified: of one",
        "- Protocol.",
    ):
        assert note in rendered.markdown
    assert "2.21 [1]" in rendered.latex
    assert r"rFID $\downarrow$" in rendered.latex and r"\toprule" in rendered.latex


def test_a_score_that_lacks_a_metric_is_an_error(results):
    (results / "scores/reconstruction/titok/a/scores.json").write_text(json.dumps({"rfid": 1.0}))
    with pytest.raises(OnetokError, match="'ours': its scores hold no 'psnr'"):
        table_frame(TABLE, results)


def test_a_score_that_is_no_number_is_not_shown_as_one_that_does_not_apply(results):
    folder = results / "scores/reconstruction/titok"
    (folder / "a/scores.json").write_text('{"rfid": NaN, "psnr": null}')
    (folder / "b/scores.json").write_text('{"rfid": 2.5, "psnr": Infinity}')
    rendered = render(TABLE, table_frame(TABLE, results), [])
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in rendered.markdown.splitlines()]
    assert ["ours", "NaN", "", "–", ""] in lines
    assert ["both", "2.50", r"2.21 \[1\]", "NaN", r"21.50 \[2, unverified\]"] in lines
    assert rendered.csv.splitlines()[1] == "ours,NaN,,,"


def test_a_distance_of_fewer_images_than_features_is_said(smallest):
    study = load_study(smallest)
    table = study.tables["generation/class-conditional"]
    for row in table.rows:
        folder = smallest / "results/scores/samples" / row.samples
        folder.mkdir(parents=True)
        (folder / "scores.json").write_text(json.dumps({"images": 20, "features": 19, "features_second": 20}))
    (line,) = small_sets(study, table, smallest / "results")
    assert line.startswith(
        "FID, second network: of 20 images by 20 features. Below features + 1 images covariances lack"
    )


@pytest.mark.parametrize(
    ("name", "splits"),
    [
        ("generation/class-conditional", "inception score over 10 splits, shuffled by seed 0"),
        ("reconstruction/titok", "inception score over 1 split"),
        ("text_to_image/mjhq", "inception score over 1 split"),
    ],
)
def test_the_protocol_says_what_the_papers_benchmarks_do(repository, name, splits):
    study = load_study(repository)
    text = "\n".join(protocol(study, study.tables[name]))
    assert splits in text
    if name == "reconstruction/titok":
        assert "50000 images of labelled/imagenet val" in text
        assert "reconstructions rounded to 8 bits; of a KL tokenizer's posterior the sample of seed 0" in text
    else:
        assert "samples truncated to 8 bits" in text and "exceeds 8 of 255 levels" in text
    captions = protocol(study, study.tables["reconstruction/tatitok"])
    for form in (
        '"A photo of a {class}.", class names imagenet-synonyms',
        '"A photo of {class}", class names imagenet',
    ):
        assert any(form in line for line in captions)


def test_the_protocol_names_what_moves_a_figure(repository):
    study = load_study(repository / "studies/miniature")
    text = "\n".join(protocol(study, study.tables["generation/class-conditional"]))
    for word in ("1440 samples", "labelled/digits train", "classifiers/digits-second", "bicubic to 32 px"):
        assert word in text
    assert (
        "MaskGIT-ViT on TiTok, guided: 8 steps, temperature 2.5, linear guidance 3, arccos schedule, seed 0"
        in text
    )
    assert "Accuracy: share of samples classified as the class they were made for" in text
    text = "\n".join(protocol(study, study.tables["reconstruction/tokenizers"]))
    assert "Accuracy: share of reconstructions" in text


def test_a_claim_is_borne_out_by_the_figures_of_the_run_or_is_not(results):
    def notes():
        return list(claim_lines(TABLE, table_frame(TABLE, results)))

    assert "Ours has a lower rFID. Holds here: 1.23 against 2.50." in notes()
    assert "Ours has a higher PSNR. Does not hold here: 20.00 against 20.00." in notes()
    assert "Ours is lower than theirs. Not measured here." in notes()
    (results / "scores/reconstruction/titok/a/scores.json").write_text(json.dumps({"rfid": 3, "psnr": 20.5}))
    assert "Ours has a lower rFID. Does not hold here: 3.00 against 2.50." in notes()
    assert "Ours has a higher PSNR. Holds here: 20.50 against 20.00." in notes()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "controls: [untrained MaskGIT-ViT]",
            "controls: [untrained MaskGIT]",
            "controls.0: 0 rows labelled 'untrained MaskGIT', expected one",
        ),
        (
            'relation: above, other: "MaskGIT-ViT, no guidance"',
            "relation: above, other: nobody",
            "claims.0.other: 0 rows labelled 'nobody', expected one",
        ),
        (
            "metric: accuracy, row:",
            "metric: clip_score, row:",
            "claims.0.metric: no column of 'clip_score' here",
        ),
        ("relation: above", "relation: better", "claims.0.relation: found 'better'"),
    ],
)
def test_controls_and_claims_name_rows_and_columns_of_their_table(smallest, old, new, message):
    path = smallest / "params/tables/generation.yaml"
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(OnetokError, match=r"tables\.generation\.class-conditional") as error:
        load_study(smallest)
    assert message in str(error.value)


HOSTILE = "a|b & 50% [x](y) <i> $1 #2 _u_ s_t {v} ~w~ ^ \\ `q` *z* &amp; ↑\nUP DOWN"


def test_names_are_shown_as_they_are_whatever_characters_they_have(results):
    rows = (TABLE.rows[0].model_copy(update={"label": HOSTILE}), TABLE.rows[1])
    columns = (column("rfid", "r_FID|x$"), TABLE.columns[1])
    changes = {"title": f"# {HOSTILE}", "note": HOSTILE, "rows": rows, "columns": columns, "claims": ()}
    table = TABLE.model_copy(update=changes)
    rendered = render(table, table_frame(table, results), [HOSTILE])

    shown = MarkdownIt("gfm-like", {"linkify": False}).render(rendered.markdown)
    text = html.unescape(re.sub(r"<[^>]*>", "", shown))
    assert text.count(" ".join(HOSTILE.split())) == 4  # title, label and two notes
    assert "<td>20.00</td>" in re.sub(" style=[^>]*", "", shown) and "r_FID|x$ ↓" in text
    assert not re.search("<(em|strong|code|i|a|s)[ >]", shown)
    assert r"\$1" in rendered.markdown  # GitHub would read mathematics

    (row,) = [line for line in rendered.latex.splitlines() if r"a|b \& 50\% [x](y)" in line]
    assert row.endswith(r"\\") and row.count("&") - row.count(r"\&") == 4
    escaped = r"\$1 \#2 \_u\_ s\_t \{v\} \textasciitilde{}w\textasciitilde{} \^{} \textbackslash{} `q`"
    assert escaped in row and row.rstrip(" \\").count(r"$\uparrow$") == 1 and "UP DOWN" in row
    assert r"r\_FID|x\$ $\downarrow$" in rendered.latex
    head = rendered.latex.split(r"\begin{tabular}")[0]
    assert all(line.startswith("%") for line in head.splitlines())
    assert pd.read_csv(io.StringIO(rendered.csv))["label"][0] == HOSTILE


def test_a_row_that_begins_with_a_bracket_is_no_option_of_the_line_before():
    assert latex_rows(" [a] & 1 \\\\\n *b & 2 \\\\") == " {[}a] & 1 \\\\\n {*}b & 2 \\\\"


@pytest.mark.parametrize(
    "text", ["- a", "+ a", "1. a", "12) a", "> a", "# a", "[a]: b", "&lt;", "~~a~~", "```"]
)
def test_no_sentence_is_read_as_markup(text):
    shown = MarkdownIt("gfm-like", {"linkify": False}).render(f"- {markdown_text(text)}")
    assert html.unescape(shown) == f"<ul>\n<li>{text}</li>\n</ul>\n"
