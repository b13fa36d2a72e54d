"""What stage 1 of two-stage TiTok minimises (arXiv 2406.07550, section 3.3)."""

from __future__ import annotations

import torch
from torch import Tensor

from onetok.data.batches import Batch
from onetok.data.images import to_float
from onetok.losses.codes import CodeLoss
from onetok.nn.protocols import Tokenizer
from onetok.systems.titok.two_stage import TiTokTwoStage
from onetok.training.objectives import TokenizerObjective, codebook_counts, in_float32


class CodeObjective(TokenizerObjective):
    """Stage 1 of TiTok: predict the codes that a frozen VQGAN gives the images."""

    model: TiTokTwoStage

    def __init__(self, model: TiTokTwoStage, proxy: Tokenizer, loss: CodeLoss) -> None:
        super().__init__()
        self.model, self.loss = model, loss
        self.proxy = [proxy]  # in a list it is no part of this module: neither trained nor saved

    def forward(self, batch: Batch, step: int) -> dict[str, Tensor]:
        images = to_float(batch.inputs)
        with torch.no_grad(), in_float32(images):
            codes = self.proxy[0].encode(images).ids
        assert codes is not None
        prediction = self.model.predict_codes(images)
        with in_float32(images):
            losses = self.loss(prediction.logits, codes, prediction.losses)
        losses["accuracy"] = (prediction.logits.argmax(dim=-1) == codes).float().mean()
        return losses | codebook_counts(self.model, prediction.tokens)
