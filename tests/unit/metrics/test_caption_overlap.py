"""Scores of overlapping words, by hand and against what their definitions say of equal captions."""

import builtins
import shutil
import sys

import pytest

from onetok.errors import OnetokError
from onetok.metrics.caption_overlap import overlap_scores, words

REFERENCES = [["a red circle left of a blue square"], ["three green triangles in a row"]]


def test_words_are_lower_case_and_without_punctuation():
    assert words("A man's dog, running; at 5 o'clock!") == "a man's dog running at 5 o'clock"


def test_equal_captions_have_full_scores():
    pytest.importorskip("pycocoevalcap")
    scores = overlap_scores([several[0] for several in REFERENCES], REFERENCES, java=False)
    assert scores["bleu_4"] == pytest.approx(100) and scores["rouge_l"] == pytest.approx(100)
    assert scores["cider_d"] == pytest.approx(1000)  # ten times the cosine of equal vectors, in percent
    assert scores["meteor"] is None and scores["spice"] is None


def test_rouge_is_the_longest_common_subsequence():
    pytest.importorskip("pycocoevalcap")
    (found,) = (overlap_scores(["a red square"], [["a red blue square"]], java=False)["rouge_l"],)
    precision, recall, beta = 1.0, 3 / 4, 1.2
    assert found == pytest.approx(100 * (1 + beta**2) * precision * recall / (recall + beta**2 * precision))


def test_without_java_meteor_and_spice_are_not_computed(monkeypatch):
    pytest.importorskip("pycocoevalcap")
    monkeypatch.setattr(shutil, "which", lambda name: None)
    scores = overlap_scores(["a circle"], [["a circle"]], java=True)
    assert scores["meteor"] is None and scores["spice"] is None


def test_a_missing_library_is_named_with_its_extra(monkeypatch):
    for name in [name for name in sys.modules if name.startswith("pycocoevalcap")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr("onetok.metrics.caption_overlap.import_module", _missing)
    with pytest.raises(
        OnetokError, match=r"pycocoevalcap is not installed.+pip install 'onetok\[captions\]'"
    ):
        overlap_scores(["a circle"], [["a circle"]], java=False)


def _missing(name):
    raise builtins.ImportError(name)
