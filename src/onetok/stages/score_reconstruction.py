"""Scores a tokenizer's reconstructions of a benchmark's images.

Legend: b images of a batch · H,W pixels · N tokens · C token channels · T token ids of a caption.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from onetok.data.batches import caption_batches, caption_ids, image_batches
from onetok.data.images import prepare, to_float
from onetok.data.levels import to_levels
from onetok.data.shards import Shards
from onetok.metrics.codebook import codebook_use
from onetok.metrics.pixels import psnr, ssim
from onetok.metrics.suites import reconstruction_suite
from onetok.networks.clip import CaptionStates
from onetok.nn.protocols import Tokenizer
from onetok.nn.quantizers import Tokens
from onetok.progress import track
from onetok.report.contact_sheet import grid, save_picture
from onetok.sampling.seeds import ImageRandom
from onetok.stages.common.captions import GenEvalScores, build_detector, check_prompts, derangement
from onetok.stages.common.runtime import Context, main
from onetok.stages.common.scoring import open_reference, score_features, splits_of, write_scores
from onetok.study import metric_names
from onetok.study.schema.benchmarks import PosteriorMean, PosteriorSample, ReconstructionBenchmark
from onetok.systems.saved import StudyArtefacts
from onetok.training.tokenizer_losses import caption_states

PICTURES = 16  # evenly chosen images in the picture of originals and reconstructions


@dataclass
class Measured:
    """Per-image metrics and ids, accumulated while images are reconstructed; one tensor for each batch."""

    psnr: list[Tensor] = field(default_factory=list)  # (b,) in dB
    ssim: list[Tensor] = field(default_factory=list)  # (b,)
    ids: list[Tensor] = field(default_factory=list)  # (b, N), of discrete tokens
    tokens: int = 0  # N

    def scores(self, codebook_size: int | None) -> dict[str, float | None]:
        """Return the scores by their names; None for the codebook's scores of continuous tokens."""
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
    """Write scores.json and reconstructions.png."""
    name = context.job.name
    entry = context.study.tokenizers[name]
    benchmark = context.study.benchmarks[entry.benchmark]
    assert isinstance(benchmark, ReconstructionBenchmark)
    shards = open_reference(benchmark)
    made = StudyArtefacts(context.device)
    tokenizer = made.tokenizer(name)
    text = caption_states(entry, made)
    tokenize = text.tokenize if text is not None else None
    if text is not None:
        shards.check_captions()
    if benchmark.captions is not None:
        check_prompts(shards, benchmark.captions.prompts)

    measured, captions = Measured(), np.arange(len(shards))
    rebuilt_scores = score_rebuilt(context, tokenizer, text, shards, captions, measured)
    scores = rebuilt_scores | measured.scores(tokenizer.codebook_size)
    scores["parameters"] = sum(p.numel() for p in tokenizer.parameters())
    if benchmark.captions is not None:
        shuffled: Mapping[str, float | None] = dict.fromkeys(rebuilt_scores)  # None if it takes no captions
        if text is not None:
            captions = derangement(len(shards), benchmark.captions.shuffle_seed)
            shuffled = score_rebuilt(context, tokenizer, text, shards, captions, Measured())
        named = {f"{metric}_shuffled": value for metric, value in shuffled.items()}
        scores |= {metric: value for metric, value in named.items() if metric in metric_names.RECONSTRUCTION}
    write_scores(context.folder, scores)

    shown = np.linspace(0, len(shards) - 1, min(PICTURES, len(shards))).astype(int)
    real = torch.from_numpy(np.stack([prepare(shards.image(i), benchmark.images) for i in shown]))
    originals = Originals(real, caption_ids(shards, shown, tokenize), shown.tolist())
    (rebuilt,) = Rebuilder(name, tokenizer, text, benchmark.posterior, context.device).rebuild(
        [originals], Measured()
    )
    sheet = grid(torch.cat([real, rebuilt]).numpy(), columns=len(shown))
    save_picture(sheet, context.folder / "reconstructions.png")


def score_rebuilt(
    context: Context,
    tokenizer: Tokenizer,
    text: CaptionStates | None,
    shards: Shards,
    captions: NDArray[np.int64],
    measured: Measured,
) -> dict[str, float | None]:
    """Return the benchmark's scores of the reconstructions of all images.

    For a tokenizer that takes captions, image i is decoded with the caption of image captions[i].
    """
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
    originals = (
        Originals(pixels, ids, range(number * benchmark.batch, number * benchmark.batch + len(pixels)))
        for number, (pixels, ids) in enumerate(zip(images, texts, strict=True))
    )
    batches = Rebuilder(name, tokenizer, text, benchmark.posterior, context.device).rebuild(
        originals, measured
    )
    geneval = None
    if benchmark.captions is not None:
        detector = build_detector(context.study, benchmark, benchmark.captions.detector)
        geneval = GenEvalScores(detector) if detector is not None else None
    scores: dict[str, float | None] = {}
    scores |= score_features(
        context,
        benchmark_name,
        benchmark,
        geneval.accumulate(batches) if geneval is not None else batches,
        partial(
            reconstruction_suite,
            labels=shards.labels if benchmark.class_accuracy else None,
            splits=splits_of(benchmark),
        ),
    )
    return scores | (geneval.scores(shards) if geneval is not None else {})


class Originals(NamedTuple):
    """A batch of images to reconstruct."""

    pixels: Tensor  # (b, 3, H, W) uint8
    captions: Tensor  # (b, T) int64 token ids; T = 0 for a tokenizer that takes no captions
    numbers: Sequence[int]  # of the b images in their split


@dataclass(frozen=True)
class Rebuilder:
    """Reconstructs images with a tokenizer by the settings of a benchmark."""

    name: str  # of the tokenizer, for errors
    tokenizer: Tokenizer
    text: CaptionStates | None
    posterior: PosteriorMean | PosteriorSample
    device: torch.device

    @torch.inference_mode()
    def rebuild(self, batches: Iterable[Originals], measured: Measured) -> Iterator[Tensor]:
        """Yield the reconstructions of each batch, (b, 3, H, W) uint8, and add their metrics to `measured`.

        They are rounded to 8 bits before they are measured. Raises OnetokError for NaN or infinity.
        """
        for pixels, captions, numbers in batches:
            states = self.text(captions.to(self.device)) if self.text is not None else None
            tokens = self.tokens(to_float(pixels.to(self.device)), numbers)
            what = f"{self.name}, reconstructions from image {numbers[0]}"
            rebuilt = to_levels(self.tokenizer.decode(tokens, states), "rounded", what).cpu()
            measured.psnr.append(psnr(to_float(pixels), to_float(rebuilt)))
            measured.ssim.append(ssim(to_float(pixels), to_float(rebuilt)))
            measured.tokens = tokens.latents.shape[1]
            if tokens.ids is not None:
                measured.ids.append(tokens.ids.cpu())
            yield rebuilt

    def tokens(self, images: Tensor, numbers: Sequence[int]) -> Tokens:
        """Return the tokens of images (b, 3, H, W) float in [0, 1].

        Continuous tokens are the mean or a sample of the posterior, as the benchmark asks.
        """
        tokens: Tokens = self.tokenizer.encode(images)
        if tokens.posterior is None or isinstance(self.posterior, PosteriorMean):
            return tokens
        random = ImageRandom(self.posterior.seed, numbers, self.device)
        noise = random.normal(*tokens.latents.shape[1:])  # (b, N, C), row i from the stream of image i
        return tokens._replace(latents=tokens.posterior.at(noise))


if __name__ == "__main__":
    main("score_reconstruction", score_reconstruction)
