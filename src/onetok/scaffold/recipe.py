"""The numbers of a study of one's own images, worked out from what is in the folder.

They are a start that trains on one CPU core: params are there to be changed. Every rule stands beside its number.
"""

from __future__ import annotations

from dataclasses import dataclass

from onetok.errors import OnetokError
from onetok.scaffold.survey import Survey

ROUND = 100  # steps between two checkpoints, of which numbers of steps are multiples
SIZES = (16, 512)  # sides of images, pixels


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """The numbers that params are written with."""

    size: int  # of the images' side, pixels
    patch: int
    tokens: int  # of an image
    transformer: str  # the size of the tokenizer's transformers
    codebook: int
    samples_per_shard: int
    first_channels: tuple[int, ...]  # of the classifier's stages, each of half the side of the one before
    second_channels: tuple[int, ...]
    encoder_batch: int
    encoder_steps: int
    tokenizer_batch: int
    tokenizer_steps: int
    generator_batch: int
    generator_steps: int
    scored_at_a_time: int
    samples: int  # of a class-conditional benchmark
    inception_splits: int
    reconstruction_splits: int
    manifold_images: int
    micro_batch: int


def recipe(found: Survey, size: int) -> Recipe:
    """Return the numbers for the images of a folder at a size. Raises OnetokError for a size without patches."""
    if size % 8 or not SIZES[0] <= size <= SIZES[1]:
        raise OnetokError(f"--size: found {size}, expected a multiple of 8 from {SIZES[0]} to {SIZES[1]}")
    patch = 16 if size >= 128 and size % 16 == 0 else 8
    patches = (size // patch) ** 2
    classes = len(found.classes)
    tokenizer_batch, generator_batch = _batch(16, found.train), _batch(64, found.train)
    encoder_batch = _batch(48, found.train)
    # As many samples of every class as the benchmark has training images, of each class alike.
    samples = max(min(found.train, 5000) // classes, -(-8 // classes)) * classes
    return Recipe(
        size=size,
        patch=patch,
        tokens=max(16, patches // 2),
        transformer="tiny" if size <= 64 else "small",
        codebook=256 if found.train < 5_000 else 1024 if found.train < 100_000 else 4096,
        samples_per_shard=min(1000, max(100, found.images // 4)),
        # Above 32 px a stage more, and half the channels, so that the first stages do not take all of the time.
        first_channels=(32, 64, 128) if size <= 32 else (16, 32, 64, 128),
        second_channels=(24, 48, 96) if size <= 32 else (8, 24, 48, 96),
        encoder_batch=encoder_batch,
        encoder_steps=_steps(passes=20, images=found.train, batch=encoder_batch, least=300, most=5_000),
        tokenizer_batch=tokenizer_batch,
        tokenizer_steps=_steps(
            passes=60, images=found.train, batch=tokenizer_batch, least=2_000, most=50_000
        ),
        generator_batch=generator_batch,
        generator_steps=_steps(
            passes=200, images=found.train, batch=generator_batch, least=1_000, most=50_000
        ),
        scored_at_a_time=min(64, found.val),
        samples=samples,
        inception_splits=_splits(samples, classes),
        reconstruction_splits=_splits(found.val, classes),
        manifold_images=min(found.train, 5_000),
        micro_batch=min(64, samples),
    )


def _batch(usual: int, images: int) -> int:
    """Return the usual batch, or the largest power of two that is no more than the images that there are."""
    return usual if usual <= images else 1 << (images.bit_length() - 1)


def _steps(*, passes: int, images: int, batch: int, least: int, most: int) -> int:
    """Return the steps of so many passes over the images, within bounds, rounded up to whole checkpoints."""
    steps = min(max(passes * images // batch, least), most)
    return -(-steps // ROUND) * ROUND


def _splits(images: int, classes: int) -> int:
    """Return the parts of the inception score: ten at most, and ten images of each class in every part at least."""
    return max(1, min(10, images // (10 * classes)))
