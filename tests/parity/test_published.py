"""Every published model of ours loads strictly, from a synthetic file in its released layout."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from onetok.pretrained import KEY_MAPS, from_published, load_strictly, read_tensors
from onetok.published import (
    SYSTEMS,
    Entry,
    build_published,
    config_from_published,
    model_from_published,
    published_system,
)
from onetok.study import load_study
from onetok.training.optimizers import decays
from onetok.training.tasks import NO_DECAY

PUBLISHED = json.loads((Path(__file__).parent / "published_checkpoints.json").read_text())
TOKENIZERS = [
    name for name, entry in PUBLISHED.items() if name.startswith("tokenizer_") and entry["hub_repo"]
]
GENERATORS = [name for name, entry in PUBLISHED.items() if entry["system"] == "rar"]
SMALL = "tokenizer_titok_s128"  # the one of every run; together the others take minutes and many gigabytes
EXEMPT = ("ln", "bias", "latent_tokens", "mask_token", "embed", "norm", "gamma")  # the released rule's words


def test_all_are_here():
    assert len(TOKENIZERS) == 16
    assert len(GENERATORS) == 4
    assert {PUBLISHED[name]["system"] for name in TOKENIZERS + GENERATORS} == set(SYSTEMS)
    assert set(SYSTEMS) <= set(KEY_MAPS)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(n, marks=() if n == SMALL else pytest.mark.slow, id=n)
        for n in [*TOKENIZERS, "generator_rar_b"]
    ],
)
def test_loads_strictly(name, tmp_path):
    entry = PUBLISHED[name]
    file = tmp_path / (entry["hub_file"] or "model.safetensors")
    tensors = {key: torch.zeros(shape) for key, shape in entry["tensors"].items()}
    save_file(tensors, file) if file.suffix == ".safetensors" else torch.save(tensors, file)
    del tensors
    try:
        with torch.device("meta"):
            model = model_from_published(entry["system"], entry["config"])
        model.to_empty(device="cpu")
        for parameter in model.parameters():
            nn.init.constant_(parameter, torch.nan)
        load_strictly(model, from_published(entry["system"], read_tensors(file)), str(file))
        assert sum(p.numel() for p in model.parameters()) == entry["parameters"]
        assert not any(p.count_nonzero() for p in model.parameters())
    finally:
        file.unlink()


def test_the_papers_params_are_the_released_configurations():
    study = load_study(Path(__file__).parents[2])
    entries = [e for e in study.tokenizers.values() if isinstance(e, Entry)]
    by_file = {(entry.weights.hub, entry.weights.file): entry for entry in entries}
    for name in TOKENIZERS:
        released = PUBLISHED[name]
        entry = by_file.pop((released["hub_repo"], released["hub_file"] or "model.safetensors"))
        assert published_system(entry) == released["system"]
        with torch.device("meta"):
            ours = build_published(entry)
        assert ours.config == config_from_published(released["system"], released["config"]), name
    assert not by_file


@pytest.mark.parametrize("name", TOKENIZERS + GENERATORS)
def test_layout_and_weight_decay(name):
    """Names and shapes alone, so that every layout is in the normal run; and what weight decay exempts."""
    entry = PUBLISHED[name]
    with torch.device("meta"):
        model = model_from_published(entry["system"], entry["config"])
        released = {key: torch.empty(shape) for key, shape in entry["tensors"].items()}
    ours = from_published(entry["system"], released)
    assert {k: v.shape for k, v in ours.items()} == {k: v.shape for k, v in model.state_dict().items()}

    parameters = dict(model.named_parameters())
    for key, tensor in released.items():
        (ours_key,) = from_published(entry["system"], {key: tensor})
        expected = tensor.ndim >= 2 and not any(word in key for word in EXEMPT)
        assert decays(ours_key, parameters[ours_key], NO_DECAY[type(model)]) == expected, key


def test_the_two_stages_have_one_config():
    entry = PUBLISHED[SMALL]
    config = config_from_published(entry["system"], entry["config"])
    assert (config.stage, config.memory) == (2, "reinterpreted")
    released = entry["config"]["model"]["vq_model"] | {"finetune_decoder": False}
    warm_up = config_from_published(entry["system"], entry["config"] | {"model": {"vq_model": released}})
    assert warm_up == replace(config, stage=1)
