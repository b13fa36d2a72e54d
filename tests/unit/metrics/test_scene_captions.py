"""Captions of scenes that are exact, and ones that are not."""

from pathlib import Path

import pytest

from onetok.data.scenes import PLACES, scene
from onetok.errors import OnetokError
from onetok.metrics.scene_captions import Fact, facts_of, is_exact
from onetok.study.load import load_study

RED_CIRCLE, BLUE_SQUARE = Fact("circle", "red", 0), Fact("square", "blue", 1)
TWO = [RED_CIRCLE, BLUE_SQUARE]  # side by side in the upper row
THREE = [Fact("triangle", "green", cell) for cell in (0, 2, 3)]


@pytest.mark.parametrize(
    "caption",
    [
        "a circle and a square",
        "a square and a circle",
        "a red circle left of a blue square",
        "a square right of a circle",
        "a picture of a circle and a square: a red circle at the top left, a blue square at the top right",
    ],
)
def test_a_caption_is_exact_if_all_that_it_says_is_right(caption):
    assert is_exact(caption, TWO)


@pytest.mark.parametrize(
    "caption",
    [
        "a circle",  # the square is left out
        "a circle and a triangle",
        "a blue circle and a red square",
        "a circle right of a square",
        "a circle above a square",
        "two circles",
        "a picture of a circle and a square: a red circle at the top left, a blue square at the bottom right",
        "circle square",
        "",
    ],
)
def test_a_caption_with_something_wrong_is_not_exact(caption):
    assert not is_exact(caption, TWO)


def test_numbers_are_exact():
    assert is_exact("three triangles", THREE)
    assert is_exact(
        "a photo of three triangles: all green, at the top left, bottom left, bottom right", THREE
    )
    wrong = ("two triangles", "four triangles", "three circles", "a triangle")
    assert not any(is_exact(caption, THREE) for caption in wrong)


@pytest.mark.parametrize("split", ["train", "held-out"])
def test_both_captions_of_every_scene_are_exact(repository: Path, split):
    source = load_study(repository / "studies/miniature").datasets["captioned/scenes"].source
    for index in range(60):
        made = scene(source, split, index)
        facts = facts_of(made.augmented)
        assert sorted(facts) == sorted(Fact(thing.shape, thing.color, thing.cell) for thing in made.things)
        assert is_exact(made.request.caption, facts) and is_exact(made.augmented, facts)
        moved = [fact._replace(cell=(fact.cell + 1) % len(PLACES)) for fact in facts]
        all_places = len(facts) == len(PLACES) and len(set(made.request.shapes)) == 1
        assert is_exact(made.augmented, moved) == all_places  # four equal shapes are everywhere, moved or not


def test_an_augmented_caption_of_another_form_is_an_error():
    with pytest.raises(OnetokError, match=r"caption 'a heron': expected the augmented caption of a scene"):
        facts_of("a heron")
