"""MaskGen-KL: text-to-image generation of continuous tokens (arXiv 2501.07730, section 4.2).

Tokens are masked as in MaskGIT. An MM-DiT over [image tokens; text states] says of every masked token what is known
of it, and a diffusion head draws the token's latents from that. Sampling reveals tokens in an order of its own for
each image (sampling.latents).

Legend: B batch · N tokens · M masked ones · C channels · D width · A width of the embedded aesthetic score.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from einops import repeat
from torch import Tensor, nn

from onetok.losses.diffusion import TRAINED_STEPS, diffusion_loss, trained_diffusion
from onetok.models.diffusion_head import DiffusionHead, DiffusionHeadConfig
from onetok.models.layers import sincos_1d
from onetok.models.mmdit import EPS, MMDiT, MMDiTConfig, Reading, TextCondition
from onetok.sampling.latents import LatentSampling, sample_latents
from onetok.sampling.schedules import MaskSchedule
from onetok.sampling.seeds import ImageRandom


@dataclass(frozen=True, kw_only=True, slots=True)
class MaskGenKLConfig:
    channels: int  # C
    tokens: int  # N
    scale: float  # of the latents, to a variance near 1
    backbone: MMDiTConfig
    head_width: int
    head_layers: int
    text_dropout: float  # share of training samples that see the empty caption
    init_std: float  # of mask token and positions


class MaskGenKL(nn.Module):
    """Generator: captions → latents (B, N, C)."""

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

    def read(self, condition: TextCondition) -> Reading:
        """Compute what depends on the condition alone."""
        aesthetic = sincos_1d(100 * condition.aesthetic, self.config.backbone.aesthetic_width, period=10000.0)
        cos, sin = aesthetic.chunk(2, dim=1)
        aesthetic = torch.stack([sin, cos], dim=2).flatten(1)  # (B, A), sin and cos of each frequency in turn
        return self.backbone.read(condition.sequence, condition.pooled, aesthetic)

    def forward(self, latents: Tensor, masked: Tensor, reading: Reading) -> Tensor:
        """Return the head's states (B, N, D) of scaled latents (B, N, C), those where masked (B, N) bool unseen."""
        x = self.norm_in(self.input(latents))  # (B, N, D)
        x = torch.where(masked[..., None], self.mask_token, x) + self.positions
        states: Tensor = self.backbone(x, reading) + self.output_positions
        return states

    def loss(
        self, latents: Tensor, condition: TextCondition, schedule: MaskSchedule, repeats: int
    ) -> dict[str, Tensor]:
        """Mask latents (B, N, C) unscaled, drop some captions, and score the head on the masked tokens.

        One share of tokens is masked in all images of this call: every process and accumulated part draws its own.
        The head sees every masked token `repeats` times, each time with other noise of another step. Returns means
        over these, (): `total`, of which `mse` is the noise's and `bound` the variance's, in bits a channel.
        """
        latents = latents * self.config.scale
        count = math.ceil(self.config.tokens * float(schedule.ratio(torch.rand(()))))  # M
        order = torch.rand(latents.shape[:2], device=latents.device).argsort(dim=1)  # (B, N)
        masked = order < count
        dropped = torch.rand(len(latents), device=latents.device) < self.config.text_dropout
        states = self(latents, masked, self.read(condition.dropped(dropped)))
        return self.head_loss(latents[masked], states[masked], repeats)

    def head_loss(self, latents: Tensor, states: Tensor, repeats: int) -> dict[str, Tensor]:
        """Score the head on scaled latents (R, C) under states (R, D); returns what `loss` does."""
        latents, states = (repeat(x, "r c -> (n r) c", n=repeats) for x in (latents.float(), states))
        t = torch.randint(TRAINED_STEPS, (len(latents),), device=latents.device)
        noise = torch.randn_like(latents)
        noisy = trained_diffusion(latents.device).noisy(latents, noise, t)
        prediction = self.head(noisy.to(states.dtype), t, states)
        return {
            name: term.mean() for name, term in diffusion_loss(prediction, latents, noisy, noise, t).items()
        }

    @torch.inference_mode()
    def sample(self, condition: TextCondition, sampling: LatentSampling, random: ImageRandom) -> Tensor:
        """Draw latents (B, N, C) float32, unscaled; row i uses its own generator of `random`."""
        assert not self.training, "sample() is for evaluation: call eval() first"
        return sample_latents(self, condition, sampling, random)

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
