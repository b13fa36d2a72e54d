import numpy as np
import pytest
import torch
import torch.nn.functional as F

from onetok.data import scenes
from onetok.data.images import to_float, to_uint8
from onetok.errors import OnetokError
from onetok.metrics.geneval import Detection, ScenesExact, evaluate, is_right, relations
from onetok.study.schema.records import Excluded, Prompt, Wanted
from tests.unit.data.test_scenes import SOURCE

DETECTOR = ScenesExact(SOURCE)


def drawn(split, count):
    made = [scenes.scene(SOURCE, split, i) for i in range(count)]
    return made, torch.from_numpy(np.stack([scenes.draw(scene, SOURCE) for scene in made]))


def prompts_of(made):
    return [scene.request.prompt(scene.held_out) for scene in made]


def blurred(pixels, sigma):
    offsets = torch.arange(-4, 5)
    kernel = torch.exp(-(offsets**2) / (2 * sigma**2))
    kernel = (kernel / kernel.sum()).expand(3, 1, 9)
    x = F.pad(to_float(pixels), (4, 4, 4, 4), mode="replicate")
    x = F.conv2d(F.conv2d(x, kernel[:, :, None], groups=3), kernel[..., None], groups=3)
    return to_uint8(x)


def noisy(pixels, sigma):
    noise = torch.randn(pixels.shape, generator=torch.Generator().manual_seed(0))
    return to_uint8(to_float(pixels) + sigma * noise)


def test_the_detector_reads_every_real_scene_as_it_was_drawn():
    for split in ("train", "held-out"):
        made, pixels = drawn(split, 600)
        for scene, seen in zip(made, DETECTOR(pixels), strict=True):
            things = sorted(scene.things, key=lambda thing: thing.cell)
            assert [(s.name, s.color) for s in seen] == [(t.shape, t.color) for t in things]
            for s, t in zip(seen, things, strict=True):
                y, x = divmod(t.cell, 2)
                left, top = 16 * x + 8 + t.right - t.side / 2, 16 * y + 8 + t.down - t.side / 2
                assert s.box == (left, top, left + t.side, top + t.side)


@pytest.mark.parametrize(
    ("spoil", "least"),
    [
        (lambda x: blurred(x, 0.7), 0.995),
        (lambda x: blurred(x, 1.2), 0.95),
        (lambda x: noisy(x, 0.1), 0.995),
        (lambda x: torch.roll(x, (1, -1), (2, 3)), 0.995),
        (lambda x: to_uint8(0.8 * to_float(x)), 0.995),
    ],
    ids=["soft", "softer", "noisy", "shifted", "faint"],
)
def test_a_spoiled_scene_is_read_as_what_it_looks_like(spoil, least):
    made, pixels = drawn("train", 600)
    scores = evaluate(prompts_of(made), DETECTOR(spoil(pixels)))
    assert scores.usual.overall >= least


def test_pictures_of_nothing_are_never_right():
    made, pixels = drawn("train", 60)
    noise = torch.randint(0, 256, pixels.shape, generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    mean = to_uint8(to_float(pixels).mean(0, keepdim=True).expand(pixels.shape))
    red = torch.tensor([255, 0, 0], dtype=torch.uint8).view(1, 3, 1, 1).expand(pixels.shape)
    for wrong in (torch.full_like(pixels, 128), torch.full_like(pixels, 0), noise, red, mean):
        assert evaluate(prompts_of(made), DETECTOR(wrong)).usual.overall == 0


def test_a_picture_of_another_caption_is_mostly_wrong():
    made, pixels = drawn("train", 600)
    scores = evaluate(prompts_of(made), DETECTOR(pixels.roll(1, dims=0)))
    assert scores.usual.overall < 0.05


def repainted(pixels, cell, change):
    y, x = (16 * step for step in divmod(cell, 2))
    out = pixels.clone()
    out[:, y : y + 16, x : x + 16] = change(out[:, y : y + 16, x : x + 16])
    return out


@pytest.mark.parametrize("task", scenes.TASKS)
def test_each_task_sees_its_own_mistake(task):
    made, pixels = drawn("train", 240)
    for scene, picture in zip(made, pixels, strict=True):
        if scene.request.task != task:
            continue
        prompt, thing = scene.request.prompt(False), scene.things[0]
        erased = repainted(picture, thing.cell, lambda cell: torch.zeros_like(cell))
        assert is_right(prompt, DETECTOR(picture[None])[0])
        assert not is_right(prompt, DETECTOR(erased[None])[0])
        if task in ("colors", "color_attr"):
            other = repainted(picture, thing.cell, lambda cell: cell.roll(1, dims=0))
            assert not is_right(prompt, DETECTOR(other[None])[0])
        if task == "position":
            swapped = picture.roll(16, 2 if scene.request.relation in ("left of", "right of") else 1)
            assert not is_right(prompt, DETECTOR(swapped[None])[0])
        if task in ("single_object", "counting", "colors") and len(scene.things) < 4:
            free = next(c for c in range(4) if c not in {t.cell for t in scene.things})
            y, x = (16 * step for step in divmod(thing.cell, 2))
            twice = repainted(picture, free, lambda _, y=y, x=x, p=picture: p[:, y : y + 16, x : x + 16])
            assert not is_right(prompt, DETECTOR(twice[None])[0])


def test_held_out_prompts_are_scored_apart():
    (usual, pixels), (apart, others) = drawn("val", 60), drawn("held-out", 30)
    grey = torch.full_like(others, 128)
    scores = evaluate(prompts_of(usual + apart), DETECTOR(torch.cat([pixels, grey])))
    assert scores.usual.overall == 1 and list(scores.usual.tasks) == list(scenes.TASKS)
    assert scores.held_out is not None and scores.held_out.overall == 0
    assert scores.right.tolist() == [True] * 60 + [False] * 30
    assert evaluate(prompts_of(usual), DETECTOR(pixels)).held_out is None


def test_overall_is_the_mean_of_tasks_however_many_prompts_each_has():
    made, pixels = drawn("train", 12)
    rows = [0, 6, *range(1, 6)]  # single_object twice
    pixels = pixels[rows]
    pixels[0] = 0
    scores = evaluate(
        prompts_of([made[i] for i in rows]),
        [objects for part in pixels.split(3) for objects in DETECTOR(part)],
    )
    assert scores.usual.tasks["single_object"] == 0.5
    assert scores.usual.overall == pytest.approx(5.5 / 6)


def test_too_few_pictures_missing_tasks_and_wrong_shapes_are_refused():
    made, pixels = drawn("train", 12)
    with pytest.raises(OnetokError, match="found 11 pictures, expected one for each of 12 prompts"):
        evaluate(prompts_of(made), DETECTOR(pixels[:11]))
    with pytest.raises(OnetokError, match="no prompt of task color_attr, expected all of"):
        evaluate(prompts_of(made[:5]), DETECTOR(pixels[:5]))
    with pytest.raises(
        OnetokError, match=r"found pictures \(12, 3, 16, 32\) torch.uint8, expected \(B, 3, 32, 32\)"
    ):
        DETECTOR(pixels[:, :, :16])


# ---------------------------------------------------------------------------------------------- the protocol


def box(x, y, size=10.0):
    return (x - size / 2, y - size / 2, x + size / 2, y + size / 2)


def seen(*things):
    return [Detection(name, color, box(x, y)) for name, color, x, y in things]


def test_relations_follow_the_longer_side_of_the_offset():
    middle = Detection("cat", None, box(50, 50))
    assert relations(Detection("dog", None, box(10, 52)), middle) == {"left of"}
    assert relations(Detection("dog", None, box(90, 50)), middle) == {"right of"}
    assert relations(Detection("dog", None, box(50, 20)), middle) == {"above"}
    assert relations(Detection("dog", None, box(50, 80)), middle) == {"below"}
    assert relations(Detection("dog", None, box(51, 51)), middle) == set()
    assert relations(middle, middle) == set()
    assert relations(Detection("dog", None, box(90, 90)), middle) == {"right of", "below"}


def test_a_line_of_genevals_metadata_is_judged():
    prompt = Prompt.model_validate_json(
        '{"tag": "position", "prompt": "a photo of a dog right of a cat", "include": '
        '[{"class": "cat", "count": 1}, {"class": "dog", "count": 1, "position": ["right of", 0]}]}'
    )
    cat, dog = ("cat", None, 20, 50), ("dog", None, 80, 50)
    assert is_right(prompt, seen(cat, dog))
    assert is_right(prompt, seen(cat, dog, ("bird", None, 5, 5)))  # nothing is excluded
    assert not is_right(prompt, seen(("cat", None, 80, 50), ("dog", None, 20, 50)))
    assert not is_right(prompt, seen(cat)) and not is_right(prompt, [])


def test_counts_and_colours_are_judged():
    include = (Wanted.model_validate({"class": "cup", "count": 2, "color": "red"}),)
    exclude = (Excluded.model_validate({"class": "cup", "count": 3}),)
    prompt = Prompt(tag="counting", include=include, exclude=exclude, prompt="two red cups")
    red, blue = ("cup", "red", 10, 10), ("cup", "blue", 40, 10)
    assert is_right(prompt, seen(red, red))
    assert not is_right(prompt, seen(red, blue))
    assert not is_right(prompt, seen(red))
    assert not is_right(prompt, seen(red, red, red))
