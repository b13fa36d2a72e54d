"""What is timed of a tokenizer: encode and decode, with random weights, since values do not change the time."""

from __future__ import annotations

from typing import Any, Literal, get_args

import torch
from torch import nn

from onetok import params
from onetok.models.quantizers import Tokens, VectorQuantizer
from onetok.models.tatitok import TATiTokConfig
from onetok.models.vqgan import VQGAN
from onetok.published import Entry, build_published
from onetok.registry import build_tokenizer
from onetok.speed.measure import Case

Direction = Literal["encode", "decode"]
DIRECTIONS: tuple[Direction, ...] = get_args(Direction)


def tokenizer_case(
    entry: Any, execution: params.Execution, seed: int, direction: Direction, device: torch.device
) -> Case:
    """Return the case of one direction of a tokenizer of params, on inputs drawn from `seed`."""
    torch.manual_seed(seed)
    model = build_untrained(entry).eval().requires_grad_(False)
    size, batch = entry.images.size, execution.batch
    if direction == "encode":
        given: Any = torch.rand(batch, 3, size, size).to(device)
    else:
        given = _tokens(model, batch, device)
    text = None
    if isinstance(model.config, TATiTokConfig):
        text = torch.randn(batch, model.config.text_states, model.config.text_width).to(device)
    run = getattr(cast(model, execution.precision).to(device), direction)
    # Not dynamic: a second system of other sizes would be compiled for any size.
    compiled = torch.compile(run, dynamic=False) if execution.compiled else run
    autocast = torch.autocast(device.type, torch.bfloat16, enabled=execution.precision == "bfloat16")

    def call(run: Any) -> Any:
        with autocast:
            return run(given, text)

    return Case(call=lambda: call(compiled), plain=lambda: call(run), images=batch)


def build_untrained(entry: Any) -> nn.Module:
    """Return the model of a tokenizer of params, trained here or published, with weights as they start."""
    if isinstance(entry, get_args(Entry)):
        return build_published(entry)
    return build_tokenizer(entry)


def cast(model: nn.Module, precision: Literal["float32", "bfloat16"]) -> nn.Module:
    """Store weights in a precision; a codebook stays in float32, in which its distances are compared."""
    if precision == "bfloat16":
        model.bfloat16()
        for module in model.modules():
            if isinstance(module, VectorQuantizer):
                module.float()
    return model


def _tokens(model: Any, batch: int, device: torch.device) -> Tokens:
    """Draw tokens without encoding, whose memory is not decoding's."""
    count = model.config.grid**2 if isinstance(model, VQGAN) else model.config.tokens
    if model.codebook_size is None:
        return Tokens(torch.randn(batch, count, model.config.quantizer.channels).to(device), None)
    tokens = model.tokens_from_ids(torch.randint(model.codebook_size, (batch, count)))
    return Tokens(tokens.latents.to(device), tokens.ids.to(device))
