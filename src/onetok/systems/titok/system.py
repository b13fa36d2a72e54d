"""TiTok in its two forms, for the rest of the project."""

from __future__ import annotations

from typing import Any

from onetok.losses.codes import CodeLoss
from onetok.nn.protocols import Tokenizer
from onetok.study.schema.architecture import VectorQuantizerConfig
from onetok.study.schema.tokenizers import PixelTokenizer
from onetok.systems.records import Paper, Release, TokenizerSystem
from onetok.systems.titok.model import TiTok
from onetok.systems.titok.objective import CodeObjective
from onetok.systems.titok.release import (
    KEYS,
    TWO_STAGE_KEYS,
    released_config,
    released_two_stage_config,
)
from onetok.systems.titok.schema import (
    RELEASED_INIT,
    ReleasedModel,
    ReleasedTiTok,
    Stage1Tokenizer,
    Stage2Tokenizer,
    TiTokConfig,
    TiTokTokenizer,
    TwoStageConfig,
    UnreleasedTiTok,
    config_fields,
)
from onetok.systems.titok.two_stage import TiTokTwoStage
from onetok.systems.vqgan.model import VQGAN
from onetok.systems.vqgan.schema import MASKGIT_VQGAN
from onetok.training.objectives import TokenizerObjective
from onetok.training.tokenizer_losses import Artefacts, pixel_objective


def build(entry: TiTokTokenizer, made: Artefacts) -> TiTok:
    return TiTok(entry.config)


def build_released(entry: ReleasedTiTok, made: Artefacts) -> TiTok:
    return _as_released(entry.model, entry.images.size, entry.stages)


def build_unreleased(entry: UnreleasedTiTok, made: Artefacts) -> TiTok:
    return _as_released(entry.model, entry.size, entry.stages)


def _as_released(model: ReleasedModel, size: int, stages: int) -> TiTok:
    """Return a TiTok of the released form, trained in one stage or in two."""
    fields = config_fields(model, size)
    if stages == 1:
        return TiTok(TiTokConfig(**fields))
    proxy = MASKGIT_VQGAN.replace(image_size=size)
    return TiTokTwoStage(TwoStageConfig(**fields, stage=2, memory="reinterpreted", proxy=proxy))


def build_stage_1(entry: Stage1Tokenizer, made: Artefacts) -> TiTokTwoStage:
    """Return a TiTok that predicts the codes of its proxy, with the proxy's codebook and decoder."""
    proxy = made.tokenizer(entry.proxy)
    assert isinstance(proxy, VQGAN)
    fields = config_fields(entry.model, entry.images.size)
    model = TiTokTwoStage(TwoStageConfig(**fields, stage=1, memory=entry.model.memory, proxy=proxy.config))
    model.adopt(proxy)
    return model


def build_stage_2(entry: Stage2Tokenizer, made: Artefacts) -> TiTokTwoStage:
    """Return what stage 1 has trained, to be trained on pixels."""
    stage_1 = made.tokenizer(entry.stage_1)
    assert isinstance(stage_1, TiTokTwoStage)
    model = TiTokTwoStage(stage_1.config.replace(stage=2))
    model.load_state_dict(stage_1.state_dict())
    return model


def two_stage_objective(
    entry: Stage1Tokenizer | PixelTokenizer, model: Tokenizer, made: Artefacts
) -> TokenizerObjective:
    if isinstance(entry, PixelTokenizer):
        return pixel_objective(entry, model, made)
    assert isinstance(model, TiTokTwoStage)
    return CodeObjective(model, made.tokenizer(entry.proxy), CodeLoss(quantizer=entry.losses.quantizer))


def layout(entry: ReleasedTiTok) -> str:
    """Return the name of the layout of the file that an entry names."""
    if entry.stages == 2:
        return "titok_vq_two_stage"
    return "titok_vq_single_stage" if isinstance(entry.model.quantizer, VectorQuantizerConfig) else "titok_kl"


def fine_tuned(entry: ReleasedTiTok) -> dict[str, Any] | None:
    """Return the params of a TiTok of the same sizes that is trained here; None for one of two stages.

    A decoder of two stages is trained further by titok-stage-2, whose stage_1 may name released weights.
    """
    if entry.stages == 2:
        return None
    sizes = entry.model.model_dump(mode="json", exclude={"patch"})
    patches = {"encoder_patch": entry.model.patch, "decoder_patch": entry.model.patch}
    return {**sizes, **patches, "init": RELEASED_INIT.model_dump(mode="json")}


# The papers' rule, in our names (tests/parity/test_published.py).
NO_DECAY = ("positions", "class_embedding", "mask_token", "latent_tokens", "codebook", "embed")
TITOK = Paper("An Image is Worth 32 Tokens for Reconstruction and Generation", "2406.07550")
TATITOK = Paper("Democratizing Text-to-Image Masked Generative Models with Compact 1D Tokens", "2501.07730")

RECORDS = (
    TokenizerSystem(
        kind="titok",
        model=TiTok,
        config=TiTokConfig,
        no_decay=NO_DECAY,
        builds={TiTokTokenizer: build, ReleasedTiTok: build_released, UnreleasedTiTok: build_unreleased},
        releases={
            "titok_vq_single_stage": Release(KEYS, released_config),
            "titok_kl": Release(KEYS, released_config),
        },
        layout=layout,
        fine_tuned=fine_tuned,
        description="TiTok, single-stage: an image as a short 1D sequence of tokens",
        papers=(TITOK, TATITOK),
    ),
    TokenizerSystem(
        kind="titok-two-stage",
        model=TiTokTwoStage,
        config=TwoStageConfig,
        no_decay=NO_DECAY,
        builds={Stage1Tokenizer: build_stage_1, Stage2Tokenizer: build_stage_2},
        objective=two_stage_objective,
        releases={
            "titok_vq_two_stage": Release(TWO_STAGE_KEYS, released_two_stage_config),
            # The parts that stage 1 trains, without the pixel path, and all of stage 2, in the layout of 2024-06.
            "titok_vq_legacy_stage1": Release(TWO_STAGE_KEYS, released_two_stage_config),
            "titok_vq_legacy_stage2": Release(TWO_STAGE_KEYS, released_two_stage_config),
        },
        description="TiTok, two-stage: a short 1D sequence of tokens, decoded by way of VQGAN codes",
        papers=(TITOK,),
    ),
)
