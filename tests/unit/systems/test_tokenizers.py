import pytest
import torch
from torch import nn

from onetok.errors import OnetokError
from onetok.nn.protocols import tokens_from_sampled
from onetok.nn.quantizers import Gaussian, Posterior
from onetok.study.schema.architecture import GaussianConfig, TransformerSize, VectorQuantizerConfig
from onetok.systems.flowtok.image_tokenizer import FlowTiTok
from onetok.systems.flowtok.schema import FlowTiTokConfig
from onetok.systems.saved import load_model, save_model
from onetok.systems.tatitok.model import TATiTok
from onetok.systems.tatitok.schema import TATiTokConfig
from onetok.systems.titok.model import TiTok
from onetok.systems.titok.schema import TiTokConfig, TiTokInit, TwoStageConfig
from onetok.systems.titok.two_stage import TiTokTwoStage, mix
from onetok.systems.vqgan.model import VQGAN
from onetok.systems.vqgan.schema import VQGANConfig

SIZE = TransformerSize(width=16, layers=1, heads=2)
VQ = VectorQuantizerConfig(codebook_size=32, channels=4, normalize=True, commitment=0.25, clustering=True)
KL = GaussianConfig(channels=4)
INIT = TiTokInit(linear_std=None, positions="sincos", position_scale=1.0, query_key_gain=2.0, output_gain=1.0)
SHARED = {
    "image_size": 16,
    "encoder": SIZE,
    "decoder": SIZE,
    "encoder_patch": 4,
    "decoder_patch": 4,
    "tokens": 6,
    "init": INIT,
}
PROXY = VQGANConfig(
    image_size=16,
    width=8,
    multipliers=(1, 1, 2),
    blocks=1,
    norm_groups=4,
    quantizer=VQ.replace(codebook_size=64, normalize=False),
)
TEXT = {"text_states": 5, "text_width": 12, "decoder_linear": "init"}
TWO_STAGE = TwoStageConfig(**SHARED, quantizer=VQ, stage=1, memory="reinterpreted", proxy=PROXY)
CONFIGS = {
    "vqgan": (VQGAN, PROXY),
    "titok-vq": (TiTok, TiTokConfig(**SHARED, quantizer=VQ)),
    "titok-kl": (TiTok, TiTokConfig(**SHARED, quantizer=KL)),
    "titok-two-stage-1": (TiTokTwoStage, TWO_STAGE),
    "titok-two-stage-2": (TiTokTwoStage, TWO_STAGE.replace(stage=2, memory="transposed")),
    "tatitok-vq": (TATiTok, TATiTokConfig(**SHARED, **TEXT, quantizer=VQ)),
    "tatitok-kl": (TATiTok, TATiTokConfig(**SHARED, **TEXT | {"decoder_linear": "torch"}, quantizer=KL)),
    "flowtitok": (FlowTiTok, FlowTiTokConfig(**SHARED, text_states=5, text_width=12, quantizer=KL)),
}
IMAGES = torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(0))
STATES = torch.randn(3, 5, 12, generator=torch.Generator().manual_seed(1))


@pytest.fixture(params=CONFIGS)
def tokenizer(request):
    torch.manual_seed(0)
    model_class, config = CONFIGS[request.param]
    return model_class(config).eval()


@torch.inference_mode()
def test_one_contract(tokenizer):
    tokens = tokenizer.encode(IMAGES, STATES)
    images, again, losses = tokenizer(IMAGES, STATES)
    assert images.shape == IMAGES.shape
    assert torch.equal(tokens.latents, again.latents)
    assert all(loss.ndim == 0 for loss in losses.values())
    if tokenizer.codebook_size is None:
        assert tokens.ids is None and torch.equal(tokens.latents, tokens.posterior.mean)
        rebuilt = tokens_from_sampled(tokenizer, tokens.latents)
    else:
        assert tokens.posterior is None
        assert 0 <= tokens.ids.min() <= tokens.ids.max() < tokenizer.codebook_size
        rebuilt = tokenizer.tokens_from_ids(tokens.ids)
    torch.testing.assert_close(tokenizer.decode(rebuilt, STATES), tokenizer.decode(tokens, STATES))


@torch.inference_mode()
def test_saved_and_loaded_is_the_same(tokenizer, tmp_path):
    save_model(tokenizer, tmp_path)
    loaded = load_model(tmp_path, torch.device("cpu"))
    assert type(loaded) is type(tokenizer) and loaded.config == tokenizer.config
    tokens = tokenizer.encode(IMAGES)
    assert torch.equal(loaded.decode(tokens, STATES), tokenizer.decode(tokens, STATES))


def test_every_trained_parameter_gets_a_gradient(tokenizer):
    tokenizer.train()
    images, _, losses = tokenizer(IMAGES, STATES)
    (images.square().mean() + sum(losses.values())).backward()
    without = {n for n, p in tokenizer.named_parameters() if p.requires_grad and p.grad is None}
    assert not without


def test_a_saved_model_of_the_other_quantizer_does_not_load(tmp_path):
    save_model(TiTok(TiTokConfig(**SHARED, quantizer=KL)), tmp_path)
    config = tmp_path / "config.json"
    wrong = config.read_text().replace('"channels": 4', '"channels": 4, "codebook_size": 32')
    config.write_text(wrong)
    with pytest.raises((OnetokError, ValueError)):
        load_model(tmp_path, torch.device("cpu"))


# ---------------------------------------------------------------------------------------------- KL


def test_samples_in_training_come_from_the_given_generator():
    quantizer = Gaussian(KL).train()
    features = torch.randn(2, 6, 8)
    draws = [quantizer(features, torch.Generator().manual_seed(s)).tokens.latents for s in (1, 1, 2)]
    assert torch.equal(draws[0], draws[1]) and not torch.equal(draws[0], draws[2])
    torch.manual_seed(3)
    first = quantizer(features).tokens.latents
    torch.manual_seed(3)
    assert torch.equal(first, quantizer(features).tokens.latents)


def test_samples_have_the_posterior_s_moments():
    posterior = Posterior(torch.full((1, 1, 100_000), 2.0), torch.full((1, 1, 100_000), -1.0))
    draw = posterior.sample(torch.Generator().manual_seed(0))
    assert abs(draw.mean() - 2) < 0.01 and abs(draw.var().log() + 1) < 0.02


def test_log_variance_is_clamped_and_divergence_matches_torch():
    features = torch.tensor([[[0.5, -2.0, 50.0, -50.0]]])
    posterior = Gaussian(GaussianConfig(channels=2)).eval()(features).tokens.posterior
    assert posterior.log_variance.tolist() == [[[20.0, -30.0]]]
    mean, log_variance = torch.randn(2, 3, 4), torch.randn(2, 3, 4)
    normal = torch.distributions.Normal(mean, (0.5 * log_variance).exp())
    expected = torch.distributions.kl_divergence(normal, torch.distributions.Normal(0.0, 1.0)).sum(-1)
    torch.testing.assert_close(Posterior(mean, log_variance).divergence(), expected)


# ---------------------------------------------------------------------------------------------- two stages


def test_memory_is_reinterpreted_without_a_transposition():
    x = torch.randn(2, 6, 16)
    assert torch.equal(mix(x), x.reshape(2, 16, 6).transpose(1, 2))


def test_each_stage_trains_its_part_and_the_second_starts_from_the_first():
    first = TiTokTwoStage(TWO_STAGE)
    first.adopt(VQGAN(PROXY))
    second = TiTokTwoStage(TWO_STAGE.replace(stage=2))
    second.load_state_dict(first.state_dict())

    def trained(model):
        return {name.split(".")[0] for name, p in model.named_parameters() if p.requires_grad}

    assert trained(first) == {"latent_tokens", "encoder", "quantizer", "decoder"}
    assert trained(second) == {"decoder", "pixel_codebook", "pixel_decoder"}


def test_the_second_stage_s_codebook_never_moves():
    model = TiTokTwoStage(TWO_STAGE.replace(stage=2)).train()
    before = model.quantizer.codebook.weight.clone()
    model(IMAGES)
    assert torch.equal(model.quantizer.codebook.weight, before) and model.quantizer.usage.sum() == 0


def test_stage_one_predicts_the_proxy_s_codes():
    model, proxy = TiTokTwoStage(TWO_STAGE), VQGAN(PROXY).eval()
    prediction = model.predict_codes(IMAGES)
    assert prediction.logits.shape == (*proxy.encode(IMAGES).ids.shape, proxy.codebook_size)


def test_a_proxy_of_another_grid_is_refused():
    with pytest.raises(ValueError, match="a grid of 2 do not match the proxy's 16 px on a grid of 4"):
        TWO_STAGE.replace(decoder_patch=8)


# ---------------------------------------------------------------------------------------------- others


@torch.inference_mode()
def test_the_text_changes_the_image_and_not_the_tokens():
    model = TATiTok(CONFIGS["tatitok-vq"][1]).eval()
    tokens = model.encode(IMAGES, STATES)
    assert torch.equal(tokens.ids, model.encode(IMAGES, -STATES).ids)
    assert not torch.equal(model.decode(tokens, STATES), model.decode(tokens, -STATES))


def test_vqgan_refuses_sizes_that_do_not_fit():
    with pytest.raises(ValueError, match="18 cannot be halved 2 times"):
        PROXY.replace(image_size=18)
    with pytest.raises(ValueError, match="8 is not divisible into 3 groups"):
        PROXY.replace(norm_groups=3)


def test_published_initialisation():
    torch.manual_seed(0)
    size = TransformerSize(width=64, layers=1, heads=2)
    init = TiTokInit(
        linear_std=0.02, positions="normal", position_scale=1.0, query_key_gain=1.0, output_gain=1.0
    )
    shared = SHARED | {"encoder": size, "decoder": size, "init": init}
    model = TATiTok(TATiTokConfig(**shared, **TEXT | {"decoder_linear": "torch"}, quantizer=VQ))
    assert abs(model.encoder.blocks[0].mlp.up.weight.std() - 0.02) < 0.002
    assert abs(model.text.positions.std() - 64**-0.5) < 0.02
    reference = nn.Linear(64, 256)
    assert abs(model.decoder.blocks[0].mlp.up.weight.std() - reference.weight.std()) < 0.005
    assert model.decoder.blocks[0].attention.qkv.bias.count_nonzero() == 0
