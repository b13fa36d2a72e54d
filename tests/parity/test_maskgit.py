import pytest
import torch

from onetok.models.maskgit import MaskGIT, MaskGITConfig
from onetok.pretrained import from_published, load_strictly
from onetok.sampling.guidance import Guidance
from onetok.sampling.masked import MaskedSampling
from onetok.sampling.schedules import MaskSchedule
from onetok.sampling.seeds import ImageRandom
from tests.parity.cases import load_case, relative_error


@pytest.fixture(scope="module")
def vit():
    case = load_case("maskgit_vit")
    published = case.meta["config"]["model"]
    generator = published["generator"]
    config = MaskGITConfig(
        codebook_size=published["vq_model"]["codebook_size"],
        tokens=generator["image_seq_len"],
        classes=generator["condition_num_classes"],
        width=generator["hidden_size"],
        layers=generator["num_hidden_layers"],
        heads=generator["num_attention_heads"],
        hidden=generator["intermediate_size"],
        dropout=generator["dropout"],
        attention_dropout=generator["attn_drop"],
        class_dropout=generator["class_label_dropout"],
        init_std=0.02,
    )
    model = MaskGIT(config).eval()
    load_strictly(model, from_published("maskgit_vit", case.state()), "golden case")
    return case, model


@torch.inference_mode()
def test_logits(vit):
    case, model = vit
    ids, classes = case.tensors["input_ids"].long(), case.tensors["class_ids"].long()
    assert relative_error(model(ids, classes), case.tensors["logits_cond"]) <= 2e-5
    assert relative_error(model(ids, None), case.tensors["logits_uncond"]) <= 2e-5


@pytest.mark.parametrize("annealing", [True, False])
@pytest.mark.parametrize("kind", ["constant", "linear", "power-cosine"])
def test_greedy_sampling(vit, kind, annealing):
    case, model = vit
    settings = case.meta["generate"]
    sampling = MaskedSampling(
        steps=settings["num_sample_steps"],
        temperature=settings["randomize_temperature"],
        guidance=Guidance(kind=kind, scale=settings["guidance_scale"], power=settings["guidance_scale_pow"]),
        schedule=MaskSchedule("arccos"),
        softmax_annealing=annealing,
    )
    labels = case.tensors["class_ids"].long()
    ids = model.sample(labels, sampling, ImageRandom(0, range(len(labels)), torch.device("cpu")))
    golden = case.tensors[f"greedy_{kind}_{'annealed' if annealing else 'plain'}"]
    assert torch.equal(ids, golden.long())
