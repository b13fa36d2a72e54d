"""The work of sampling is counted step by step, and timed beside what the machine can do in the same run."""

from __future__ import annotations

import json
from dataclasses import replace

import pandas as pd
import pytest
import torch
from torch import nn

from onetok.errors import OnetokError
from onetok.networks.dit import DiT
from onetok.nn import packed_linear
from onetok.sampling.seeds import ImageRandom
from onetok.speed import machine
from onetok.speed.clock import Clock
from onetok.speed.comparisons import build_system, images_call
from onetok.speed.generators import generator_of, measure_sampling, random_texts, sampling_case
from onetok.speed.machine import Machine, Rates
from onetok.speed.products import record_parts, record_products, total_flops
from onetok.speed.steps import Step, Work, work_of
from onetok.stages.common.runtime import Context
from onetok.stages.measure_speed import measure_speed
from onetok.study.load import load_study
from onetok.study.plan import plan
from onetok.study.schema.sampling import Guidance, MaskedSampling
from onetok.study.schema.speeds import DiTModel
from onetok.systems.maskgen.kl import MaskGenKL
from onetok.systems.maskgen.schema import (
    LatentSampling,
    MaskGenKLConfig,
    MaskGenVQConfig,
    MMDiTConfig,
    RevealGuidance,
)
from onetok.systems.maskgen.vq import MaskGenVQ
from onetok.systems.registry import generator_system

CPU = torch.device("cpu")
WIDTH, HIDDEN, CODES, TOKENS, CLASSES = 128, 512, 128, 16, 10  # of the miniature's generators
LAYERS, HEADS = 4, 4
BLOCK = 4 * WIDTH**2 + 2 * WIDTH * HIDDEN  # weights of a block, adaptive norms not among them


@pytest.fixture
def study(repository):
    return load_study(repository / "studies/miniature")


@pytest.fixture
def small_machine(monkeypatch):
    monkeypatch.setattr(machine, "READ_BYTES", 2**22)
    monkeypatch.setattr(machine, "MATRIX_SIDE", {"cpu": 64})


def flops_of(work):
    return [step.flops for step in work.steps]


def test_a_linear_layer_counts_in_inference_mode_too():
    layer, x = nn.Linear(5, 7), torch.randn(3, 4, 5)
    with torch.inference_mode():
        assert total_flops(record_products(lambda: layer(x))) == 2 * 12 * 5 * 7


def test_packed_weights_are_not_passed_over():
    layer = nn.Linear(5, 7)
    multiply = packed_linear.multiplier(layer.weight, layer.bias)
    with pytest.raises(NotImplementedError, match="linear_pointwise"):
        record_products(lambda: multiply(torch.randn(4, 5)))


def test_parts_begin_with_a_module():
    embedding, layer = nn.Embedding(3, 5), nn.Linear(5, 7)

    def call():
        layer(embedding(torch.tensor([0, 1])))
        layer(layer.weight)
        layer(embedding(torch.tensor([2])))

    parts = record_parts(call, [embedding])
    assert [total_flops(part.products) for part in parts] == [0, 2 * (2 + 7) * 35, 2 * 35]
    assert [part.start for part in parts] == [None, embedding, embedding]
    assert not embedding._forward_pre_hooks


def test_the_work_of_maskgit_against_a_formula(study):
    """Guidance is 0 in the first step of the linear ramp: it has one branch, the others two."""
    batch, length = 3, 1 + TOKENS
    case = sampling_case(generator_of(study, "maskgit/tiny-guided"), batch, "float32", False, 0, CPU)
    work = work_of(case.model, case.plain)
    row = LAYERS * (2 * length * BLOCK + 4 * length**2 * WIDTH) + 2 * TOKENS * WIDTH * CODES
    assert flops_of(work) == [batch * row, *[2 * batch * row] * 7]
    biases = LAYERS * (4 * WIDTH + HIDDEN + WIDTH) + CODES
    assert {step.weight_bytes for step in work.steps} == {4 * (LAYERS * BLOCK + WIDTH * CODES + biases)}


@pytest.mark.parametrize("batch", [1, 3])
def test_the_work_of_rar_against_a_formula(study, batch):
    """The first step reads two places and has all adaptive norms; two rows are not padded to four."""
    case = sampling_case(generator_of(study, "rar/titok-guided"), batch, "float32", False, 0, CPU)
    work = work_of(case.model, case.plain)
    rows, classes, places = 2 * batch, batch + 1, TOKENS + 1

    def step(*lengths):  # attention is over a memory that grows by whole strides
        attention = sum(4 * rows * WIDTH * LAYERS * length for length in lengths)
        return len(lengths) * 2 * rows * LAYERS * BLOCK + attention + 2 * rows * WIDTH * CODES

    conditions = TOKENS + 2  # the last of them is of no place
    adaptive = 2 * classes * conditions * (LAYERS * 6 + 2) * WIDTH**2
    assert flops_of(work) == [adaptive + step(places, places), *[step(places)] * (TOKENS - 1)]
    biases = LAYERS * (4 * WIDTH + HIDDEN + WIDTH) + CODES
    assert {step.weight_bytes for step in work.steps} == {4 * (LAYERS * BLOCK + WIDTH * CODES + biases)}


TEXT_STATES = 5
TEXT, POOLED, SCORE = 24, 20, 8  # widths of text states, of the pooled one, of an embedded score
BACKBONE = MMDiTConfig(
    width=WIDTH,
    layers=LAYERS,
    heads=HEADS,
    text_width=TEXT,
    pooled_width=POOLED,
    aesthetic_width=SCORE,
    checkpointing=False,
)
STREAM = 12 * WIDTH**2  # weights of one modality's side of a block, modulation not among them


def condition_flops(images):
    """Return the flops of what is read once for so many conditions."""
    modulation = (LAYERS * 6 + (LAYERS - 1) * 6 + 2 + 2) * WIDTH**2
    return 2 * images * (TEXT_STATES * TEXT * WIDTH + (POOLED + SCORE) * WIDTH + modulation)


def pass_flops(images):
    """Return the flops of a pass of the backbone over so many images of TOKENS tokens and their text."""
    length = TOKENS + TEXT_STATES
    linears = TOKENS * LAYERS * STREAM + TEXT_STATES * ((LAYERS - 1) * STREAM + 2 * WIDTH**2)
    attention = 4 * length * WIDTH * ((LAYERS - 1) * length + TOKENS)
    return images * (2 * linears + attention)


PASS_BYTES = 4 * (  # the last text has keys and values alone
    (2 * LAYERS - 1) * (STREAM + 9 * WIDTH) + 2 * WIDTH**2 + 2 * WIDTH
)


@pytest.mark.parametrize("batch", [1, 3])
def test_the_work_of_maskgen_vq_against_a_formula(batch):
    model = MaskGenVQ(
        MaskGenVQConfig(
            codebook_size=CODES,
            tokens=TOKENS,
            spare_rows=3,
            backbone=BACKBONE,
            text_dropout=0.1,
            init_std=0.02,
        )
    ).eval()
    guidance = Guidance(kind="maskgen-linear", scale=3.0, power=1.0)
    sampling = MaskedSampling(
        kind="masked",
        steps=3,
        temperature=1.0,
        guidance=guidance,
        mask_schedule="arccos",
        softmax_annealing=True,
    )
    texts = random_texts(model, batch, TEXT_STATES, CPU)
    work = work_of(
        model,
        lambda: generator_system(model).sample(model, texts, sampling, ImageRandom(0, range(batch), CPU)),
    )
    head = 2 * 2 * batch * TOKENS * WIDTH * CODES
    assert flops_of(work) == [condition_flops(2 * batch), *[pass_flops(2 * batch) + head] * 3]
    assert [step.weight_bytes for step in work.steps] == [0, *[PASS_BYTES + 4 * WIDTH * CODES] * 3]
    assert work.count == 3


@pytest.mark.parametrize(("scale", "branches"), [(1.0, 1), (3.0, 2)])
def test_the_work_of_maskgen_kl_against_a_formula(scale, branches):
    """A round is a pass and a diffusion; what modulates the head is computed in the round's first step."""
    channels, width, layers, steps, batch = 6, 32, 2, 4, 3
    model = MaskGenKL(
        MaskGenKLConfig(
            channels=channels,
            tokens=TOKENS,
            scale=1.0,
            backbone=BACKBONE,
            head_width=width,
            head_layers=layers,
            text_dropout=0.1,
            init_std=0.02,
        )
    ).eval()
    sampling = LatentSampling(
        kind="latents",
        rounds=2,
        diffusion_steps=steps,
        temperature=1.0,
        clip=None,
        guidance=RevealGuidance(kind="linear", scale=scale),
        mask_schedule="linear",  # half of the tokens in each round
    )
    texts = random_texts(model, batch, TEXT_STATES, CPU)
    work = work_of(
        model,
        lambda: generator_system(model).sample(model, texts, sampling, ImageRandom(0, range(batch), CPU)),
    )
    images, tokens = branches * batch, batch * TOKENS // 2
    rows = branches * tokens
    modulation = 2 * rows * (WIDTH * width + steps * (3 * layers + 2) * width**2)
    times = 2 * steps * (256 * width + width**2)
    first = pass_flops(images) + 2 * images * TOKENS * channels * WIDTH + modulation
    head = 2 * tokens * channels * width + 2 * rows * (2 * layers * width**2 + width * 2 * channels)
    rounds = [first, *[head] * steps] * 2
    assert flops_of(work) == [condition_flops(images) + times, *rounds]
    head_bytes = 4 * ((channels + 1) * width + layers * 2 * (width + 1) * width + (width + 1) * 2 * channels)
    round_bytes = PASS_BYTES + 4 * (channels + 1) * WIDTH
    assert [step.weight_bytes for step in work.steps] == [0, *[round_bytes, *[head_bytes] * steps] * 2]
    assert work.count == 2


def test_recording_leaves_sampling_as_it_is(study):
    case = sampling_case(generator_of(study, "rar/titok-guided"), 2, "float32", False, 0, CPU)
    before = case.call()
    work_of(case.model, case.plain)
    assert torch.backends.mkldnn.enabled and torch.equal(case.call(), before)


def test_a_step_takes_the_longer_of_reading_and_multiplying():
    work = Work(steps=(Step(100, 10), Step(100, 200), Step(100, 30)), count=3)
    rates = Rates(bandwidth=100.0, flops_per_second=20.0)  # reading takes 1 s
    assert work.seconds(rates) == pytest.approx(1 + 10 + 1.5)
    assert work.bandwidth_bound_steps(rates) == 1 and work.flops == 240
    fewer = replace(work, steps=(Step(0, 20), Step(50, 0), Step(50, 0)))
    assert fewer.seconds(rates) == pytest.approx(1 + 0.5 + 0.5)
    assert fewer.summary() == [
        {"weight_bytes": 0, "flops": 20, "steps": 1},
        {"weight_bytes": 50, "flops": 0, "steps": 2},
    ]


def test_what_cannot_be_compiled_is_said(study, monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(OnetokError, match="no C\\+\\+ compiler no-such-compiler"):
        sampling_case(generator_of(study, "rar/titok-guided"), 1, "float32", True, 0, CPU)


def test_half_the_bytes_in_half_the_precision(study):
    system = generator_of(study, "maskgit/tiny")
    single, half = (sampling_case(system, 1, name, False, 0, CPU).model for name in ("float32", "bfloat16"))
    (of_single,), (of_half,) = (
        generator_system(single).step_bytes(single).values(),
        generator_system(half).step_bytes(half).values(),
    )
    assert of_single == 2 * of_half


def test_the_machine_is_measured_by_what_was_done(monkeypatch, small_machine):
    machine_ = Machine(Clock(CPU), torch.float32)
    monkeypatch.setattr(Clock, "seconds", lambda self, call, repetitions=1: 2.0)
    rates = machine_.probe()
    assert rates.bandwidth == machine.READS * 2**22 / 2
    assert rates.flops_per_second == machine.PRODUCTS * 2 * 64**3 / 2


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("samples", ["maskgit/tiny-guided", "rar/titok-guided"])
def test_a_measurement(study, small_machine, samples, precision):
    case = sampling_case(generator_of(study, samples), 2, precision, False, 0, CPU)
    found = measure_sampling(case, rounds=2, device=CPU)
    assert len(found.ratios) == 2 and found.seconds > 0 and found.lower_bound > 0
    assert case.call().shape == (2, TOKENS)
    details = found.details()
    assert sum(run["steps"] * run["flops"] for run in details["steps"]) == found.flops
    assert all(run["weight_bytes"] > 0 for run in details["steps"])


# ---------------------------------------------------------------------------------------------- comparisons


@pytest.mark.parametrize(("latent", "published"), [(32, 118.64e9), (64, 524.60e9)])
def test_dit_xl_2_has_its_published_size(latent, published):
    """675 M parameters, and 118.64 and 524.60 G multiplications at 256 and 512 px (DiT's table 9 and its code)."""
    config = DiTModel(latent=latent, channels=4, patch=2, width=1152, layers=28, heads=16, classes=1000)
    with torch.device("meta"):
        model = DiT(config)
        given = torch.zeros(1, 4, latent, latent), torch.zeros(1), torch.zeros(1, dtype=torch.int64)
        flops = total_flops(record_products(lambda: model(*given)))
    assert round(sum(p.numel() for p in model.parameters()) / 1e6) == 675
    assert flops / 2 == pytest.approx(published, rel=0.01)


def test_dit_predicts_noise_and_variance_of_every_pixel():
    torch.manual_seed(0)
    model = DiT(DiTModel(latent=8, channels=4, patch=2, width=32, layers=2, heads=2, classes=3)).eval()
    latents, labels = torch.randn(2, 4, 8, 8), torch.tensor([0, 2])
    assert model(latents, torch.tensor([5, 5]), labels).shape == (2, 8, 8, 8)
    noise = model.guided_noise(latents, 5, labels, 1.0)
    alone = model(latents, torch.tensor([5, 5]), labels)[:, :4]
    assert torch.allclose(noise, alone, atol=1e-5), "a scale of 1 is no guidance"
    assert not torch.allclose(noise, model.guided_noise(latents, 5, labels, 4.0), atol=1e-5)


def test_a_pair_draws_and_decodes(smallest):
    study = load_study(smallest)
    entry = study.speeds["speed/against-dit"]
    for comparison in entry.comparisons:
        images = images_call(study, comparison.system, entry.cpu, 0, CPU)()
        assert images.shape == (2, 3, 32, 32)
    measured, tokenizer = build_system(study, entry.comparisons[1].system)
    tokens = measured.shapes.tokens
    assert (tokens.codebook_size, tokens.length) == (16, 4) and tokenizer.tokens == 4


# ---------------------------------------------------------------------------------------------- the stage


def run_stage(smallest, monkeypatch, name):
    monkeypatch.chdir(smallest)
    study = load_study()
    job = plan(study, "benchmarks/speed", name)
    context = Context(study, job, CPU, workers=0, tracker="none")
    context.folder.mkdir(parents=True)
    measure_speed(context)
    assert {path.name for path in context.folder.iterdir()} == set(job.outputs)
    measured = json.loads((context.folder / "speed.json").read_text())["measurements"]
    text = (context.folder / "table.md").read_text()
    return pd.read_csv(context.folder / "table.csv"), text, measured


def test_the_stage_measures_generators(smallest, monkeypatch, small_machine):
    table, text, measured = run_stage(smallest, monkeypatch, "speed/generators")
    assert list(table["system"]) == ["maskgit/tiny", "rar/titok"]
    assert list(table["call"]) == ["2 steps, batch 2", "16 steps, batch 1"]
    assert (table[["images_per_second", "lower_bound", "ratio", "peak_memory"]] > 0).all(axis=None)
    assert "GB/s read" in text and "float32, 2 rounds" in text
    for one in measured:
        assert one["flops"] == sum(run["steps"] * run["flops"] for run in one["steps"])


def test_the_stage_measures_pairs(smallest, monkeypatch):
    table, text, measured = run_stage(smallest, monkeypatch, "speed/against-dit")
    assert list(table["comparison"]) == ["of the study", "unreleased"]
    assert (table[["images_per_second", "diffusion_images_per_second", "ratio"]] > 0).all(axis=None)
    assert table["published_ratio"].isna().tolist() == [True, False]
    assert "Both are made up." in text and "nan" not in text
    for one in measured:
        assert len(one["step_seconds"]) == 2 and one["steps"] == 250


def test_a_plan_depends_on_architectures_and_sampling_and_not_on_training(smallest):
    def slice_after(file, old, new, name):
        path = smallest / "params" / file
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new))
        found = plan(load_study(smallest), "benchmarks/speed", name).slice
        path.write_text(text)
        return found

    for name in ("speed/generators", "speed/against-dit"):
        before = plan(load_study(smallest), "benchmarks/speed", name).slice
        assert slice_after("generators/maskgit.yaml", "seed: 42", "seed: 43", name) == before
        assert slice_after("generators/maskgit.yaml", "layers: 1", "layers: 2", name) != before
        assert slice_after("generators/maskgit.yaml", "scale: 3.0", "scale: 2.0", name) != before
        assert slice_after("tokenizers/titok.yaml", "codebook_size: 64", "codebook_size: 32", name) != before
