"""Params files are YAML 1.2, read as DVC reads them; a file that cannot be read is one line with its line number."""

from __future__ import annotations

import os
import re

import pytest
from dvc.utils.serialize import parse_yaml as dvc_reads

from onetok.errors import OnetokError
from onetok.study.load import load_study
from onetok.study.yaml_files import parse_yaml

SCALARS = {
    "0042": 42,
    "08": 8,
    "0o14": 12,
    "0x1f": 31,
    "+12": 12,
    "1:30": "1:30",
    "190:20:30": "190:20:30",
    "1e-4": 1e-4,
    "1E5": 1e5,
    "1.": 1.0,
    ".5": 0.5,
    "-.inf": float("-inf"),
    "1e": "1e",
    "0o9": "0o9",
    "yes": "yes",
    "No": "No",
    "on": "on",
    "OFF": "OFF",
    "y": "y",
    "true": True,
    "FALSE": False,
    "~": None,
    "Null": None,
    "": None,
    "'12'": "12",
    "é": "é",
    "!!str 12": "12",
    "a#b": "a#b",
    "a # b": "a",
}


@pytest.mark.parametrize(("text", "value"), SCALARS.items(), ids=list(SCALARS))
def test_a_scalar_is_what_yaml_1_2_and_dvc_say(text, value):
    read = parse_yaml(f"key: {text}", "file")
    assert read == dvc_reads(f"key: {text}", "file") == {"key": value}
    assert type(read["key"]) is type(value)


def test_dvc_and_we_read_the_same_from_every_params_file(repository):
    for study in ("params", "studies/miniature/params", "tests/e2e/smallest/params"):
        for path in sorted((repository / study).rglob("*.yaml")):
            text = path.read_text()
            assert parse_yaml(text, path.name) == dvc_reads(text, path.name)


def test_merged_keys_give_way_to_those_beside_them():
    text = "a: &a {x: 1, y: 2}\nb: &b {y: 3}\nc: {<<: [*a, *b], z: 4}\nd: {x: 5, <<: *a}"
    assert parse_yaml(text, "file") == dvc_reads(text, "file")
    assert parse_yaml(text, "file")["d"] == {"x": 5, "y": 2}


REFUSED = [
    (
        "a: {{ x }}",
        "a mapping as a key, as of a template's {{ x }}: fill it in, or write it in quotes (line 1)",
    ),
    ("a: 1\n{{ x }}: 1", "a mapping as a key"),
    ("\n? [a, b]\n: 1", "a list as a key, expected text (line 2)"),
    ("3: 1", "the key '3' is read as int, expected text: write it in quotes (line 1)"),
    ("~: 1", "the key '~' is read as null"),
    ("true: 1", "the key 'true' is read as bool"),
    ("a:\n  b: 1\n  b: 2", "key 'b' appears twice, first in line 2 (line 3)"),
    ("a: &a {b: 1}\nc: {<<: *a, <<: *a}", "key '<<' appears twice"),
    ("a: 1\nb: 2020-13-45", "'2020-13-45' is read as a date by some: write it in quotes (line 2)"),
    ("a: 2020-01-02", "is read as a date by some"),
    ("a: " + "9" * 5000, "a number of 5000 digits, expected at most 100 (line 1)"),
    ("a: 1_000", "'1_000' is read as int by some and as text by others: write it in quotes (line 1)"),
    ("a: 0b11", "'0b11' is read as int by some"),
    ("a: =", "'=' is a sign of YAML's own"),
    ("a: !!set {b}", "the tag tag:yaml.org,2002:set, expected none"),
    ("a: !!python/object:os.system {}", "python/object:os.system, expected none (line 1)"),
    ("a:\n  " + "[" * 3000 + "]" * 3000, "more than 64 lists and mappings inside each other (line 2)"),
    ("a: &a [*a]", "an alias that stands inside its own anchor"),
    ("a: *b", "found undefined alias 'b' (line 1)"),
    ("a: 1\n\tb: 2", "(line 2)"),
    ("a: 'b", "found unexpected end of stream (line 1)"),
    ("a: 1\n---\nb: 2", "expected a single document in the stream, but found another document (line 2)"),
    ("%YAML 1.1\n---\na: yes", "version 1.1 (line 1), expected 1.2"),
    ("a: 1\nb: \x00", "character 0 is not allowed (line 2)"),
]


@pytest.mark.parametrize(("text", "message"), REFUSED, ids=[m[1][:40] for m in REFUSED])
def test_text_that_readers_do_not_agree_about_is_one_line(text, message):
    with pytest.raises(OnetokError, match=re.escape(message)) as caught:
        parse_yaml(text, "params/x.yaml")
    assert str(caught.value).startswith("params/x.yaml: not valid YAML: ")
    assert "\n" not in str(caught.value)


def test_lists_that_are_named_again_and_again_are_looked_at_once():
    lines = ["a0: &a0 [x, x]", *(f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]" for i in range(1, 60))]
    assert parse_yaml("\n".join(lines), "file")["a1"] == [["x", "x"], ["x", "x"]]


# ---------------------------------------------------------------------------------------------- files and folders


def refusal(study):
    with pytest.raises(OnetokError) as caught:
        load_study(study)
    return str(caught.value)


def test_what_editors_and_file_managers_leave_is_passed_over(smallest):
    names = (
        ".vqgan.yaml.swp",
        "vqgan.yaml~",
        "#vqgan.yaml#",
        "vqgan.yaml.bak",
        "vqgan.yaml.orig",
        ".DS_Store",
        "Thumbs.db",
        "desktop.ini",
        "4913",
    )
    for name in (*names, "._vqgan.yaml", "VQGAN.YAML.BAK"):
        (smallest / "params/tokenizers" / name).write_text("{{ not read")
    (smallest / "params/tokenizers/.#vqgan.yaml").symlink_to("somebody@somewhere.1234")
    for folder in ("params/tokenizers/.ipynb_checkpoints", "params/.ipynb_checkpoints"):
        (smallest / folder).mkdir()
        (smallest / folder / "vqgan-checkpoint.yaml").write_text("{{ not read")
    assert load_study(smallest).tokenizers["vqgan/tiny"]


def test_a_file_that_cannot_be_read_is_named_once(smallest):
    """What it defines is not missed elsewhere; another reference to what params do not have is."""
    path = smallest / "params/tokenizers/titok.yaml"
    path.write_text(path.read_text().replace("tokenizers:", "tokenizers:\n\tx: 0", 1))
    table = smallest / "params/tables/reconstruction.yaml"
    table.write_text(table.read_text().replace("vqgan/tiny", "vqgan/tinny", 1))
    with pytest.raises(OnetokError) as caught:
        load_study(smallest)
    _, *lines = str(caught.value).splitlines()
    assert [line.split(":")[0].strip() for line in lines] == [
        "params/tokenizers/titok.yaml",
        "params/tables/reconstruction.yaml",
    ]
    assert "nearest known: vqgan/tiny" in lines[1]


def replace_by(path):
    """Return ways to put something at `path` that is no readable params file, and what the message says."""
    text = path.read_bytes()
    return [
        (path.mkdir, "is a folder, expected a file"),
        (
            lambda: path.symlink_to("nowhere.yaml"),
            "is a link to nowhere.yaml, which does not exist or leads back",
        ),
        (lambda: path.symlink_to(path.name), "is a link to vqgan.yaml, which does not exist or leads back"),
        (lambda: os.mkfifo(path), "is neither a file nor a folder"),
        (lambda: path.write_bytes(text + b"# caf\xe9\n"), "not UTF-8 text: .*byte 0xe9, line 38"),
        (lambda: path.write_bytes(text.decode().encode("utf-16")), "not UTF-8 text: .*byte 0xff, line 1"),
        (lambda: path.write_text(""), "expected a mapping of kinds, found nothing"),
        (lambda: path.write_text("# nothing but a comment\n"), "expected a mapping of kinds, found nothing"),
        (lambda: path.write_text("- tokenizers"), "expected a mapping of kinds, found list"),
    ]


@pytest.mark.parametrize("number", range(9))
def test_what_is_no_params_file_is_an_error_of_one_line(smallest, number):
    path = smallest / "params/tokenizers/vqgan.yaml"
    put, message = replace_by(path)[number]
    path.unlink()
    put()
    lines = [
        line for line in refusal(smallest).splitlines() if line.startswith("  params/tokenizers/vqgan.yaml: ")
    ]
    assert len(lines) == 1
    assert re.search(message, lines[0]), lines[0]


def test_a_file_that_may_not_be_read_is_one_line(smallest):
    path = smallest / "params/tokenizers/vqgan.yaml"
    path.chmod(0)
    if os.access(path, os.R_OK):
        pytest.skip("this user may read every file")
    assert "params/tokenizers/vqgan.yaml: cannot be read: Permission denied" in refusal(smallest)


def test_a_byte_order_mark_is_no_part_of_the_first_key(smallest):
    path = smallest / "params/tokenizers/vqgan.yaml"
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert load_study(smallest).tokenizers["vqgan/tiny"]


def test_folders_are_those_that_hold_params_and_may_be_links(smallest):
    (smallest / "params/tables").rename(smallest / "kept")
    (smallest / "params/tables").symlink_to(smallest / "kept")
    assert load_study(smallest).tables
    (smallest / "params/tokenisers").mkdir()
    (smallest / "params/tables/more").mkdir()
    (smallest / "params/notes.yaml").write_text("a: 1")
    found = refusal(smallest)
    assert (
        "params/tokenisers: expected only folders datasets, " in found
        and "nearest known: tokenizers" in found
    )
    assert "params/tables/more: expected only files named *.yaml" in found
    assert "params/notes.yaml: expected only folders" in found


def test_a_line_of_the_report_stays_one_line_whatever_a_key_holds(smallest):
    path = smallest / "params/tokenizers/vqgan.yaml"
    path.write_text(path.read_text().replace("    tiny:", '    "ti\\nny\\e[2J":'))
    assert r"tokenizers.vqgan.ti\nny\x1b[2J: a variant's name is lower case" in refusal(smallest)
