import pytest
import torch
from einops import rearrange

from onetok.errors import OnetokError
from onetok.nn.protocols import tokens_from_sampled
from onetok.release.tensors import load_strictly
from onetok.systems.registry import config_of_release, rename_released
from onetok.systems.titok.model import TiTok
from onetok.systems.titok.two_stage import TiTokTwoStage
from onetok.systems.vqgan.model import VQGAN
from tests.parity.cases import load_case, relative_error


def load(name, system, model_class):
    case = load_case(name)
    model = model_class(config_of_release(system, case.meta["config"])).eval()
    load_strictly(model, rename_released(name, case.state()), "golden case")
    return case, model


def as_published(tokens):
    return rearrange(tokens, "b n c -> b c 1 n")


def check_vector_quantizer(model, golden):
    features = model.encoder(golden["image"], model.latent_tokens)
    assert relative_error(as_published(features), golden["z_continuous"]) <= 2e-5
    tokens, losses = model.quantize(golden["image"])
    assert torch.equal(tokens.ids.view(golden["tokens"].shape), golden["tokens"].long())
    assert relative_error(as_published(tokens.latents), golden["z_quantized"]) <= 2e-5
    assert relative_error(losses["commitment"].view(1), golden["commitment_loss"]) <= 2e-5
    assert relative_error(losses["codebook"].view(1), golden["codebook_loss"]) <= 2e-5
    assert relative_error(sum(losses.values()).view(1), golden["quantizer_loss"]) <= 2e-5
    return tokens


@pytest.fixture(scope="module")
def single_stage():
    return load("titok_vq_single_stage", "titok_vq_single_stage", TiTok)


@torch.inference_mode()
def test_single_stage_vq(single_stage):
    case, model = single_stage
    tokens = check_vector_quantizer(model, case.tensors)
    assert relative_error(model.decode(tokens), case.tensors["decoded"]) <= 2e-5


@torch.inference_mode()
def test_ids_decode_to_the_same_image(single_stage):
    case, model = single_stage
    tokens = model.encode(case.tensors["image"])
    again = model.decode(model.tokens_from_ids(tokens.ids))
    assert relative_error(again, case.tensors["decoded"]) <= 2e-5


def test_another_size_does_not_load(single_stage):
    case, model = single_stage
    smaller = TiTok(model.config.replace(tokens=4))
    with pytest.raises(OnetokError, match=r"'latent_tokens' has shape \(8, 512\), expected \(4, 512\)"):
        load_strictly(smaller, rename_released("titok_vq_single_stage", case.state()), "file.bin")


@torch.inference_mode()
def test_kl():
    case, model = load("titok_kl", "titok_kl", TiTok)
    golden = case.tensors
    tokens, losses = model.quantize(golden["image"])
    assert tokens.ids is None and model.codebook_size is None
    assert relative_error(as_published(tokens.posterior.mean), golden["mean"]) <= 2e-5
    assert relative_error(as_published(tokens.posterior.log_variance), golden["logvar"]) <= 2e-5
    assert relative_error(tokens.posterior.divergence(), golden["kl"]) <= 2e-5
    assert relative_error(losses["kl"], golden["kl"].sum(dim=1).mean()) <= 2e-5
    assert relative_error(model.decode(tokens), golden["decoded_from_mean"]) <= 2e-5
    again = model.decode(tokens_from_sampled(model, tokens.posterior.mean))
    assert relative_error(again, golden["decoded_from_mean"]) <= 2e-5


@torch.inference_mode()
def test_two_stage_warm_up():
    case = load_case("titok_vq_legacy_stage1")
    model = TiTokTwoStage(config_of_release("titok_vq_two_stage", case.meta["config"])).eval()
    # Stage 1 is released without the pixel path, which is the VQGAN's.
    pixels = {name: tensor for name, tensor in model.state_dict().items() if name.startswith("pixel_")}
    load_strictly(model, pixels | rename_released("titok_vq_legacy_stage1", case.state()), "golden case")
    tokens = check_vector_quantizer(model, case.tensors)
    logits = rearrange(model.code_logits(tokens), "b (h w) v -> b v h w", h=4)
    assert relative_error(logits, case.tensors["decoded"]) <= 2e-5


@pytest.fixture(scope="module")
def second_stage():
    return load("titok_vq_legacy_stage2", "titok_vq_two_stage", TiTokTwoStage)


@torch.inference_mode()
def test_two_stage_fine_tuning(second_stage):
    case, model = second_stage
    tokens = check_vector_quantizer(model, case.tensors)
    assert relative_error(model.decode(tokens), case.tensors["decoded"]) <= 1e-4


def test_the_second_stage_adopts_the_proxy(second_stage):
    _, model = second_stage
    proxy = VQGAN(model.config.proxy)
    ours = TiTokTwoStage(model.config)
    ours.adopt(proxy)
    assert torch.equal(ours.pixel_codebook.weight, proxy.quantizer.codebook.weight)
    ids = torch.arange(16).view(1, 16)
    codes = rearrange(ours.pixel_codebook(ids), "b (h w) c -> b c h w", h=4)
    assert torch.equal(ours.pixel_decoder(codes), proxy.draw(proxy.tokens_from_ids(ids)))
