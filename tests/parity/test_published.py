"""Every published model of ours loads strictly, from a synthetic file in its released layout."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from onetok.release.tensors import load_strictly, read_tensors
from onetok.study.load import load_study
from onetok.study.schema.generators import CaptionEntry, ClassEntry, ReleasedGenerator
from onetok.study.schema.study import TextSampling
from onetok.study.schema.tokenizers import ReleasedTokenizer
from onetok.systems.registry import (
    build_generator,
    build_tokenizer,
    config_of_release,
    layout_of,
    model_of_release,
    releases,
    rename_released,
    shapes_of,
    system_of,
)
from onetok.training.optimizers import decays

RELEASES = releases()
PUBLISHED = json.loads((Path(__file__).parent / "published_checkpoints.json").read_text())
TOKENIZERS = [
    name for name, entry in PUBLISHED.items() if name.startswith("tokenizer_") and entry["hub_repo"]
]
GENERATORS = [
    name
    for name, entry in PUBLISHED.items()
    if name.startswith("generator_") and entry["hub_repo"] and entry["system"] in RELEASES
]
# Of FlowTok the released code has these layouts; its released weights are re-trained ones, for 512 px.
FLOWTOKS = [name for name, entry in PUBLISHED.items() if entry["system"].startswith("flowtok")]
LAYOUTS = [*TOKENIZERS, *GENERATORS, *FLOWTOKS]
MASKGENS = [f"generator_maskgen_{kind}_{size}" for kind in ("vq", "kl") for size in ("l", "xl")]
OF_CLASSES = [name for name in GENERATORS if name not in MASKGENS]
LOADED = [*TOKENIZERS, "generator_titok_l32", "generator_rar_b", *MASKGENS, *FLOWTOKS]
UNREAD = {"maskgit_vit": 768}  # parameters: BERT's second token type
TIED = {"lm_head.weight"} & {name for _, release in RELEASES.values() for name, _ in release.keys.tied}
SMALL = "tokenizer_titok_s128"  # the one of every run; together the others take minutes and many gigabytes
EXEMPT = ("ln", "bias", "latent_tokens", "mask_token", "embed", "norm", "gamma")  # the released rule's words


def test_all_of_them_are_here():
    assert len(TOKENIZERS) == 16
    assert {f"generator_titok_{size}" for size in ("l32", "b64", "s128")} <= set(GENERATORS)
    assert set(MASKGENS) <= set(GENERATORS)
    assert len(FLOWTOKS) == 4
    assert {PUBLISHED[name]["system"] for name in LAYOUTS} == {n for n in RELEASES if "legacy" not in n}


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=() if n == SMALL else pytest.mark.slow, id=n) for n in LOADED]
)
def test_loads_strictly(name, tmp_path):
    entry = PUBLISHED[name]
    file = tmp_path / (entry["hub_file"] or "model.safetensors")
    tensors = {key: torch.zeros(shape) for key, shape in entry["tensors"].items()}
    save_file(tensors, file) if file.suffix == ".safetensors" else torch.save(tensors, file)
    del tensors
    try:
        with torch.device("meta"):
            model = model_of_release(entry["system"], entry["config"])
        model.to_empty(device="cpu")
        for parameter in model.parameters():
            nn.init.constant_(parameter, torch.nan)
        load_strictly(model, rename_released(entry["system"], read_tensors(file)), str(file))
        assert not any(p.count_nonzero() for p in model.parameters())
    finally:
        file.unlink()


def test_the_papers_params_are_the_released_configurations():
    study = load_study(Path(__file__).parents[2])
    entries = [
        e
        for e in study.tokenizers.values()
        if isinstance(e, ReleasedTokenizer) and not layout_of(e).startswith("flowtok")
    ]
    by_file = {(entry.weights.hub, entry.weights.file): entry for entry in entries}
    for name in TOKENIZERS:
        released = PUBLISHED[name]
        entry = by_file.pop((released["hub_repo"], released["hub_file"] or "model.safetensors"))
        assert layout_of(entry) == released["system"]
        with torch.device("meta"):
            ours = build_tokenizer(entry, made=None)
        assert ours.config == config_of_release(released["system"], released["config"]), name
    assert not by_file


def test_the_papers_generators_and_their_sampling_are_the_released_configurations():
    study = load_study(Path(__file__).parents[2])
    entries = {
        n: e
        for n, e in study.generators.items()
        if isinstance(e, ReleasedGenerator) and isinstance(e, ClassEntry)
    }
    by_file = {(entry.weights.hub, entry.weights.file): name for name, entry in entries.items()}
    for released in (PUBLISHED[name] for name in OF_CLASSES):
        name = by_file.pop((released["hub_repo"], released["hub_file"] or "model.safetensors"))
        assert layout_of(entries[name]) == released["system"]
        tokenizer = study.tokenizers[entries[name].tokenizer]
        if released["system"] == "rar":
            checkpoint = released["config"]["model"]["vq_model"]["pretrained_tokenizer_weight"]
            assert tokenizer.weights.file == checkpoint
        else:
            checkpoint = released["config"]["experiment"]["tokenizer_checkpoint"]
            assert f"{tokenizer.weights.hub.split('/')[1].removesuffix('_imagenet')}.bin" == checkpoint
        with torch.device("meta"):
            ours = build_generator(entries[name], shapes_of(study, entries[name]))
        assert ours.config == config_of_release(released["system"], released["config"]), name
        (sampling,) = [entry.sampling for entry in study.samples.values() if entry.generator == name]
        settings = released["config"]["model"]["generator"]
        if name in ("published/rar-l", "published/rar-xl", "published/rar-xxl"):
            continue  # their configurations repeat RAR-B's sampling; the published one is table 6 of the paper
        assert sampling.temperature == settings["randomize_temperature"]
        assert sampling.guidance.scale == settings["guidance_scale"]
        if released["system"] == "rar":
            assert sampling.guidance.power == settings["guidance_scale_pow"]
        else:
            assert sampling.steps == settings["num_steps"]
            assert sampling.guidance.kind == settings["guidance_decay"]
    assert not by_file


def test_the_papers_maskgens_and_their_sampling_are_the_released_configurations():
    study = load_study(Path(__file__).parents[2])
    entries = {
        n: e
        for n, e in study.generators.items()
        if isinstance(e, ReleasedGenerator) and isinstance(e, CaptionEntry) and e.reads_aesthetic
    }
    by_file = {(entry.weights.hub, entry.weights.file): name for name, entry in entries.items()}
    for released in (PUBLISHED[name] for name in MASKGENS):
        name = by_file.pop((released["hub_repo"], released["hub_file"]))
        assert layout_of(entries[name]) == released["system"]
        tokenizer = study.tokenizers[entries[name].tokenizer]
        assert tokenizer.weights.file == released["config"]["experiment"]["tokenizer_checkpoint"]
        with torch.device("meta"):
            ours = build_generator(entries[name], shapes_of(study, entries[name]))
        assert ours.config == config_of_release(released["system"], released["config"]), name
        (samples,) = [entry for entry in study.samples.values() if entry.generator == name]
        settings, sampling = released["config"]["model"]["maskgen"], samples.sampling
        steps = sampling.steps if released["system"] == "maskgen_vq" else sampling.rounds
        assert steps == settings["num_iter"]
        assert sampling.temperature == settings["temperature"]
        assert sampling.guidance.scale == settings["cfg"]
        if released["system"] == "maskgen_vq":  # which leaves the schedule to the released sampler's default
            assert "cfg_schedule" not in settings
            assert (sampling.guidance.kind, sampling.guidance.power) == ("maskgen-cosine", 1.0)
        else:
            assert sampling.guidance.kind == settings["cfg_schedule"]
        assert samples.text == TextSampling(captions="own", aesthetic=settings["sample_aesthetic_score"])
    assert not by_file


@pytest.mark.parametrize("size", ["vq-l", "vq-xl", "kl-l", "kl-xl"])
def test_maskgens_are_trained_and_sampled_as_those_that_were_released(size):
    study = load_study(Path(__file__).parents[2])
    released, tuned = study.generators[f"published_maskgen/{size}"], study.generators[f"maskgen_tuned/{size}"]
    trained = study.generators[tuned.pretrained]
    assert trained.model.model_dump(exclude={"init_std", "checkpointing"}) == released.model.model_dump()
    shapes = [
        study.tokenizers[entry.tokenizer_name(study)].token_shape(study)
        for entry in (trained, tuned, released)
    ]
    assert shapes[0] == shapes[1] == shapes[2]
    ours, theirs = study.samples[f"maskgen_tuned/{size}"], study.samples[f"published_maskgen/{size}"]
    assert ours.model_dump(exclude={"generator"}) == theirs.model_dump(exclude={"generator"})


def test_the_released_flowtoks_are_those_of_the_paper_at_512_px():
    """Their hub has no configurations; the layouts are those of the released code's models for 256 px."""
    study = load_study(Path(__file__).parents[2])
    for name, layout in (("xl", "generator_flowtok_xl"), ("h", "generator_flowtok_h")):
        entry, released = study.generators[f"published_flowtok/{name}-512"], PUBLISHED[layout]
        with torch.device("meta"):
            ours = build_generator(entry, shapes_of(study, entry))
        assert layout_of(entry) == released["system"]
        assert ours.config == config_of_release(released["system"], released["config"])
        tokenizer = study.tokenizers[entry.tokenizer]
        released = PUBLISHED["tokenizer_flowtok_bl77_kl"]
        with torch.device("meta"):
            ours = build_tokenizer(tokenizer, made=None)
        assert layout_of(tokenizer) == released["system"]
        expected = config_of_release(released["system"], released["config"])
        assert ours.config == expected.replace(image_size=512)
        assert entry.model.scale == released["config"]["vq_model"]["scale_factor"]


@pytest.mark.parametrize("size", ["xl", "h"])
def test_flowtoks_are_trained_and_sampled_as_those_that_were_released(size):
    study = load_study(Path(__file__).parents[2])
    released, tuned = (
        study.generators[f"published_flowtok/{size}-512"],
        study.generators[f"flowtok_tuned/{size}"],
    )
    trained = study.generators[tuned.pretrained]
    assert trained.model.model_dump(exclude={"alignment_target", "init_std"}) == released.model.model_dump()
    ours, theirs = study.samples[f"flowtok_tuned/{size}"], study.samples[f"published_flowtok/{size}-512"]
    of_size = {"generator", "benchmark"}
    assert ours.model_dump(exclude=of_size) == theirs.model_dump(exclude=of_size)


@pytest.mark.parametrize("name", LAYOUTS)
def test_layout_and_weight_decay(name):
    """Names and shapes alone, so that every layout is in the normal run; and what weight decay exempts."""
    entry = PUBLISHED[name]
    with torch.device("meta"):
        model = model_of_release(entry["system"], entry["config"])
        released = {key: torch.empty(shape) for key, shape in entry["tensors"].items()}
    ours = rename_released(entry["system"], released)
    assert {k: v.shape for k, v in ours.items()} == {k: v.shape for k, v in model.state_dict().items()}
    parameters = sum(p.numel() for p in model.parameters())
    # FlowTok's table of positions is a parameter there, though nothing trains it.
    fixed = released["pos_embed"].numel() if entry["system"] == "flowtok" else 0
    assert parameters + fixed == entry["parameters"] - UNREAD.get(entry["system"], 0)

    for key, tensor in released.items():
        renamed = rename_released(entry["system"], {key: tensor})
        if key in TIED or not renamed:  # a repeated entry, or a table that the model computes
            continue
        ((ours_key, parameter),) = renamed.items()
        expected = tensor.ndim >= 2 and not any(word in key for word in EXEMPT)
        assert decays(ours_key, parameter, system_of(model).no_decay) == expected, key


def test_the_two_stages_have_one_config():
    entry = PUBLISHED[SMALL]
    config = config_of_release(entry["system"], entry["config"])
    assert (config.stage, config.memory) == (2, "reinterpreted")
    released = entry["config"]["model"]["vq_model"] | {"finetune_decoder": False}
    warm_up = config_of_release(entry["system"], entry["config"] | {"model": {"vq_model": released}})
    assert warm_up == config.replace(stage=1)
