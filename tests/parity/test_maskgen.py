"""MaskGen-VQ and MaskGen-KL against their golden cases."""

from types import SimpleNamespace

import pytest
import torch

from onetok.losses.diffusion import cosine_betas, diffusion_loss, respace, trained_diffusion
from onetok.nn.text_condition import TextCondition
from onetok.release.tensors import load_strictly
from onetok.sampling.seeds import ImageRandom
from onetok.study.schema.sampling import Guidance, MaskedSampling
from onetok.systems.maskgen.sampling import HeadSampler
from onetok.systems.maskgen.schema import LatentSampling, RevealGuidance
from onetok.systems.registry import generator_system, model_of_release, rename_released
from tests.parity.cases import load_case, relative_error

CPU = torch.device("cpu")


def load(name):
    case = load_case(name)
    model = model_of_release(name, case.meta["config"]).eval()
    load_strictly(model, rename_released(name, case.state()), "golden case")
    golden = case.tensors
    condition = TextCondition(
        sequence=golden["condition"],
        pooled=golden["pooled"][:, 0],
        aesthetic=golden["aesthetic_score"],
        empty_sequence=golden["null_condition"][0],
        empty_pooled=golden["null_pooled"][0, 0],
    )
    return SimpleNamespace(case=case, model=model, golden=golden, condition=condition)


@pytest.fixture(scope="module")
def vq():
    return load("maskgen_vq")


@pytest.fixture(scope="module")
def kl():
    return load("maskgen_kl")


# ---------------------------------------------------------------------------------------------- VQ


@torch.inference_mode()
def test_logits(vq):
    logits = vq.model(vq.golden["input_ids"], vq.model.embed_condition(vq.condition))
    assert relative_error(logits, vq.golden["logits"]) <= 1e-5


@pytest.mark.parametrize(
    ("kind", "released"),
    [
        ("constant", "none"),
        ("maskgen-linear", "linear"),
        ("maskgen-cosine", "cosine"),
        ("maskgen-flipped-cosine", "flippedcosine"),
    ],
)
@pytest.mark.parametrize("annealing", [True, False])
def test_greedy_sampling(vq, kind, released, annealing):
    """At temperature 0 annealing does not show."""
    settings = vq.case.meta["generate"]
    sampling = MaskedSampling(
        kind="masked",
        steps=settings["num_sample_steps"],
        temperature=settings["randomize_temperature"],
        guidance=Guidance(
            kind=kind, scale=settings["guidance_scale"], power=settings["guidance_decay_scale_pow"]
        ),
        mask_schedule="arccos",
        softmax_annealing=annealing,
    )
    scores = torch.full((2,), settings["sample_aesthetic_score"])
    ids = generator_system(vq.model).sample(
        vq.model, vq.condition._replace(aesthetic=scores), sampling, ImageRandom(0, [0, 1], CPU)
    )
    assert torch.equal(ids, vq.golden[f"greedy_{released}"])


# ---------------------------------------------------------------------------------------------- KL


@torch.inference_mode()
def test_decoder(kl):
    masked = kl.golden["mask"].bool()
    states = kl.model(kl.golden["x"], masked, kl.model.embed_condition(kl.condition))
    assert relative_error(states, kl.golden["decoder_out"]) <= 1e-5


@torch.inference_mode()
def test_head(kl):
    golden = kl.golden
    prediction = kl.model.head(golden["diff_xt"], golden["diff_t"], golden["diff_z"])
    assert relative_error(prediction, golden["diff_net_out"]) <= 1e-5


@torch.inference_mode()
def test_loss_terms(kl):
    golden = kl.golden
    t, latents, noise = golden["diff_t"], golden["diff_target"], golden["diff_noise"]
    noisy = trained_diffusion(CPU).noisy(latents, noise, t)
    prediction = kl.model.head(noisy, t, golden["diff_z"])
    losses = diffusion_loss(prediction, latents, noisy, noise, t)
    assert relative_error(losses["mse"], golden["diff_mse_per_item"]) <= 1e-5
    assert relative_error(losses["bound"], golden["diff_vb_per_item"]) <= 1e-5
    assert relative_error(losses["total"], golden["diff_loss_per_item"]) <= 1e-5


def test_schedule_and_respacing(kl):
    betas = cosine_betas(1000)
    assert relative_error(betas, kl.golden["betas_cosine_1000"]) <= 1e-10
    steps, respaced = respace(betas, 100)
    assert torch.equal(steps, kl.golden["respaced_100_timestep_map"])
    assert relative_error(respaced, kl.golden["respaced_100_betas"]) <= 1e-10


def settings(kl, kind="linear", scale=1.0):
    sample = kl.case.meta["sample"]
    return LatentSampling(
        kind="latents",
        rounds=sample["num_iter"],
        diffusion_steps=100,
        temperature=sample["temperature"],
        clip=None,
        guidance=RevealGuidance(kind=kind, scale=scale),
        mask_schedule="cosine",
    )


@torch.inference_mode()
def test_head_sampling(kl):
    golden = kl.golden
    head = HeadSampler(kl.model.head, settings(kl), CPU)
    drawn = head.draw(golden["diffloss_sample_z"], torch.zeros(10, 100, 8), 0.0)
    assert relative_error(drawn, golden["diffloss_sample_zero_noise_temp0"]) <= 1e-5


class GivenOrders(ImageRandom):
    """The orders of the case, and noise of zeros."""

    def __init__(self, orders):
        super().__init__(0, range(len(orders)), CPU)
        self.orders = orders

    def uniform(self, *shape):
        assert shape == self.orders.shape[1:]
        return self.orders.argsort(dim=1) / shape[0]

    def normal(self, *shape):
        return torch.zeros(len(self.orders), *shape)


@pytest.mark.parametrize(("kind", "scale"), [("linear", 1.0), ("linear", 3.0), ("constant", 3.0)])
def test_sampling(kl, kind, scale):
    scores = torch.full((2,), kl.case.meta["sample"]["aes_scores"])
    condition = kl.condition._replace(aesthetic=scores)
    latents = generator_system(kl.model).sample(
        kl.model, condition, settings(kl, kind, scale), GivenOrders(kl.golden["orders"])
    )
    golden = kl.golden[f"sampled_cfg{scale:.0f}_{kind}"]
    assert relative_error(latents, golden[:, :, 0].mT) <= 1e-5
