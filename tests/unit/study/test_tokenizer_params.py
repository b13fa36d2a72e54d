"""Params of tokenizers that name each other: what cannot hold together is said before anything runs."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from onetok.errors import OnetokError
from onetok.study.load import load_study
from onetok.study.plan import plan

ROOT = Path(__file__).parents[3]


def study(folder: Path, file: str, old: str, new: str) -> Path:
    shutil.copytree(ROOT / "tests/e2e/smallest/params", folder / "params")
    path = folder / "params" / file
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))
    return folder


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        (
            "tokenizers/titok_stage_1.yaml",
            "proxy: vqgan/tiny",
            "proxy: titok/vq-16",
            r"proxy: titok/vq-16 is of kind titok, expected a VQGAN",
        ),
        (
            "tokenizers/titok_stage_1.yaml",
            "decoder_patch: 4",
            "decoder_patch: 8",
            r"proxy vqgan/tiny has a code for every 4 px of 32 px, expected model.decoder_patch 8",
        ),
        (
            "tokenizers/titok_stage_2.yaml",
            "stage_1: titok_stage_1/vq-16",
            "stage_1: titok_stage_2/vq-16",
            r"titok_stage_2.vq-16: stage_1: titok_stage_2/vq-16 is of kind titok-stage-2, expected titok-stage-1",
        ),
        (
            "tokenizers/tatitok.yaml",
            "text: clip/digits",
            "text: classifiers/digits",
            r"tatitok.kl-16: text: classifiers/digits is of kind classifier, expected a text encoder",
        ),
        (
            "tokenizers/tatitok.yaml",
            "decoder_linear: init",
            "decoder_linear: torch",
            r"tatitok.kl-16: model.init.output_gain 0.1 has no effect with decoder_linear torch, expected 1.0",
        ),
        (
            "tokenizers/tatitok.yaml",
            "codebook_floor: null",
            "codebook_floor: {usage: 0.1, after: 0}",
            r"tatitok.kl-16: training.codebook_floor: a KL tokenizer has no codebook, expected null",
        ),
        (
            "tokenizers/titok.yaml",
            "tokenizer: titok/vq-16",
            "tokenizer: tatitok/kl-16",
            r"tokens: titok/vq-16 are continuous \(tatitok/kl-16\), expected ones of a codebook",
        ),
        (
            "tokenizers/vqgan.yaml",
            "multipliers: [1, 2, 4]",
            "multipliers: [1, 2, 4, 4, 4, 4, 4]",
            r"vqgan.tiny: image size 32 cannot be halved 6 times, as multipliers ask",
        ),
        (
            "tokenizers/vqgan.yaml",
            "norm_groups: 8",
            "norm_groups: 3",
            r"vqgan.tiny.model: width 8 is not divisible into 3 groups",
        ),
        (
            "tokenizers/tatitok.yaml",
            "quantizer: {kind: kl,",
            "quantizer: {kind: vae,",
            r"tatitok.kl-16.model.quantizer.kind: found 'vae'; nearest known: ",
        ),
    ],
)
def test_what_cannot_hold_together_is_named(tmp_path, file, old, new, message):
    with pytest.raises(OnetokError, match=message):
        load_study(study(tmp_path, file, old, new))


@pytest.mark.parametrize("directory", [".", "studies/miniature"])
def test_tokenizers_read_what_they_name(directory):
    loaded = load_study(ROOT / directory)
    for name, entry in loaded.tokenizers.items():
        assert entry.quantizer(loaded).kind in ("vq", "kl")
        trained = {artefact.receipt for artefact in plan(loaded, "tokenizers", name).inputs}
        scored = {artefact.receipt for artefact in plan(loaded, "scores/reconstruction", name).inputs}
        for reference in ("proxy", "stage_1"):
            if hasattr(entry, reference):
                assert f"results/tokenizers/{getattr(entry, reference)}/receipt.json" in trained
        if entry.text_encoder is not None:
            assert f"results/encoders/{entry.text}/receipt.json" in scored
