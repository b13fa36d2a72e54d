"""Score a tokenizer's reconstructions of a benchmark's images against those images."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from onetok.data.images import image_batches, to_float, to_uint8
from onetok.data.shards import Shards
from onetok.figures import grid
from onetok.metrics.codebook import codebook_use
from onetok.metrics.pixels import psnr, ssim
from onetok.metrics.suites import reconstruction_suite
from onetok.progress import track
from onetok.registry import load_model
from onetok.stages.runtime import Context, main
from onetok.stages.scoring import score_features, write_scores

PICTURES = 16  # images, spread over the split, in the picture of originals above reconstructions


def score_reconstruction(context: Context) -> None:
    name = context.job.name
    benchmark_name = context.study.tokenizers[name].benchmark
    benchmark = context.study.benchmarks[benchmark_name]
    shards = Shards(Path("results/datasets") / benchmark.dataset / "shards" / benchmark.split)
    tokenizer = load_model(Path("results/tokenizers") / name, context.device)

    total = -(-len(shards) // benchmark.batch)
    originals = image_batches(shards, benchmark.images, benchmark.batch)
    real, rebuilt, ids = reconstruct(
        tokenizer, track(originals, f"score_reconstruction {name}", "batches", total), context.device
    )
    use = codebook_use(ids, tokenizer.codebook_size)
    scores: dict[str, float] = {
        "images": len(real),
        "parameters": sum(p.numel() for p in tokenizer.parameters()),
        "tokens": ids.shape[1],
        "psnr": by_batch(psnr, real, rebuilt, benchmark.batch),
        "ssim": by_batch(ssim, real, rebuilt, benchmark.batch),
        "codebook_usage": use.usage,
        "codebook_entropy": use.entropy,
    }
    labels = shards.labels if benchmark.class_accuracy else None
    scores |= score_features(
        context, benchmark_name, benchmark, rebuilt, lambda a, b: reconstruction_suite(a, b, labels)
    )
    write_scores(context.folder, scores)
    shown = np.linspace(0, len(real) - 1, min(PICTURES, len(real))).astype(int)
    pair = torch.cat([real[shown], rebuilt[shown]]).numpy()
    grid(pair, columns=len(shown)).save(context.folder / "reconstructions.png")


@torch.inference_mode()
def reconstruct(
    tokenizer: Any, batches: Iterable[Tensor], device: torch.device
) -> tuple[Tensor, Tensor, NDArray[np.int64]]:
    """Return originals and reconstructions (M, 3, H, W) uint8, and ids (M, N)."""
    real, rebuilt, ids = [], [], []
    for pixels in batches:
        reconstruction = tokenizer(to_float(pixels.to(device)))
        real.append(pixels)
        rebuilt.append(to_uint8(reconstruction.images).cpu())
        ids.append(reconstruction.tokens.ids.cpu().numpy())
    return torch.cat(real), torch.cat(rebuilt), np.concatenate(ids)


def by_batch(metric: Callable[[Tensor, Tensor], Tensor], a: Tensor, b: Tensor, batch: int) -> float:
    """Return the mean of a pixel metric over pairs of uint8 images, a batch in memory at a time."""
    pairs = zip(a.split(batch), b.split(batch), strict=True)
    return float(torch.cat([metric(to_float(x), to_float(y)) for x, y in pairs]).mean())


if __name__ == "__main__":
    main("score_reconstruction", score_reconstruction)
