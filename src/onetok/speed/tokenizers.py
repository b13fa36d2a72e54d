"""The speed of tokenizers: the time to encode and to decode a batch, with random weights.

Values do not change the time.
"""

from __future__ import annotations

from typing import Any, Literal, get_args

import torch
from torch import nn

from onetok.nn.protocols import Tokenizer
from onetok.nn.quantizers import Tokens, VectorQuantizer
from onetok.speed.measure import Case
from onetok.study.schema.speeds import Execution
from onetok.systems.registry import build_tokenizer
from onetok.systems.saved import CPU, StudyArtefacts

Direction = Literal["encode", "decode"]
DIRECTIONS: tuple[Direction, ...] = get_args(Direction)


def tokenizer_case(
    entry: Any, execution: Execution, seed: int, direction: Direction, device: torch.device
) -> Case:
    """Return the case of encoding or decoding with a tokenizer of params, on random inputs seeded by `seed`."""
    torch.manual_seed(seed)
    model = build_untrained(entry).eval().requires_grad_(False)
    size, batch = entry.images.size, execution.batch
    if direction == "encode":
        given: Any = torch.rand(batch, 3, size, size).to(device)
    else:
        given = _tokens(model, batch, device)
    text = None
    if model.text_widths is not None:
        assert model.text_widths.length is not None
        text = torch.randn(batch, model.text_widths.length, model.text_widths.states).to(device)
    run = getattr(cast(model, execution.precision).to(device), direction)
    # Not dynamic: else the second system, whose sizes differ, would be compiled for arbitrary sizes and be slower.
    compiled = torch.compile(run, dynamic=False) if execution.compiled else run
    autocast = torch.autocast(device.type, torch.bfloat16, enabled=execution.precision == "bfloat16")

    def call(run: Any) -> Any:
        with autocast:
            return run(given, text)

    return Case(call=lambda: call(compiled), plain=lambda: call(run), images=batch)


def build_untrained(entry: Any) -> Tokenizer:
    """Return the untrained model of a tokenizer of params, which may be a trained, released or unreleased one."""
    return build_tokenizer(entry, StudyArtefacts(CPU))


def cast(model: nn.Module, precision: Literal["float32", "bfloat16"]) -> nn.Module:
    """Convert the model's weights to a precision and return it; codebooks stay in float32, as their distances do."""
    if precision == "bfloat16":
        model.bfloat16()
        for module in model.modules():
            if isinstance(module, VectorQuantizer):
                module.float()
    return model


def _tokens(model: Tokenizer, batch: int, device: torch.device) -> Tokens:
    """Return random tokens. They are not encoded from images, since peak memory would then include that of encoding."""
    if model.codebook_size is None:
        return Tokens(torch.randn(batch, model.tokens, model.channels).to(device), None)
    ids = torch.randint(model.codebook_size, (batch, model.tokens))
    return Tokens(model.tokens_from_ids(ids).latents.to(device), ids.to(device))
