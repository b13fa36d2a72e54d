"""What the score stages make of pictures before and after the metrics."""

import json
import re

import numpy as np
import pytest
import torch

from onetok.data.levels import to_levels
from onetok.errors import OnetokError
from onetok.metrics.features import extract_features
from onetok.metrics.pixels import psnr
from onetok.stages.common.scoring import write_scores
from onetok.stages.score_reconstruction import Measured, Originals, Rebuilder
from onetok.stages.score_samples import Pictures
from onetok.study.schema.benchmarks import PosteriorMean, PosteriorSample
from tests.factories.tokenizers import make

CPU = torch.device("cpu")
PIXELS = torch.randint(0, 256, (6, 3, 32, 32), generator=torch.Generator().manual_seed(0)).to(torch.uint8)


def rebuilt(kind, posterior, batch=6, tokenizer=None):
    batches = [
        Originals(pixels, torch.zeros(len(pixels), 0, dtype=torch.int64), range(start, start + len(pixels)))
        for start, pixels in zip(range(0, 6, batch), PIXELS.split(batch), strict=True)
    ]
    rebuilder = Rebuilder("titok/a", tokenizer or make(kind), None, posterior, CPU)
    measured = Measured()
    return torch.cat(list(rebuilder.rebuild(batches, measured))), measured


MEAN, SAMPLE, OTHER = (
    PosteriorMean(kind="mean"),
    *(PosteriorSample(kind="sample", seed=seed) for seed in (0, 1)),
)


def test_a_sample_of_the_posterior_is_a_function_of_seed_and_image():
    mean, (once, _), (again, _) = (
        rebuilt("titok-kl", MEAN)[0],
        rebuilt("titok-kl", SAMPLE),
        rebuilt("titok-kl", SAMPLE, 4),
    )
    assert (once.int() - again.int()).abs().max() <= 1
    for different in (mean, rebuilt("titok-kl", OTHER)[0]):
        assert (once.int() - different.int()).abs().float().mean() > 1
    model = make("titok-kl")
    expected = to_levels(model(PIXELS.float() / 255).images.detach(), "rounded", "")
    assert torch.equal(mean, expected)


def test_discrete_tokens_have_no_posterior():
    assert torch.equal(rebuilt("titok-vq", MEAN)[0], rebuilt("titok-vq", SAMPLE)[0])


def test_what_is_measured_on_the_way():
    images, measured = rebuilt("titok-vq", MEAN)
    scores = measured.scores(32)
    assert scores["images"] == scores["tokens"] == 6
    assert scores["psnr"] == pytest.approx(float(psnr(PIXELS.float() / 255, images.float() / 255).mean()))


def test_pictures_of_diverged_weights_are_refused():
    model = make("titok-vq")
    with torch.no_grad():
        model.decoder.output.weight[0, 0] = torch.nan
    message = "titok/a, reconstructions from image 0: 4 of a batch of 4 images hold NaN or infinity, expected finite"
    with pytest.raises(OnetokError, match=f"^{message}"):
        rebuilt("titok-vq", MEAN, batch=4, tokenizer=model)


def test_levels_are_rounded_or_truncated():
    values = torch.tensor([-0.1, 0.0, 0.4, 0.5, 0.6, 254.9, 300.0]).div(255).expand(1, 3, 1, 7)
    assert to_levels(values, "rounded", "")[0, 0, 0].tolist() == [0, 0, 0, 0, 1, 255, 255]
    assert to_levels(values, "truncated", "")[0, 0, 0].tolist() == [0, 0, 0, 0, 0, 254, 255]


def test_blank_and_different_samples_are_counted():
    pictures = Pictures(blank_deviation=8.0)
    flat = torch.full((2, 3, 32, 32), 9, dtype=torch.uint8)
    passed = torch.cat(list(pictures.accumulate([PIXELS, flat])))
    assert torch.equal(passed, torch.cat([PIXELS, flat]))
    assert pictures.scores() == {"distinct": 7, "blank": 0.25}


def test_scores_are_strict_json(tmp_path):
    write_scores(tmp_path, {"psnr": np.float64(20.5), "codebook_usage": None})
    assert json.loads((tmp_path / "scores.json").read_text()) == {"psnr": 20.5, "codebook_usage": None}
    for wrong in (float("nan"), float("inf")):
        message = re.escape(f"scores.json: cannot be written: fid is {wrong}, expected a finite number")
        with pytest.raises(OnetokError, match=message):
            write_scores(tmp_path, {"fid": wrong})


class Doubtful:
    """An extractor whose features of some images are no numbers."""

    def features(self, images):
        return images.mean(dim=(2, 3)) / (images[:, :1, 0, 0] > 0)

    def logits(self, features):
        return features


def test_images_whose_features_are_no_numbers_are_named_by_their_place():
    pixels = torch.full((6, 3, 4, 4), 8, dtype=torch.uint8)
    pixels[4, 0, 0, 0] = 0
    message = (
        r"^features by the second encoder: value 0 of image 4 is inf \(1 of 2 images have such\),"
        r" expected finite numbers$"
    )
    with pytest.raises(OnetokError, match=message):
        extract_features({"second_encoder": Doubtful()}, pixels.split(2), CPU)
