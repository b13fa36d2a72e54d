"""TA-TiTok: TiTok with a decoder that also attends to the caption (arXiv 2501.07730, section 3.2).

The text encoder's states of the caption, projected by a linear layer and with their own position embeddings, follow the
latent tokens in the decoder's sequence. Tokens then need not encode what the caption already says. The encoder takes no
text. Everything else is TiTok's (systems/titok/model.py).

Legend: B batch · H,W pixels · N latent tokens · C token channels · T text states · S their width · D decoder width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from onetok.nn.layers import Attention, init_linear
from onetok.nn.protocols import TextWidths
from onetok.nn.quantizers import Tokens
from onetok.systems.tatitok.schema import CaptionedConfig, TATiTokConfig
from onetok.systems.titok.model import TiTok, init_positions


class TextContext(nn.Module):
    """Text states (B, T, S) → the decoder's context tokens (B, T, D)."""

    def __init__(self, config: CaptionedConfig) -> None:
        super().__init__()
        self.projection = nn.Linear(config.text_width, config.decoder.width)
        self.positions = nn.Parameter(torch.empty(config.text_states, config.decoder.width))

    def forward(self, states: Tensor) -> Tensor:
        """Return the context (B, T, D) of text states (B, T, S)."""
        context: Tensor = self.projection(states) + self.positions  # (B, T, D)
        return context


class CaptionedTiTok(TiTok):
    """A TiTok whose decoder also takes text states (B, T, S); subclasses initialise the layers that take them."""

    def __init__(self, config: CaptionedConfig) -> None:
        super().__init__(config)
        self.config: CaptionedConfig = config
        self.text = TextContext(config)
        init_positions(self.text.positions, config.init)

    @property
    def text_widths(self) -> TextWidths:
        return TextWidths(self.config.text_width, None, self.config.text_states)

    def decode(self, tokens: Tokens, text: Tensor | None = None) -> Tensor:
        """Return images (B, 3, H, W), near [0, 1], of tokens with latents (B, N, C), given text states (B, T, S)."""
        assert text is not None, f"{type(self).__name__} decodes with text states"
        images: Tensor = self.decoder(tokens.latents, self.text(text))  # (B, 3, H, W)
        return images


class TATiTok(CaptionedTiTok):
    """Tokenizer: images (B, 3, H, W) float32 in [0, 1] ↔ N tokens, given text states (B, T, S) to decode."""

    def __init__(self, config: TATiTokConfig) -> None:
        super().__init__(config)
        self.config: TATiTokConfig = config
        if config.decoder_linear == "init":
            init_linear(self.text.projection, config.init.linear_std)
        else:
            _restart(self.decoder)


def _restart(decoder: nn.Module) -> None:
    """Initialise every layer by PyTorch's defaults; attention by those of nn.MultiheadAttention."""
    for module in decoder.modules():
        if isinstance(module, nn.Linear | nn.Conv2d):
            module.reset_parameters()
    for module in decoder.modules():
        if isinstance(module, Attention):
            nn.init.xavier_uniform_(module.qkv.weight)
            nn.init.zeros_(module.qkv.bias)
            nn.init.zeros_(module.out.bias)
