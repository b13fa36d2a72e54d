"""FlowTok's text tokenizer for image to text: captions as 77 text tokens of 16 channels, and back (arXiv 2503.10772).

The encoder is the text projector of text to image. The decoder predicts the token ids of a caption at all positions at
once, so it is called once for a caption. Both are trained together to rebuild captions; no code of them is public, and
docs/decisions/0021 says what is decided here.

    caption → ids (B, N) → frozen CLIP → states (B, N, S) → projector → text tokens (B, N, C) → decoder → ids (B, N)

Legend: B batch · N text tokens, text states and token ids · S width of a text state · C token channels · D width of the
        decoder · V token ids that the decoder can name.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from onetok.data.captions import VOCABULARY
from onetok.nn.layers import PreNormBlock, init_linear
from onetok.nn.protocols import TextTokenizer
from onetok.nn.quantizers import Posterior
from onetok.systems.flowtok.model import TextProjector, prior_term
from onetok.systems.flowtok.schema import FlowTextConfig, FlowTextLoss


class TextDecoder(nn.Module):
    """Text tokens (B, N, C) → logits of token ids (B, N, V)."""

    def __init__(self, config: FlowTextConfig) -> None:
        super().__init__()
        size = config.decoder
        self.embed = nn.Linear(config.channels, size.width)
        self.positions = nn.Parameter(torch.empty(config.tokens, size.width))
        self.blocks = nn.ModuleList(PreNormBlock(size.width, size.heads) for _ in range(size.layers))
        self.norm = nn.LayerNorm(size.width)
        self.head = nn.Linear(size.width, len(config.vocabulary) or VOCABULARY)
        for module in self.modules():
            init_linear(module, None)
        nn.init.normal_(self.positions, std=size.width**-0.5)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embed(tokens) + self.positions  # (B, N, D)
        for block in self.blocks:
            x = block(x)  # (B, N, D)
        out: Tensor = self.head(self.norm(x))  # (B, N, V)
        return out


class FlowText(TextTokenizer):
    """Text states (B, N, S) → text tokens (B, N, C) → token ids (B, N)."""

    vocabulary: Tensor

    def __init__(self, config: FlowTextConfig) -> None:
        super().__init__()
        self.config = config
        self.projector = TextProjector(config.text_width, config.channels, config.projector)
        self.decoder = TextDecoder(config)
        vocabulary = torch.tensor(config.vocabulary or range(VOCABULARY))
        self.register_buffer(
            "vocabulary", vocabulary, persistent=False
        )  # (V,) int64, token ids in ascending order

    @property
    def tokens(self) -> int:
        return self.config.tokens

    @property
    def channels(self) -> int:
        return self.config.channels

    def encode(self, states: Tensor) -> Posterior:
        posterior: Posterior = self.projector(states.to(self.decoder.embed.weight.dtype))  # (B, N, C)
        return posterior

    def decode(self, tokens: Tensor) -> Tensor:
        logits = self.decoder(tokens.to(self.decoder.embed.weight.dtype))  # (B, N, V)
        return self.vocabulary[logits.argmax(dim=-1)]  # (B, N)

    def loss(self, states: Tensor, ids: Tensor, settings: FlowTextLoss) -> dict[str, Tensor]:
        """Return the training loss `total` and its terms, scalars, for the states (B, N, S) and ids (B, N) of captions.

        `caption` is the cross-entropy of the ids at all positions, those after the end of the text included. `rebuilt`
        is the share of captions whose ids are all predicted.
        """
        posterior = self.encode(states)
        logits = self.decoder(posterior.sample(None)).float()  # (B, N, V)
        places = torch.searchsorted(self.vocabulary, ids)  # (B, N), of the ids in the vocabulary
        terms = {
            "caption": F.cross_entropy(logits.flatten(0, 1), places.flatten()),
            "prior": prior_term(posterior, settings.prior),
            "rebuilt": (logits.argmax(dim=-1) == places).all(dim=1).float().mean().detach(),
        }
        return {"total": terms["caption"] + settings.prior.weight * terms["prior"], **terms}
