import pytest
import torch
from einops import rearrange

from onetok.release.tensors import load_strictly
from onetok.systems.registry import rename_released
from onetok.systems.vqgan.model import VQGAN
from onetok.systems.vqgan.schema import MASKGIT_VQGAN
from tests.parity.cases import load_case, relative_error


@pytest.fixture(scope="module")
def vqgan():
    case = load_case("maskgit_vqgan")
    model = VQGAN(MASKGIT_VQGAN.replace(image_size=case.tensors["image"].shape[-1])).eval()
    load_strictly(model, rename_released("maskgit_vqgan", case.state()), "golden case")
    return case, model


def test_the_published_size_is_the_case_s(vqgan):
    released = vqgan[0].meta["config"]
    assert released["hidden_channels"] == MASKGIT_VQGAN.width
    assert tuple(released["channel_mult"]) == MASKGIT_VQGAN.multipliers
    assert released["num_res_blocks"] == MASKGIT_VQGAN.blocks
    assert released["num_embeddings"] == MASKGIT_VQGAN.quantizer.codebook_size
    assert released["embedding_dim"] == released["z_channels"] == MASKGIT_VQGAN.quantizer.channels


@torch.inference_mode()
def test_codes_and_images(vqgan):
    case, model = vqgan
    golden = case.tensors
    assert relative_error(model.encoder(golden["image"]), golden["encoder_out"]) <= 2e-5
    tokens = model.encode(golden["image"])
    assert torch.equal(tokens.ids, golden["tokens"].long())
    assert relative_error(model.decode(tokens), golden["decoded"]) <= 1e-4
    assert relative_error(model.decode(model.tokens_from_ids(tokens.ids)), golden["decoded"]) <= 1e-4


@torch.inference_mode()
def test_training_sees_what_the_clamp_would_cut(vqgan):
    case, model = vqgan
    images, tokens, losses = model(case.tensors["image"])
    assert torch.equal(images.clamp(0, 1), model.decode(tokens))
    assert not torch.equal(images, images.clamp(0, 1))
    assert set(losses) == {"commitment", "codebook"}
    codes = rearrange(tokens.latents, "b (h w) c -> b c h w", h=model.config.grid)
    assert torch.equal(images, model.decoder(codes))
