"""params/pins.yaml: all pins in one file, which entries of params mean where theirs are null."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest
import yaml
from huggingface_hub import errors

from onetok import cli
from onetok.errors import OnetokError
from onetok.store.dvc_yaml import dvc_yaml
from onetok.study.load import load_study
from onetok.study.pins import FILE, pin_key, read_pins, weights_of
from onetok.study.plan import plan

PINS = """\
# The versions of this study.
pins:
  # a small network
  a-b-x-safetensors:
    hub: a/b
    file: x.safetensors   # the only file
    revision: null
    sha256: null
"""
PUBLISHED = """\
encoders:
  published:
    one: &one
      kind: inception
      weights: {hub: a/b, revision: null, url: null, file: x.safetensors, sha256: null}
    two:
      <<: *one
      weights: {hub: c/d, revision: null, url: null, file: sub/y.bin, sha256: null}
    own:
      <<: *one
      weights: {hub: a/b, revision: "REVISION", url: null, file: x.safetensors, sha256: "DIGEST"}
""".replace("REVISION", "e" * 40).replace("DIGEST", "f" * 64)


class Hub:
    """A Hub with two repositories, whose main branches tests move."""

    files = {  # noqa: RUF012  (a class, because HfApi is one)
        "a/b": ("1" * 40, {"x.safetensors": "2" * 64}),
        "c/d": ("3" * 40, {"sub/y.bin": "4" * 64}),
    }
    asked = 0

    def model_info(self, repo, revision, files_metadata):
        type(self).asked += 1
        if repo not in self.files:
            raise errors.RepositoryNotFoundError("404", response=SimpleNamespace(headers={}, request=None))
        commit, digests = self.files[repo]
        siblings = [
            SimpleNamespace(rfilename=name, lfs=SimpleNamespace(sha256=digest))
            for name, digest in digests.items()
        ]
        return SimpleNamespace(sha=commit, siblings=siblings)


@pytest.fixture
def hub(monkeypatch):
    class OwnHub(Hub):
        files = dict(Hub.files)  # noqa: RUF012

    monkeypatch.setattr("onetok.release.download.HfApi", OwnHub)
    return OwnHub


@pytest.fixture
def study(smallest):
    (smallest / "params/encoders/published.yaml").write_text(PUBLISHED)
    (smallest / FILE).write_text(PINS)
    return smallest


@pytest.fixture
def pin(monkeypatch, capsys, study):
    def run(*options):
        monkeypatch.setattr(sys, "argv", ["onetok", "pin", *options, "--study", str(study)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        return ended.value.code, *capsys.readouterr()

    return run


def test_all_pins_are_looked_up_shown_and_written(hub, study, pin):
    code, output, _ = pin("--all")
    assert code == 1 and (study / FILE).read_text() == PINS
    for line in ("-    revision: null", f'+    revision: "{"1" * 40}"', f'+    sha256: "{"4" * 64}"'):
        assert line in output.splitlines()
    (study / "dvc.yaml").write_text(dvc_yaml(load_study(study)))
    code, output, _ = pin("--all", "--write")
    assert code == 0 and output.endswith(f"{study / FILE}: written\n")
    text = (study / FILE).read_text()
    for comment in ("# The versions of this study.", "# a small network", "# the only file"):
        assert comment in text
    written = yaml.safe_load(text)["pins"]
    assert written == {
        "a-b-x-safetensors": {
            "hub": "a/b",
            "file": "x.safetensors",
            "revision": "1" * 40,
            "sha256": "2" * 64,
        },
        "c-d-sub-y-bin": {"hub": "c/d", "file": "sub/y.bin", "revision": "3" * 40, "sha256": "4" * 64},
    }
    assert hub.asked == 4  # each repository once a run
    code, output, _ = pin("--all", "--write")
    assert (code, output) == (
        0,
        "params/pins.yaml: every file that params name is pinned, and is the same on the Hub today\n",
    )


def test_params_and_receipts_have_the_pins_of_the_file(hub, study, pin):
    before = plan(load_study(study), "encoders", "published/one").slice
    assert pin("--all", "--write")[0] == 0
    loaded = load_study(study)
    (weights,) = weights_of(loaded.encoders["published/one"]).values()
    assert (weights.revision, weights.sha256) == ("1" * 40, "2" * 64)
    (own,) = weights_of(loaded.encoders["published/own"]).values()
    assert (own.revision, own.sha256) == ("e" * 40, "f" * 64)
    assert plan(loaded, "encoders", "published/one").slice != before


def test_what_has_moved_on_the_hub_is_said_and_taken_on_demand(hub, study, pin):
    assert pin("--all", "--write")[0] == 0
    text = (study / FILE).read_text()
    hub.files["c/d"] = ("5" * 40, {"sub/y.bin": "4" * 64})  # another commit, the same file
    assert pin("--all")[0] == 0
    hub.files["a/b"] = ("6" * 40, {"x.safetensors": "7" * 64})
    code, output, _ = pin("--all", "--write")
    assert code == 1 and (study / FILE).read_text() == text
    assert output.startswith(f"changed on the Hub: a/b x.safetensors: sha256 {'2' * 64} is pinned")
    code, output, _ = pin("--all", "--write", "--update")
    assert code == 0 and output.startswith("pinned anew: a/b x.safetensors")
    assert read_pins(yaml.safe_load((study / FILE).read_text()))["a-b-x-safetensors"].sha256 == "7" * 64


def test_one_repository_that_is_not_there_does_not_hide_the_others(hub, study, pin):
    del hub.files["c/d"]
    code, output, errors = pin("--all", "--write")
    assert code == 1 and errors == (
        "not looked up: c/d at main: cannot be looked up on the Hub: no such repository on the Hub, or a private"
        " one: `hf auth login`\n"
    )
    assert '+    sha256: "' + "2" * 64 in output
    assert list(yaml.safe_load((study / FILE).read_text())["pins"]) == ["a-b-x-safetensors"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"pin": {}}, "params/pins.yaml: expected one key, pins"),
        ({"pins": {"a-b-c": {"hub": "a/b"}}}, r"params/pins.yaml: pins.a-b-c.file: .*; Field required"),
        (
            {"pins": {"x": {"hub": "a/b", "file": "c", "revision": None, "sha256": None}}},
            "params/pins.yaml: pins.x: expected the key a-b-c for c of a/b",
        ),
        (
            {"pins": {"a-b-c": {"hub": "a/b", "file": "c", "revision": "main", "sha256": None}}},
            "params/pins.yaml: pins.a-b-c.revision: found 'main'",
        ),
    ],
)
def test_a_damaged_file_of_pins_is_one_line(content, message):
    with pytest.raises(OnetokError, match=f"^{message}"):
        read_pins(content)


def test_the_papers_pins_are_all_in_the_file_and_tracked_by_dvc(repository):
    study = load_study(repository)
    pins = read_pins(yaml.safe_load((repository / FILE).read_text()))
    entries = (*study.encoders.values(), *study.tokenizers.values(), *study.generators.values())
    named = {pin_key(w.hub, w.file) for entry in entries for w in weights_of(entry).values() if w.hub}
    assert named == pins.keys() and len(named) >= 28
    tracked = yaml.safe_load(dvc_yaml(study))["stages"]["train_generator-published-rar-b"]["params"]
    (pinned,) = [keys[FILE] for keys in tracked if FILE in keys]
    assert "pins.yucornetto-rar-rar-b-bin" in pinned
