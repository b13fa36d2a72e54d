import pytest
import torch

from onetok.data.captions import CaptionTokenizer
from onetok.networks.clip import CLIP, CLIPConfig
from onetok.release.tensors import load_strictly
from tests.parity.cases import load_case, relative_error


def load(quick_gelu):
    case = load_case("text_conditioning")
    released = case.meta["config"]
    vision, text = released["vision_cfg"], released["text_cfg"]
    config = CLIPConfig(
        image_size=vision["image_size"],
        patch_size=vision["patch_size"],
        vision_width=vision["width"],
        vision_layers=vision["layers"],
        vision_head_width=vision["head_width"],
        context_length=text["context_length"],
        vocab_size=text["vocab_size"],
        text_width=text["width"],
        text_layers=text["layers"],
        text_heads=text["heads"],
        embedding=released["embed_dim"],
        quick_gelu=quick_gelu,
    )
    model = CLIP(config).eval()
    load_strictly(model.network, case.state(), "golden case")
    return case, model


@torch.inference_mode()
def test_text_states():
    case, model = load(quick_gelu=False)  # the case has plain GELU; tests/unit covers OpenAI's
    golden = case.tensors
    states = model.encode_text(golden["token_ids"].long())
    assert relative_error(states.sequence, golden["text_guidance"]) <= 2e-5
    assert relative_error(states.penultimate, golden["penultimate"]) <= 2e-5
    assert relative_error(states.pooled[:, None], golden["pooled"]) <= 2e-5


@torch.inference_mode()
def test_another_activation_would_be_seen():
    case, model = load(quick_gelu=True)
    states = model.encode_text(case.tensors["token_ids"].long())
    assert relative_error(states.sequence, case.tensors["text_guidance"]) > 2e-5


def test_token_ids():
    case = load_case("text_conditioning")
    ids = CaptionTokenizer(context_length=77)(case.meta["captions"])
    assert torch.equal(ids, case.tensors["token_ids"].long())
    assert ids.dtype == torch.int64


@torch.inference_mode()
@pytest.mark.parametrize("quick_gelu", [False, True])
def test_both_towers_are_those_of_open_clip(quick_gelu):
    case, model = load(quick_gelu)
    ids = case.tensors["token_ids"].long()
    assert relative_error(model.encode_text(ids).pooled, model.network.encode_text(ids)) <= 1e-6
    images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    theirs = model.network.encode_image((images - model.mean) / model.std)
    assert relative_error(model.features(images), theirs) <= 1e-6
