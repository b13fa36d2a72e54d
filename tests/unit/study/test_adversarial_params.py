"""What params say of the GAN, the codebook floor and LPIPS: read strictly, and checked for sense."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from onetok.errors import OnetokError
from onetok.study.load import load_study

ROOT = Path(__file__).parents[3]

ADVERSARIAL = """adversarial:
          discriminator: {width: 32, stages: [32, 64], groups: 8, side: 4}
          weight: 0.1
          start: 400
          lecam: {weight: 0.001, decay: 0.999}
          optimizer: {learning_rate: 1.0e-4, betas: [0.9, 0.999], epsilon: 1.0e-8, weight_decay: 1.0e-4}
          schedule: {kind: cosine, warmup: 50, end: 1.0e-5, steps: 9000}
"""


def study(folder: Path, *edits: tuple[str, str]) -> Path:
    """Copy the miniature study with a GAN, and edit its tokenizers."""
    shutil.copytree(ROOT / "studies/miniature/params", folder / "params")
    path = folder / "params/tokenizers/titok.yaml"
    content = path.read_text()
    for old, new in (("adversarial: null\n", ADVERSARIAL), *edits):
        assert old in content
        content = content.replace(old, new)
    path.write_text(content)
    return folder


def test_an_adversarial_section_is_read(tmp_path):
    adversarial = load_study(study(tmp_path)).tokenizers["titok/vq-16"].losses.adversarial
    assert adversarial is not None and adversarial.discriminator.stages == (32, 64)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (", groups: 8", "", r"titok.vq-16.losses.adversarial.discriminator.groups: missing key"),
        ("start: 400", "begin: 400", r"adversarial.begin: unknown key, found value 400; nearest known: "),
        ("start: 400", "start: 9999", r"adversarial.start 9999 is not below training.steps \d+"),
        (
            "steps: 9000",
            "steps: 90",
            r"schedule.steps 90 is below the \d+ steps that the discriminator is trained",
        ),
        ("groups: 8", "groups: 5", r"discriminator: 5 groups do not divide a stage of 32 channels"),
        ("decay: 0.999}", "decay: 1.5}", r"lecam.decay: found 1.5"),
        ("usage: 0.1", "usage: 10", r"training.codebook_floor.usage: found 10"),
        ("layer: maps", "layer: lpips", r"classifiers/digits of kind classifier has no layer 'lpips'"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, old, new, message):
    with pytest.raises(OnetokError, match=message):
        load_study(study(tmp_path, (old, new)))


def test_a_benchmark_cannot_use_lpips(tmp_path):
    shutil.copytree(ROOT / "params", tmp_path / "params")
    path = tmp_path / "params/benchmarks/reconstruction.yaml"
    path.write_text(path.read_text().replace("published/inception", "published/lpips-vgg16"))
    with pytest.raises(
        OnetokError, match=r"encoder: published/lpips-vgg16 is of kind lpips, which has no features"
    ):
        load_study(tmp_path)
