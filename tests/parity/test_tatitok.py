import pytest
import torch
from einops import rearrange

from onetok.release.tensors import load_strictly
from onetok.systems.registry import config_of_release, rename_released
from onetok.systems.tatitok.model import TATiTok
from tests.parity.cases import load_case, relative_error


def load(name):
    case = load_case(name)
    model = TATiTok(config_of_release(name, case.meta["config"])).eval()
    buffers = {key: torch.zeros(shape) for key, shape in case.meta["buffers"].items()}
    load_strictly(model, rename_released(name, case.state() | buffers), "golden case")
    return case, model


@torch.inference_mode()
def test_vq():
    case, model = load("tatitok_vq")
    golden = case.tensors
    features = rearrange(model.encoder(golden["image"], model.latent_tokens), "b n c -> b c 1 n")
    assert relative_error(features, golden["z_continuous"]) <= 2e-5
    tokens = model.encode(golden["image"], golden["text_guidance"])
    assert torch.equal(tokens.ids, golden["tokens"].long())
    assert relative_error(rearrange(tokens.latents, "b n c -> b c 1 n"), golden["z_quantized"]) <= 2e-5
    assert relative_error(model.decode(tokens, golden["text_guidance"]), golden["decoded"]) <= 2e-5


@torch.no_grad()
def test_clustering_codebook_moves_once_per_training_forward():
    case, model = load("tatitok_vq")
    golden = case.tensors
    model.train()
    reconstruction = model(golden["image"], golden["text_guidance"])
    assert relative_error(reconstruction.images, golden["decoded"]) <= 2e-5  # the codebook before its move
    assert relative_error(model.quantizer.usage, golden["embed_prob_after_one_training_forward"]) <= 2e-5
    codebook = model.quantizer.codebook.weight
    assert relative_error(codebook, golden["codebook_after_one_training_forward"]) <= 2e-5


@torch.inference_mode()
def test_kl():
    case, model = load("tatitok_kl")
    golden = case.tensors
    tokens = model.encode(golden["image"])
    mean, log_variance = (rearrange(x, "b n c -> b c 1 n") for x in tokens.posterior)
    assert relative_error(mean, golden["mean"]) <= 2e-5
    assert relative_error(log_variance, golden["logvar"]) <= 2e-5
    decoded = model.decode(tokens, golden["text_guidance"])
    assert relative_error(decoded, golden["decoded_from_mean"]) <= 2e-5


def test_decoding_needs_text():
    case, model = load("tatitok_kl")
    tokens = model.encode(case.tensors["image"])
    with pytest.raises(AssertionError, match="text states"):
        model.decode(tokens)
