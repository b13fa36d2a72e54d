"""TiTok as its paper trains it, in two stages (arXiv 2406.07550, section 3.3).

Stage 1, warm-up: the decoder predicts the codes that a frozen MaskGIT-VQGAN gives the image (proxy codes), by
cross-entropy. Stage 2, decoder fine-tuning: the predicted distribution over codes, times the VQGAN's
codebook, goes through the VQGAN's decoder to pixels; that decoder, its codebook and the ViT decoder learn
from pixel losses, while the encoder, the latent tokens and TiTok's own codebook stay as they are. Both stages
have the same tensors, so stage 2 starts from a plain copy of stage 1.

Legend: B batch · g patches a side · D width · N latent tokens · V proxy codes · C channels of a proxy code.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple, Self

import torch
from einops import rearrange
from torch import Tensor, nn

from onetok.models import vqgan
from onetok.models.quantizers import Tokens
from onetok.models.titok import Encoder, PatchDecoder, TiTok, TiTokConfig


class CodePrediction(NamedTuple):
    logits: Tensor  # (B, g², V)
    tokens: Tokens
    losses: dict[str, Tensor]  # the quantizer's terms


@dataclass(frozen=True, kw_only=True, slots=True)
class TwoStageConfig(TiTokConfig):
    stage: Literal[1, 2]  # what is trained, the rest is frozen
    memory: Literal["transposed", "reinterpreted"]  # how latent tokens reach the encoder's head, see `mix`
    proxy: vqgan.VQGANConfig

    def __post_init__(self) -> None:
        TiTokConfig.__post_init__(self)
        proxy, grid = self.proxy, self.image_size // self.decoder_patch
        if (self.image_size, grid) != (proxy.image_size, proxy.grid):
            expected = f"the proxy's {proxy.image_size} px on a grid of {proxy.grid}"
            raise ValueError(f"{self.image_size} px on a grid of {grid} do not match {expected}")


def mix(x: Tensor) -> Tensor:
    """Read the memory of (B, N, D) as (B, D, N): no transposition, so tokens and channels mix.

    The published two-stage models were trained so.
    """
    flat = rearrange(x, "b n d -> b (n d)")
    return rearrange(flat, "b (d n) -> b n d", n=x.shape[1])  # (B, N, D)


class TwoStageEncoder(Encoder):
    def __init__(self, config: TwoStageConfig) -> None:
        super().__init__(config)
        self.reinterprets = config.memory == "reinterpreted"

    def forward(self, images: Tensor, latent_tokens: Tensor) -> Tensor:
        x = self.read(images, latent_tokens)  # (B, N, D)
        out: Tensor = self.head(mix(x) if self.reinterprets else x)  # (B, N, channels of a token)
        return out


class CodeDecoder(PatchDecoder):
    """Latent tokens in, logits over the proxy codes of every patch out."""

    def __init__(self, config: TwoStageConfig) -> None:
        super().__init__(config)
        width = config.decoder.width
        self.to_codes = nn.Sequential(
            nn.Linear(width, 2 * width),
            nn.Tanh(),
            nn.Linear(2 * width, config.proxy.quantizer.codebook_size),
        )

    @property
    def output(self) -> nn.Linear:
        last = self.to_codes[-1]
        assert isinstance(last, nn.Linear)
        return last

    def forward(self, latents: Tensor, context: Tensor | None = None) -> Tensor:
        logits: Tensor = self.to_codes(self.read(latents, context))  # (B, g², V)
        return logits


class TiTokTwoStage(TiTok):
    """Tokenizer: images (B, 3, H, W) float32 in [0, 1] ↔ N tokens, by way of a VQGAN's codes."""

    encoder_type: ClassVar[type[Encoder]] = TwoStageEncoder
    decoder_type: ClassVar[type[PatchDecoder]] = CodeDecoder

    def __init__(self, config: TwoStageConfig) -> None:
        super().__init__(config)
        codes = config.proxy.quantizer
        self.pixel_codebook = nn.Embedding(codes.codebook_size, codes.channels)
        self.pixel_decoder = vqgan.Decoder(config.proxy)
        self.stage = config.stage
        for frozen in self.frozen():
            frozen.requires_grad_(False)

    def frozen(self) -> list[nn.Module | nn.Parameter]:
        """Return what the stage does not train: the pixel path in stage 1, the way to tokens in stage 2."""
        if self.stage == 1:
            return [self.pixel_codebook, self.pixel_decoder]
        return [self.encoder, self.latent_tokens, self.quantizer]

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        if self.stage == 2:
            self.quantizer.eval()  # a clustering codebook would move without gradients
        return self

    def adopt(self, proxy: vqgan.VQGAN) -> None:
        """Copy the codebook and the decoder of the VQGAN whose codes stage 1 predicts."""
        self.pixel_codebook.load_state_dict(proxy.quantizer.codebook.state_dict())
        self.pixel_decoder.load_state_dict(proxy.decoder.state_dict())

    def code_logits(self, tokens: Tokens) -> Tensor:
        logits: Tensor = self.decoder(tokens.latents)  # (B, g², V)
        return logits

    def predict_codes(self, images: Tensor, generator: torch.Generator | None = None) -> CodePrediction:
        """Stage 1's forward."""
        tokens, losses = self.quantize(images, generator)
        return CodePrediction(self.code_logits(tokens), tokens, losses)

    def decode(self, tokens: Tokens, text: Tensor | None = None) -> Tensor:
        codes = self.code_logits(tokens).softmax(dim=-1) @ self.pixel_codebook.weight  # (B, g², C)
        images: Tensor = self.pixel_decoder(rearrange(codes, "b (h w) c -> b c h w", h=self.decoder.grid))
        return images  # (B, 3, H, W)
