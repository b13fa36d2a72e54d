import itertools
import json

import numpy as np
import pytest
import yaml

from onetok.data import scenes
from onetok.data.images import decode
from onetok.data.shards import Shards, write_shards
from onetok.data.sources import Sample, read_splits
from onetok.errors import OnetokError
from onetok.study.load import load_study
from onetok.study.schema.datasets import Dataset, ScenesSource
from onetok.study.schema.records import Record, read_record, write_record
from tests.unit.data.test_data import folder_dataset, folder_params, png, samples  # noqa: F401

SETTINGS = {
    "kind": "scenes",
    "seed": 3,
    "size": 32,
    "colors": ["red", "green", "blue", "yellow"],
    "sides": [12, 13],
    "jitter": 1,
    "vividness": [0.7, 1.0],
    "held_out_colors": [["yellow", "triangle"]],
    "held_out_relations": [["circle", "above", "square"]],
    "colored_positions": 0.5,
    "evaluation_share": 0.25,
}
SOURCE = ScenesSource.model_validate(SETTINGS)


def draw_many(split, count):
    made = [scenes.scene(SOURCE, split, i) for i in range(count)]
    return made, np.stack([scenes.draw(scene, SOURCE) for scene in made])


def captions(split, count):
    return {scene.request.caption for scene in draw_many(split, count)[0]}


def test_a_scene_is_a_function_of_seed_split_and_index():
    made, pictures = draw_many("train", 24)
    again, same = draw_many("train", 24)
    assert made == again and np.array_equal(pictures, same)
    assert not np.array_equal(pictures, draw_many("val", 24)[1])
    other = SOURCE.model_copy(update={"seed": 4})
    assert any(scenes.scene(other, "train", i) != scene for i, scene in enumerate(made))
    assert pictures.shape == (24, 3, 32, 32) and pictures.dtype == np.uint8


def test_a_scene_shows_what_its_caption_asks_for_and_nothing_else():
    for scene in draw_many("train", 300)[0]:
        request, things = scene.request, scene.things
        assert [t.shape for t in things] == [s for s in request.shapes for _ in range(request.number)]
        assert len({t.cell for t in things}) == len(things)
        for shape, color in zip(request.shapes, request.colors, strict=True):
            assert color in {None, *(t.color for t in things if t.shape == shape)}
        if request.relation is not None:
            (y, x), (below, beside) = (divmod(t.cell, 2) for t in things)
            offset = {"left of": (0, 1), "right of": (0, -1), "above": (1, 0), "below": (-1, 0)}
            assert (below - y, beside - x) == offset[request.relation]


def test_a_pixel_says_whether_a_shape_covers_it():
    scene = next(s for s in draw_many("train", 60)[0] if len(s.things) == 1)
    picture, thing = scenes.draw(scene, SOURCE), scene.things[0]
    top, left = (16 * step for step in divmod(thing.cell, 2))
    middle = picture[:, top + 8 + thing.down, left + 8 + thing.right] / 255
    share = 0.7 + 0.3 * (scene.aesthetic - 4) / 3
    assert middle == pytest.approx(share * np.array(scenes.COLORS[thing.color]), abs=0.002)
    elsewhere = np.delete(
        picture.reshape(3, 2, 16, 2, 16).transpose(1, 3, 0, 2, 4).reshape(4, -1), thing.cell, 0
    )
    assert set(elsewhere.flat) == {0}


def test_a_square_keeps_its_area_wherever_it_lies():
    for right, down in itertools.product((-1, 0, 1), repeat=2):
        square = scenes.coverage("square", 16, 13, right, down)
        triangle = scenes.coverage("triangle", 16, 13, right, down)
        assert square.sum() == 13**2 and triangle.sum() == pytest.approx(13**2 / 2, rel=0.02)
        assert np.array_equal(square, np.roll(scenes.coverage("square", 16, 13, 0, 0), (down, right), (0, 1)))


def test_tasks_take_turns_and_captions_read_as_they_should():
    tasks = [scenes.scene(SOURCE, "val", i).request.task for i in range(12)]
    assert tasks == 2 * list(scenes.TASKS)
    said = captions("train", 3000)
    for caption in (
        "a circle",
        "two squares",
        "four triangles",
        "a red circle",
        "a green square and a blue circle",
    ):
        assert caption in said or caption in captions("val", 600)
    assert "a triangle above a square" in said or "a square below a triangle" in said
    assert any("a red circle" in caption and " left of a " in caption for caption in said)


def test_training_may_relate_shapes_by_colour_or_without():
    for share, colors in ((0.0, {False}), (1.0, {True})):
        source = SOURCE.model_copy(update={"colored_positions": share})
        made = [scenes.scene(source, "train", i) for i in range(4, 240, 6)]
        assert {None not in scene.request.colors for scene in made} == colors
    assert all(None in scenes.scene(SOURCE, "val", i).request.colors for i in range(4, 240, 6))


def test_evaluation_prompts_of_two_shapes_are_in_no_training_caption():
    trained, asked = captions("train", 6000), captions("val", 600)
    common = trained & asked
    assert common and all(
        " and " not in c and " of " not in c and "above" not in c and "below" not in c for c in common
    )
    every = scenes.requests(SOURCE)
    for task in ("two_object", "position", "color_attr"):
        asked_requests = every.val[task]
        assert asked_requests and not set(asked_requests) & set(every.train[task])
        assert not {request.mirror for request in asked_requests} & set(asked_requests)
    assert every.train["counting"] == every.val["counting"]


def test_held_out_combinations_are_in_no_training_scene_and_in_every_held_out_one():
    for scene in draw_many("train", 3000)[0] + draw_many("val", 600)[0]:
        assert ("yellow", "triangle") not in {(t.color, t.shape) for t in scene.things}
        related = (scene.request.shapes, scene.request.relation)
        assert related not in ((("circle", "square"), "above"), (("square", "circle"), "below"))
    held_out = draw_many("held-out", 60)[0]
    assert {scene.request.task for scene in held_out} == {"colors", "position", "color_attr"}
    for scene in held_out:
        caption = scene.request.caption
        assert "yellow triangle" in caption or caption in (
            "a circle above a square",
            "a square below a circle",
        )
        assert scene.record.prompt is not None and scene.record.prompt.held_out


def test_augmented_captions_are_longer_and_true():
    for scene in draw_many("train", 200)[0]:
        assert scene.request.caption in scene.augmented and len(scene.augmented) > len(scene.request.caption)
        for thing in scene.things:
            assert thing.color in scene.augmented and scenes.PLACES[thing.cell] in scene.augmented


def test_a_record_maps_to_the_metadata_of_geneval():
    request = scenes.Request("position", ("circle", "square"), (None, None), 1, "left of")
    record = Record(aesthetic=5.0, augmented=None, prompt=request.prompt(held_out=True))
    assert json.loads(write_record(record)) == {
        "aesthetic": 5.0,
        "augmented": None,
        "prompt": {
            "tag": "position",
            "include": [
                {"class": "square", "count": 1},
                {"class": "circle", "count": 1, "position": ["left of", 0]},
            ],
            "exclude": [
                {"class": "circle", "count": 2},
                {"class": "square", "count": 2},
                {"class": "triangle", "count": 1},
                {"class": "unreadable", "count": 1},
            ],
            "prompt": "a circle left of a square",
            "held_out": True,
        },
    }
    assert read_record(write_record(record), "here") == record


# ---------------------------------------------------------------------------------------------- sources and shards


def scenes_params(**split):
    return Dataset.model_validate(
        {
            "source": SETTINGS,
            "split": {"kind": "scenes", "train": 30, "val": 12, "held_out": 5} | split,
            "classes": 12,
            "samples_per_shard": 16,
        }
    )


def test_scenes_become_shards_with_records(tmp_path):
    splits = read_splits(scenes_params())
    assert (len(splits["train"]), len(splits["val"])) == (30, 17)
    for name in ("a", "b"):
        write_shards(splits["val"], tmp_path / name, samples_per_shard=16)
    for file in (tmp_path / "a").iterdir():
        assert file.read_bytes() == (tmp_path / "b" / file.name).read_bytes()
    shards = Shards(tmp_path / "a")
    for i in (0, 11, 12, 16):
        scene = scenes.scene(SOURCE, "val", i) if i < 12 else scenes.scene(SOURCE, "held-out", i - 12)
        assert (shards.caption(i), shards.record(i)) == (scene.request.caption, scene.record)
        assert np.array_equal(
            np.asarray(decode(shards.image(i))).transpose(2, 0, 1), scenes.draw(scene, SOURCE)
        )
        first = min(scene.things, key=lambda thing: thing.cell)
        assert shards.labels[i] == 4 * scenes.SHAPES.index(first.shape) + SOURCE.colors.index(first.color)


def test_shards_without_records_are_as_before_and_say_so(tmp_path):
    write_shards(samples(), tmp_path, samples_per_shard=3)
    shards = Shards(tmp_path)
    assert shards.index.dtype.names == (
        *("key", "label", "shard", "image_offset", "image_size", "caption_offset", "caption_size"),
    )
    with pytest.raises(OnetokError, match=r"sample key-1 has no record, expected key-1\.json"):
        shards.record(1)


def test_a_sample_without_a_record_among_others_is_named(tmp_path):
    record = Record(aesthetic=4.5, augmented="zażółć; $(x)\n", prompt=None)
    write_shards([Sample("a", png(), "png", 0, "x", record), Sample("b", png(), "png", 0, "")], tmp_path, 2)
    assert Shards(tmp_path).record(0) == record
    with pytest.raises(OnetokError, match="sample b has no record"):
        Shards(tmp_path).record(1)


def test_a_record_beside_an_image_is_read(folder_dataset):  # noqa: F811
    beside = folder_dataset / "train/cat/1.json"
    beside.write_text('{"aesthetic": 6, "augmented": "a cat\\n日本", "prompt": null}', encoding="utf-8")
    train = list(
        read_splits(folder_params(folder_dataset, {"kind": "folders", "train": "train", "val": "val"}))[
            "train"
        ]
    )
    assert train[1].record == Record(aesthetic=6.0, augmented="a cat\n日本", prompt=None)
    assert train[0].record is None


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"aesthetic": 5.0, "augmented": null, "prompt": null, "score": 1}', r"score: unknown key"),
        (b'{"aesthetic": 5.0, "prompt": null}', r"augmented: missing key"),
        (b'{"aesthetic": "high", "augmented": null, "prompt": null}', r"aesthetic: .*found 'high'"),
        (b'{"aesthetic": NaN, "augmented": null, "prompt": null}', r"aesthetic: .*finite"),
        (
            b'{"aesthetic": 5.0, "augmented": null, "prompt": {"tag": "colors", "prompt": "", '
            b'"include": [{"class": 3}]}}',
            r"prompt\.include\.0\.class: .*found 3",
        ),
        (
            b'{"aesthetic": 5.0, "augmented": null, "prompt": {"tag": "colors", "prompt": "", '
            b'"include": [{"class": "a", "count": 1, "position": ["above", 0]}]}}',
            r"prompt: .*item 0 lies above item 0, not before it",
        ),
        (
            b'{"aesthetic": 5.0, "augmented": null, "prompt": {"tag": "colours", "prompt": "", "include": []}}',
            r"prompt\.tag: found 'colours'; nearest known: colors \(of single_object, .*, color_attr\)",
        ),
        (
            b'{"aesthetic": 5.0, "augmented": null, "prompt": {"tag": "colors", "prompt": "", "include": []}}',
            r"prompt\.include: .*at least 1 item",
        ),
        (
            b'{"aesthetic": 5.0, "augmented": null, "prompt": {"tag": "colors", "prompt": "", '
            b'"include": [{"class": "a", "count": 1, "color": "gren"}]}}',
            r"prompt\.include\.0\.color: .*'red', .*found 'gren'",
        ),
        (b"{", "not JSON in UTF-8"),
        (b'{"aesthetic": "\xe9"}', "not JSON in UTF-8"),
        (b'{"aesthetic": 5.0, "augmented": "\\ud800", "prompt": null}', "not JSON in UTF-8 .*surrogates"),
        (b"[]", r"found \[\]"),
    ],
)
def test_a_wrong_record_is_one_line_with_its_path(content, message, folder_dataset):  # noqa: F811
    (folder_dataset / "train/cat/1.json").write_bytes(content)
    params = folder_params(folder_dataset, {"kind": "folders", "train": "train", "val": "val"})
    with pytest.raises(OnetokError, match=rf"train/cat/1\.json: .*{message}") as error:
        list(read_splits(params)["train"])
    assert "\n" not in str(error.value)


def test_split_kinds_belong_to_sources(folder_dataset):  # noqa: F811
    with pytest.raises(OnetokError, match=r"split\.kind hold-out, expected scenes"):
        read_splits(scenes_params().model_copy(update={"split": _hold_out()}))
    folders = folder_params(folder_dataset, {"kind": "hold-out", "per_class": 1, "seed": 0})
    wrong = folders.model_copy(update={"split": scenes_params().split})
    with pytest.raises(OnetokError, match=r"split\.kind scenes, expected hold-out, folders or evaluation"):
        read_splits(wrong)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"sides": [12, 15]}, r"source: sides 12 to 15 and jitter 1 do not fit a cell of 16 pixels"),
        ({"sides": [13, 12]}, r"source: sides 13 to 12 and jitter 1 do not fit a cell of 16 pixels"),
        (
            {"vividness": [1.0, 0.7]},
            r"source.vividness: found \[1.0, 0.7\], expected two rising numbers above 0",
        ),
        (
            {"colors": ["red", "red", "blue", "yellow"]},
            r"source.colors: red, red, blue, yellow names a colour twice",
        ),
        ({"colors": ["red", "blue"]}, r"classes 12, expected 6: one for each shape in each of source.colors"),
        (
            {"held_out_colors": [["cyan", "circle"]]},
            r"held_out_colors: cyan circle is of no colour in source.colors",
        ),
        ({"evaluation_share": 0.6}, r"source.evaluation_share: found 0.6, expected at most 0.5"),
        (
            {"evaluation_share": 0.01},
            r"source: leaves nothing of two_object to ask for in evaluation \(evaluation_share",
        ),
        (
            {"held_out_colors": [[color, "circle"] for color in ("red", "green", "blue", "yellow")]},
            r"source.held_out_colors: holds out circle in every colour",
        ),
        (
            {"held_out_colors": [], "held_out_relations": []},
            r"split.held_out 5, but source holds out nothing",
        ),
        ({"held_out_relations": [["circle", "over", "square"]]}, r"held_out_relations.*found 'over'"),
        ({"colors": ["red", "pink"]}, r"source.*colors.*found 'pink', expected .*nearest known"),
    ],
)
def test_params_that_no_scene_can_have_are_named(smallest, wrong, message):
    dataset = {**scenes_params().model_dump(mode="json"), "source": {**SETTINGS, **wrong}}
    content = {"datasets": {"captioned": {"scenes": dataset}}}
    (smallest / "params/datasets/captioned.yaml").write_text(yaml.safe_dump(content))
    with pytest.raises(OnetokError, match=rf"datasets.captioned.scenes.*{message}"):
        load_study(smallest)


def _hold_out():
    return folder_params("x", {"kind": "hold-out", "per_class": 1, "seed": 0}).split
