"""Score a tokenizer's reconstructions of a benchmark's images against those images."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from onetok.data.batches import image_batches
from onetok.data.images import prepare, to_float, to_uint8
from onetok.data.shards import Shards
from onetok.metrics.codebook import codebook_use
from onetok.metrics.pixels import psnr, ssim
from onetok.metrics.suites import reconstruction_suite
from onetok.progress import track
from onetok.registry import load_model
from onetok.sheets import grid
from onetok.stages.runtime import Context, main
from onetok.stages.scoring import score_features, write_scores

PICTURES = 16  # images, spread over the split, in the picture of originals above reconstructions


@dataclass
class Measured:
    """What is measured on the way, one tensor a batch."""

    psnr: list[Tensor] = field(default_factory=list)  # (b,)
    ssim: list[Tensor] = field(default_factory=list)  # (b,)
    ids: list[Tensor] = field(default_factory=list)  # (b, N)

    def scores(self, codebook_size: int) -> dict[str, float]:
        ids = torch.cat(self.ids).numpy()
        use = codebook_use(ids, codebook_size)
        return {
            "images": len(ids),
            "tokens": ids.shape[1],
            "psnr": float(torch.cat(self.psnr).mean()),
            "ssim": float(torch.cat(self.ssim).mean()),
            "codebook_usage": use.usage,
            "codebook_entropy": use.entropy,
        }


def score_reconstruction(context: Context) -> None:
    name = context.job.name
    benchmark_name = context.study.tokenizers[name].benchmark
    benchmark = context.study.benchmarks[benchmark_name]
    shards = Shards(Path("results/datasets") / benchmark.dataset / "shards" / benchmark.split)
    tokenizer = load_model(Path("results/tokenizers") / name, context.device)

    images = image_batches(shards, benchmark.images, benchmark.batch, context.workers)
    tracked = track(images, f"score_reconstruction {name}", "batches", -(-len(shards) // benchmark.batch))
    measured = Measured()
    labels = shards.labels if benchmark.class_accuracy else None
    scores = score_features(
        context,
        benchmark_name,
        benchmark,
        rebuild(tokenizer, tracked, context.device, measured),
        lambda a, b: reconstruction_suite(a, b, labels),
    )
    scores |= measured.scores(tokenizer.codebook_size)
    scores["parameters"] = sum(p.numel() for p in tokenizer.parameters())
    write_scores(context.folder, scores)

    shown = np.linspace(0, len(shards) - 1, min(PICTURES, len(shards))).astype(int)
    real = torch.from_numpy(np.stack([prepare(shards.image(i), benchmark.images) for i in shown]))
    (rebuilt,) = rebuild(tokenizer, [real], context.device, Measured())
    grid(torch.cat([real, rebuilt]).numpy(), columns=len(shown)).save(context.folder / "reconstructions.png")


@torch.inference_mode()
def rebuild(
    tokenizer: Any, batches: Iterable[Tensor], device: torch.device, measured: Measured
) -> Iterator[Tensor]:
    """Yield the reconstruction of each batch (b, 3, H, W) uint8, rounded to 8 bits before anything is measured."""
    for pixels in batches:
        reconstruction = tokenizer(to_float(pixels.to(device)))
        rebuilt = to_uint8(reconstruction.images).cpu()
        measured.psnr.append(psnr(to_float(pixels), to_float(rebuilt)))
        measured.ssim.append(ssim(to_float(pixels), to_float(rebuilt)))
        measured.ids.append(reconstruction.tokens.ids.cpu())
        yield rebuilt


if __name__ == "__main__":
    main("score_reconstruction", score_reconstruction)
