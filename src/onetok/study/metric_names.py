"""Every metric by its name in scores and tables. Imports no library: params are checked against it."""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

SSIM_WINDOW = 11  # pixels of the side of what SSIM compares at a time: a smaller picture has none

RECONSTRUCTION = {
    "images": "images scored",
    "parameters": "parameters of the tokenizer",
    "tokens": "tokens an image",
    "psnr": "peak signal-to-noise ratio in dB",
    "ssim": "structural similarity",
    "codebook_usage": "share of codebook entries that occur on the scored images",
    "codebook_entropy": "entropy of the codes in bits",
    "rfid": "Fréchet distance of reconstructions to the originals",
    "inception_score": "inception score of reconstructions by the encoder's classes",
    "inception_score_std": "its standard deviation over splits",
    "accuracy": "share of reconstructions classified as their original's class",
    "accuracy_real": "the same share of the originals",
    "rfid_second": "rFID by the features of a second network, independent of the first",
    "inception_score_second": "inception score of reconstructions by the second network's classes",
    "inception_score_std_second": "its standard deviation over splits",
    "accuracy_second": "class accuracy of reconstructions by the second network",
    "accuracy_real_second": "class accuracy of originals by the second network",
    "features": "length of the encoder's feature vector",
    "features_second": "length of the second network's feature vector",
}
_GENEVAL = {
    "geneval": "mean of the six tasks' shares, held-out prompts left out",
    "geneval_single_object": "share of pictures that show the one object asked for",
    "geneval_two_object": "share that show both objects",
    "geneval_counting": "share that show the stated number of objects",
    "geneval_colors": "share that show the object in its colour",
    "geneval_position": "share that show both objects where they should be",
    "geneval_color_attr": "share that show both objects, each in its colour",
    "geneval_held_out": "mean of the tasks' shares over held-out prompts, whose kind training never asks for",
}
_OF_NO_CAPTION = (
    *("images", "parameters", "tokens", "codebook_usage", "codebook_entropy", "psnr", "ssim"),
    *("features", "features_second"),
)
RECONSTRUCTION |= _GENEVAL
RECONSTRUCTION |= {
    f"{metric}_shuffled": f"{text}, decoded with captions of other images"
    for metric, text in RECONSTRUCTION.items()
    if metric not in _OF_NO_CAPTION
}
GENERATION = {
    "images": "images scored",
    "parameters": "parameters of the generator",
    "distinct": "different images among them",
    "memorised": "share of samples whose tokens are, one for one, those of a training image",
    "blank": "share of samples that are (nearly) one flat colour",
    "fid": "Fréchet distance of samples to the reference images",
    "sfid": "Fréchet distance of samples by spatial features: 7 channels at 17 x 17 places inside Inception",
    "inception_score": "inception score by the encoder's classes",
    "inception_score_std": "its standard deviation over splits",
    "precision": "share of samples inside the manifold of the reference",
    "recall": "share of the reference inside the manifold of the samples",
    "accuracy": "share of samples classified as the class they were made for",
    "fid_second": "FID by the features of a second network, independent of the first",
    "inception_score_second": "inception score by the second network's classes",
    "inception_score_std_second": "its standard deviation over splits",
    "precision_second": "precision by the second network's features",
    "recall_second": "recall by the second network's features",
    "accuracy_second": "class accuracy of samples by the second network",
    "features": "length of the encoder's feature vector",
    "features_second": "length of the second network's feature vector",
}
GENERATION |= {
    "clip_score": "mean CLIP score of pictures and their captions, 100 times the cosine",
    **_GENEVAL,
}
JAVA = ("meteor", "spice")  # whose programs are written in it: they are computed only where it is installed
_CAPTIONING = {
    "bleu_4": "BLEU-4 of the whole set, in percent",
    "rouge_l": "ROUGE-L, in percent",
    "cider_d": "CIDEr-D, in percent; its document frequencies are those of the reference captions",
    "meteor": "METEOR 1.5, in percent",
    "spice": "SPICE, in percent",
    "exact": "share of captions that name every object and of which all is right: shapes, numbers, colours, places",
    "exact_held_out": "the same share of images of what training never shows or names",
}
CAPTIONING = {
    "images": "images captioned",
    "parameters": "parameters of the generator",
    "distinct": "different captions among them",
    **_CAPTIONING,
    **{
        f"{metric}_random": f"{metric} of captions drawn at random from the train split"
        for metric in _CAPTIONING
    },
}
ALL = {**RECONSTRUCTION, **GENERATION, **CAPTIONING}

Scale = Literal["exact", "share", "count", "ratio", "real"]


class Measure(NamedTuple):
    """How a metric moves from run to run (onetok.spread.intervals), and what values it can have at all."""

    scale: Scale
    lowest: float
    highest: float


_EXACT, _RATIO = Measure("exact", 0, math.inf), Measure("ratio", 0, math.inf)
_SHARE = Measure("share", 0, 1)
_MEASURES = {
    "images": _EXACT,
    "parameters": _EXACT,
    "tokens": _EXACT,
    "features": _EXACT,
    "psnr": Measure("real", 0, math.inf),
    "ssim": Measure("real", -1, 1),
    "codebook_usage": _SHARE,
    "codebook_entropy": Measure("real", 0, math.inf),
    "rfid": _RATIO,
    "fid": _RATIO,
    "sfid": _RATIO,
    "inception_score": _RATIO,
    "inception_score_std": _RATIO,
    "accuracy": _SHARE,
    "accuracy_real": _SHARE,
    "precision": _SHARE,
    "recall": _SHARE,
    "distinct": Measure("count", 0, math.inf),
    "memorised": _SHARE,
    "blank": _SHARE,
    "clip_score": Measure("real", -100, 100),
    **dict.fromkeys(_GENEVAL, _SHARE),
    **dict.fromkeys(_CAPTIONING, Measure("real", 0, 1000)),
    "exact": _SHARE,
    "exact_held_out": _SHARE,
}


def family(metric: str) -> str:
    """Return the metric's name without what says whose features, or whose captions, it was measured with."""
    return metric.removesuffix("_shuffled").removesuffix("_second").removesuffix("_random")


def measure(metric: str) -> Measure:
    return _MEASURES[family(metric)]
