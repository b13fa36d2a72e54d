import math

import pytest
import torch

from onetok.models.maskgit import MaskGIT, MaskGITConfig
from onetok.sampling.guidance import Guidance
from onetok.sampling.masked import MaskedSampling, annealed
from onetok.sampling.schedules import MaskSchedule
from onetok.sampling.seeds import ImageRandom

CPU = torch.device("cpu")
CONFIG = MaskGITConfig(
    codebook_size=32,
    tokens=16,
    classes=4,
    width=32,
    layers=2,
    heads=2,
    hidden=64,
    dropout=0.1,
    attention_dropout=0.1,
    class_dropout=0.1,
    init_std=0.2,
)


def settings(scale=3.0, temperature=4.0, steps=5):
    return MaskedSampling(
        steps=steps,
        temperature=temperature,
        guidance=Guidance(kind="linear", scale=scale, power=0.0),
        schedule=MaskSchedule("arccos"),
        softmax_annealing=True,
    )


@pytest.fixture
def model():
    torch.manual_seed(0)
    return MaskGIT(CONFIG).eval()


def draw(model, images, sampling):
    labels = torch.tensor([i % CONFIG.classes for i in images])
    return model.sample(labels, sampling, ImageRandom(7, images, CPU))


def test_an_image_does_not_depend_on_its_batch(model):
    together = draw(model, range(8), settings())
    alone = torch.cat([draw(model, [i], settings()) for i in range(8)])
    assert torch.equal(together, alone)
    assert together.max() < CONFIG.codebook_size, "a mask was left"


def test_another_seed_gives_another_image(model):
    labels = torch.zeros(1, dtype=torch.int64)
    a, b = (model.sample(labels, settings(), ImageRandom(seed, [0], CPU)) for seed in (1, 2))
    assert not torch.equal(a, b)


def test_zero_guidance_leaves_out_the_unconditional_branch(model, monkeypatch):
    batches = []
    forward = model.forward
    monkeypatch.setattr(
        model, "forward", lambda ids, labels: batches.append(len(ids)) or forward(ids, labels)
    )
    draw(model, range(3), settings(scale=0.0))
    assert set(batches) == {3}
    batches.clear()
    draw(model, range(3), settings(scale=2.0))
    assert batches == [3, 6, 6, 6, 6], (
        "linear guidance is 0 in the first step, then both branches share a batch"
    )


def test_dropout_cannot_be_on_while_sampling(model):
    with pytest.raises(AssertionError, match="eval"):
        draw(model.train(), [0], settings())


def test_remaining_is_counted_in_double_precision():
    assert MaskSchedule("cosine").remaining(2 / 3, 32, 32) == 16
    assert math.floor(32 * torch.cos(torch.tensor(math.pi / 3))) == 15, "float32 would give 15"
    assert MaskSchedule("cosine").remaining(1.0, 32, 10) == 1
    assert MaskSchedule("linear").remaining(0.0, 32, 10) == 9, "at least one token is revealed in every step"


def test_training_masks_at_least_one_token():
    counts = MaskSchedule("arccos").masked_count(torch.tensor([0.0, 0.5, 1.0]), 16)
    assert counts.tolist() == [16, 11, 1]


@pytest.mark.parametrize(
    ("kind", "power", "weights"),
    [
        ("constant", 0.0, [3.0, 3.0, 3.0, 3.0]),
        ("linear", 0.0, [0.0, 0.75, 1.5, 2.25]),
        (
            "power-cosine",
            1.0,
            [0.0, 2 * (1 - math.cos(math.pi / 4)) / 2, 1.0, 2 * (1 - math.cos(3 * math.pi / 4)) / 2],
        ),
    ],
)
def test_guidance_weights(kind, power, weights):
    guidance = Guidance(kind=kind, scale=3.0, power=power)
    assert [guidance.weight(s, 4) for s in range(4)] == pytest.approx(weights)


def test_softmax_annealing():
    logits = torch.tensor([1.3, 2.6])
    assert torch.allclose(annealed(logits, 0.0), torch.tensor([1.0, 2.0]))
    assert torch.allclose(annealed(logits, 1.0), logits / 0.5)
