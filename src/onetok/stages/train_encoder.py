"""Trains a classifier or a CLIP on the study's data, or downloads a released network.

These networks are feature extractors of metrics, perceptual networks and text encoders.

Legend: M validation images · D different captions · P width of CLIP's shared space.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from onetok import durable
from onetok.data.batches import AugmentedImages, image_batches
from onetok.data.captions import CaptionTokenizer, report_truncated_captions
from onetok.data.shards import Shards
from onetok.metrics.features import CaptionClassifier, FeatureExtractor, class_accuracy, extract_features
from onetok.networks.classifier import Classifier
from onetok.networks.clip import CLIP
from onetok.networks.lpips import LPIPS, LPIPSConfig, published_state
from onetok.networks.registry import build_classifier, build_clip, build_released
from onetok.release.download import fetch
from onetok.release.tensors import load_strictly, read_tensors
from onetok.stages.common.fit import fit
from onetok.stages.common.runtime import Context, main
from onetok.study.schema.encoders import (
    ClassifierEncoder,
    CLIPEncoder,
    ConvNeXtEncoder,
    InceptionEncoder,
    LPIPSEncoder,
    OpenCLIPEncoder,
)
from onetok.systems.saved import load_model, save_model
from onetok.training.loop import Task
from onetok.training.objectives import ClassifierObjective, ContrastiveObjective
from onetok.training.tasks import single_phase


def train_encoder(context: Context) -> None:
    """Write the network's weights and config and, for a trained one, scalars.csv and accuracy.json."""
    entry = context.study.encoders[context.job.name]
    if isinstance(entry, ClassifierEncoder):
        train_classifier(context, entry)
    elif isinstance(entry, CLIPEncoder):
        train_clip(context, entry)
    elif context.processes.is_main_process:
        save_model(fetch_released(entry), context.folder)


def fetch_released(
    entry: InceptionEncoder | ConvNeXtEncoder | LPIPSEncoder | OpenCLIPEncoder,
) -> nn.Module:
    """Return a released network, downloaded if needed. Raises OnetokError as `fetch` and `load_strictly` do."""
    if isinstance(entry, LPIPSEncoder):
        return fetch_lpips(entry)
    model = build_released(entry)
    path = fetch(entry.weights)
    load_strictly(model.network, read_tensors(path), str(path))
    return model


def fetch_lpips(entry: LPIPSEncoder) -> LPIPS:
    """Return LPIPS from its two published files, VGG16 and the channel weights."""
    backbone, weights = fetch(entry.backbone), fetch(entry.weights)
    model = LPIPS(LPIPSConfig())
    state = published_state(read_tensors(backbone), read_tensors(weights))
    load_strictly(model, state, f"{backbone} and {weights}")
    return model


def train_classifier(context: Context, entry: ClassifierEncoder) -> None:
    """Train a classifier on a dataset's labels, and write its validation accuracy."""
    shards = Path("results/datasets") / entry.dataset / "shards"
    train = Shards(shards / "train")

    def build() -> tuple[Task, nn.Module]:
        model = build_classifier(entry, context.study.datasets[entry.dataset].classes)
        objective = ClassifierObjective(model, entry.label_smoothing)
        read = AugmentedImages(train, entry.images, entry.training.seed, tokenize=None)
        task = single_phase(
            model, objective, (), read, len(train), entry.training, context.processes, context.workers
        )
        return task, model

    fit(context, build, entry.training)
    if context.processes.is_main_process:
        val = Shards(shards / "val")
        model = load_model(context.folder, context.device)
        assert isinstance(model, Classifier)
        score(context, entry, val, model, val.labels)


def train_clip(context: Context, entry: CLIPEncoder) -> None:
    """Train CLIP on a dataset's captions, and write its validation accuracy."""
    shards = Path("results/datasets") / entry.dataset / "shards"
    train, val = Shards(shards / "train"), Shards(shards / "val")
    train.check_captions()
    val.check_captions()
    tokenize = CaptionTokenizer(context_length=entry.model.context_length)
    captions = (train.caption(i) for i in range(len(train)))
    report_truncated_captions(f"train_encoder {context.job.name}", captions, tokenize.context_length)

    def build() -> tuple[Task, nn.Module]:
        model = build_clip(entry)
        read = AugmentedImages(train, entry.images, entry.training.seed, tokenize)
        task = single_phase(
            model,
            ContrastiveObjective(model),
            ("positional_embedding",),
            read,
            len(train),
            entry.training,
            context.processes,
            context.workers,
        )
        return task, model

    fit(context, build, entry.training)
    if context.processes.is_main_process:
        score_clip(context, entry, val, tokenize)


@torch.inference_mode()
def score_clip(context: Context, entry: CLIPEncoder, val: Shards, tokenize: CaptionTokenizer) -> None:
    """Write the share of validation images that are most similar to their own caption among all different ones."""
    model = load_model(context.folder, context.device)
    assert isinstance(model, CLIP)
    captions, own = np.unique([val.caption(i) for i in range(len(val))], return_inverse=True)  # (D,), (M,)
    parts = tokenize(captions.tolist()).split(entry.training.batch)
    texts = torch.cat([model.encode_text(ids.to(context.device)).pooled for ids in parts])  # (D, P)
    score(context, entry, val, CaptionClassifier(model, texts), own)


def score(
    context: Context,
    entry: ClassifierEncoder | CLIPEncoder,
    val: Shards,
    model: FeatureExtractor,
    labels: NDArray[np.integer],
) -> None:
    """Write accuracy.json, the model's accuracy on the validation split."""
    images = image_batches(val, entry.images, entry.training.batch, context.workers)
    logits = extract_features({"encoder": model}, images, context.device)["encoder"].logits
    accuracy = {"images": len(val), "accuracy": class_accuracy(logits, labels)}
    durable.write_json(context.folder / "accuracy.json", accuracy, sort_keys=False)
    print(
        f"train_encoder {context.job.name}: accuracy {accuracy['accuracy']:.4f} on {len(val)} validation images"
    )


if __name__ == "__main__":
    main("train_encoder", train_encoder)
