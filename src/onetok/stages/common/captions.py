"""Captions in scoring: shuffled captions as a control, and accumulators of GenEval and of the CLIP score.

Legend: b images of a batch · M images of the split · S side of an image, H,W pixels · P width of CLIP's shared space.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from onetok.data.captions import CaptionTokenizer
from onetok.data.images import to_float
from onetok.data.shards import Shards
from onetok.errors import OnetokError
from onetok.metrics.clip_score import clip_scores
from onetok.metrics.geneval import Detection, Detector, ScenesExact, evaluate
from onetok.networks.clip import CLIP
from onetok.study.schema.benchmarks import Reference, TaskCounts
from onetok.study.schema.datasets import ScenesSource
from onetok.study.schema.records import Prompt
from onetok.study.schema.study import Study


def derangement(images: int, seed: int | Sequence[int]) -> NDArray[np.int64]:
    """Return a random permutation (images,) int64 without fixed points: the image whose caption each image gets.

    Raises OnetokError for a single image.
    """
    if images < 2:
        raise OnetokError(
            f"captions: found {images} image, expected two or more to give them those of others"
        )
    circle = np.random.default_rng(seed).permutation(images)
    others = np.empty_like(circle)
    others[circle] = np.roll(circle, 1)
    return others


def build_detector(study: Study, benchmark: Reference, kind: str | None) -> Detector | None:
    """Return the detector that a benchmark names; None if it names none."""
    if kind is None:
        return None
    source = study.datasets[benchmark.dataset].source
    assert isinstance(source, ScenesSource)
    return ScenesExact(source)


def prompts_of(shards: Shards) -> list[Prompt]:
    """Return the prompt record of every sample. Raises OnetokError for a sample without one."""
    prompts = []
    for i in range(len(shards)):
        prompt = shards.record(i).prompt
        if prompt is None:
            raise OnetokError(
                f"{shards.directory}: sample {shards.key(i)} has no prompt record, geneval needs one"
            )
        prompts.append(prompt)
    return prompts


def check_prompts(shards: Shards, expected: TaskCounts | None) -> None:
    """Check that a split has as many prompts of each task as a benchmark expects.

    Raises OnetokError for another number, because the scores would not show it.
    """
    if expected is None:
        return
    found = dict.fromkeys(TaskCounts.model_fields, 0)
    for prompt in prompts_of(shards):
        found["held_out" if prompt.held_out else prompt.tag] += 1
    for task, count in expected.model_dump().items():
        if found[task] != count:
            raise OnetokError(
                f"{shards.directory}: {found[task]} prompts of {task}, prompts.{task} of the benchmark expects {count}"
            )


@dataclass
class GenEvalScores:
    """Accumulates the objects that a detector finds in images, for GenEval's scores."""

    detector: Detector
    seen: list[list[Detection]] = field(default_factory=list)

    def accumulate(self, batches: Iterable[Tensor]) -> Iterator[Tensor]:
        """Yield the batches (b, 3, S, S) uint8 as they are."""
        for batch in batches:
            self.seen += self.detector(batch)
            yield batch

    def scores(self, shards: Shards) -> dict[str, float | None]:
        """Return the scores by the names of tables; image i has the prompt of image i % M of the split."""
        prompts = prompts_of(shards)
        found = evaluate([prompts[i % len(prompts)] for i in range(len(self.seen))], self.seen)
        scores: dict[str, float | None] = {"geneval": found.usual.overall}
        scores |= {f"geneval_{task}": score for task, score in found.usual.tasks.items()}
        return scores | {"geneval_held_out": found.held_out.overall if found.held_out else None}


@dataclass
class CLIPScores:
    """Accumulates the CLIP scores of images; image i has the caption of image i % M of the split."""

    encoder: CLIP
    shards: Shards
    device: torch.device
    found: list[Tensor] = field(default_factory=list)  # (b,) float32 each

    @torch.inference_mode()
    def accumulate(self, batches: Iterable[Tensor]) -> Iterator[Tensor]:
        """Yield the batches (b, 3, H, W) uint8 as they are."""
        tokenize, start = CaptionTokenizer(self.encoder.context_length), 0
        for pixels in batches:
            captions = [self.shards.caption((start + i) % len(self.shards)) for i in range(len(pixels))]
            ids = tokenize(captions).to(self.device)
            images, texts = self.encoder(to_float(pixels.to(self.device)), ids)  # (b, P) each
            self.found.append(clip_scores(images, texts).cpu())
            start += len(pixels)
            yield pixels

    def scores(self) -> dict[str, float | None]:
        """Return the mean CLIP score by the name of tables."""
        return {"clip_score": float(torch.cat(self.found).mean())}
