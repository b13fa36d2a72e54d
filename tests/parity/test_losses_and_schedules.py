import re

import pytest
import torch
from einops import rearrange
from torch import nn

from onetok.losses.adversarial import DiscriminatorLoss, LeCam, generator_loss, hinge_loss
from onetok.losses.codes import CodeLoss
from onetok.losses.masked import masked_token_loss
from onetok.networks.discriminator import Discriminator
from onetok.release.tensors import load_strictly
from onetok.sampling.schedules import MASK_RATIOS, MaskSchedule
from onetok.study.schema.generators import MaskedLoss
from onetok.study.schema.tokenizers import DiscriminatorModel
from onetok.training.ema import ema_decay
from onetok.training.optimizers import decays
from onetok.training.schedules import LearningRate
from tests.parity.cases import load_case, relative_error

CASE = load_case("losses_and_schedules")


def test_masked_token_loss():
    golden = CASE.tensors
    losses = masked_token_loss(
        golden["mlm_logits"],
        golden["mlm_targets"].long(),
        golden["mlm_mask"].bool(),
        MaskedLoss(mask_schedule="arccos", label_smoothing=0.1, unmasked_weight=0.1),
    )
    assert relative_error(losses["total"].view(1), golden["mlm_loss"]) <= 2e-5


def test_code_loss():
    logits = rearrange(CASE.tensors["stage1_logits"], "b v h w -> b (h w) v")
    codes = CASE.tensors["stage1_codes"].long()
    losses = CodeLoss(quantizer=1.0)(logits, codes, {"quantizer": torch.tensor(0.3)})
    golden = CASE.tensors["stage1_total_loss_with_quantizer_loss_0p3"]
    assert relative_error(losses["total"].view(1), golden) <= 2e-5


# No checkpoint of a discriminator was published, so its key map is needed here only.
DISCRIMINATOR_KEYS = (
    (r"^block_in\.0\.", "conv_in."),
    (r"^blocks\.(\d)\.0\.", r"stages.\1.conv."),
    (r"^blocks\.(\d)\.2\.", r"stages.\1.norm."),
    (r"^to_logits\.0\.", "mix."),
    (r"^to_logits\.2\.", "to_logits."),
)


@torch.inference_mode()
def test_discriminator():
    config = DiscriminatorModel(width=128, stages=(128, 256, 512), groups=32, side=16)
    model = Discriminator(config)
    state = {}
    for name, tensor in CASE.state("discriminator_params").items():
        for pattern, replacement in DISCRIMINATOR_KEYS:
            if re.search(pattern, name):
                state[re.sub(pattern, replacement, name)] = tensor
                break
    load_strictly(model, state, "golden case")
    assert relative_error(model(CASE.tensors["disc_image"]), CASE.tensors["disc_logits"]) <= 2e-5


def test_weight_decay_spares_the_published_names():
    words = ("ln", "bias", "latent_tokens", "mask_token", "embed", "norm", "gamma")
    for name, shape in CASE.meta["discriminator_params"].items():
        decayed = len(shape) >= 2 and not any(word in name for word in words)
        assert decays(name, nn.Parameter(torch.empty(shape)), ()) == decayed, name


def test_hinge():
    real, fake = CASE.tensors["hinge_real"], CASE.tensors["hinge_fake"]
    assert relative_error(hinge_loss(real, fake).view(1), CASE.tensors["hinge_d_loss"]) <= 2e-5
    assert generator_loss(fake) == -fake.mean()


def test_lecam():
    real, fake = CASE.tensors["hinge_real"], CASE.tensors["hinge_fake"]
    lecam = LeCam(decay=0.999)
    lecam.real_mean.copy_(CASE.tensors["lecam_running_mean_real"][0])
    lecam.fake_mean.copy_(CASE.tensors["lecam_running_mean_fake"][0])
    assert relative_error(lecam(real, fake).view(1), CASE.tensors["lecam_loss"]) <= 2e-5
    # Updated after use.
    torch.testing.assert_close(lecam.real_mean, 0.999 * torch.tensor(0.2) + 0.001 * real.mean())
    torch.testing.assert_close(lecam.fake_mean, 0.999 * torch.tensor(-0.1) + 0.001 * fake.mean())


def test_discriminator_loss_weighs_lecam():
    real, fake = CASE.tensors["hinge_real"], CASE.tensors["hinge_fake"]
    losses = DiscriminatorLoss(lecam_weight=0.5, lecam_decay=0.999)(real, fake)
    torch.testing.assert_close(losses["total"], losses["hinge"] + 0.5 * losses["lecam"])


@pytest.mark.parametrize("kind", ["cosine", "constant"])
def test_learning_rate(kind):
    rate = LearningRate(kind=kind, base=1e-3, end=1e-5, warmup=10, steps=100)
    golden = CASE.tensors[f"lr_{kind}_warmup10_total100_base1e-3_end1e-5"]
    assert relative_error(torch.tensor([rate.at(s) for s in range(101)]), golden) <= 2e-5


def test_ema_decay():
    ours = torch.tensor([ema_decay(n, 0.999) for n in range(1, 2001)])
    assert relative_error(ours, CASE.tensors["ema_decay_at_step_1_to_2000"]) <= 2e-5


@pytest.mark.parametrize("name", sorted(MASK_RATIOS))
def test_mask_ratio(name):
    r = torch.linspace(0, 1, 101, dtype=torch.float64)
    golden = CASE.tensors[f"mask_ratio_{name}_at_0_to_1_by_0p01"]
    assert relative_error(MaskSchedule(name).ratio(r), golden) <= 2e-5
