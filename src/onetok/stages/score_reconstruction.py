"""Score a tokenizer's reconstructions of a benchmark's images against those images."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from onetok.data.batches import caption_batches, caption_ids, image_batches
from onetok.data.images import prepare, to_float, to_uint8
from onetok.data.shards import Shards
from onetok.metrics.codebook import codebook_use
from onetok.metrics.pixels import psnr, ssim
from onetok.metrics.suites import reconstruction_suite
from onetok.models.text_encoder import CaptionStates
from onetok.params import ReconstructionBenchmark
from onetok.progress import track
from onetok.registry import build_caption_states, load_tokenizer
from onetok.sheets import grid
from onetok.stages.captions import Watched, build_detector, of_others
from onetok.stages.runtime import Context, main
from onetok.stages.scoring import score_features, write_scores

PICTURES = 16  # images, spread over the split, in the picture of originals above reconstructions


@dataclass
class Measured:
    """What is measured on the way, one tensor a batch."""

    psnr: list[Tensor] = field(default_factory=list)  # (b,)
    ssim: list[Tensor] = field(default_factory=list)  # (b,)
    ids: list[Tensor] = field(default_factory=list)  # (b, N), where tokens are discrete
    tokens: int = 0  # N

    def scores(self, codebook_size: int | None) -> dict[str, float | None]:
        scores: dict[str, float | None] = {
            "images": len(torch.cat(self.psnr)),
            "tokens": self.tokens,
            "psnr": float(torch.cat(self.psnr).mean()),
            "ssim": float(torch.cat(self.ssim).mean()),
        }
        if codebook_size is None:
            return scores | {"codebook_usage": None, "codebook_entropy": None}
        use = codebook_use(torch.cat(self.ids).numpy(), codebook_size)
        return scores | {"codebook_usage": use.usage, "codebook_entropy": use.entropy}


def score_reconstruction(context: Context) -> None:
    name = context.job.name
    entry = context.study.tokenizers[name]
    benchmark = context.study.benchmarks[entry.benchmark]
    assert isinstance(benchmark, ReconstructionBenchmark)
    shards = Shards(Path("results/datasets") / benchmark.dataset / "shards" / benchmark.split)
    tokenizer = load_tokenizer(name, context.device)
    text = build_caption_states(entry, context.device)
    tokenize = text.tokenize if text is not None else None
    if text is not None:
        shards.check_captions()

    measured, captions = Measured(), np.arange(len(shards))
    rebuilt_scores = score_rebuilt(context, tokenizer, text, shards, captions, measured)
    scores = rebuilt_scores | measured.scores(tokenizer.codebook_size)
    scores["parameters"] = sum(p.numel() for p in tokenizer.parameters())
    if benchmark.captions is not None:
        shuffled: Mapping[str, float | None] = dict.fromkeys(rebuilt_scores)  # where no text is read
        if text is not None:
            captions = of_others(len(shards), benchmark.captions.shuffle_seed)
            shuffled = score_rebuilt(context, tokenizer, text, shards, captions, Measured())
        scores |= {f"{metric}_shuffled": value for metric, value in shuffled.items()}
    write_scores(context.folder, scores)

    shown = np.linspace(0, len(shards) - 1, min(PICTURES, len(shards))).astype(int)
    real = torch.from_numpy(np.stack([prepare(shards.image(i), benchmark.images) for i in shown]))
    pair = (real, caption_ids(shards, shown, tokenize))
    (rebuilt,) = rebuild(tokenizer, text, [pair], context.device, Measured())
    grid(torch.cat([real, rebuilt]).numpy(), columns=len(shown)).save(context.folder / "reconstructions.png")


def score_rebuilt(
    context: Context,
    tokenizer: Any,
    text: CaptionStates | None,
    shards: Shards,
    captions: NDArray[np.int64],
    measured: Measured,
) -> dict[str, float | None]:
    """Return the benchmark's scores of all images rebuilt, image i with caption `captions[i]` where one is read."""
    name = context.job.name
    benchmark_name = context.study.tokenizers[name].benchmark
    benchmark = context.study.benchmarks[benchmark_name]
    assert isinstance(benchmark, ReconstructionBenchmark)
    tokenize, total = text.tokenize if text is not None else None, -(-len(shards) // benchmark.batch)
    images = track(
        image_batches(shards, benchmark.images, benchmark.batch, context.workers),
        f"score_reconstruction {name}",
        "batches",
        total,
    )
    texts = caption_batches(shards, captions, benchmark.batch, tokenize)
    batches = rebuild(tokenizer, text, zip(images, texts, strict=True), context.device, measured)
    watched = None
    if benchmark.captions is not None:
        detector = build_detector(context.study, benchmark, benchmark.captions.detector)
        watched = Watched(detector) if detector is not None else None
    scores: dict[str, float | None] = {}
    scores |= score_features(
        context,
        benchmark_name,
        benchmark,
        watched.pass_by(batches) if watched is not None else batches,
        partial(
            reconstruction_suite,
            labels=shards.labels if benchmark.class_accuracy else None,
            splits=benchmark.inception_splits,
        ),
    )
    return scores | (watched.scores(shards) if watched is not None else {})


@torch.inference_mode()
def rebuild(
    tokenizer: Any,
    text: CaptionStates | None,
    batches: Iterable[tuple[Tensor, Tensor]],
    device: torch.device,
    measured: Measured,
) -> Iterator[Tensor]:
    """Yield the reconstruction of each batch (b, 3, H, W) uint8, rounded to 8 bits before anything is measured.

    A batch is images (b, 3, H, W) uint8 and the token ids of their captions (b, T).
    """
    for pixels, captions in batches:
        states = text(captions.to(device)) if text is not None else None
        reconstruction = tokenizer(to_float(pixels.to(device)), states)
        rebuilt = to_uint8(reconstruction.images).cpu()
        measured.psnr.append(psnr(to_float(pixels), to_float(rebuilt)))
        measured.ssim.append(ssim(to_float(pixels), to_float(rebuilt)))
        measured.tokens = reconstruction.tokens.latents.shape[1]
        if reconstruction.tokens.ids is not None:
            measured.ids.append(reconstruction.tokens.ids.cpu())
        yield rebuilt


if __name__ == "__main__":
    main("score_reconstruction", score_reconstruction)
