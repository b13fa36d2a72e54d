"""The GAN terms of tokenizer training: hinge loss, generator term, LeCam regulariser (arXiv 2104.03310).

Legend: B batch · S side of the logit map.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from onetok.models.discriminator import Discriminator


def hinge_loss(real: Tensor, fake: Tensor) -> Tensor:
    """Return what the discriminator minimises: real logits above 1, fake ones below -1."""
    return 0.5 * (F.relu(1 - real).mean() + F.relu(1 + fake).mean())


def generator_loss(fake: Tensor) -> Tensor:
    """Return what the tokenizer minimises: reconstructions that look real."""
    return -fake.mean()


@dataclass(frozen=True, kw_only=True)
class AdversarialTerm:
    """The tokenizer's side of the GAN; a constant weight, not balanced by gradient norms.

    No module, so that the tokenizer's objective, optimizer and checkpoint do not hold the discriminator.
    """

    discriminator: Discriminator
    weight: float
    start: int  # first step in which it counts

    def __call__(self, images: Tensor) -> Tensor:
        """Return the unweighted term; its gradient reaches the images, not the discriminator."""
        frozen = {name: p.detach() for name, p in self.discriminator.named_parameters()}
        fake: Tensor = functional_call(self.discriminator, frozen, (images,))
        return generator_loss(fake.float())


class LeCam(nn.Module):
    """Keep real and fake logits near the running mean of the other kind.

    The running means are buffers: they are part of a checkpoint. They follow the mean over all processes, so that a run
    is the same function of its global batch however many processes share it. In the release each process follows the
    mean of its own share of the batch, and the first one's means are kept.
    """

    real_mean: Tensor
    fake_mean: Tensor

    def __init__(self, decay: float) -> None:
        super().__init__()
        self.decay = decay
        self.register_buffer("real_mean", torch.zeros(()))
        self.register_buffer("fake_mean", torch.zeros(()))

    def forward(self, real: Tensor, fake: Tensor) -> Tensor:
        """Return the penalty, and update the means after their use, in training only."""
        real_now, fake_now = _mean_over_processes(real), _mean_over_processes(fake)
        loss = F.relu(real_now - self.fake_mean).square() + F.relu(self.real_mean - fake_now).square()
        if self.training:
            self.real_mean.mul_(self.decay).add_(real_now.detach(), alpha=1 - self.decay)
            self.fake_mean.mul_(self.decay).add_(fake_now.detach(), alpha=1 - self.decay)
        return loss


class DiscriminatorLoss(nn.Module):
    """Logits of real and of reconstructed images (B, 1, S, S) → hinge loss plus weighted LeCam penalty."""

    def __init__(self, lecam_weight: float, lecam_decay: float) -> None:
        super().__init__()
        self.lecam_weight = lecam_weight
        self.lecam = LeCam(lecam_decay)

    def forward(self, real: Tensor, fake: Tensor) -> dict[str, Tensor]:
        real, fake = real.float(), fake.float()
        hinge, lecam = hinge_loss(real, fake), self.lecam(real, fake)
        return {
            "total": hinge + self.lecam_weight * lecam,
            "hinge": hinge,
            "lecam": lecam,
            "real": real.mean(),
            "fake": fake.mean(),
        }


def _mean_over_processes(logits: Tensor) -> Tensor:
    """Return the mean of the global batch, with the gradient of this process's share.

    Averaged over processes, as gradients are, these shares are the gradient of a function of the global mean.
    """
    mean = logits.mean()
    if not dist.is_initialized():
        return mean
    everywhere = mean.detach().clone()
    dist.all_reduce(everywhere, op=dist.ReduceOp.SUM)
    return mean + (everywhere / dist.get_world_size() - mean).detach()
