"""The products of a call are counted exactly, and their time is measured beside the call's."""

from __future__ import annotations

import json
from functools import partial

import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from onetok.nn.layers import Attention, FeedForward
from onetok.speed.clock import Clock
from onetok.speed.lower_bound import LowerBound, ways_of
from onetok.speed.measure import Case, measure, peak_memory
from onetok.speed.products import Convolution, MatrixProduct, record_products, total_flops
from onetok.speed.tokenizers import DIRECTIONS, build_untrained, cast, tokenizer_case
from onetok.stages.common.runtime import Context
from onetok.stages.measure_speed import measure_speed
from onetok.study.load import load_study
from onetok.study.plan import plan
from onetok.study.schema.speeds import Execution
from onetok.systems.vqgan.model import ResidualBlock

CPU = torch.device("cpu")
FLOAT32 = Execution(batch=3, precision="float32", compiled=False)


@pytest.fixture
def tiny(repository):
    return load_study(repository / "studies/miniature").tokenizers["titok/vq-16"]


def matrix(batch, rows, inner, columns):
    return MatrixProduct(batch=batch, rows=rows, inner=inner, columns=columns, dtype=torch.float32)


def test_a_linear_layer_is_one_product():
    layer = nn.Linear(5, 7)
    found = record_products(lambda: layer(torch.randn(2, 3, 5)))
    assert found == {matrix(1, 6, 5, 7): 1}
    assert total_flops(found) == 2 * 6 * 5 * 7


def test_attention_is_its_projections_and_two_batched_products():
    layer, (batch, length, width, heads) = Attention(8, 2), (3, 5, 8, 2)
    found = record_products(lambda: layer(torch.randn(batch, length, width)))
    assert found == {
        matrix(1, batch * length, width, 3 * width): 1,
        matrix(batch * heads, length, width // heads, length): 1,
        matrix(batch * heads, length, length, width // heads): 1,
        matrix(1, batch * length, width, width): 1,
    }


@pytest.mark.parametrize(("stride", "groups"), [(1, 1), (2, 1), (1, 2)])
def test_a_convolution_keeps_its_settings(stride, groups):
    layer = nn.Conv2d(4, 6, 3, stride=stride, padding=1, groups=groups)
    images = torch.randn(2, 4, 8, 8)
    ((product, count),) = record_products(lambda: layer(images)).items()
    assert isinstance(product, Convolution) and count == 1
    assert product.flops == 2 * 2 * 6 * (8 // stride) ** 2 * (4 // groups) * 9
    for way in ways_of(product, CPU):
        assert way().shape == layer(images).shape


def test_what_is_not_known_is_not_passed_over():
    layer = nn.ConvTranspose2d(3, 4, 2)
    with pytest.raises(NotImplementedError, match="transposed"):
        record_products(lambda: layer(torch.randn(1, 3, 4, 4)))
    leaf = torch.randn(2, 3, 8, 8)
    with pytest.raises(NotImplementedError, match="convolution_backward"):
        record_products(lambda: torch.ops.aten.convolution_backward(
            torch.randn(2, 4, 8, 8), leaf, torch.randn(4, 3, 1, 1), None, [1, 1], [0, 0], [1, 1],
            False, [0, 0], 1, [True, True, False],
        ))  # fmt: skip


@pytest.mark.parametrize(
    ("module", "shape"),
    [(FeedForward(16, 64), (2, 9, 16)), (ResidualBlock(8, 16, 4), (2, 8, 6, 6))],
    ids=["feed-forward", "residual"],
)
def test_flops_are_those_of_torchs_own_counter(module, shape):
    x = torch.randn(shape)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        module(x)
    assert total_flops(record_products(lambda: module(x))) == counter.get_total_flops()


def vit_flops(length: int, width: int, layers: int) -> int:
    return layers * (2 * length * 12 * width**2 + 4 * length**2 * width)


def test_tiny_titok_against_a_formula(tiny):
    """Sequence 1 + 16 patches + 16 latents, width 128, 2 layers; patches of 8; codebook 128 x 8."""
    patches, latents, width, pixels, channels, codes = 16, 16, 128, 3 * 8**2, 8, 128
    vit = vit_flops(1 + patches + latents, width, layers=2)
    expected = {
        "encode": vit + 2 * patches * pixels * width + 2 * latents * channels * (width + codes),
        "decode": vit + 2 * patches * pixels * width + 2 * latents * channels * width + 2 * 32**2 * 27 * 3,
    }
    for direction in DIRECTIONS:
        case = tokenizer_case(tiny, FLOAT32, 0, direction, CPU)
        assert total_flops(record_products(case.plain)) == case.images * expected[direction], direction


@pytest.mark.parametrize(
    "product", [matrix(1, 4, 5, 6), matrix(3, 4, 5, 6)], ids=["one product", "a batch of products"]
)
def test_the_ways_of_a_product_compute_it(product):
    shape = (product.rows, product.columns) if product.batch == 1 else (3, product.rows, product.columns)
    found = [way() for way in ways_of(product, CPU)]
    assert [out.shape for out in found] == [shape, shape]
    assert torch.allclose(*found, atol=1e-5)


def test_the_lower_bound_runs_every_product_as_often_as_the_call(monkeypatch):
    repetitions = []
    found = record_products(lambda: [F.linear(torch.ones(2, 3), torch.ones(4, 3)) for _ in range(5)])
    bound = LowerBound(found, Clock(CPU))
    monkeypatch.setattr(Clock, "seconds", lambda self, call, repetitions=1: float(repetitions))
    repetitions = bound.seconds()
    assert repetitions == {matrix(1, 2, 3, 4): 5.0}


def test_a_call_without_waste_takes_about_its_lower_bound():
    a, b = torch.randn(300, 700), torch.randn(700, 900)
    found = measure(Case(call=lambda: a @ b, plain=lambda: a @ b, images=1), rounds=15, device=CPU)
    assert len(found.ratios) == 15 and found.flops == 2 * 300 * 700 * 900
    assert 0.5 < found.ratio < 2  # a busy machine


def big_case(mebibytes: int) -> Case:
    def call() -> torch.Tensor:
        return torch.ones(mebibytes * 2**18)

    return Case(call=call, plain=call, images=1)


def test_peak_memory_is_what_the_call_needs_at_most():
    assert [peak_memory(partial(big_case, size), CPU) / 2**20 for size in (1, 300)] == [1, 300]


def linear_case() -> Case:
    layer = torch.nn.Linear(256, 1024, bias=False)  # 1 MiB

    def call() -> torch.Tensor:
        return layer(torch.ones(512, 256))  # 0.5 MiB → 2 MiB

    return Case(call=call, plain=call, images=1)


def test_peak_memory_holds_weights_inputs_and_outputs():
    assert peak_memory(linear_case, CPU) / 2**20 == pytest.approx(3.5, abs=0.1)


def test_bfloat16_leaves_the_codebook_in_float32(tiny):
    model = cast(build_untrained(tiny), "bfloat16")
    assert model.encoder.head.weight.dtype == torch.bfloat16
    assert model.quantizer.codebook.weight.dtype == torch.float32
    half = Execution(batch=2, precision="bfloat16", compiled=False)
    with torch.inference_mode():
        tokens, images = (tokenizer_case(tiny, half, 0, way, CPU).call() for way in DIRECTIONS)
    assert tokens.ids.shape == (2, 16) and images.shape == (2, 3, 32, 32) and images.isfinite().all()


def test_the_stage_writes_its_outputs(smallest, monkeypatch, capsys):
    monkeypatch.chdir(smallest)
    study = load_study()
    job = plan(study, "benchmarks/speed", "speed/tokenizers")
    context = Context(study, job, CPU, workers=0, tracker="none")
    context.folder.mkdir(parents=True)
    measure_speed(context)
    assert {path.name for path in context.folder.iterdir()} == set(job.outputs)
    table = pd.read_csv(context.folder / "table.csv")
    assert list(table["call"]) == ["encode", "decode"]
    assert (table[["images_per_second", "lower_bound", "ratio", "peak_memory"]] > 0).all(axis=None)
    text = (context.folder / "table.md").read_text()
    assert text in capsys.readouterr().out
    assert "1 thread; batch 2, float32, not compiled, 3 rounds" in text
    measured = json.loads((context.folder / "speed.json").read_text())["measurements"]
    for one in measured:
        assert one["flops"] == sum(product["flops"] * product["count"] for product in one["products"])


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu_calls_are_compiled_in_bfloat16(tiny):
    device = torch.device("cuda")
    execution = Execution(batch=8, precision="bfloat16", compiled=True)
    for direction in DIRECTIONS:
        make = partial(tokenizer_case, tiny, execution, 0, direction, device)
        assert peak_memory(make, device) > 0
        found = measure(make(), rounds=3, device=device)
        assert found.seconds > 0 and found.lower_bound > 0
