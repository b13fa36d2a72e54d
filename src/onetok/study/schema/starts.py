"""Params of fine-tuning: the weights that a training starts from, in place of new ones."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from onetok.study.schema.base import GeneratorName, Name, Strict, TokenizerName
from onetok.study.schema.encoders import WeightsFile

OURS = "onetok"  # the layout of what a study or save_pretrained writes


class FromTokenizer(Strict):
    """Another tokenizer of the study, trained or released."""

    kind: Literal["artefact"]
    name: TokenizerName = Field(description="the tokenizer whose weights training starts from")


class FromGenerator(Strict):
    """Another generator of the study, trained or released."""

    kind: Literal["artefact"]
    name: GeneratorName = Field(description="the generator whose weights training starts from")


class FromWeights(Strict):
    """A file of weights: on the Hub, at an address, or of this machine."""

    kind: Literal["weights"]
    layout: Name = Field(
        description="names of the tensors in the file: onetok, as training and save_pretrained write them, or a"
        " released layout of the system"
    )
    weights: WeightsFile = Field(description="the file, pinned by its digest")


TokenizerStart = Annotated[FromTokenizer | FromWeights, Field(discriminator="kind")]
GeneratorStart = Annotated[FromGenerator | FromWeights, Field(discriminator="kind")]
