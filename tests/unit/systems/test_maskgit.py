import math
import shutil
from typing import get_args

import pytest
import torch
import torch._dynamo

from onetok.sampling.guidance import guidance_weight, guidance_weights, guided
from onetok.sampling.masked import annealed
from onetok.sampling.schedules import MASK_RATIOS, MaskSchedule
from onetok.sampling.seeds import ImageRandom
from onetok.study.schema.sampling import Guidance, MaskedSampling
from onetok.study.schema.sampling import MaskSchedule as MaskScheduleParams
from onetok.systems.maskgit.model import MaskGIT
from onetok.systems.maskgit.schema import MaskGITConfig, UViTConfig
from onetok.systems.maskgit.uvit import MaskGITUViT
from onetok.systems.registry import generator_system

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


def settings(scale=3.0, temperature=4.0, steps=5, kind="linear", annealing=True):
    return MaskedSampling(
        kind="masked",
        steps=steps,
        temperature=temperature,
        guidance=Guidance(kind=kind, scale=scale, power=1.0),
        mask_schedule="arccos",
        softmax_annealing=annealing,
    )


@pytest.fixture(params=[MaskGIT, MaskGITUViT])
def model(request):
    torch.manual_seed(0)
    return request.param(CONFIG).eval()


def draw(model, images, sampling, compiled=False):
    labels = torch.tensor([i % CONFIG.classes for i in images])
    return generator_system(model).sample(
        model, labels, sampling, ImageRandom(7, images, CPU), compiled=compiled
    )


def test_an_image_does_not_depend_on_its_batch(model):
    together = draw(model, range(8), settings())
    alone = torch.cat([draw(model, [i], settings()) for i in range(8)])
    assert torch.equal(together, alone)
    assert together.max() < CONFIG.codebook_size, "a mask was left"


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
def test_compiled_sampling_draws_the_same(model):
    torch._dynamo.reset()
    expected = draw(model, range(3), settings())
    assert torch.equal(draw(model, range(3), settings(), compiled=True), expected)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_sampling_on_a_gpu_is_the_same_compiled(model):
    cuda = torch.device("cuda")
    labels = torch.tensor([0, 3, 1], device=cuda)
    drawn = []
    model.to(cuda)
    for compiled in (False, True):
        drawn.append(
            generator_system(model).sample(
                model, labels, settings(), ImageRandom(7, range(3), cuda), compiled=compiled
            )
        )
    assert torch.equal(*drawn)


def test_another_seed_gives_another_image(model):
    labels = torch.zeros(1, dtype=torch.int64)
    a, b = (
        generator_system(model).sample(model, labels, settings(), ImageRandom(seed, [0], CPU))
        for seed in (1, 2)
    )
    assert not torch.equal(a, b)


@pytest.mark.parametrize(
    ("kind", "scale", "expected"),
    [
        ("constant", 0.0, [3, 3, 3, 3, 3]),
        ("constant", 2.0, [6, 6, 6, 6, 6]),
        ("linear", 0.0, [3, 3, 3, 3, 3]),
        ("linear", 2.0, [3, 6, 6, 6, 6]),
        ("power-cosine", 1.0, [3, 3, 3, 3, 3]),
        ("power-cosine", 2.0, [3, 6, 6, 6, 6]),
    ],
)
def test_both_branches_share_a_batch_and_one_without_effect_is_left_out(
    model, monkeypatch, kind, scale, expected
):
    batches = []
    forward = model.forward
    monkeypatch.setattr(
        model, "forward", lambda ids, labels: batches.append(len(ids)) or forward(ids, labels)
    )
    draw(model, range(3), settings(kind=kind, scale=scale))
    assert batches == expected


def test_no_noise_is_drawn_where_it_is_multiplied_by_zero(model, monkeypatch):
    drawn = []
    gumbel = ImageRandom.gumbel
    monkeypatch.setattr(ImageRandom, "gumbel", lambda self, *s: drawn.append(s) or gumbel(self, *s))
    draw(model, range(2), settings(temperature=0.0))
    assert not drawn
    draw(model, range(2), settings())
    assert drawn == [(16, 32), (16,)] * 4, "for ids and confidences, but not in the last of five steps"


def test_annealing_shows_at_a_temperature_only(model):
    hot, cold = ([settings(temperature=t, annealing=a, scale=0.0) for a in (True, False)] for t in (4.0, 0.0))
    assert not torch.equal(*(draw(model, range(8), sampling) for sampling in hot))
    assert torch.equal(*(draw(model, range(8), sampling.replace(steps=1)) for sampling in cold))


def test_dropout_cannot_be_on_while_sampling(model):
    with pytest.raises(ValueError, match="eval"):
        draw(model.train(), [0], settings())


def test_remaining_is_counted_in_double_precision():
    assert MaskSchedule("cosine").remaining(2 / 3, 32, 32) == 16
    assert math.floor(32 * torch.cos(torch.tensor(math.pi / 3))) == 15, "float32 would give 15"
    assert MaskSchedule("cosine").remaining(1.0, 32, 10) == 1
    assert MaskSchedule("linear").remaining(0.0, 32, 10) == 9, "at least one token is revealed in every step"


@pytest.mark.parametrize(
    ("name", "quarter"),
    [
        ("arccos", math.acos(0.25) / (math.pi / 2)),
        ("cosine", math.cos(math.pi / 8)),
        ("linear", 0.75),
        ("root", 0.5),
        ("square", 0.9375),
    ],
)
def test_mask_schedules(name, quarter):
    ratio = MaskSchedule(name).ratio(torch.tensor([0.0, 0.25, 1.0]))  # float32 in, float64 out
    assert ratio.dtype == torch.float64
    assert ratio.tolist() == pytest.approx([1.0, quarter, 0.0], abs=1e-15)


def test_params_know_every_mask_schedule():
    assert set(get_args(MaskScheduleParams)) == set(MASK_RATIOS)


def test_training_masks_at_least_one_token():
    counts = MaskSchedule("arccos").masked_count(torch.tensor([0.0, 0.5, 1.0]), 16)
    assert counts.tolist() == [16, 11, 1]


@pytest.mark.parametrize(
    ("kind", "power", "weights"),
    [
        ("constant", 0.0, [3.0, 3.0, 3.0, 3.0]),
        ("linear", 0.0, [0.0, 0.75, 1.5, 2.25]),
        ("power-cosine", 0.0, [2.0, 2.0, 2.0, 2.0]),
        (
            "power-cosine",
            1.0,
            [0.0, 2 * (1 - math.cos(math.pi / 4)) / 2, 1.0, 2 * (1 - math.cos(3 * math.pi / 4)) / 2],
        ),
    ],
)
def test_guidance_weights(kind, power, weights):
    guidance = Guidance(kind=kind, scale=3.0, power=power)
    assert guidance_weights(guidance, 4) == pytest.approx(weights)


def test_power_cosine_of_titok_s128():
    """uncond + (cond - uncond)·(1 + (g-1)(1-cos(π(s/S)^p))/2), at g 6.9, p 3, step 32 of 64."""
    conditional, unconditional = torch.tensor([2.0]), torch.tensor([0.5])
    weight = 1 + 5.9 * (1 - math.cos(math.pi / 8)) / 2
    ours = guided(
        conditional,
        unconditional,
        guidance_weight(Guidance(kind="power-cosine", scale=6.9, power=3.0), 32, 64),
    )
    assert float(ours) == pytest.approx(0.5 + 1.5 * weight)


def test_guidance_moves_away_from_the_unconditional_branch():
    assert torch.equal(guided(torch.tensor([1.0]), torch.tensor([0.5]), 2.0), torch.tensor([2.0]))


def test_softmax_annealing():
    logits = torch.tensor([1.3, 2.6])
    assert torch.allclose(annealed(logits, 0.0), torch.tensor([1.0, 2.0]))
    assert torch.allclose(annealed(logits, 1.0), logits / 0.5)


def test_a_u_vit_has_two_halves():
    with pytest.raises(ValueError, match="layers 3 cannot be halved"):
        UViTConfig.of(CONFIG, layers=3)
