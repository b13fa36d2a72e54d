import pytest
import torch
from einops import rearrange

from onetok.losses.codes import CodeLoss
from onetok.losses.masked import MaskedLoss, masked_token_loss
from onetok.sampling.schedules import MASK_RATIOS, MaskSchedule
from onetok.training.ema import ema_decay
from onetok.training.schedules import LearningRate
from tests.parity.cases import load_case, relative_error

CASE = load_case("losses_and_schedules")


def test_masked_token_loss():
    golden = CASE.tensors
    losses = masked_token_loss(
        golden["mlm_logits"],
        golden["mlm_targets"].long(),
        golden["mlm_mask"].bool(),
        MaskedLoss(label_smoothing=0.1, unmasked_weight=0.1),
    )
    assert relative_error(losses["total"].view(1), golden["mlm_loss"]) <= 2e-5


def test_code_loss():
    logits = rearrange(CASE.tensors["stage1_logits"], "b v h w -> b (h w) v")
    codes = CASE.tensors["stage1_codes"].long()
    losses = CodeLoss(quantizer=1.0)(logits, codes, {"quantizer": torch.tensor(0.3)})
    golden = CASE.tensors["stage1_total_loss_with_quantizer_loss_0p3"]
    assert relative_error(losses["total"].view(1), golden) <= 2e-5


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
