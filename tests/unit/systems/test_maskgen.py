"""MaskGen-VQ and MaskGen-KL: what sampling and training do that the golden cases do not show."""

import math
from itertools import pairwise

import pytest
import torch
from torch import nn
from torch.distributions import Normal, kl_divergence

from onetok.losses.diffusion import (
    TRAINED_STEPS,
    Diffusion,
    cosine_betas,
    diffusion_loss,
    respace,
    respaced_reverse,
    trained_diffusion,
)
from onetok.nn.text_condition import TextCondition
from onetok.sampling.guidance import guidance_weights
from onetok.sampling.seeds import ImageRandom
from onetok.study.schema.generators import MaskedLoss
from onetok.study.schema.sampling import Guidance, MaskedSampling
from onetok.systems.maskgen import sampling as latents_page
from onetok.systems.maskgen.kl import MaskGenKL
from onetok.systems.maskgen.sampling import HeadSampler, guidance_weight, masked_counts
from onetok.systems.maskgen.schema import (
    DiffusionLoss,
    LatentSampling,
    MaskGenKLConfig,
    MaskGenVQConfig,
    MMDiTConfig,
    RevealGuidance,
)
from onetok.systems.maskgen.vq import MaskGenVQ
from onetok.systems.registry import generator_system

CPU = torch.device("cpu")
BACKBONE = MMDiTConfig(
    width=32, layers=3, heads=4, text_width=12, pooled_width=10, aesthetic_width=8, checkpointing=False
)
VQ = MaskGenVQConfig(
    codebook_size=24, tokens=12, spare_rows=3, backbone=BACKBONE, text_dropout=0.1, init_std=0.02
)
KL = MaskGenKLConfig(
    channels=6,
    tokens=12,
    scale=0.5,
    backbone=BACKBONE,
    head_width=20,
    head_layers=2,
    text_dropout=0.1,
    init_std=0.02,
)
MASKED = MaskedLoss(mask_schedule="arccos", label_smoothing=0.1, unmasked_weight=0.1)


def build(kind, config):
    """Return a model that is not at its start, where some modulations are 0."""
    torch.manual_seed(0)
    model = kind(config).eval()
    for parameter in model.parameters():
        if parameter.ndim > 1:
            nn.init.normal_(parameter, std=parameter.shape[-1] ** -0.5)
    return model


def test_queries_keys_and_values_start_as_three_layers_of_xavier_s():
    """Each within sqrt(6 / 2D); as one packed layer the bound would be sqrt(6 / 4D)."""
    torch.manual_seed(0)
    config = KL.replace(backbone=BACKBONE.replace(width=96))
    model = MaskGenKL(config)
    for block in model.backbone.each_block():
        for stream in (block.image, block.text):
            for weight in stream.qkv.weight.chunk(3):
                assert float(weight.detach().abs().max()) == pytest.approx((6 / (2 * 96)) ** 0.5, rel=0.01)


@pytest.fixture
def vq():
    return build(MaskGenVQ, VQ)


@pytest.fixture
def kl():
    return build(MaskGenKL, KL)


def conditions(images):
    """Return the condition of some of ten captions."""
    generator = torch.Generator().manual_seed(3)

    def draw(*shape):
        return torch.randn(shape, generator=generator)

    sequence, pooled, aesthetic = draw(10, 5, 12), draw(10, 10), 6 + draw(10)
    rows = torch.tensor(list(images))
    return TextCondition(sequence[rows], pooled[rows], aesthetic[rows], draw(5, 12), draw(10))


def draw_vq(model, images, scale=4.0, kind="maskgen-cosine", seed=7):
    sampling = MaskedSampling(
        kind="masked",
        steps=5,
        temperature=2.0,
        guidance=Guidance(kind=kind, scale=scale, power=1.0),
        mask_schedule="arccos",
        softmax_annealing=True,
    )
    return generator_system(model).sample(model, conditions(images), sampling, ImageRandom(seed, images, CPU))


def kl_settings(rounds=7, scale=3.0, kind="linear", diffusion_steps=10, temperature=1.0, clip=None):
    return LatentSampling(
        kind="latents",
        rounds=rounds,
        diffusion_steps=diffusion_steps,
        temperature=temperature,
        clip=clip,
        guidance=RevealGuidance(kind=kind, scale=scale),
        mask_schedule="cosine",
    )


def draw_kl(model, images, seed=7, **settings):
    return generator_system(model).sample(
        model, conditions(images), kl_settings(**settings), ImageRandom(seed, images, CPU)
    )


# ---------------------------------------------------------------------------------------------- the condition


def test_dropped_captions_become_the_empty_one_and_keep_their_score():
    condition = conditions(range(3))
    dropped = condition.dropped(torch.tensor([True, False, True]))
    assert torch.equal(dropped.sequence[[0, 2]], condition.empty_sequence.expand(2, -1, -1))
    assert torch.equal(dropped.pooled[[0, 2]], condition.empty_pooled.expand(2, -1))
    assert torch.equal(dropped.sequence[1], condition.sequence[1])
    assert torch.equal(dropped.aesthetic, condition.aesthetic)
    both = condition.with_unconditional()
    assert torch.equal(both.sequence[:3], condition.sequence) and both.aesthetic.shape == (6,)
    assert torch.equal(both.pooled[3:], condition.empty_pooled.expand(3, -1))


@pytest.mark.parametrize("field", ["sequence", "pooled", "aesthetic"])
def test_every_part_of_the_condition_is_read(vq, kl, field):
    condition = conditions([0])
    other = condition._replace(**{field: getattr(condition, field) + 1})
    ids, latents, masked = torch.zeros(1, 12, dtype=torch.int64), torch.randn(1, 12, 6), torch.ones(1, 12) > 0
    for model, inputs in ((vq, (ids,)), (kl, (latents, masked))):
        a, b = (model(*inputs, model.embed_condition(c)) for c in (condition, other))
        assert (a - b).abs().max() > 1e-3


@pytest.mark.parametrize("share", [0.0, 1 - 1e-9])
def test_text_is_dropped_in_training(share, monkeypatch):
    models = (
        build(MaskGenVQ, VQ.replace(text_dropout=share)),
        build(MaskGenKL, KL.replace(text_dropout=share)),
    )
    given = torch.randint(24, (4, 12)), torch.randn(4, 12, 6)
    for model, inputs, settings in zip(
        models, given, (MASKED, DiffusionLoss(mask_schedule="arccos", repeats=2)), strict=True
    ):
        seen = []
        embed = model.embed_condition
        monkeypatch.setattr(
            model, "embed_condition", lambda c, embed=embed, seen=seen: seen.append(c) or embed(c)
        )
        condition = conditions(range(4))
        model.train().loss(inputs, condition, settings)
        expected = condition.empty_pooled.expand(4, -1) if share else condition.pooled
        assert torch.equal(seen[0].pooled, expected)


# ---------------------------------------------------------------------------------------------- sampling of ids


def test_an_image_of_ids_does_not_depend_on_its_batch(vq):
    together = draw_vq(vq, range(4))
    alone = torch.cat([draw_vq(vq, [i]) for i in range(4)])
    assert torch.equal(together, alone)
    assert together.max() < VQ.codebook_size, "a mask or a spare row was left"
    assert not torch.equal(together, draw_vq(vq, range(4), seed=8))


@pytest.mark.parametrize(("scale", "rows"), [(0.0, [3] * 5), (4.0, [6] * 5)])
def test_the_condition_is_read_once(vq, scale, rows, monkeypatch):
    texts, batches = [], []
    embed, forward = vq.backbone.embed_condition, vq.forward
    monkeypatch.setattr(vq.backbone, "embed_condition", lambda *a: texts.append(len(a[0])) or embed(*a))
    monkeypatch.setattr(vq, "forward", lambda ids, r: batches.append(len(ids)) or forward(ids, r))
    draw_vq(vq, range(3), scale)
    assert texts == rows[:1] and batches == rows


@pytest.mark.parametrize(
    ("kind", "weights"),
    [
        ("maskgen-linear", [1.5, 2.0, 2.5, 3.0]),
        ("maskgen-cosine", [2 - math.cos(math.pi * r) for r in (1 / 16, 1 / 4, 9 / 16, 1)]),
        ("maskgen-flipped-cosine", [1 + math.cos(math.pi * r) for r in (1 / 16, 1 / 4, 9 / 16, 1)]),
    ],
)
def test_guidance_weights_of_maskgen_vq(kind, weights):
    assert guidance_weights(Guidance(kind=kind, scale=3.0, power=2.0), 4) == pytest.approx(weights)
    assert guidance_weights(Guidance(kind=kind, scale=0.0, power=2.0), 4) == [0.0] * 4


# ---------------------------------------------------------------------------------------------- sampling of latents


def test_latents_of_an_image_hardly_depend_on_its_batch(kl):
    together = draw_kl(kl, range(4))
    alone = torch.cat([draw_kl(kl, [i]) for i in range(4)])
    assert together.shape == (4, 12, 6) and together.isfinite().all()
    assert (together - alone).norm() <= 1e-4 * alone.norm()
    assert not torch.allclose(together, draw_kl(kl, range(4), seed=8), atol=1e-2)


STEPS, BETAS = respace(cosine_betas(1000), 10)


@torch.inference_mode()
@pytest.mark.parametrize("scale", [1.0, 3.0])
@pytest.mark.parametrize("condition_rows", [1024, 7])
def test_sampling_is_the_plain_loop(kl, scale, condition_rows, monkeypatch):
    """The same latents as from whole passes, branch by branch, and a head that is told everything at every step."""
    monkeypatch.setattr(latents_page, "CONDITION_ROWS", condition_rows)
    random = ImageRandom(7, [0, 1], CPU)
    order, noise = random.uniform(12).argsort(dim=1), random.normal(12, 10, 6)
    process = Diffusion.of(BETAS)
    condition = conditions([0, 1])
    embedded = [kl.embed_condition(c) for c in (condition, condition.dropped(torch.tensor([True, True])))]
    latents, masked, before = torch.zeros(2, 12, 6), torch.ones(2, 12, dtype=torch.bool), 12
    for after in masked_counts(kl_settings(), 12):
        states = [kl(latents, masked, embedded) for embedded in embedded]
        weight = 1 + (scale - 1) * (12 - max(1, after)) / 12
        for image in range(2):
            for rank in range(after, before):
                place = order[image, rank]
                latents[image, place] = plain_diffusion(
                    kl.head, [s[image, place] for s in states], noise[image, rank], process, weight
                )
                masked[image, place] = False
        before = after
    drawn = draw_kl(kl, [0, 1], scale=scale)
    assert (drawn - latents / KL.scale).norm() <= 1e-4 * drawn.norm()


def plain_diffusion(head, states, noise, process, weight):
    x = noise[:1]
    for index, t in enumerate(reversed(range(10))):
        original = STEPS[t : t + 1]
        conditional, unconditional = (head(x, original, s[None]).chunk(2, dim=1) for s in states)
        predicted = unconditional[0] + weight * (conditional[0] - unconditional[0])
        at = torch.tensor([t])
        mean = process.posterior_mean(process.clean(x, predicted, at), x, at)
        added = noise[index + 1] * (0.5 * process.log_variance(conditional[1], at)).exp() if t else 0
        x = mean + added
    return x[0]


@pytest.mark.parametrize(
    ("rounds", "counts"),
    [
        (1, [0]),
        (3, [27, 16, 0]),  # in float32 the second would be 15
        (32, list(range(31, 9, -1))),
    ],
)
def test_reveal_counts(rounds, counts):
    found = masked_counts(kl_settings(rounds=rounds), 32)
    assert found[: len(counts)] == counts and len(found) == rounds
    assert found[-1] == 0 and all(a > b for a, b in pairwise(found))


def test_more_rounds_than_tokens_reveal_every_token(kl):
    assert draw_kl(kl, [0], rounds=20).count_nonzero() == 12 * 6


@pytest.mark.parametrize(("scale", "rows"), [(1.0, 3), (3.0, 6)])
def test_no_unconditional_branch_without_guidance(kl, scale, rows, monkeypatch):
    states, heads = [], []
    forward, draw = kl.forward, HeadSampler.draw
    monkeypatch.setattr(kl, "forward", lambda x, m, r: states.append(len(x)) or forward(x, m, r))
    monkeypatch.setattr(
        HeadSampler, "draw", lambda self, s, n, w: heads.append((len(s), len(n))) or draw(self, s, n, w)
    )
    draw_kl(kl, range(3), scale=scale, rounds=4)
    assert states == [rows] * 4, "one pass of the backbone in a round"
    assert sum(n for _, n in heads) == 3 * 12, "the head draws every token once"
    assert all(s == n * rows // 3 for s, n in heads)


def test_temperature_scales_the_noise_of_steps_and_not_the_first(kl):
    cold, again = (draw_kl(kl, [0], temperature=0.0, seed=seed) for seed in (7, 8))
    assert not torch.allclose(cold, again, atol=1e-3), "the first noise is drawn"
    assert not torch.allclose(cold, draw_kl(kl, [0], temperature=1.0), atol=1e-3)


def test_clipping_bounds_the_latents_that_a_step_goes_to(kl):
    """An untrained head's errors grow without end; the last step goes to the predicted latents alone."""
    wild, bound = draw_kl(kl, range(4)), 2.5
    assert (wild * KL.scale).abs().max() > 10 * bound
    clipped = draw_kl(kl, range(4), clip=bound) * KL.scale
    assert bound * 0.999 < clipped.abs().max() <= bound * 1.001
    assert torch.equal(draw_kl(kl, range(4), clip=1e9), wild)


def test_guidance_weights_of_maskgen_kl():
    linear, constant = (RevealGuidance(kind=kind, scale=3.0) for kind in ("linear", "constant"))
    assert [guidance_weight(linear, m, 32) for m in (24, 1)] == [0.5, 2 * 31 / 32]
    assert [guidance_weight(constant, m, 32) for m in (24, 1)] == [2.0, 2.0]
    with pytest.raises(ValueError, match="'constant' or 'linear'"):
        RevealGuidance(kind="cosine", scale=3.0)


def test_sampling_sees_weights_that_have_changed(kl):
    before = draw_kl(kl, range(2))
    state = {name: tensor.clone() for name, tensor in kl.state_dict().items()}
    with torch.no_grad():
        for parameter in kl.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.3)
    assert not torch.allclose(draw_kl(kl, range(2)), before, atol=1e-3)
    kl.load_state_dict(state)
    assert torch.equal(draw_kl(kl, range(2)), before)


def test_models_that_train_cannot_be_sampled(vq, kl):
    for draw, model in ((draw_vq, vq), (draw_kl, kl)):
        with pytest.raises(ValueError, match="eval"):
            draw(model.train(), [0])


# ---------------------------------------------------------------------------------------------- training


def test_gradients_reach_everything(vq, kl):
    condition = conditions(range(4))
    vq.train().loss(torch.randint(24, (4, 12)), condition, MASKED)["total"].backward()
    repeated = DiffusionLoss(mask_schedule="arccos", repeats=4)
    kl.train().loss(torch.randn(4, 12, 6), condition, repeated)["total"].backward()
    for model in (vq, kl):
        for name, parameter in model.named_parameters():
            grad = parameter.grad
            assert grad is not None and grad.isfinite().all(), name
            if name.startswith("backbone.blocks.2.text.qkv."):
                assert not grad[:32].any(), "the last text's queries are never read"
                grad = grad[32:]
            assert grad.any(), name


def test_checkpointing_changes_no_gradient():
    gradients = []
    for checkpointing in (False, True):
        config = VQ.replace(backbone=BACKBONE.replace(checkpointing=checkpointing))
        model = build(MaskGenVQ, config).train()
        torch.manual_seed(1)
        model.loss(torch.randint(24, (2, 12)), conditions([0, 1]), MASKED)["total"].backward()
        gradients.append([p.grad for p in model.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


@pytest.mark.parametrize(("draw", "count"), [(0.0, 12), (0.5, 8), (0.9999, 1)])
def test_one_share_of_tokens_is_masked_in_the_batch_and_scored(kl, draw, count, monkeypatch):
    """Of 12 tokens, 12·arccos(draw)/(π/2) rounded up; each is given to the head `repeats` times."""
    rand = torch.rand
    monkeypatch.setattr(
        torch, "rand", lambda *size, **rest: torch.tensor(draw) if size == ((),) else rand(*size, **rest)
    )
    seen, scored = [], []
    forward, head = kl.forward, kl.head.forward
    monkeypatch.setattr(kl, "forward", lambda x, m, r: seen.append((x, m)) or forward(x, m, r))
    monkeypatch.setattr(kl.head, "forward", lambda x, t, s: scored.append(t) or head(x, t, s))
    latents = torch.randn(5, 12, 6)
    losses = kl.loss(latents, conditions(range(5)), DiffusionLoss(mask_schedule="arccos", repeats=4))
    ((given, masked),) = seen
    assert torch.equal(given, latents * KL.scale)
    assert masked.sum(dim=1).tolist() == [count] * 5
    assert len(scored[0]) == 4 * 5 * count and scored[0].max() < TRAINED_STEPS
    assert losses.keys() == {"total", "mse", "bound"}
    assert torch.allclose(losses["total"], losses["mse"] + losses["bound"])


def test_the_bound_trains_the_variance_alone():
    prediction = torch.randn(4, 12, requires_grad=True)
    latents, noise, t = torch.randn(4, 6), torch.randn(4, 6), torch.tensor([0, 1, 500, 999])
    noisy = trained_diffusion(CPU).noisy(latents, noise, t)
    diffusion_loss(prediction, latents, noisy, noise, t)["bound"].sum().backward()
    assert not prediction.grad[:, :6].any() and prediction.grad[:, 6:].all()


def test_the_bound_is_the_divergence_in_bits():
    process = trained_diffusion(CPU)
    latents, noise, t = torch.randn(3, 6), torch.randn(3, 6), torch.tensor([1, 300, 900])
    noisy = process.noisy(latents, noise, t)
    prediction = torch.randn(3, 12)
    found = diffusion_loss(prediction, latents, noisy, noise, t)["bound"]
    true = Normal(process.posterior_mean(latents, noisy, t), (0.5 * process.log_smallest[t, None]).exp())
    mean = process.posterior_mean(process.clean(noisy, prediction[:, :6], t), noisy, t)
    model = Normal(mean, (0.5 * process.log_variance(prediction[:, 6:], t)).exp())
    expected = kl_divergence(true, model).mean(dim=1) / math.log(2)
    assert torch.allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_the_last_step_is_scored_by_bins():
    """At step 0: -log2 of the mass of a bin of ±1/255, whose outer end is open at ±1."""
    process, t = trained_diffusion(CPU), torch.zeros(3, dtype=torch.int64)
    latents = torch.tensor([[-1.0], [0.3], [1.0]])
    noise = torch.tensor([[0.5], [-1.0], [0.2]])
    noisy = process.noisy(latents, noise, t)
    prediction = torch.cat([noise * 0.9, torch.zeros(3, 1)], dim=1)
    found = diffusion_loss(prediction, latents, noisy, noise, t)["bound"]
    mean = process.posterior_mean(process.clean(noisy, prediction[:, :1], t), noisy, t)
    normal = Normal(mean, (0.5 * process.log_variance(prediction[:, 1:], t)).exp())
    low, high = latents - 1 / 255, latents + 1 / 255
    low[0], high[2] = -torch.inf, torch.inf
    mass = normal.cdf(high) - normal.cdf(low)
    assert torch.allclose(found, -mass.log2().mean(dim=1), rtol=0.02)


# ---------------------------------------------------------------------------------------------- the diffusion


def test_the_process_from_clean_to_noise():
    process = trained_diffusion(CPU)
    assert process.signal[0] > 0.9999 and process.signal[-1] < 1e-3
    assert torch.allclose(process.signal**2 + process.noise**2, torch.ones(1000))
    assert cosine_betas(1000).max() == 0.999
    latents, noise, t = torch.randn(2, 6), torch.randn(2, 6), torch.tensor([10, 600])
    assert torch.allclose(process.clean(process.noisy(latents, noise, t), noise, t), latents, atol=1e-5)
    assert process.posterior_mean(latents, noise, torch.tensor([0, 0])).allclose(latents)


def test_v_spans_the_variances():
    process, t = trained_diffusion(CPU), torch.tensor([0, 500])
    ends = [process.log_variance(torch.full((2, 1), v), t)[:, 0] for v in (-1.0, 1.0)]
    assert torch.allclose(ends[0], process.log_smallest[t]) and torch.allclose(
        ends[1], process.log_largest[t]
    )
    assert process.log_smallest[0] == process.log_smallest[1]


def test_kept_steps():
    steps, betas = respace(cosine_betas(1000), 4)
    assert steps.tolist() == [0, 333, 666, 999]
    kept = (1 - cosine_betas(1000)).cumprod(dim=0)[steps]
    assert torch.allclose((1 - betas).cumprod(dim=0), kept)
    for kept in (1, 1001):
        with pytest.raises(ValueError, match=f"a diffusion of {kept} steps, expected 2 to 1000"):
            respace(cosine_betas(1000), kept)
    assert respaced_reverse(4, CPU) is respaced_reverse(4, CPU), "tables are made once"


# ---------------------------------------------------------------------------------------------- shapes and starts


def test_the_start():
    torch.manual_seed(0)
    vq, kl = MaskGenVQ(VQ), MaskGenKL(KL)
    assert not vq.backbone.final_modulation.weight.any()
    assert not vq.backbone.blocks[-1].text.modulation.weight.any()
    assert vq.backbone.blocks[0].text.modulation.weight.any()
    assert all(p.any() for n, p in kl.named_parameters() if not n.endswith("bias"))
    assert not any(p.any() for n, p in [*vq.named_parameters(), *kl.named_parameters()] if n.endswith("bias"))


def test_a_width_that_heads_do_not_divide_is_an_error():
    with pytest.raises(ValueError, match="width 32 is not divisible by 5 heads"):
        BACKBONE.replace(heads=5)
