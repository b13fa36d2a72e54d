"""FlowTok: text-to-image generation by flow matching from text tokens to image tokens (arXiv 2503.10772, section 3).

The caption is mapped to as many tokens as the image has, with as many channels, so the flow starts from text instead of
noise: the network is a DiT over N tokens, without cross-attention to text. A text projector predicts a Gaussian for
each text token, from which the token is sampled, in training and in sampling; an alignment loss trains the text tokens
to keep the caption's meaning. For classifier-free guidance an indicator, embedded like the time, tells the DiT which
velocity to predict: that towards the caption's own image, or that towards any image (null).

    captions → CLIP states (B, N, S) → text projector → text tokens s (B, N, C) ─┐
                       └→ alignment MLP (B, N, C) ⇠ contrastive loss ⇢ s         ├─ x_t → DiT → velocity (B, N, C)
    images → image tokenizer → latents · scale → image tokens x (B, N, C) ───────┘

Legend: B batch · N tokens and text states · C token channels · S width of a text state · F hidden width of the
        projector's feed-forward · D width of the DiT · R times with their indicators.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from onetok.losses.alignment import contrastive_alignment, cosine_alignment
from onetok.losses.flow import between, draw_times, flat_divergence, swap_targets, velocity
from onetok.nn.layers import Attention, DiTBlock, TimeEmbedding, modulated, sincos_1d
from onetok.nn.protocols import LatentGenerator, TextWidths
from onetok.nn.quantizers import Posterior
from onetok.nn.text_condition import TextCondition
from onetok.systems.flowtok.schema import (
    Alignment,
    CaptionFlowConfig,
    CaptionFlowLoss,
    CosineAlignment,
    FlowLoss,
    FlowTokConfig,
    ProjectorSettings,
    TextPrior,
)

EPS = 1e-5  # of the projector's norms
ALIGNMENT_WIDTH = 512  # hidden width of the alignment MLP
TEMPERATURE = 0.07  # initial temperature of the contrastive alignment loss


class StandardNorm(nn.Module):
    """LayerNorm that divides by the unbiased standard deviation plus epsilon, (B, N, S) → (B, N, S).

    nn.LayerNorm divides by the square root of the biased variance plus epsilon.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        centred = x - x.mean(dim=-1, keepdim=True)  # (B, N, S)
        deviation = x.std(dim=-1, keepdim=True)  # (B, N, 1)
        return self.weight * centred / (deviation + EPS) + self.bias  # (B, N, S)


class PostNormBlock(nn.Module):
    """Post-norm transformer block, (B, N, S) → (B, N, S): x = LN(x + attention(x)), then LN(x + mlp(x))."""

    def __init__(self, width: int, settings: ProjectorSettings) -> None:
        super().__init__()
        self.attention = Attention(width, settings.heads, dropout=settings.dropout)
        self.norm1 = StandardNorm(width)
        self.up = nn.Linear(width, settings.hidden)
        self.down = nn.Linear(settings.hidden, width)
        self.norm2 = StandardNorm(width)
        self.dropout = nn.Dropout(settings.dropout)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm1(x + self.dropout(self.attention(x)))  # (B, N, S)
        hidden = self.dropout(F.relu(self.up(x)))  # (B, N, F)
        x = self.norm2(x + self.dropout(self.down(hidden)))  # (B, N, S)
        return x


class TextProjector(nn.Module):
    """Text states (B, N, S) → the Gaussian posterior of the text tokens (B, N, C)."""

    def __init__(self, width: int, channels: int, settings: ProjectorSettings) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(PostNormBlock(width, settings) for _ in range(settings.layers))
        self.head = nn.Linear(width, 2 * channels)

    def forward(self, states: Tensor) -> Posterior:
        for block in self.blocks:
            states = block(states)  # (B, N, S)
        mean, log_variance = self.head(states).float().chunk(2, dim=-1)  # (B, N, C) each
        return Posterior(mean, log_variance)


class Modulation(NamedTuple):
    """The scales, shifts and gates of all blocks, and of the final norm, for R pairs of a time and an indicator."""

    blocks: list[Tensor]  # (R, 6D) each
    final: Tensor  # (R, 2D)

    def of(self, rows: Tensor) -> Modulation:
        """Return the modulation of B of the pairs, whose indices are rows (B,) int64."""
        return Modulation([block[rows] for block in self.blocks], self.final[rows])  # (B, 6D) each, (B, 2D)


class Flow(LatentGenerator):
    """The DiT of a flow between text tokens and image tokens, in either direction.

    `source` is the distribution from which the flow of a condition starts, `scale` the factor on the tokens at its end.
    """

    positions: Tensor
    config: FlowTokConfig | CaptionFlowConfig

    def __init__(self, config: FlowTokConfig | CaptionFlowConfig) -> None:
        super().__init__()
        width, heads, channels = config.size.width, config.size.heads, config.channels
        self.input = nn.Linear(channels, width)
        cos, sin = sincos_1d(torch.arange(config.tokens), width, period=10000.0).chunk(2, dim=1)
        self.register_buffer("positions", torch.cat([sin, cos], dim=1), persistent=False)  # (N, D)
        self.time = TimeEmbedding(width)
        self.indicator = nn.Embedding(2, width)  # row 0: conditional, row 1: null
        self.blocks = nn.ModuleList(DiTBlock(width, heads) for _ in range(config.size.layers))
        self.final_modulation = nn.Linear(width, 2 * width)
        self.output = nn.Linear(width, channels)
        self._initialise(config.init_std)

    @property
    def tokens(self) -> int:
        return self.config.tokens

    @property
    @abstractmethod
    def target_scale(self) -> float:
        """Factor on the tokens that the flow ends at, to a variance near 1."""

    @abstractmethod
    def source(self, condition: Any) -> Posterior:
        """Return the distribution of the tokens (B, N, C) that the flow starts from."""

    def modulation(self, t: Tensor, null: Tensor) -> Modulation:
        """Return the modulation for times t (R,) in [0, 1] and indicators (R,) bool, true for null."""
        condition = F.silu(self.time(t) + self.indicator(null.long()))  # (R, D)
        return Modulation(
            blocks=[block.modulation(condition) for block in self.each_block()],  # (R, 6D) each
            final=self.final_modulation(condition),  # (R, 2D)
        )

    def forward(self, x: Tensor, modulation: Modulation) -> Tensor:
        """Return the velocity (B, N, C) at points x (B, N, C) of the flow, given the modulation of B times."""
        x = self.input(x) + self.positions  # (B, N, D)
        for block, parts in zip(self.blocks, modulation.blocks, strict=True):
            x = block(x, parts)  # (B, N, D)
        shift, scale = modulation.final[:, None].chunk(2, dim=-1)  # (B, 1, D) each
        out: Tensor = self.output(modulated(x, shift, scale))  # (B, N, C)
        return out

    def flow_loss(self, start: Tensor, end: Tensor, null_share: float) -> Tensor:
        """Return the mean squared error of the velocity, a scalar, from tokens `start` to tokens `end`, (B, N, C) each.

        In training, a share of the items gets the null indicator, and another item's end as target.
        """
        null = torch.rand(len(end), device=end.device) < (null_share if self.training else 0.0)  # (B,)
        end, null = swap_targets(end, null)  # (B, N, C), (B,)
        t = draw_times(len(end), end.device)  # (B,)
        predicted: Tensor = self(between(start, end, t), self.modulation(t, null))  # (B, N, C)
        return (predicted - velocity(start, end)).square().mean()

    def each_block(self) -> list[DiTBlock]:
        return [block for block in self.blocks if isinstance(block, DiTBlock)]

    def _initialise(self, std: float) -> None:
        """Initialise the DiT; what a subclass adds keeps PyTorch's default initialisation."""
        for part in (self.input, *self.blocks):
            for module in part.modules():
                if isinstance(module, nn.Linear):
                    nn.init.xavier_uniform_(module.weight)
                    nn.init.zeros_(module.bias)
        for module in (*self.time, self.indicator):
            if isinstance(module, nn.Linear | nn.Embedding):
                nn.init.normal_(module.weight, std=std)
            if isinstance(module, nn.Linear):
                nn.init.zeros_(module.bias)
        modulations = [block.modulation for block in self.each_block()]
        for linear in (*modulations, self.final_modulation, self.output):
            nn.init.zeros_(linear.weight)
            nn.init.zeros_(linear.bias)


class FlowTok(Flow):
    """Text-to-image generator: the TextCondition of B captions → latents (B, N, C)."""

    config: FlowTokConfig

    def __init__(self, config: FlowTokConfig) -> None:
        super().__init__(config)
        self.config = config
        self.projector = TextProjector(config.text_width, config.channels, config.projector)
        self.alignment = alignment_target(config)
        self.log_scale = nn.Parameter(torch.tensor(-math.log(TEMPERATURE)))

    @property
    def text_widths(self) -> TextWidths:
        return TextWidths(self.config.text_width, None, self.config.tokens)

    @property
    def target_scale(self) -> float:
        return self.config.scale

    def source(self, condition: TextCondition) -> Posterior:
        """Return the posterior of the captions' text tokens (B, N, C), from which the flow starts."""
        posterior: Posterior = self.projector(condition.sequence.to(self.output.weight.dtype))  # (B, N, C)
        return posterior

    def loss(self, latents: Tensor, condition: TextCondition, settings: FlowLoss) -> dict[str, Tensor]:
        """Return the training loss `total` and its terms, scalars, for latents (B, N, C) as the tokenizer makes them.

        `flow` is the mean squared error of the velocity, `prior` keeps text tokens near a standard normal, `alignment`
        compares text tokens with text states. In training, a share of the items gets the null indicator and the image
        of another caption as target.
        """
        posterior = self.source(condition)
        text = posterior.sample(None)  # (B, N, C); the gradient of `flow` passes through it
        terms = {
            "flow": self.flow_loss(text, latents * self.config.scale, settings.null_share),
            "prior": prior_term(posterior, settings.prior),
            "alignment": self.alignment_term(text, condition, settings.alignment),
        }
        total = terms["flow"] + settings.prior.weight * terms["prior"]
        return {"total": total + settings.alignment.weight * terms["alignment"], **terms}

    def alignment_term(self, text: Tensor, condition: TextCondition, settings: Alignment) -> Tensor:
        """Return the alignment loss, a scalar, between text tokens (B, N, C) and the text states of B captions.

        The batch is the part that one process handles in one accumulation step.
        """
        states = self.alignment(condition.sequence.to(self.output.weight.dtype))  # (B, N, C)
        if isinstance(settings, CosineAlignment):
            return cosine_alignment(text, states, settings.margin)
        return contrastive_alignment(text, states, self.log_scale)


class FlowCaptioner(Flow):
    """Image-to-text generator: the posterior of the tokens of B images → text tokens (B, N, C).

    The text tokenizer's decoder makes captions of them. The paper describes this direction in a few lines; what they
    leave open is decided in docs/decisions/0021.
    """

    config: CaptionFlowConfig

    def __init__(self, config: CaptionFlowConfig) -> None:
        super().__init__(config)
        self.config = config

    @property
    def target_scale(self) -> float:
        return self.config.text_scale

    def source(self, condition: Posterior) -> Posterior:
        """Return the distribution of scaled image tokens (B, N, C), of which an image's posterior is the condition."""
        mean, log_variance = condition
        scale = self.config.scale
        return Posterior(mean * scale, log_variance + 2 * math.log(scale))  # (B, N, C) each

    def loss(self, latents: Tensor, condition: Posterior, settings: CaptionFlowLoss) -> dict[str, Tensor]:
        """Return the training loss `total`, a scalar, from latents (B, N, C) of images to the posterior of text tokens.

        Both kinds of tokens are sampled from their posteriors anew in every step, and neither tokenizer is trained.
        """
        text = condition.sample(None)  # (B, N, C)
        start, end = latents * self.config.scale, text * self.config.text_scale  # (B, N, C) each
        flow = self.flow_loss(start, end, settings.null_share)
        return {"total": flow}


def alignment_target(config: FlowTokConfig) -> nn.Module:
    """Return what maps text states (B, N, S) to what text tokens are compared with, (B, N, C)."""
    if config.alignment_target == "average":
        return nn.AdaptiveAvgPool1d(config.channels)
    return nn.Sequential(
        *(nn.Linear(config.text_width, ALIGNMENT_WIDTH), nn.SiLU()),
        *(nn.Linear(ALIGNMENT_WIDTH, ALIGNMENT_WIDTH), nn.SiLU()),
        nn.Linear(ALIGNMENT_WIDTH, config.channels),
    )


def prior_term(posterior: Posterior, prior: TextPrior) -> Tensor:
    """Return the divergence of text tokens from a standard normal, in the form that params ask for, a scalar.

    It is summed over the tokens of a caption and averaged over the batch.
    """
    divergence = flat_divergence(*posterior) if prior.form == "flat" else posterior.divergence()  # (B, N)
    return divergence.sum(dim=1).mean()
