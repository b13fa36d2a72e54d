"""MaskGen-KL: text-to-image generation of continuous tokens (arXiv 2501.07730, section 4.2).

Tokens are masked as in MaskGIT. An MM-DiT over [image tokens; text states] outputs a state for each masked token, on
which a diffusion head is conditioned that samples the token's latents, as in MAR (arXiv 2406.11838). Sampling reveals
the tokens of each image in a random order (sampling.py).

Legend: B batch · N tokens · M masked tokens · C channels · D width · A width of the embedded aesthetic score
        · R latents in the head's batch.
"""

from __future__ import annotations

import math

import torch
from einops import repeat
from torch import Tensor, nn

from onetok.losses.diffusion import TRAINED_STEPS, diffusion_loss, trained_diffusion
from onetok.nn.layers import sincos_1d
from onetok.nn.protocols import LatentGenerator, TextWidths
from onetok.nn.text_condition import TextCondition
from onetok.sampling.schedules import MaskSchedule
from onetok.systems.maskgen.diffusion_head import DiffusionHead
from onetok.systems.maskgen.mmdit import EmbeddedCondition, MMDiT
from onetok.systems.maskgen.schema import DiffusionHeadConfig, DiffusionLoss, MaskGenKLConfig

EPS = 1e-6  # of the norm of embedded latents


class MaskGenKL(LatentGenerator):
    """Text-to-image generator: the TextCondition of B captions → latents (B, N, C)."""

    def __init__(self, config: MaskGenKLConfig) -> None:
        super().__init__()
        self.config = config
        width = config.backbone.width
        self.input = nn.Linear(config.channels, width)
        self.norm_in = nn.LayerNorm(width, eps=EPS)
        self.mask_token = nn.Parameter(torch.empty(width))
        self.positions = nn.Parameter(torch.empty(config.tokens, width))
        self.backbone = MMDiT(config.backbone)
        self.output_positions = nn.Parameter(torch.empty(config.tokens, width))
        self.head = DiffusionHead(
            DiffusionHeadConfig(
                channels=config.channels,
                width=config.head_width,
                layers=config.head_layers,
                condition_width=width,
            )
        )
        self._initialise()

    @property
    def tokens(self) -> int:
        return self.config.tokens

    @property
    def text_widths(self) -> TextWidths:
        backbone = self.config.backbone
        return TextWidths(backbone.text_width, backbone.pooled_width, None)

    def embed_condition(self, condition: TextCondition) -> EmbeddedCondition:
        """Return the embedded condition, which does not depend on image tokens and is computed once in sampling."""
        width = self.config.backbone.aesthetic_width
        aesthetic = sincos_1d(100 * condition.aesthetic, width, period=10000.0)  # (B, A)
        cos, sin = aesthetic.chunk(2, dim=1)  # (B, A/2) each
        aesthetic = torch.stack([sin, cos], dim=2).flatten(1)  # (B, A), sin and cos of each frequency in turn
        return self.backbone.embed_condition(condition.sequence, condition.pooled, aesthetic)

    def forward(self, latents: Tensor, masked: Tensor, embedded: EmbeddedCondition) -> Tensor:
        """Return the states (B, N, D) that condition the diffusion head, given scaled latents (B, N, C).

        Latents are replaced by the mask token where masked (B, N) bool is true.
        """
        x = self.norm_in(self.input(latents))  # (B, N, D)
        x = torch.where(masked[..., None], self.mask_token, x) + self.positions  # (B, N, D)
        states: Tensor = self.backbone(x, embedded) + self.output_positions  # (B, N, D)
        return states

    def loss(self, latents: Tensor, condition: TextCondition, settings: DiffusionLoss) -> dict[str, Tensor]:
        """Mask unscaled latents (B, N, C), drop some captions, and return the diffusion loss of the masked tokens.

        The same number of tokens is masked in all images of a call; each process and each accumulated part samples its
        own number. The head is trained on every masked token `settings.repeats` times, each time with another step and
        other noise. Returns means over these, scalars: `total` and its terms, `mse` of the noise and `bound` of the
        variance in bits per channel (losses/diffusion.py).
        """
        latents, schedule = latents * self.config.scale, MaskSchedule(settings.mask_schedule)
        count = math.ceil(self.config.tokens * float(schedule.ratio(torch.rand(()))))  # M
        order = torch.rand(latents.shape[:2], device=latents.device).argsort(dim=1)  # (B, N)
        masked = order < count  # (B, N), M of each row
        dropped = torch.rand(len(latents), device=latents.device) < self.config.text_dropout  # (B,)
        states = self(latents, masked, self.embed_condition(condition.dropped(dropped)))  # (B, N, D)
        return self.head_loss(latents[masked], states[masked], settings.repeats)

    def head_loss(self, latents: Tensor, states: Tensor, repeats: int) -> dict[str, Tensor]:
        """Return the same losses for scaled latents (R, C), the head being conditioned on states (R, D)."""
        # From here on R counts every latent `repeats` times.
        latents, states = (repeat(x, "r c -> (n r) c", n=repeats) for x in (latents.float(), states))
        t = torch.randint(TRAINED_STEPS, (len(latents),), device=latents.device)  # (R,)
        noise = torch.randn_like(latents)  # (R, C)
        noisy = trained_diffusion(latents.device).noisy(latents, noise, t)  # (R, C)
        prediction = self.head(noisy.to(states.dtype), t, states)  # (R, 2C)
        return {
            name: term.mean() for name, term in diffusion_loss(prediction, latents, noisy, noise, t).items()
        }

    def _initialise(self) -> None:
        streams = [stream for block in self.backbone.each_block() for stream in (block.image, block.text)]
        packed = {
            stream.qkv for stream in streams
        }  # queries, keys and values are three layers of the release
        for module in self.modules():
            if isinstance(module, nn.Linear):
                for weight in module.weight.chunk(3 if module in packed else 1):
                    nn.init.xavier_uniform_(weight)
                nn.init.zeros_(module.bias)
        for parameter in (self.mask_token, self.positions, self.output_positions):
            nn.init.normal_(parameter, std=self.config.init_std)
