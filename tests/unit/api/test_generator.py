"""Generators as people use them: found by name, given classes, and from the command line."""

from __future__ import annotations

import json
import shutil
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from onetok import load_generator
from onetok.api import generator as generation
from onetok.api import tokenizer as inference
from onetok.api.generator import CaptionImageGenerator
from onetok.cli import main
from onetok.data.images import to_uint8
from onetok.errors import OnetokError, OnetokWarning
from onetok.sampling.seeds import ImageRandom
from onetok.study.schema.encoders import WeightsFile
from onetok.study.schema.sampling import MaskedSampling
from onetok.study.schema.study import Study
from onetok.systems.maskgit.model import MaskGIT
from onetok.systems.maskgit.schema import MaskGITConfig
from tests.factories.generators import leave_captioned
from tests.factories.tokenizers import leave_artefact, make
from tests.unit.study.test_generator_params import SAMPLING, with_published

CONFIG = MaskGITConfig(
    codebook_size=32,
    tokens=6,
    classes=10,
    width=16,
    layers=1,
    heads=2,
    hidden=32,
    dropout=0.1,
    attention_dropout=0.1,
    class_dropout=0.1,
    init_std=0.1,
)


def make_generator(**changes):
    torch.manual_seed(2)
    return MaskGIT(CONFIG.replace(**changes)).eval()


@pytest.fixture(autouse=True)
def alone(monkeypatch, tmp_path):
    """No test reads the repository's params."""
    monkeypatch.setattr(inference, "REPOSITORY", tmp_path / "nowhere")


@pytest.fixture
def made(smallest, monkeypatch):
    """The smallest study with a generator and its tokenizer made; the working directory."""
    leave_artefact(make("titok"), smallest, "tokenizers", "titok/vq-16", {})
    leave_artefact(make_generator(), smallest, "generators", "maskgit/tiny", {})
    monkeypatch.chdir(smallest)
    return smallest


# ---------------------------------------------------------------------------------------------- in Python


def test_an_image_is_a_function_of_seed_class_and_number(made):
    generator = load_generator("maskgit/tiny")
    assert (generator.classes, generator.tokens, generator.image_size) == (10, 6, 32)
    assert generator.numbers([3, 7, 3, 3]) == [3, 7, 13, 23]
    images = generator.generate([3, 7, 3], sampling="maskgit/tiny", seed=0)
    assert images.shape == (3, 3, 32, 32) and images.min() >= 0 and images.max() <= 1
    again = generator.generate([7, 5, 3, 3], sampling="maskgit/tiny", seed=0)
    assert torch.equal(again[[2, 0, 3]], images)
    assert not torch.equal(images[0], images[2])
    assert not torch.equal(generator.generate([3], sampling="maskgit/tiny", seed=1)[0], images[0])
    batched = to_uint8(generator.generate([3, 7, 3], sampling="maskgit/tiny", seed=0, batch=2)).int()
    assert (batched - to_uint8(images).int()).abs().max() <= 1
    assert generator.generate([], sampling="maskgit/tiny", seed=0).shape == (0, 3, 32, 32)


def test_images_are_those_that_the_study_samples(made):
    """The stage numbers its images in the same way: image 13 is the second of class 3."""
    generator = load_generator("maskgit/tiny")
    sampling = generator.settings("maskgit/tiny")
    images = range(14)
    ids = generator.system.sample(
        generator.model,
        torch.tensor([i % 10 for i in images]),
        sampling,
        ImageRandom(5, images, torch.device("cpu")),
    )
    decoded = generator.tokenizer.decode(generator.tokenizer.tokens_from_ids(ids))
    ours = generator.generate([3, 3], sampling="maskgit/tiny", seed=5)
    assert (to_uint8(ours).int() - to_uint8(decoded[[3, 13]]).int()).abs().max() <= 1


def test_settings_are_given_by_name_or_as_params_write_them(made):
    generator = load_generator("maskgit/tiny")
    explicit = MaskedSampling.model_validate(SAMPLING)
    assert generator.settings(SAMPLING) == generator.settings(explicit) == explicit
    assert generator.settings("maskgit/tiny-guided").guidance.scale == 3.0
    with pytest.raises(
        OnetokError, match=r"maskgit/tinyy: no samples of params \(nearest known: maskgit/tiny\)"
    ):
        generator.settings("maskgit/tinyy")
    with pytest.raises(OnetokError, match=r"sampling.steps: found 0; Input should be greater than 0$"):
        generator.settings(SAMPLING | {"steps": 0})
    for wrong, text in (({"seed": -1}, "seed -1: expected 0 or more"), ({"batch": 0}, "batch 0: expected 1")):
        with pytest.raises(OnetokError, match=text):
            generator.generate([0], sampling=SAMPLING, **{"seed": 0} | wrong)


def test_what_is_not_made_yet_is_named_with_its_command(smallest):
    with pytest.raises(OnetokError, match=r"maskgit/tiny: not made yet, .*make it: onetok make --study"):
        load_generator("maskgit/tiny", study=smallest)
    leave_artefact(make_generator(), smallest, "generators", "maskgit/tiny", {})
    with pytest.raises(OnetokError, match=r"titok/vq-16: not made yet, .*results/tokenizers/titok/vq-16"):
        load_generator("maskgit/tiny", study=smallest)


def test_a_generator_of_other_tokens_is_named(smallest):
    leave_artefact(make("titok"), smallest, "tokenizers", "titok/vq-16", {})
    leave_artefact(make_generator(tokens=7), smallest, "generators", "maskgit/tiny", {})
    with pytest.raises(
        OnetokError, match="samples 7 tokens of 32 codes, but titok/vq-16 decodes 6 tokens of 32 codes"
    ):
        load_generator("maskgit/tiny", study=smallest)


def test_an_unknown_name_is_explained(smallest, tmp_path):
    with pytest.raises(OnetokError, match=r"maskgit/tny: no generator of .*nearest known: maskgit/tiny.*Hub"):
        load_generator("maskgit/tny", study=smallest)
    with pytest.raises(
        OnetokError, match=r"tiny: no generator .*; a repository on the Hub would be owner/name"
    ):
        load_generator("tiny", study=smallest)
    with pytest.raises(OnetokError, match=r"there are no params/"):
        load_generator("a/b", study=tmp_path)
    with pytest.raises(OnetokError, match="device 'cuda:63': torch cannot use it here"):
        load_generator("a/b", "cuda:63", study=tmp_path)


def test_a_repository_on_the_hub_is_had_as_params_pin_it(made, monkeypatch):
    with_published(made)
    with pytest.raises(OnetokError, match=r"not pinned: .*onetok pin someone/g model.safetensors"):
        load_generator("someone/g")
    monkeypatch.setattr(generation, "load_released_generator", lambda entry, shapes: make_generator())
    generator = load_generator("someone/g")
    assert generator.tokenizer.name == "titok/vq-16"
    assert generator.generate([1], sampling="published/g", seed=0).shape == (1, 3, 32, 32)
    found = load_generator("someone/g", study=made)
    assert found.study.samples.keys() == generator.study.samples.keys()


def test_a_repository_with_several_generators_asks_for_one(made):
    weights = WeightsFile(hub="someone/many", revision=None, url=None, file="a.bin", sha256=None)
    study = generation.load_study(with_published(made))
    entry = study.generators["published/g"].model_copy(update={"weights": weights})
    kinds = {key: {} for key in Study.model_fields}
    several = Study.model_construct(**kinds | {"generators": {"published/a": entry, "published/b": entry}})
    with pytest.raises(OnetokError, match="holds several generators of params, name one: published/a, publ"):
        generation._published("someone/many", several)


# ---------------------------------------------------------------------------------------------- of captions

LATENTS = {
    "kind": "latents",
    "rounds": 2,
    "diffusion_steps": 5,
    "temperature": 1.0,
    "clip": None,
    "mask_schedule": "arccos",
}
LATENTS |= {"guidance": {"kind": "linear", "scale": 3.0}}


@pytest.fixture
def told(made):
    """The smallest study with generators of captions beside that of classes; the working directory."""
    leave_captioned(made)
    return made


@pytest.mark.parametrize(
    ("name", "samples"), [("maskgen_tuned/vq", "maskgen_tuned/vq"), ("maskgen/kl", "maskgen/kl-shuffled")]
)
def test_an_image_is_a_function_of_seed_caption_and_number(told, name, samples):
    generator = load_generator(name)
    assert (generator.tokens, generator.image_size) == (6, 32)
    assert generator.numbers(["a", "", "a", "b", "a"]) == [0, 0, 1, 0, 2]
    captions = ["a red circle", "", "a red circle"]
    images = generator.generate(captions, sampling=samples, seed=0)
    assert images.shape == (3, 3, 32, 32) and images.min() >= 0 and images.max() <= 1
    again = generator.generate(["", "a", *captions[::2]], sampling=samples, seed=0)
    assert torch.equal(again[[2, 0, 3]], images)
    assert not torch.equal(images[0], images[2]) and not torch.equal(again[0], again[1])
    assert not torch.equal(generator.generate([""], sampling=samples, seed=1)[0], images[1])
    batched = to_uint8(generator.generate(captions, sampling=samples, seed=0, batch=2)).int()
    assert (batched - to_uint8(images).int()).abs().max() <= 1
    assert generator.generate([], sampling=samples, seed=0).shape == (0, 3, 32, 32)


def test_the_score_is_that_of_the_samples_or_given(told):
    generator = load_generator("maskgen/kl")

    def draw(sampling, **given):
        return generator.generate(["a"], sampling=sampling, seed=0, **given)

    named = draw("maskgen/kl-shuffled")
    assert generator.aesthetic("maskgen/kl-shuffled") == 6.5
    assert torch.equal(draw("maskgen/kl-shuffled", aesthetic=6.5), named)
    settings = generator.settings("maskgen/kl-shuffled")
    assert torch.equal(draw(settings, aesthetic=6.5), named)
    assert not torch.equal(draw(settings, aesthetic=4.0), named)
    with pytest.raises(
        OnetokError, match="aesthetic: maskgen/kl takes an aesthetic score, and these settings have none"
    ):
        draw(settings)
    for score in (float("nan"), float("inf")):
        with pytest.raises(OnetokError, match=f"aesthetic {score}: expected a finite number"):
            draw(settings, aesthetic=score)


@pytest.mark.parametrize("captions", ["a cat", [3], [None], [b"a"]])
def test_captions_are_a_list_of_strings(told, captions):
    generator = load_generator("maskgen_tuned/vq")
    with pytest.raises(OnetokError, match=r"captions: found .+, expected a list of captions"):
        generator.generate(captions, sampling="maskgen_tuned/vq", seed=0)


def test_a_text_encoder_of_other_widths_is_said(told):
    made = load_generator("maskgen/kl")
    other = SimpleNamespace(text_width=5, pooled_width=12, context_length=16)
    with pytest.raises(OnetokError, match=r"x: its text encoder gives states of width 5, expected 12"):
        CaptionImageGenerator("x", made.entry, made.model, made.tokenizer, other, made.study)


def test_captions_are_no_classes(told):
    generator = load_generator("maskgit/tiny")
    for given in ("3", 2.5, None, 10, -1):
        with pytest.raises(OnetokError, match=f"class {given}: maskgit/tiny knows 0 to 9"):
            generator.generate([given], sampling="maskgit/tiny", seed=0)


def test_a_tensor_of_classes_is_a_list_of_them(told):
    generator = load_generator("maskgit/tiny")
    assert generator.numbers(np.array([3, 5, 3], dtype=np.uint16)) == [3, 5, 13]
    assert generator.numbers(torch.tensor([3, 5, 3])) == generator.numbers([3, 5, 3]) == [3, 5, 13]


@pytest.mark.parametrize(
    ("name", "given", "text"),
    [
        ("maskgit/tiny", {"classes": 3}, "classes: found 3, expected a list of whole numbers"),
        ("maskgit/tiny", {"classes": "37"}, "classes: found '37', expected a list of whole numbers"),
        (
            "maskgit/tiny",
            {"classes": torch.tensor([[1, 2]])},
            r"class tensor\(\[1, 2\]\): maskgit/tiny knows 0 to 9",
        ),
        ("maskgit/tiny", {"classes": [True]}, "class True: maskgit/tiny knows 0 to 9"),
        ("maskgit/tiny", {"seed": "0"}, "seed '0': expected a whole number"),
        ("maskgit/tiny", {"seed": 2**63}, f"seed {2**63}: expected 0 or more, below"),
        ("maskgit/tiny", {"batch": 0}, "batch 0: expected 1 or more"),
        ("maskgit/tiny", {"batch": 1.5}, "batch 1.5: expected a whole number"),
        ("maskgit/tiny", {"sampling": None}, "sampling: found NoneType, expected a name"),
        ("maskgen_tuned/vq", {"captions": None}, "captions: found NoneType, expected a list of captions"),
        ("maskgen_tuned/vq", {"captions": ["a\udcff"]}, r"captions: 'a\\udcff' is not valid UTF-8"),
        ("maskgen_tuned/vq", {"aesthetic": "6"}, "aesthetic 6: expected a finite number"),
    ],
)
def test_what_cannot_be_drawn_is_said(told, name, given, text):
    usual = {"classes": [3]} if name == "maskgit/tiny" else {"captions": ["a"]}
    with pytest.raises(OnetokError, match=f"^{text}"):
        load_generator(name).generate(**usual | {"sampling": name, "seed": 0} | given)


LONG = "a red circle left of a blue square above a green triangle"


def test_a_caption_that_is_cut_is_said(told, run):
    generator = load_generator("maskgen_tuned/vq")
    text = "caption 'a red circle left of a blue square above…': the last 6 of its 12 tokens are cut off, "
    with pytest.warns(OnetokWarning) as caught:
        generator.generate(["a", LONG, LONG], sampling="maskgen_tuned/vq", seed=0)
    assert [str(warning.message) for warning in caught] == [f"{text}the text encoder takes 6"]
    code, lines, errors = run(*SCENES, "--prompt", LONG, "--seed", 0, "--out", "a.png")
    assert (code, len(lines), errors) == (0, 1, [f"warning: {text}the text encoder takes 6"])


@pytest.mark.parametrize(
    ("name", "sampling", "found", "needed"),
    [
        ("maskgen/kl", "maskgen_tuned/vq", "masked", "latents"),
        ("maskgen/vq", "maskgen/kl-shuffled", "latents", "masked"),
        ("maskgit/tiny", "rar/titok", "autoregressive", "masked"),
        ("maskgit/tiny", LATENTS, "latents", "masked"),
    ],
)
def test_settings_of_another_kind_of_generator_are_refused(told, name, sampling, found, needed):
    generator = load_generator(name)
    with pytest.raises(OnetokError, match=f"^sampling is of kind {found}, but {name} needs {needed}$"):
        generator.generate([], sampling=sampling, seed=0)


def test_a_text_encoder_that_is_not_made_yet_is_named(made):
    leave_captioned(made)
    shutil.rmtree(made / "results/encoders")
    with pytest.raises(OnetokError, match=r"clip/digits: not made yet, .*results/encoders/clip/digits"):
        load_generator("maskgen/kl")


# ---------------------------------------------------------------------------------------------- command line


@pytest.fixture
def run(monkeypatch, capsys):
    """Call `onetok generate`; return (exit status, output lines, error lines)."""

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["onetok", "generate", *map(str, arguments)])
        with pytest.raises(SystemExit) as stopped:
            main()
        captured = capsys.readouterr()
        return stopped.value.code, captured.out.splitlines(), captured.err.splitlines()

    return call


TINY = ("--generator", "maskgit/tiny", "--samples", "maskgit/tiny")


def test_one_image_is_written_to_a_file(run, made):
    code, lines, _ = run(*TINY, "--class", 3, "--seed", 0, "--out", "a.png")
    assert (code, lines) == (0, ["class 3: image 3 of seed 0, 6 tokens, a.png"])
    expected = to_uint8(load_generator("maskgit/tiny").generate([3], sampling="maskgit/tiny", seed=0))
    assert np.array_equal(np.asarray(Image.open(made / "a.png")), expected[0].permute(1, 2, 0).numpy())


def test_several_images_are_written_to_a_folder_with_the_same_bytes(run, made):
    assert run(*TINY, "--class", 3, "--seed", 0, "--out", "a.png")[0] == 0
    options = ("--class", 7, "--class", 3, "--count", 2, "--seed", 0, "--out", "out")
    code, lines, _ = run(*TINY, *options)
    assert code == 0
    assert lines[3] == "class 3: image 13 of seed 0, 6 tokens, out/class-3-1.png"
    names = sorted(path.name for path in (made / "out").iterdir())
    assert names == [f"class-{label}-{index}.png" for label in (3, 7) for index in (0, 1)]
    assert (made / "out/class-3-0.png").read_bytes() == (made / "a.png").read_bytes()


def test_settings_can_be_written_out(run, made):
    sampling = "{kind: masked, steps: 2, temperature: 1, guidance: {kind: linear, scale: 3, power: 0}, "
    sampling += "mask_schedule: arccos, softmax_annealing: false}"
    for name, given in (("a", ("--sampling", sampling)), ("b", ("--samples", "maskgit/tiny-guided"))):
        options = ("--generator", "maskgit/tiny", *given, "--class", 1, "--seed", 0, "--out", f"{name}.png")
        assert run(*options)[0] == 0
    assert (made / "a.png").read_bytes() == (made / "b.png").read_bytes()


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"--generator": "maskgit/tin"}, "maskgit/tin: no generator of params"),
        ({"--generator": "maskgit/untrained"}, "maskgit/untrained: not made yet"),
        ({"--samples": "maskgit/none"}, "maskgit/none: no samples of params"),
        ({"--samples": None, "--sampling": "a: ["}, "--sampling: not valid YAML"),
        (
            {"--samples": None, "--sampling": "7"},
            "--sampling: found '7', expected settings in the form of params",
        ),
        ({"--samples": None, "--sampling": "{kind: masked}"}, "sampling.steps: "),
        ({"--class": 10}, "class 10: maskgit/tiny knows 0 to 9"),
        ({"--class": -1}, "class -1: maskgit/tiny knows 0 to 9"),
        ({"--count": 0}, "--count 0: expected 1 or more"),
        ({"--seed": -1}, "seed -1: expected 0 or more"),
        ({"--out": "a.jpg"}, "a.jpg: expected --out FILE.png"),
        ({"--out": "results"}, "results: is a folder, expected --out FILE.png"),
        ({"--out": "none/a.png"}, "none: no such folder"),
        ({"--count": 2, "--out": "file"}, "file: is a file, expected a folder"),
        (
            {"--count": 4, "--out": "e.png"},
            "e.png: 4 images go into a folder, expected --out FOLDER without .png",
        ),
        ({"--device": "cuda:63"}, "device 'cuda:63'"),
    ],
)
def test_what_cannot_be_done_is_one_line_and_leaves_nothing(run, made, changes, text):
    (made / "file").touch()
    given = {"--generator": "maskgit/tiny", "--samples": "maskgit/tiny", "--class": 3, "--seed": 0}
    given |= {"--out": "a.png"} | changes
    before = sorted(made.rglob("*"))
    code, lines, errors = run(*(f"{key}={value}" for key, value in given.items() if value is not None))
    assert (code, lines, len(errors)) == (1, [], 1), errors
    assert errors[0].startswith("error: ") and text in errors[0]
    assert sorted(made.rglob("*")) == before


def test_a_class_is_asked_for_once(run, made):
    code, _, errors = run(*TINY, "--class", 3, "--class", 3, "--seed", 0, "--out", "out")
    assert code == 1 and errors == [
        "error: --class 3: given 2 times; --count 2 makes this many images of each class"
    ]


SCENES = ("--generator", "maskgen_tuned/vq", "--samples", "maskgen_tuned/vq")


def test_prompts_are_drawn_to_numbered_files(run, told):
    code, lines, _ = run(*SCENES, "--prompt", "a cat", "--seed", 0, "--out", "a.png")
    assert (code, lines) == (0, ["prompt 'a cat': image 0 of seed 0, 6 tokens, a.png"])
    prompts = ("--prompt=", '--prompt="; touch canary; $(touch canary)\n', "--prompt=a cat")
    code, lines, _ = run(*SCENES, *prompts, "--count", 2, "--seed", 0, "--out", "out")
    assert code == 0 and len(lines) == 6
    assert lines[3] == (
        "prompt '\"; touch canary; $(touch canary)\\n': image 1 of seed 0, 6 tokens, out/prompt-1-1.png"
    )
    names = sorted(path.name for path in (told / "out").iterdir())
    assert names == [f"prompt-{place}-{index}.png" for place in range(3) for index in range(2)]
    firsts = {(told / f"out/prompt-{place}-0.png").read_bytes() for place in range(3)}
    assert len(firsts) == 3
    assert (told / "out/prompt-2-0.png").read_bytes() == (told / "a.png").read_bytes()
    assert not list(told.rglob("canary*"))


def test_a_picture_says_how_it_was_made(run, told):
    assert run(*SCENES, "--prompt", "ein Löwe 🦁", "--count", 2, "--seed", 5, "--out", "out")[0] == 0
    texts = Image.open(told / "out/prompt-0-1.png").text
    sampling = load_generator("maskgen_tuned/vq").settings("maskgen_tuned/vq").model_dump(mode="json")
    assert json.loads(texts.pop("sampling")) == sampling
    assert texts == {
        "Software": "onetok",
        "prompt": "ein Löwe 🦁",
        "seed": "5",
        "number": "1",
        "aesthetic": "6.5",
        "model": "maskgen_tuned/vq",
        "tokenizer": "tatitok/scenes-vq",
    }
    assert run(*TINY, "--class", 3, "--seed", 0, "--out", "a.png")[0] == 0
    texts = Image.open(told / "a.png").text
    assert (texts["class"], texts["number"]) == ("3", "3") and "aesthetic" not in texts


def test_the_score_is_given_on_the_command_line(run, told):
    options = (
        "--generator",
        "maskgen/kl",
        "--samples",
        "maskgen/kl-shuffled",
        "--prompt",
        "a cat",
        "--seed",
        0,
    )
    for name, given in (("a", ()), ("b", ("--aesthetic", 6.5)), ("c", ("--aesthetic", 4))):
        assert run(*options, *given, "--out", f"{name}.png")[0] == 0
    a, b, c = ((told / f"{name}.png").read_bytes() for name in "abc")
    assert a == b != c


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"--prompt": None, "--class": 3}, "--class: maskgen_tuned/vq takes captions, expected --prompt"),
        (
            {"--generator": "maskgit/tiny", "--samples": "maskgit/tiny"},
            "--prompt: maskgit/tiny is class-conditional, expected --class alone",
        ),
        (
            {"--generator": "maskgit/tiny", "--samples": "maskgit/tiny", "--prompt": None}
            | {"--class": 3, "--aesthetic": 5},
            "--aesthetic: maskgit/tiny is class-conditional, expected --class alone",
        ),
        (
            {"--samples": None, "--sampling": SAMPLING},
            "aesthetic: maskgen_tuned/vq takes an aesthetic score, and these settings have none",
        ),
        (
            {"--samples": "maskgit/tiny"},
            "aesthetic: maskgen_tuned/vq takes an aesthetic score, and these settings have none",
        ),
        ({"--samples": "rar/titok", "--aesthetic": 5}, "sampling is of kind autoregressive, but"),
        ({"--aesthetic": "nan"}, "aesthetic nan: expected a finite number"),
        ({"--samples": "maskgen_tuned/none"}, "maskgen_tuned/none: no samples of params"),
    ],
)
def test_what_cannot_be_drawn_of_prompts_is_one_line(run, told, changes, text):
    given = {"--prompt": "a\nb", "--seed": 0, "--out": "a.png"}
    given |= {"--generator": "maskgen_tuned/vq", "--samples": "maskgen_tuned/vq"} | changes
    before = sorted(told.rglob("*"))
    code, lines, errors = run(*(f"{key}={value}" for key, value in given.items() if value is not None))
    assert (code, lines, len(errors)) == (1, [], 1), errors
    assert errors[0].startswith("error: ") and text in errors[0]
    assert sorted(told.rglob("*")) == before


def test_a_prompt_is_asked_for_once(run, told):
    code, _, errors = run(*SCENES, "--prompt=a\n", "--prompt=a\n", "--seed", 0, "--out", "out")
    text = "error: --prompt 'a\\n': given 2 times; --count 2 makes this many images of each prompt"
    assert code == 1 and errors == [text]
