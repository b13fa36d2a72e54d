"""TiTok as its paper trains it, in two stages (arXiv 2406.07550, section 3.3).

Stage 1, warm-up: the decoder is trained by cross-entropy to predict the codes of a frozen MaskGIT-VQGAN for the image
(proxy codes). Stage 2, decoder fine-tuning: the predicted distribution over codes, times the VQGAN's codebook, is the
input of the VQGAN's decoder, which outputs pixels. That decoder, its codebook and the ViT decoder are trained with
pixel losses, while the encoder, the latent tokens and TiTok's own codebook are frozen. Both stages have the same
tensors, so stage 2 starts from a copy of stage 1.

Legend: B batch · H,W pixels · g patches a side · D width · N latent tokens · V proxy codes · C their channels.
"""

from __future__ import annotations

from typing import ClassVar, NamedTuple, Self

import torch
from einops import rearrange
from torch import Tensor, nn

from onetok.nn.quantizers import Tokens
from onetok.systems.titok.model import Encoder, LatentDecoder, LatentEncoder, PatchDecoder, TiTok
from onetok.systems.titok.schema import TwoStageConfig
from onetok.systems.vqgan import model as vqgan


class CodePrediction(NamedTuple):
    """The output of stage 1."""

    logits: Tensor  # (B, g², V)
    tokens: Tokens
    losses: dict[str, Tensor]  # the quantizer's terms


def mix(x: Tensor) -> Tensor:
    """Return x (B, N, D) with its memory reinterpreted as (B, D, N) and transposed, which mixes tokens and channels.

    The published two-stage models were trained with this layout.
    """
    flat = rearrange(x, "b n d -> b (n d)")  # (B, N·D)
    return rearrange(flat, "b (d n) -> b n d", n=x.shape[1])  # (B, N, D)


class TwoStageEncoder(Encoder):
    """TiTok's encoder, in the published layout or, if the config asks for it, without mixing tokens and channels."""

    def __init__(self, config: TwoStageConfig) -> None:
        super().__init__(config)
        self.reinterprets = config.memory == "reinterpreted"

    def forward(self, images: Tensor, latent_tokens: Tensor) -> Tensor:
        x = self.transform(images, latent_tokens)  # (B, N, D)
        out: Tensor = self.head(mix(x) if self.reinterprets else x)  # (B, N, token channels)
        return out


class CodeDecoder(PatchDecoder):
    """Latents of tokens → logits over the proxy codes of each patch, (B, g², V)."""

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
        logits: Tensor = self.to_codes(self.transform(latents, context))  # (B, g², V)
        return logits


class TiTokTwoStage(TiTok):
    """Tokenizer: images (B, 3, H, W) float32 in [0, 1] ↔ N tokens, decoded through a VQGAN's codes."""

    encoder_type: ClassVar[type[LatentEncoder]] = TwoStageEncoder
    decoder_type: ClassVar[type[LatentDecoder]] = CodeDecoder

    def __init__(self, config: TwoStageConfig) -> None:
        super().__init__(config)
        self.config: TwoStageConfig = config
        codes = config.proxy.quantizer
        self.pixel_codebook = nn.Embedding(codes.codebook_size, codes.channels)
        self.pixel_decoder = vqgan.Decoder(config.proxy)
        self.stage = config.stage
        for frozen in self.frozen():
            frozen.requires_grad_(False)

    def frozen(self) -> list[nn.Module | nn.Parameter]:
        """Return the parts that are not trained: VQGAN codebook and decoder in stage 1, all up to tokens in stage 2."""
        if self.stage == 1:
            return [self.pixel_codebook, self.pixel_decoder]
        return [self.encoder, self.latent_tokens, self.quantizer]

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        if self.stage == 2:
            self.quantizer.eval()  # in training mode a clustering codebook would change although it is frozen
        return self

    def adopt(self, proxy: vqgan.VQGAN) -> None:
        """Copy the codebook and the decoder of the VQGAN whose codes stage 1 predicts into this model."""
        self.pixel_codebook.load_state_dict(proxy.quantizer.codebook.state_dict())
        self.pixel_decoder.load_state_dict(proxy.decoder.state_dict())

    def code_logits(self, tokens: Tokens) -> Tensor:
        """Return the logits (B, g², V) over the proxy codes of each patch."""
        logits: Tensor = self.decoder(tokens.latents)  # (B, g², V)
        return logits

    def predict_codes(self, images: Tensor, generator: torch.Generator | None = None) -> CodePrediction:
        """Return the logits and quantizer losses of stage 1 for images (B, 3, H, W) float32 in [0, 1]."""
        tokens, losses = self.quantize(images, generator)
        return CodePrediction(self.code_logits(tokens), tokens, losses)

    def decode(self, tokens: Tokens, text: Tensor | None = None) -> Tensor:
        """Return images (B, 3, H, W), near [0, 1], by the expected code vector of each patch; `text` is ignored."""
        codes = self.code_logits(tokens).softmax(dim=-1) @ self.pixel_codebook.weight  # (B, g², C)
        # (B, g², C) → (B, C, g, g) → (B, 3, H, W)
        images: Tensor = self.pixel_decoder(rearrange(codes, "b (h w) c -> b c h w", h=self.decoder.grid))
        return images
