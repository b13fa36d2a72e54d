"""Captioners as people use them: found by name, given images, and from the command line."""

from __future__ import annotations

import json
import sys

import pytest
import torch
from PIL import Image

from onetok import load_captioner
from onetok.cli import main
from onetok.errors import OnetokError
from tests.factories.untrained import leave_untrained

NAME = "flowtok/image-to-text"


@pytest.fixture
def made(smallest, monkeypatch):
    """The smallest study with an untrained captioner and three pictures; the working directory."""
    leave_untrained(
        smallest,
        ("encoders", "clip/digits"),
        ("tokenizers", "flowtok/scenes"),
        ("text_tokenizers", "flowtok/scenes"),
        ("generators", NAME),
    )
    for number, color in enumerate(("red", "white", "blue")):
        Image.new("RGB", (40, 48), color).save(smallest / f"{number}.png")
    monkeypatch.chdir(smallest)
    return smallest


@pytest.fixture
def run(monkeypatch, capsys):
    """Call `onetok caption`; return (exit status, output lines, error lines)."""

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["onetok", "caption", *arguments])
        with pytest.raises(SystemExit) as stopped:
            main()
        captured = capsys.readouterr()
        return stopped.value.code, captured.out.splitlines(), captured.err.splitlines()

    return call


def test_a_caption_is_a_function_of_seed_and_image(made):
    captioner = load_captioner(NAME)
    paths = [f"{number}.png" for number in range(3)]
    found = captioner.caption(paths, captions=NAME, seed=1)
    assert len(found) == 3 and all(isinstance(caption, str) for caption in found)
    for number in range(3):
        assert captioner.caption(paths[number], captions=NAME, seed=1) == [found[number]]
    pixels = torch.cat([captioner.tokenizer.prepare(path) for path in paths])
    assert captioner.caption(pixels.flip(0), captions=NAME, seed=1) == found[::-1]
    assert captioner.caption([], captions=NAME, seed=1) == []
    seeds = {tuple(captioner.caption(paths, captions=NAME, seed=seed)) for seed in range(5)}
    assert len(seeds) > 1


def test_the_command_prints_what_python_returns(made, run):
    found = load_captioner(NAME).caption(["1.png", "0.png"], captions=NAME, seed=3)
    status, printed, errors = run("1.png", "0.png", "--captioner", NAME, "--seed", "3")
    assert status == 0 and not errors
    assert [json.loads(line) for line in printed] == [
        {"key": "1.png", "caption": found[0], "seed": 3},
        {"key": "0.png", "caption": found[1], "seed": 3},
    ]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["none.png", "--captioner", NAME], "none.png: no such file, expected an image file"),
        ([".", "--captioner", NAME], "a folder, expected an image file"),
        (["0.png", "--captioner", "flowtok/first"], "a generator of images"),
        (["0.png", "--captioner", "flowtok/nothing"], "no generator"),
        (["0.png", "--captioner", NAME, "--captions", "flowtok/none"], "no captions of params"),
    ],
)
def test_what_cannot_be_used_is_one_line(made, run, arguments, said):
    status, printed, errors = run(*arguments)
    assert status == 1 and not printed
    assert len(errors) == 1 and said in errors[0]


def test_images_that_are_no_images_are_named(made):
    captioner = load_captioner(NAME)
    with pytest.raises(OnetokError, match="found values from"):
        captioner.caption(torch.full((1, 3, 32, 32), 7.0), captions=NAME, seed=0)
    with pytest.raises(OnetokError, match="seed"):
        captioner.caption("0.png", captions=NAME, seed=-1)
