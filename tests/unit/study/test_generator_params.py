"""Params of generators: what cannot hold together, and published ones, which are fetched and never trained."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import save_file

from onetok.errors import OnetokError
from onetok.sampling.guidance import guidance_weights
from onetok.study.digests import sha256
from onetok.study.load import load_study
from onetok.study.plan import plan
from onetok.study.schema.shapes import TokenShape
from onetok.systems.records import Shapes
from onetok.systems.registry import build_generator, load_released_generator, shapes_of
from onetok.systems.saved import load_model, save_model

MODEL = {"width": 16, "layers": 2, "heads": 2, "hidden": 32}
MODEL |= {"dropout": 0.1, "attention_dropout": 0.1, "class_dropout": 0.1}
SAMPLING = {"kind": "masked", "steps": 2, "temperature": 1.0, "mask_schedule": "arccos"}
SAMPLING |= {"softmax_annealing": False, "guidance": {"kind": "constant", "scale": 0.0, "power": 0.0}}


def with_published(smallest: Path, weights: dict | None = None, **changes: object) -> Path:
    """Give the smallest study a published generator of its own tokenizer, and samples of it."""
    if weights is None:
        weights = {"hub": "someone/g", "revision": None, "file": "model.safetensors", "sha256": None}
    entry = {"kind": "published-maskgit-uvit", "tokenizer": "titok/vq-16", "classes": 10, "model": MODEL}
    entry |= {"weights": {"url": None} | weights} | changes
    samples = {"generator": "published/g", "benchmark": "class_conditional/digits", "seed": 0}
    samples |= {"micro_batch": 8, "sampling": SAMPLING, "text": None}
    content = {"generators": {"published": {"g": entry}}, "samples": {"published": {"g": samples}}}
    (smallest / "params/generators/published.yaml").write_text(yaml.safe_dump(content))
    return smallest


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": MODEL | {"layers": 3}}, "published.g.model: layers 3 cannot be halved, as a U-ViT's"),
        ({"model": MODEL | {"heads": 3}}, "published.g.model: width 16 is not divisible by 3 heads"),
        ({"model": MODEL | {"init_std": 0.02}}, "published.g.model.init_std: unknown key"),
        (
            {"tokenizer": "titok/vq-17"},
            "published.g.tokenizer: no tokenizers named 'titok/vq-17'; nearest known: titok/vq-16",
        ),
        (
            {"tokenizer": "tatitok/kl-16"},
            "the tokens of tatitok/kl-16 are continuous (tatitok/kl-16), expected ones of a codebook",
        ),
        (
            {"tokenizer": "tatitok/kl-16"},
            "are decoded with captions (tatitok/kl-16), which a generator of classes has not",
        ),
        ({"classes": 9}, "generator published/g has 9 classes, but the benchmark's dataset has 10"),
        ({"kind": "published-maskgit"}, "published.g.kind: found 'published-maskgit'; nearest known"),
    ],
)
def test_what_cannot_hold_together_is_said(smallest, changes, message):
    with pytest.raises(OnetokError) as raised:
        load_study(with_published(smallest, **changes))
    assert message in str(raised.value)


def test_a_trained_u_vit_needs_layers_to_halve(smallest):
    path = smallest / "params/generators/maskgit.yaml"
    path.write_text(path.read_text().replace("kind: maskgit-vit", "kind: maskgit-uvit"))
    with pytest.raises(OnetokError, match=r"maskgit.tiny.model: layers 1 cannot be halved"):
        load_study(smallest)
    path.write_text(path.read_text().replace("layers: 1", "layers: 2"))
    study = load_study(smallest)
    entry = study.generators["maskgit/tiny"]
    model = build_generator(entry, shapes_of(study, entry))
    assert type(model).__name__ == "MaskGITUViT" and len(model.down) == 1


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "end: 6",
            "end: 3",
            r"rar.titok.annealing: end 3 is before start 4",
        ),
        (
            "kind: autoregressive, temperature: 1.0,",
            "kind: masked, steps: 4, mask_schedule: arccos, softmax_annealing: false, temperature: 1.0,",
            r"sampling is of kind masked, but rar/titok of kind rar needs autoregressive",
        ),
        (
            "checkpointing: false",
            "checkpoint: false",
            r"rar.titok.model.checkpoint: unknown key, found value False; nearest known: checkpointing",
        ),
    ],
)
def test_what_a_rar_cannot_be_is_named(smallest, old, new, message):
    assert_named(smallest, "rar", old, new, message)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "diffusion_steps: 5",
            "diffusion_steps: 1",
            r"sampling.diffusion_steps: found 1 \(int\); .* greater than or equal to 2",
        ),
        (
            "diffusion_steps: 5",
            "diffusion_steps: 1001",
            r"sampling.diffusion_steps: found 1001 \(int\); .* less than or equal to 1000",
        ),
        (
            "aesthetic_width: 16",
            "aesthetic_width: 15",
            r"model.aesthetic_width: found 15 \(int\); .* multiple of 2",
        ),
        ("scale: 1.0, head", "scale: 0.0, head", r"model.scale: found 0.0 \(float\); .* greater than 0"),
    ],
)
def test_what_a_maskgen_cannot_be_is_named(smallest, old, new, message):
    assert_named(smallest, "maskgen", old, new, message)


def assert_named(study, family, old, new, message):
    path = study / f"params/generators/{family}.yaml"
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(OnetokError, match=message):
        load_study(study)


def test_the_papers_generators_are_sampled_as_their_releases_do(repository):
    study = load_study(repository)
    masked = {name: entry for name, entry in study.samples.items() if entry.sampling.kind == "masked"}
    captioned = {name for name, entry in masked.items() if entry.text is not None}
    assert len(masked.keys() - captioned) == 10 and len(captioned) == 8
    assert all(entry.sampling.softmax_annealing for entry in masked.values())
    for name in captioned:
        weights = guidance_weights(masked[name].sampling.guidance, 16)
        assert [round(weight, 2) for weight in (*weights[:3], weights[-1])] == [1.11, 1.42, 1.93, 12.0]
    assert {study.samples[name].benchmark for name in masked.keys() - captioned} == {
        "class_conditional/imagenet-adm"
    }
    assert {
        benchmark.eight_bits for benchmark in study.benchmarks.values() if benchmark.kind != "reconstruction"
    } == {"truncated"}


def test_released_systems_need_the_text_encoder_that_they_were_trained_with(repository, tmp_path):
    shutil.copytree(repository / "params", tmp_path / "params")
    path = tmp_path / "params/encoders/published.yaml"
    path.write_text(path.read_text().replace("ViT-L-14-336-quickgelu", "ViT-B-32"))
    with pytest.raises(OnetokError) as raised:
        load_study(tmp_path)
    wrong = "text: published/vit-l-14-336 gives 77 states of width 512, 512 pooled"
    for name in ("published_maskgen.kl-l", "published_tatitok.bl32-vq"):
        assert f"{name}: {wrong}, expected 77 states of width 768, 768 pooled" in str(raised.value)


def test_a_published_generator_reads_nothing_and_its_samples_read_its_tokenizer(smallest):
    study = load_study(with_published(smallest))
    job = plan(study, "generators", "published/g")
    assert (job.inputs, job.payloads, job.outputs) == ((), (), ("weights.safetensors", "config.json"))
    assert "tokenizer" not in job.params and job.params["tokens"]["length"] == 16
    samples = plan(study, "samples", "published/g")
    assert (
        samples.params["tokenizer"] == "titok/vq-16" == study.generators["published/g"].tokenizer_name(study)
    )
    assert {a.folder for a in samples.inputs} == {
        "results/generators/published/g",
        "results/tokenizers/titok/vq-16",
    }


@pytest.mark.parametrize(
    ("tokenizer", "length"), [("titok/vq-16", 16), ("vqgan/tiny", 64), ("titok_stage_2/vq-16", 16)]
)
def test_the_shape_of_tokens_follows_the_tokenizer(smallest, tokenizer, length):
    study = load_study(smallest)
    assert study.tokenizers[tokenizer].token_shape(study).length == length


def released(state):
    """Return a U-ViT's state dict in the released layout."""
    renamed = (
        (r"^positions$", "pos_embed"),
        (r"^embedding\.", "embeddings."),
        (r"^down\.", "in_blocks."),
        (r"^middle\.", "mid_block."),
        (r"^up\.", "out_blocks."),
        (r"^norm_out\.", "norm."),
        (r"^head\.", "lm_head."),
        (r"\.attention\.qkv\.", ".attn.qkv."),
        (r"\.attention\.out\.", ".attn.proj."),
        (r"\.mlp\.up\.", ".mlp.fc1."),
        (r"\.mlp\.down\.", ".mlp.fc2."),
        (r"\.skip\.", ".skip_linear."),
    )
    theirs = {}
    for ours, tensor in state.items():
        name = ours
        for pattern, replacement in renamed:
            name = re.sub(pattern, replacement, name)
        theirs[name] = tensor[None] if ours == "positions" else tensor
    return theirs


def test_a_published_generator_is_fetched_whole(smallest, tmp_path, monkeypatch):
    path = tmp_path / "model.safetensors"
    study = load_study(with_published(smallest))
    shapes = shapes_of(study, study.generators["published/g"])
    torch.manual_seed(0)
    model = build_generator(study.generators["published/g"], shapes)
    save_file(released(model.state_dict()), path)

    weights = {"hub": "someone/g", "revision": "a" * 40, "file": "model.safetensors", "sha256": sha256(path)}
    entry = load_study(with_published(smallest, weights)).generators["published/g"]
    monkeypatch.setattr("onetok.release.download.hf_hub_download", lambda repo, file, revision: str(path))
    loaded = load_released_generator(entry, shapes)
    save_model(loaded, tmp_path)
    again = load_model(tmp_path, torch.device("cpu"))
    assert all(torch.equal(again.state_dict()[k], v) for k, v in model.state_dict().items())


def test_an_unpinned_generator_is_not_downloaded(smallest):
    entry = load_study(with_published(smallest)).generators["published/g"]
    with pytest.raises(OnetokError, match=r"model.safetensors: not pinned: .*onetok pin someone/g"):
        load_released_generator(entry, Shapes(TokenShape(32, 4, 16), None))
