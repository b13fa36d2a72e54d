"""TA-TiTok, for the rest of the project."""

from __future__ import annotations

from onetok.study.schema.architecture import VectorQuantizerConfig
from onetok.systems.records import Release, TokenizerSystem
from onetok.systems.tatitok.model import TATiTok
from onetok.systems.tatitok.release import RELEASED_DECODER, released_config
from onetok.systems.tatitok.schema import ReleasedTATiTok, TATiTokConfig, TATiTokTokenizer
from onetok.systems.titok.release import KEYS
from onetok.systems.titok.schema import config_fields
from onetok.systems.titok.system import NO_DECAY, TATITOK
from onetok.training.tokenizer_losses import Artefacts


def build(entry: TATiTokTokenizer, made: Artefacts) -> TATiTok:
    """Return a TA-TiTok that fits the text encoder which the study has made."""
    text = made.text_encoder(entry.text)
    fields = config_fields(entry.model, entry.images.size)
    fields |= {"text_states": text.context_length, "text_width": text.text_width}
    return TATiTok(TATiTokConfig(**fields, decoder_linear=entry.model.decoder_linear))


def build_released(entry: ReleasedTATiTok, made: Artefacts) -> TATiTok:
    return TATiTok(TATiTokConfig(**config_fields(entry.model, entry.images.size), **RELEASED_DECODER))


def layout(entry: ReleasedTATiTok) -> str:
    return "tatitok_vq" if isinstance(entry.model.quantizer, VectorQuantizerConfig) else "tatitok_kl"


RECORDS = (
    TokenizerSystem(
        kind="tatitok",
        model=TATiTok,
        config=TATiTokConfig,
        no_decay=NO_DECAY,
        builds={TATiTokTokenizer: build, ReleasedTATiTok: build_released},
        releases={"tatitok_vq": Release(KEYS, released_config), "tatitok_kl": Release(KEYS, released_config)},
        layout=layout,
        description="TA-TiTok: a short 1D sequence of tokens, decoded together with the caption",
        papers=(TATITOK,),
    ),
)
