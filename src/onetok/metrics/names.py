"""Every metric by its name in scores and tables. Imports nothing: params are checked against it."""

from __future__ import annotations

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
    "rfid_judge": "rFID by the judge's features",
    "inception_score_judge": "inception score of reconstructions by the judge's classes",
    "inception_score_std_judge": "its standard deviation over splits",
    "accuracy_judge": "class accuracy of reconstructions by the judge",
    "accuracy_real_judge": "class accuracy of originals by the judge",
}
GENERATION = {
    "images": "images scored",
    "distinct": "different images among them",
    "fid": "Fréchet distance of samples to the reference images",
    "inception_score": "inception score by the encoder's classes",
    "inception_score_std": "its standard deviation over splits",
    "precision": "share of samples inside the manifold of the reference",
    "recall": "share of the reference inside the manifold of the samples",
    "accuracy": "share of samples classified as the class they were made for",
    "fid_judge": "FID by the judge's features",
    "inception_score_judge": "inception score by the judge's classes",
    "inception_score_std_judge": "its standard deviation over splits",
    "precision_judge": "precision by the judge's features",
    "recall_judge": "recall by the judge's features",
    "accuracy_judge": "class accuracy of samples by the judge",
}
ALL = {**RECONSTRUCTION, **GENERATION}
