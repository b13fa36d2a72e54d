"""FlowTok and its image tokenizer against their golden cases."""

import math
from types import SimpleNamespace

import pytest
import torch
from einops import rearrange

from onetok.losses.flow import between, flat_divergence, swap_targets, velocity
from onetok.nn.text_condition import TextCondition
from onetok.release.tensors import load_strictly
from onetok.sampling.seeds import ImageRandom
from onetok.systems.flowtok.schema import ContrastiveAlignment, FlowSampling
from onetok.systems.registry import generator_system, model_of_release, rename_released
from tests.parity.cases import load_case, relative_error

CPU = torch.device("cpu")


def load(name, **parameters):
    case = load_case(name)
    buffers = {key: torch.zeros(shape) for key, shape in case.meta["buffers"].items()}
    model = model_of_release(name, case.meta["config"]).eval()
    load_strictly(model, rename_released(name, case.state() | buffers | parameters), "golden case")
    return case, model


@torch.inference_mode()
def test_image_tokenizer():
    case, model = load("flowtok_image_tokenizer")
    golden = case.tensors
    tokens = model.encode(golden["image"])
    mean, log_variance = (rearrange(x, "b n c -> b c 1 n") for x in tokens.posterior)
    assert relative_error(mean, golden["mean"]) <= 1e-5
    assert relative_error(log_variance, golden["logvar"]) <= 1e-5
    decoded = model.decode(tokens, golden["text_guidance"])
    assert relative_error(decoded, golden["decoded_from_mean"]) <= 1e-5


# ---------------------------------------------------------------------------------------------- the flow


@pytest.fixture(scope="module")
def flow():
    case, model = load("flowtok", t2t_temperature=torch.tensor(-math.log(0.07)))
    golden = case.tensors
    text, unread = golden["text"], torch.zeros(4, 0)
    condition = TextCondition(text, unread, torch.zeros(4), text[0], unread[0])
    return SimpleNamespace(model=model, golden=golden, condition=condition)


@torch.inference_mode()
def test_text_tokens(flow):
    posterior = flow.model.source(flow.condition)
    assert relative_error(posterior.mean, flow.golden["text_mu"]) <= 1e-5
    assert relative_error(posterior.log_variance, flow.golden["text_logvar"]) <= 1e-5


@torch.inference_mode()
def test_alignment(flow):
    golden = flow.golden
    assert relative_error(flow.model.alignment(golden["text"]), golden["projected_text"]) <= 1e-5
    published = ContrastiveAlignment(kind="contrastive", weight=1.0)
    term = flow.model.alignment_term(golden["text_mu"], flow.condition, published)
    assert relative_error(term[None], golden["contrastive_loss"]) <= 1e-5


@torch.inference_mode()
def test_velocity(flow):
    golden = flow.golden
    assert relative_error(flow.model.positions[None], golden["pos_embed"]) <= 1e-6
    modulation = flow.model.modulation(golden["t"], golden["null_indicator"])
    assert relative_error(flow.model(golden["x"], modulation), golden["velocity"]) <= 1e-5


def test_targets_of_marked_items(flow):
    golden = flow.golden
    images, marked = swap_targets(golden["image_latents"], golden["null_rows"])
    assert torch.equal(images, golden["targets_after_null_swap"])
    assert torch.equal(marked, golden["null_rows"])


@torch.inference_mode()
def test_flow_loss(flow):
    """Of every item under its own caption, the indicator of none set."""
    golden = flow.golden
    text, images, t = golden["text_mu"], golden["image_latents"], golden["t"]
    predicted = flow.model(
        between(text, images, t), flow.model.modulation(t, torch.zeros(4, dtype=torch.bool))
    )
    loss = (predicted - velocity(text, images)).square().mean(dim=(1, 2))
    assert relative_error(loss, golden["flow_loss_per_item"]) <= 1e-5


def test_released_prior(flow):
    mean, log_variance = flow.golden["text_mu"], flow.golden["text_logvar"]
    released = 0.01 * flat_divergence(mean, log_variance).sum()
    assert relative_error(released[None], flow.golden["kld_released_weighted_0p01"]) <= 1e-5


class FromTheMean(ImageRandom):
    """No noise: the flow starts at the mean of the text tokens."""

    def normal(self, *shape):
        return torch.zeros(len(self.generators), *shape)


def test_sampling(flow):
    settings = FlowSampling(kind="flow", steps=5, guidance=2.0)
    system = generator_system(flow.model)
    latents = system.sample(flow.model, flow.condition, settings, FromTheMean(0, range(4), CPU))
    golden = flow.golden["euler5_guidance2_from_mu"] / flow.model.config.scale
    assert relative_error(latents, golden) <= 1e-5
