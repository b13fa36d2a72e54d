"""The GAN terms of tokenizer training: hinge loss, generator term, LeCam regulariser (arXiv 2104.03310).

Legend: B batch · H,W pixels · S side of the logit map.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call


def hinge_loss(real: Tensor, fake: Tensor) -> Tensor:
    """Return the discriminator's loss, a scalar, of logits (B, 1, S, S): 0 if real ones are ≥ 1 and fake ones ≤ -1."""
    return 0.5 * (F.relu(1 - real).mean() + F.relu(1 + fake).mean())


def generator_loss(fake: Tensor) -> Tensor:
    """Return the tokenizer's term, a scalar: minus the mean of the logits (B, 1, S, S) of its reconstructions."""
    return -fake.mean()


@dataclass(frozen=True, kw_only=True)
class AdversarialTerm:
    """The adversarial term of the tokenizer's loss. Its weight is constant, not balanced by gradient norms.

    This is no module, so that the discriminator is not part of the tokenizer's objective, optimizer and checkpoint.
    """

    discriminator: nn.Module  # images (B, 3, H, W) → logits (B, 1, S, S)
    weight: float
    start: int  # first training step in which the term is added

    def __call__(self, images: Tensor) -> Tensor:
        """Return the unweighted term, a scalar, of reconstructions (B, 3, H, W) near [0, 1].

        Its gradient reaches the images, not the discriminator's parameters.
        """
        frozen = {name: p.detach() for name, p in self.discriminator.named_parameters()}
        fake: Tensor = functional_call(self.discriminator, frozen, (images,))  # (B, 1, S, S)
        return generator_loss(fake.float())


class LeCam(nn.Module):
    """The LeCam regulariser (arXiv 2104.03310), which holds the logits near running means.

    It penalises real logits above the running mean of fake ones, and fake logits below the running mean of real ones.
    The running means are buffers, so checkpoints hold them. They follow the mean over all processes, so that a run
    depends on its global batch and not on the number of processes. In the released code each process follows the mean
    of its own share of the batch, and the checkpoint holds those of the first process.
    """

    real_mean: Tensor  # ()
    fake_mean: Tensor  # ()

    def __init__(self, decay: float) -> None:
        super().__init__()
        self.decay = decay
        self.register_buffer("real_mean", torch.zeros(()))
        self.register_buffer("fake_mean", torch.zeros(()))

    def forward(self, real: Tensor, fake: Tensor) -> Tensor:
        """Return the penalty, a scalar, of logits (B, 1, S, S). In training, update the running means after use."""
        real_now, fake_now = _mean_over_processes(real), _mean_over_processes(fake)  # () each
        loss = F.relu(real_now - self.fake_mean).square() + F.relu(self.real_mean - fake_now).square()
        if self.training:
            self.real_mean.mul_(self.decay).add_(real_now.detach(), alpha=1 - self.decay)
            self.fake_mean.mul_(self.decay).add_(fake_now.detach(), alpha=1 - self.decay)
        return loss


class DiscriminatorLoss(nn.Module):
    """The discriminator's loss: logits (B, 1, S, S) of real and reconstructed images → hinge + weighted LeCam term."""

    def __init__(self, lecam_weight: float, lecam_decay: float) -> None:
        super().__init__()
        self.lecam_weight = lecam_weight
        self.lecam = LeCam(lecam_decay)

    def forward(self, real: Tensor, fake: Tensor) -> dict[str, Tensor]:
        """Return scalars: the loss `total`, its terms `hinge` and `lecam`, and the mean logits `real` and `fake`."""
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
    """Return the mean of logits over all processes, a scalar, whose gradient is that of this process's own mean.

    Training averages gradients over processes; the average is then the gradient of the global mean.
    """
    mean = logits.mean()
    if not dist.is_initialized():
        return mean
    everywhere = mean.detach().clone()
    dist.all_reduce(everywhere, op=dist.ReduceOp.SUM)
    return mean + (everywhere / dist.get_world_size() - mean).detach()
