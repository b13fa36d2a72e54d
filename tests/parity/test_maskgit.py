"""MaskGIT with both backbones against its golden cases."""

import pytest
import torch

from onetok.release.tensors import load_strictly
from onetok.sampling.seeds import ImageRandom
from onetok.study.schema.sampling import Guidance, MaskedSampling
from onetok.systems.registry import generator_system, model_of_release, rename_released
from tests.parity.cases import load_case, relative_error


@pytest.fixture(scope="module", params=["maskgit_vit", "maskgit_uvit"])
def golden(request):
    case = load_case(request.param)
    model = model_of_release(request.param, case.meta["config"]).eval()
    load_strictly(model, rename_released(request.param, case.state()), "golden case")
    return case, model


@torch.inference_mode()
def test_logits(golden):
    case, model = golden
    ids, classes = case.tensors["input_ids"].long(), case.tensors["class_ids"].long()
    assert relative_error(model(ids, classes), case.tensors["logits_cond"]) <= 2e-5
    no_class = torch.full_like(classes, model.config.classes)
    assert relative_error(model(ids, no_class), case.tensors["logits_uncond"]) <= 2e-5


@pytest.mark.parametrize("annealing", [True, False])
@pytest.mark.parametrize("kind", ["constant", "linear", "power-cosine"])
def test_greedy_sampling(golden, kind, annealing):
    case, model = golden
    settings = case.meta["generate"]
    sampling = MaskedSampling(
        kind="masked",
        steps=settings["num_sample_steps"],
        temperature=settings["randomize_temperature"],
        guidance=Guidance(kind=kind, scale=settings["guidance_scale"], power=settings["guidance_scale_pow"]),
        mask_schedule="arccos",
        softmax_annealing=annealing,
    )
    labels = case.tensors["class_ids"].long()
    ids = generator_system(model).sample(
        model, labels, sampling, ImageRandom(0, range(len(labels)), torch.device("cpu"))
    )
    expected = case.tensors[f"greedy_{kind}_{'annealed' if annealing else 'plain'}"]
    assert torch.equal(ids, expected.long())
