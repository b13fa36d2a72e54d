from types import SimpleNamespace

import pytest
import torch

from onetok.losses.autoregressive import next_token_loss
from onetok.release.tensors import load_strictly
from onetok.sampling.guidance import guidance_weights, guided
from onetok.study.schema.sampling import Guidance
from onetok.systems.rar.sampling import CachedDecoder
from onetok.systems.registry import model_of_release, rename_released
from tests.parity.cases import load_case, relative_error


@pytest.fixture(scope="module")
def rar():
    case = load_case("rar")
    model = model_of_release("rar", case.meta["config"]).eval()
    load_strictly(model, rename_released("rar", case.state()), "golden case")
    return SimpleNamespace(model=model, ids=case.tensors["tokens"], golden=case.tensors)


def orders_of(rar, kind):
    return rar.golden["orders"] if kind == "permuted" else None


@torch.inference_mode()
@pytest.mark.parametrize("kind", ["raster", "permuted"])
def test_logits_and_loss(rar, kind):
    orders = orders_of(rar, kind)
    logits = rar.model(rar.ids, rar.golden["class_ids"], orders)
    assert relative_error(logits, rar.golden[f"logits_{kind}"]) <= 2e-5

    targets = rar.ids if orders is None else rar.ids.gather(1, orders)
    assert torch.equal(targets, rar.golden[f"labels_{kind}"])
    loss = next_token_loss(logits[:, :-1], targets)["total"]
    assert relative_error(loss[None], rar.golden[f"loss_{kind}"]) <= 2e-5


@torch.inference_mode()
@pytest.mark.parametrize("kind", ["raster", "permuted"])
def test_loss_of_the_model(rar, kind, monkeypatch):
    monkeypatch.setattr(
        "onetok.systems.rar.model.draw_orders", lambda ids, random_order: rar.golden["orders"]
    )
    if kind == "raster":
        monkeypatch.undo()
    loss = rar.model.loss(rar.ids, rar.golden["class_ids"], random_order=0.0)["total"]
    assert relative_error(loss[None], rar.golden[f"loss_{kind}"]) <= 2e-5


@torch.inference_mode()
def test_unconditional_logits(rar):
    assert relative_error(rar.model(rar.ids, None, None), rar.golden["logits_uncond_raster"]) <= 2e-5


@torch.inference_mode()
def test_cached_logits(rar):
    decoder = CachedDecoder(rar.model, rar.golden["class_ids"])
    logits = [decoder.first()] + [decoder.next(rar.ids[:, k]) for k in range(rar.ids.shape[1] - 1)]
    assert relative_error(torch.stack(logits, dim=1), rar.golden["teacher_forced_cached_logits"]) <= 2e-5


def test_guidance(rar):
    guidance = Guidance(kind="power-cosine", scale=16.0, power=2.75)
    conditional, unconditional = torch.tensor(1.0), torch.tensor(0.0)
    ours = [guided(conditional, unconditional, weight) for weight in guidance_weights(guidance, 256)]
    assert relative_error(torch.stack(ours), rar.golden["guidance_256_steps_scale16_pow2p75"]) <= 2e-5
