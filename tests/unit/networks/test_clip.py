"""CLIP: its towers, its loss, its training; published ones from synthetic files."""

from __future__ import annotations

import math

import pytest
import torch
from accelerate import Accelerator
from open_clip.transformer import QuickGELU
from safetensors.torch import save_file
from torch import nn

from onetok.data.batches import Batch
from onetok.data.captions import CaptionTokenizer
from onetok.errors import OnetokError
from onetok.losses.contrastive import contrastive_loss
from onetok.metrics.features import CaptionClassifier, class_accuracy, extract_features
from onetok.networks.clip import CLIP, CLIPConfig
from onetok.networks.open_clip import clip_config
from onetok.networks.registry import build_released
from onetok.stages.train_encoder import fetch_released
from onetok.study.digests import sha256
from onetok.study.schema.encoders import OpenCLIPEncoder, WeightsFile
from onetok.study.schema.training import AdamW
from onetok.systems.saved import load_model, save_model
from onetok.training.loop import train
from onetok.training.objectives import ContrastiveObjective
from onetok.training.tasks import single_phase
from tests.unit.training.test_training import settings

CPU = torch.device("cpu")
TINY = CLIPConfig(
    image_size=16,
    patch_size=8,
    vision_width=16,
    vision_layers=1,
    vision_head_width=8,
    context_length=8,
    vocab_size=49408,
    text_width=8,
    text_layers=2,
    text_heads=2,
    embedding=12,
    quick_gelu=True,
)
NAMES = ("zero", "one", "two", "three")


def tiny(**changes):
    torch.manual_seed(0)
    values = {name: getattr(TINY, name) for name in CLIPConfig.model_fields}
    return CLIP(CLIPConfig(**{**values, **changes})).eval()


def test_shapes_and_properties():
    model = tiny()
    ids = CaptionTokenizer(context_length=8)(["a cat", ""])
    states = model.encode_text(ids)
    assert states.sequence.shape == states.penultimate.shape == (2, 8, 8)
    assert states.pooled.shape == (2, 12)
    assert (model.context_length, model.text_width) == (8, 8)
    for size in (16, 40):
        assert model.features(torch.rand(3, 3, size, size)).shape == (3, 12)


def test_images_are_normalised_and_resized_to_the_tower():
    model = tiny()
    seen = []
    model.network.visual.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    model.features(torch.tensor([0.48145466, 0.4578275, 0.40821073]).view(1, 3, 1, 1).expand(1, 3, 40, 40))
    assert seen[0].shape == (1, 3, 16, 16) and seen[0].abs().max() < 1e-5


@torch.inference_mode()
def test_the_penultimate_states_enter_the_last_block():
    model = tiny()
    seen = []
    model.network.transformer.resblocks[-1].register_forward_pre_hook(
        lambda _, inputs: seen.append(inputs[0])
    )
    states = model.encode_text(CaptionTokenizer(context_length=8)(["a cat"]))
    assert torch.equal(seen[0], states.penultimate)


@torch.inference_mode()
def test_what_follows_the_end_of_text_changes_no_state_before_it():
    model, tokenize = tiny(), CaptionTokenizer(context_length=8)
    one, other = tokenize(["a cat"]), tokenize(["a cat"])
    other[0, -1] = 7
    a, b = model.encode_text(one), model.encode_text(other)
    assert torch.equal(a.pooled, b.pooled) and not torch.equal(a.sequence, b.sequence)


@pytest.mark.parametrize("quick", [True, False])
def test_every_block_of_both_towers_has_the_activation_of_the_config(quick):
    model = tiny(quick_gelu=quick)
    towers = (model.network.transformer, model.network.visual.transformer)
    found = {type(block.mlp.gelu) for tower in towers for block in tower.resblocks}
    assert found == {QuickGELU if quick else nn.GELU}
    x = torch.linspace(-3, 3, 20)
    if quick:
        assert torch.allclose(towers[0].resblocks[0].mlp.gelu(x), x * torch.sigmoid(1.702 * x))


def test_a_saved_one_is_read_back(tmp_path):
    model = tiny()
    save_model(model, tmp_path)
    ids = CaptionTokenizer(context_length=8)(["a cat"])
    read = load_model(tmp_path, CPU)
    assert read.config == model.config
    assert torch.equal(read.encode_text(ids).pooled, model.encode_text(ids).pooled)


# ---------------------------------------------------------------------------------------------- loss


def test_the_loss_of_distinct_captions_is_that_of_clip():
    generator = torch.Generator().manual_seed(0)
    images, texts = torch.randn(2, 5, 6, generator=generator)
    ids, scale = torch.arange(5)[:, None], torch.tensor(math.log(1 / 0.07))
    from open_clip.loss import ClipLoss

    unit = [x / x.norm(dim=1, keepdim=True) for x in (images, texts)]
    expected = ClipLoss()(*unit, scale.exp())
    assert torch.allclose(contrastive_loss(images, texts, ids, scale)["total"], expected, atol=1e-6)


def test_equal_captions_are_no_negatives():
    """Three images of one class and one of another, each on its caption: as good as it gets."""
    vectors = torch.eye(4)[[0, 0, 0, 1]]
    ids = torch.tensor([[5, 1], [5, 1], [5, 1], [5, 2]])
    found = contrastive_loss(vectors, vectors, ids, torch.tensor(math.log(100)))
    assert torch.allclose(found["total"], torch.tensor(3 * math.log(3) / 4), atol=1e-4)
    assert found["accuracy"] == 1
    apart = contrastive_loss(vectors, vectors, torch.arange(4)[:, None], torch.tensor(0.0))
    assert apart["accuracy"] == 0.5  # of three equal ones the first is the nearest


def test_the_scale_is_clamped():
    images, texts = torch.randn(2, 4, 6, generator=torch.Generator().manual_seed(0))
    ids = torch.arange(4)[:, None]
    at, beyond = (contrastive_loss(images, texts, ids, torch.tensor(s)) for s in (math.log(100), 50.0))
    assert torch.allclose(at["total"], beyond["total"])


class Corners:
    """Images with one of four patches lit, captioned with its number."""

    def __call__(self, positions, indices):
        labels = torch.from_numpy(indices % 4)
        lit = torch.eye(4)[labels].view(-1, 1, 2, 2).repeat_interleave(8, dim=2).repeat_interleave(8, dim=3)
        images = (255 * lit).expand(-1, 3, -1, -1).to(torch.uint8)  # (b, 3, 16, 16)
        captions = CaptionTokenizer(context_length=8)([NAMES[int(label)] for label in labels])
        return Batch.of(images, labels, captions=captions)


def test_training_learns_which_caption_belongs_to_an_image(tmp_path):
    optimizer = AdamW(learning_rate=3e-3, betas=(0.9, 0.98), epsilon=1e-6, weight_decay=0.0)
    # Twice the steps that most initialisations need: six seeds of six end at 1, where 160 steps leave two below 0.8.
    changes = {"steps": 320, "ema_decay": None, "log_every": 20, "checkpoint_every": 320}
    model, training = tiny(), settings(**changes, optimizer=optimizer)
    accelerator = Accelerator(cpu=True)
    task = single_phase(
        model, ContrastiveObjective(model), (), Corners(), 40, training, accelerator.state, workers=0
    )
    exported, history = train(task, training, accelerator, tmp_path, "test", lambda *_: None)
    assert history.rows[-1]["train/accuracy"] > 0.95
    exported.eval()
    with torch.inference_mode():
        texts = exported.encode_text(CaptionTokenizer(context_length=8)(NAMES)).pooled
    batch = Corners()(None, torch.arange(8).numpy())
    choice = {"encoder": CaptionClassifier(exported, texts)}
    logits = extract_features(choice, [batch.inputs], CPU)["encoder"].logits
    assert logits.shape == (8, 4) and class_accuracy(logits, batch.labels.numpy()) == 1


# ---------------------------------------------------------------------------------------------- published


def entry(architecture, path, digest):
    weights = WeightsFile(hub=None, revision=None, url=None, file=str(path), sha256=digest)
    return OpenCLIPEncoder(kind="open-clip", architecture=architecture, weights=weights)


def test_the_papers_text_encoder():
    config = clip_config("ViT-L-14-336-quickgelu")
    assert config == CLIPConfig(
        image_size=336,
        patch_size=14,
        vision_width=1024,
        vision_layers=24,
        vision_head_width=64,
        context_length=77,
        vocab_size=49408,
        text_width=768,
        text_layers=12,
        text_heads=12,
        embedding=768,
        quick_gelu=True,
    )
    assert not clip_config("ViT-L-14-336").quick_gelu
    with torch.device("meta"):
        model = CLIP(config)
    assert sum(p.numel() for p in model.network.parameters()) == 427_944_193


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "ViT-L-14-336-quickgel",
            "open_clip has none named 'ViT-L-14-336-quickgel'; nearest known: .*quickgelu",
        ),
        ("hf-hub:someone/something", "open_clip has none named"),
        ("RN50", "'RN50' is not the original CLIP's pair"),
        ("coca_ViT-B-32", "'coca_ViT-B-32' is not the original CLIP's pair"),
    ],
)
def test_an_architecture_that_cannot_be_built(name, message):
    with pytest.raises(OnetokError, match=message):
        clip_config(name)


def test_a_published_file_becomes_an_encoder(tmp_path, monkeypatch):
    monkeypatch.setattr("onetok.networks.registry.clip_config", lambda name: TINY)
    path = tmp_path / "open_clip_model.safetensors"
    state = {name: torch.rand_like(tensor) for name, tensor in tiny().network.state_dict().items()}
    save_file(state, path)
    found = fetch_released(entry("ViT-L-14-336-quickgelu", path, sha256(path)))
    assert torch.equal(found.network.positional_embedding, state["positional_embedding"])
    assert type(build_released(entry("ViT-L-14-336-quickgelu", path, None))) is CLIP
