"""Settings of TA-TiTok: of params, and the config of its model."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from pydantic import Field

from onetok.study.schema.base import EncoderName, Entries, Width
from onetok.study.schema.tokenizers import PixelTokenizer, ReleasedTokenizer
from onetok.systems.titok.schema import ReleasedModel, TiTokConfig, TiTokEntry, TiTokModel

DecoderLinear = Literal["init", "torch"]


class TATiTokModel(TiTokModel):
    decoder_linear: DecoderLinear = Field(
        description="torch: the decoder's linear layers start as PyTorch's own, as published, whatever init says"
    )


class CaptionedConfig(TiTokConfig):
    """What every tokenizer whose decoder reads captions is built from."""

    text_states: Width = Field(description="T, states of a caption")
    text_width: Width = Field(description="S, channels of a state")


class TATiTokConfig(CaptionedConfig):
    """All that the network is built from."""

    decoder_linear: DecoderLinear = Field(description="how the decoder's linear layers start")


class CaptionedEntry(TiTokEntry):
    """A tokenizer whose decoder reads captions."""

    text: EncoderName = Field(description="the frozen text encoder of captions")

    buildable_alone = False

    @property
    def text_encoder(self) -> str:
        return self.text


class TATiTokTokenizer(PixelTokenizer, CaptionedEntry):
    """A TA-TiTok that is trained here."""

    kind: Literal["tatitok"]
    model: TATiTokModel = Field(description="the transformers, their patches and the tokens")

    def problems(self, study: Entries) -> Iterator[str]:
        yield from super().problems(study)
        gain = self.model.init.output_gain
        if self.model.decoder_linear == "torch" and gain != 1:
            yield f"model.init.output_gain {gain} has no effect with decoder_linear torch, expected 1.0"


class ReleasedTATiTok(ReleasedTokenizer, CaptionedEntry):
    """A TA-TiTok with released weights."""

    kind: Literal["published-tatitok"]
    model: ReleasedModel = Field(description="the transformers, their patches and the tokens")

    buildable_alone = True


TOKENIZERS = (TATiTokTokenizer, ReleasedTATiTok)
