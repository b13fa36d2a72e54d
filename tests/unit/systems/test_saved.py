"""Folders of saved models, also such as somebody else wrote: any config.json is a model or one line."""

from __future__ import annotations

import json
import os
import stat
import time

import pytest
import torch
from safetensors.torch import load_file, save_file

from onetok.api.saved import Card, save_pretrained
from onetok.errors import OnetokError
from onetok.systems.saved import load_model, save_model
from onetok.systems.titok.model import TiTok
from tests.factories.tokenizers import IMAGES, make
from tests.unit.api.test_generator import make_generator

CPU = torch.device("cpu")


@pytest.fixture
def folder(tmp_path):
    save_model(make("titok"), tmp_path)
    return tmp_path


def edit(folder, key, value):
    content = json.loads((folder / "config.json").read_text())
    *parents, last = key.split(".")
    entry = content
    for parent in parents:
        entry = entry[parent]
    entry[last] = value
    (folder / "config.json").write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("key", "value", "text"),
    [
        ("kind", ["titok"], r"kind \['titok'\], known: classifier"),
        ("kind", None, "kind None, known"),
        ("kind", "titok2", "kind 'titok2', known"),
        ("config", [], "config: found"),
        ("config", {}, "config.*: found .*ield required|config.image_size: found"),
        ("config.more", 1, "config.more: found 1"),
        ("config.encoder.heads", 0, "config.encoder.heads: found 0; Input should be greater than 0"),
        ("config.encoder.heads", -2, "config.encoder.heads: found -2; Input should be greater than 0"),
        ("config.encoder.heads", 3, "width 16 is not divisible by 3 heads"),
        ("config.encoder.heads", "2", "config.encoder.heads: found '2'; Input should be a valid integer"),
        ("config.encoder.heads", 2.5, "config.encoder.heads: found 2.5; Input should be a valid integer"),
        ("config.encoder.heads", True, "config.encoder.heads: found True; Input should be a valid integer"),
        ("config.encoder.heads", None, "config.encoder.heads: found None"),
        (
            "config.encoder.width",
            2**31,
            "config.encoder.width: found 2147483648; Input should be less than or equal to 65536",
        ),
        ("config.encoder.width", 2**16, "no TiTok has these sizes"),
        (
            "config.decoder.layers",
            2**10,
            "no TiTok has these sizes: more than .* parameters, but there are weights for",
        ),
        ("config.decoder.layers", 2, "tensors missing, first 'decoder.blocks.1"),
        (
            "config.image_size",
            2**20,
            "config.image_size: found 1048576; Input should be less than or equal to 16384",
        ),
        ("config.encoder_patch", 5, "encoder_patch 5 does not divide image size 32"),
        ("config.tokens", -1, "config.tokens: found -1"),
        ("config.tokens", 10**4000, "config.tokens: found 1000"),
        (
            "config.quantizer.codebook_size",
            2**24,
            "Embedding would have a weight of shape .* no weights of that shape",
        ),
        ("config.tokens", 7, "'.*' has shape .*, expected"),
        (
            "config.quantizer.commitment",
            -1.0,
            "config.quantizer.commitment: found -1.0; Input should be greater than or equal to 0",
        ),
        ("config.init.positions", "sincos2", "config.init.positions: found 'sincos2'"),
    ],
)
def test_a_config_that_is_none_is_one_line_at_once(key, value, text, folder):
    edit(folder, key, value)
    started = time.monotonic()
    with pytest.raises(OnetokError, match=text) as raised:
        load_model(folder, CPU)
    assert time.monotonic() - started < 5
    message = str(raised.value)
    assert message.startswith(str(folder)) and "\n" not in message and len(message) < 500


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("", "not JSON"),
        ("[]", "expected the keys kind and config"),
        ("[" * 100_000, "brackets too deep"),
        ('{"kind": "titok", "config": NaN}', "NaN is no number of JSON"),
        ('{"kind": "titok", "config": {"image_size": -Infinity}}', "-Infinity is no number of JSON"),
        ('{"kind": "titok", "config": {"image_size": 1e999}}', "config.image_size: found inf"),
        (" " * 2_000_000, "2,000,000 bytes, expected a saved model"),
        ("\udcff", "not JSON"),
    ],
)
def test_a_config_that_is_no_json_is_one_line(content, text, folder):
    (folder / "config.json").write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(OnetokError, match=text) as raised:
        load_model(folder, CPU)
    assert "\n" not in str(raised.value)


def test_a_folder_or_a_pipe_is_no_config(folder):
    (folder / "config.json").unlink()
    os.mkfifo(folder / "config.json")
    with pytest.raises(OnetokError, match=r"config.json: no such file"):
        load_model(folder, CPU)


@pytest.mark.parametrize(
    ("value", "text"),
    [(torch.nan, "holds NaN"), (torch.inf, "holds infinite values"), (1j, "holds complex64")],
)
def test_weights_that_are_no_numbers_are_neither_read_nor_written(value, text, folder):
    path = folder / "weights.safetensors"
    state = load_file(path)
    save_file(state | {"latent_tokens": state["latent_tokens"] * value}, path)
    with pytest.raises(OnetokError, match=f"weights.safetensors: tensor 'latent_tokens' {text}"):
        load_model(folder, CPU)
    model = make("titok")
    model.latent_tokens.data = model.latent_tokens.data * value
    (folder / "again").mkdir()
    with pytest.raises(OnetokError, match=f"'latent_tokens' {text}"):
        save_model(model, folder / "again")
    assert list((folder / "again").iterdir()) == []


def test_a_tensor_of_more_values_than_are_stored_is_refused(folder):
    state = make("titok").state_dict()
    state["latent_tokens"] = torch.zeros(1, 1).expand(6, 16)
    torch.save(state, folder / "weights.safetensors")
    with pytest.raises(OnetokError, match="'latent_tokens' has 96 values, but only 4 bytes are stored"):
        load_model(folder, CPU)


def test_files_follow_the_umask(tmp_path):
    before = os.umask(0o027)
    try:
        save_pretrained(
            make("titok"), tmp_path / "x", images=IMAGES, card=Card(name="x", summary="", receipt=None)
        )
    finally:
        os.umask(before)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "x").iterdir()}
    assert modes == dict.fromkeys(("config.json", "weights.safetensors", "README.md"), 0o640)


def test_a_class_of_one_s_own_is_named(tmp_path):
    class Mine(TiTok):
        pass

    mine = Mine(make("titok").config)
    with pytest.raises(
        OnetokError, match="a Mine cannot be saved: load_model would not know it; known: Classifier"
    ):
        save_model(mine, tmp_path)
    with pytest.raises(OnetokError, match=r"Mine: no system has it .+, known: VQGAN, TiTok"):
        save_pretrained(mine, tmp_path / "x", images=IMAGES, card=Card(name="x", summary="", receipt=None))
    assert list(tmp_path.iterdir()) == []


def test_heads_that_do_not_divide_the_width_are_said(tmp_path):
    save_model(make_generator(), tmp_path)
    edit(tmp_path, "config.heads", 3)
    with pytest.raises(OnetokError, match="width 16 is not divisible by 3 heads"):
        load_model(tmp_path, CPU)
