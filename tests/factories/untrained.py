"""Models as params describe them, with the weights that training starts from, where a study keeps trained ones."""

from __future__ import annotations

from contextlib import chdir
from pathlib import Path

import torch
from torch import nn

from onetok.networks.registry import build_clip
from onetok.study.load import load_study
from onetok.study.schema.study import Study
from onetok.study.shapes import text_shape
from onetok.systems.registry import build_generator, build_text_tokenizer, build_tokenizer, shapes_of
from onetok.systems.saved import CPU, StudyArtefacts
from tests.factories.tokenizers import leave_artefact

SEEN = (0, 320, 49406, 49407)  # token ids: padding, "a", start and end of text


def leave_untrained(directory: Path, *artefacts: tuple[str, str]) -> None:
    """Leave artefacts (kind, family/variant) of a study as its stages would, in this order and before any training."""
    study = load_study(directory)
    with chdir(directory):  # where StudyArtefacts looks for what an entry names
        for kind, name in artefacts:
            torch.manual_seed(0)
            leave_artefact(_model(study, kind, name), Path(), kind, name, {})


def _model(study: Study, kind: str, name: str) -> nn.Module:
    entry = getattr(study, kind)[name]
    if kind == "encoders":
        return build_clip(entry)
    if kind == "tokenizers":
        return build_tokenizer(entry, StudyArtefacts(CPU))
    if kind == "text_tokenizers":
        return build_text_tokenizer(entry, text_shape(study, entry.text), SEEN)
    first = entry.first_stage(study)
    return build_generator(first, shapes_of(study, first))
