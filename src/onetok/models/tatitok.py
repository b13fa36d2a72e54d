"""TA-TiTok: TiTok whose decoder also reads the caption (arXiv 2501.07730, section 3.2).

The text encoder's states of the caption, through a linear layer and with positions of their own, follow the
latent tokens in the decoder's sequence. Tokens then need not spell out what the caption already says. The
encoder never sees text. Everything else is titok.py.

Legend: B batch · T text states · S their width · D decoder width.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from onetok.models.layers import Attention, init_linear
from onetok.models.quantizers import Tokens
from onetok.models.titok import TiTok, TiTokConfig, init_positions


@dataclass(frozen=True, kw_only=True, slots=True)
class TATiTokConfig(TiTokConfig):
    text_states: int  # T
    text_width: int  # S
    decoder_linear: Literal["init", "torch"]  # "torch": PyTorch's own start, as the released decoder


class TextContext(nn.Module):
    """Text states in, the decoder's context out."""

    def __init__(self, config: TATiTokConfig) -> None:
        super().__init__()
        self.projection = nn.Linear(config.text_width, config.decoder.width)
        self.positions = nn.Parameter(torch.empty(config.text_states, config.decoder.width))

    def forward(self, states: Tensor) -> Tensor:
        """Return the context (B, T, D) of text states (B, T, S)."""
        context: Tensor = self.projection(states) + self.positions  # (B, T, D)
        return context


class TATiTok(TiTok):
    """Tokenizer: images (B, 3, H, W) float32 in [0, 1] ↔ N tokens, given text states (B, T, S) to decode."""

    def __init__(self, config: TATiTokConfig) -> None:
        super().__init__(config)
        self.text = TextContext(config)
        init_positions(self.text.positions, config.init)
        if config.decoder_linear == "init":
            init_linear(self.text.projection, config.init.linear_std)
        else:
            _restart(self.decoder)

    def decode(self, tokens: Tokens, text: Tensor | None = None) -> Tensor:
        """Return images (B, 3, H, W) of tokens whose latents are (B, N, C), under text states (B, T, S)."""
        assert text is not None, "TA-TiTok decodes with text states"
        images: Tensor = self.decoder(tokens.latents, self.text(text))
        return images


def _restart(decoder: nn.Module) -> None:
    """Give every layer the start that PyTorch's own layers have, attention too."""
    for module in decoder.modules():
        if isinstance(module, nn.Linear | nn.Conv2d):
            module.reset_parameters()
    for module in decoder.modules():
        if isinstance(module, Attention):
            nn.init.xavier_uniform_(module.qkv.weight)
            nn.init.zeros_(module.qkv.bias)
            nn.init.zeros_(module.out.bias)
