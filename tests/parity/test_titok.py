from dataclasses import replace

import pytest
import torch
from einops import rearrange

from onetok.models.quantizers import VectorQuantizerConfig
from onetok.models.titok import SIZES, TiTok, TiTokConfig, TiTokInit
from onetok.pretrained import from_published, load_strictly
from tests.parity.cases import load_case, relative_error

PUBLISHED_INIT = TiTokInit(linear_std=0.02, positions="normal", position_scale=1.0, query_key_gain=1.0)


def published_config(config: dict) -> TiTokConfig:
    model = config["model"]["vq_model"]
    return TiTokConfig(
        image_size=config["dataset"]["preprocessing"]["crop_size"],
        encoder=SIZES[model["vit_enc_model_size"]],
        decoder=SIZES[model["vit_dec_model_size"]],
        encoder_patch=model["vit_enc_patch_size"],
        decoder_patch=model["vit_dec_patch_size"],
        tokens=model["num_latent_tokens"],
        quantizer=VectorQuantizerConfig(
            codebook_size=model["codebook_size"],
            channels=model["token_size"],
            normalize=model["use_l2_norm"],
            commitment=model["commitment_cost"],
            clustering=False,
        ),
        init=PUBLISHED_INIT,
    )


@pytest.fixture(scope="module")
def single_stage():
    case = load_case("titok_vq_single_stage")
    model = TiTok(published_config(case.meta["config"])).eval()
    load_strictly(model, from_published("titok_vq_single_stage", case.state()), "golden case")
    return case, model


@torch.inference_mode()
def test_single_stage_vq(single_stage):
    case, model = single_stage
    golden = case.tensors
    features = model.encoder(golden["image"], model.latent_tokens)
    assert relative_error(rearrange(features, "b n c -> b c 1 n"), golden["z_continuous"]) <= 2e-5

    tokens, losses = model.quantize(golden["image"])
    assert torch.equal(tokens.ids.view(golden["tokens"].shape), golden["tokens"].long())
    assert relative_error(rearrange(tokens.latents, "b n c -> b c 1 n"), golden["z_quantized"]) <= 2e-5
    assert relative_error(losses["commitment"].view(1), golden["commitment_loss"]) <= 2e-5
    assert relative_error(losses["codebook"].view(1), golden["codebook_loss"]) <= 2e-5
    assert relative_error(sum(losses.values()).view(1), golden["quantizer_loss"]) <= 2e-5
    assert relative_error(model.decode(tokens), golden["decoded"]) <= 2e-5


@torch.inference_mode()
def test_ids_decode_to_the_same_image(single_stage):
    case, model = single_stage
    tokens = model.encode(case.tensors["image"])
    again = model.decode(model.tokens_from_ids(tokens.ids))
    assert relative_error(again, case.tensors["decoded"]) <= 2e-5


def test_another_size_does_not_load(single_stage):
    from onetok.errors import OnetokError

    case, model = single_stage
    smaller = TiTok(replace(model.config, tokens=4))
    with pytest.raises(OnetokError, match=r"'latent_tokens' has shape \(8, 512\), expected \(4, 512\)"):
        load_strictly(smaller, from_published("titok_vq_single_stage", case.state()), "file.bin")
