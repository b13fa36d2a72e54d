"""Training a tokenizer against its discriminator: phases, what reaches which weights, resuming, guards."""

from __future__ import annotations

import copy
import dataclasses
import os
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import Accelerator, PartialState
from accelerate.state import AcceleratorState
from torch import Tensor, nn

from onetok.data.batches import Batch
from onetok.errors import OnetokError
from onetok.losses.adversarial import LeCam
from onetok.losses.reconstruction import PerceptualTerm, ReconstructionLoss
from onetok.study.load import load_study
from onetok.study.schema.architecture import TransformerSize, VectorQuantizerConfig
from onetok.study.schema.tokenizers import TokenizerLosses
from onetok.study.schema.training import TokenizerTraining
from onetok.systems.registry import system_of
from onetok.systems.titok.model import TiTok
from onetok.systems.titok.schema import TiTokConfig, TiTokInit
from onetok.training import objectives
from onetok.training.loop import History, Task, train
from onetok.training.objectives import PixelObjective
from onetok.training.tasks import discriminator_phase, tokenizer_task
from onetok.training.tokenizer_losses import adversarial_term
from tests.conftest import REPOSITORY

STEPS, START, SIZE = 6, 2, 16
# A large epsilon: the gradient of a key's bias is rounding noise, which AdamW would otherwise blow up.
OPTIMIZER = {"learning_rate": 1e-2, "betas": [0.9, 0.99], "epsilon": 1e-4, "weight_decay": 1e-2}

ADVERSARIAL = {
    "discriminator": {"width": 8, "stages": [8, 16], "groups": 4, "side": 4},
    "weight": 0.1,
    "start": START,
    "lecam": {"weight": 0.01, "decay": 0.9},
    "optimizer": OPTIMIZER,
    "schedule": {"kind": "cosine", "warmup": 1, "end": 1e-4, "steps": STEPS - START},
}

TRAINING = {
    "steps": STEPS,
    "batch": 4,
    "accumulation": 1,
    "seed": 0,
    "precision": "float32",
    "max_gradient_norm": 1.0,
    "ema_decay": 0.9,
    "optimizer": OPTIMIZER,
    "schedule": {"kind": "cosine", "warmup": 1, "end": 1e-4},
    "log_every": 3,
    "checkpoint_every": 3,
    "picture_every": 100,
    "codebook_floor": None,
}


def read_noise(positions: np.ndarray, indices: np.ndarray) -> Batch:
    images = [np.random.default_rng(i).integers(0, 256, (3, SIZE, SIZE), np.uint8) for i in indices]
    return Batch.of(torch.from_numpy(np.stack(images)), torch.from_numpy(indices))


class InterruptedRunError(Exception):
    pass


def build(
    adversarial: dict | None = ADVERSARIAL, perceptual: Sequence[PerceptualTerm] = (), **training
) -> tuple[Task, TokenizerTraining]:
    torch.manual_seed(0)
    size = TransformerSize(width=16, layers=1, heads=2)
    model = TiTok(
        TiTokConfig(
            image_size=SIZE,
            encoder=size,
            decoder=size,
            encoder_patch=8,
            decoder_patch=8,
            tokens=4,
            quantizer=VectorQuantizerConfig(
                codebook_size=16, channels=4, normalize=True, commitment=0.25, clustering=True
            ),
            init=TiTokInit(
                linear_std=None, positions="normal", position_scale=1.0, query_key_gain=1.0, output_gain=1.0
            ),
        )
    )
    settings = TokenizerTraining.model_validate(TRAINING | training)
    losses = TokenizerLosses.model_validate(
        {"l1": 0.0, "l2": 1.0, "quantizer": 1.0, "perceptual": [], "adversarial": adversarial}
    )
    term = adversarial_term(losses.adversarial) if losses.adversarial else None
    loss = ReconstructionLoss(l1=losses.l1, l2=losses.l2, quantizer=losses.quantizer, perceptual=perceptual)
    objective = PixelObjective(model, loss, term, None)
    task = tokenizer_task(
        objective,
        system_of(objective.model).no_decay,
        read_noise,
        32,
        losses.adversarial,
        settings,
        PartialState(cpu=True),
        0,
        draw=lambda model: torch.zeros(1),
    )
    return task, settings


def run(task: Task, training: TokenizerTraining, scratch: Path) -> tuple[nn.Module, History]:
    return train(task, training, Accelerator(cpu=True), scratch, "test", lambda *_: None)


def stopping_after(task: Task, steps: int) -> Task:
    def some(start: int) -> Iterator[Batch]:
        for index, batch in enumerate(task.batches(start)):
            if index == steps:
                raise InterruptedRunError
            yield batch

    return dataclasses.replace(task, batches=some)


def every_tensor(task: Task, exported: nn.Module) -> dict[str, Tensor]:
    """Return weights, running means, moments of the optimizers, and the average."""
    tensors = {f"exported.{name}": tensor for name, tensor in exported.state_dict().items()}
    for phase in task.phases:
        tensors |= {f"{phase.name}.{name}": tensor for name, tensor in phase.module.state_dict().items()}
        for index, state in phase.optimizer.state_dict()["state"].items():
            tensors |= {f"{phase.name}.{index}.{name}": tensor for name, tensor in state.items()}
    return {name: tensor.clone() for name, tensor in tensors.items()}


@pytest.mark.parametrize("accumulation", [1, 2])
@pytest.mark.parametrize("start", [1, 3])
def test_resuming_changes_no_bit(tmp_path, start, accumulation):
    """The checkpoint after step 3 holds a discriminator under way (start 1), or not yet begun (start 3)."""
    adversarial = ADVERSARIAL | {"start": start}
    task, training = build(adversarial, accumulation=accumulation)
    exported, history = run(task, training, tmp_path / "whole")
    whole = every_tensor(task, exported)

    task, training = build(adversarial, accumulation=accumulation)
    with pytest.raises(InterruptedRunError):
        run(stopping_after(task, 3), training, tmp_path / "parts")

    task, training = build(adversarial, accumulation=accumulation)
    for phase in task.phases:  # nothing may come from the initialisation
        nn.utils.vector_to_parameters(
            torch.zeros(sum(p.numel() for p in phase.module.parameters())), phase.module.parameters()
        )
    exported, resumed = run(task, training, tmp_path / "parts")
    parts = every_tensor(task, exported)

    assert whole.keys() == parts.keys()
    assert [name for name in whole if not torch.equal(whole[name], parts[name])] == []
    assert resumed.rows == history.rows
    assert whole["discriminator.loss.lecam.real_mean"] != 0


class Watched(nn.Module):
    """A perceptual network that notes what it computes in."""

    def __init__(self) -> None:
        super().__init__()
        self.network = nn.Conv2d(3, 4, 1)
        self.seen: set[torch.dtype] = set()

    def features(self, images: Tensor) -> Tensor:
        made: Tensor = self.network(images)
        self.seen.add(made.dtype)
        return made


@pytest.fixture
def bfloat16() -> Iterator[Accelerator]:
    AcceleratorState._reset_state()
    yield Accelerator(cpu=True, mixed_precision="bf16")
    AcceleratorState._reset_state()


def test_only_the_trained_model_computes_in_lower_precision(tmp_path, bfloat16):
    """Perceptual networks, discriminator and losses are outside autocast, as in the release."""
    watched = Watched()
    perceptual = PerceptualTerm(extractor=watched, layer="features", weight=1.0)
    task, training = build(ADVERSARIAL | {"start": 0}, precision="bfloat16", steps=2, perceptual=[perceptual])
    seen: dict[str, set[torch.dtype]] = {"model": set(), "discriminator": set()}
    discriminator = task.phases[1].module.discriminator
    for name, module in (("model", task.model.encoder.blocks[0].mlp), ("discriminator", discriminator)):
        module.register_forward_hook(lambda *call, name=name: seen[name].add(call[-1].dtype))
    _, history = train(task, training, bfloat16, tmp_path, "test", lambda *_: None)
    assert seen == {"model": {torch.bfloat16}, "discriminator": {torch.float32}}
    assert watched.seen == {torch.float32}
    assert {"train/adversarial", "train/perceptual_0", "discriminator/hinge"} <= history.rows[-1].keys()


def test_before_its_start_the_gan_changes_nothing(tmp_path):
    without, training = build(None)
    exported, _ = run(without, training, tmp_path / "without")
    late, training = build(ADVERSARIAL | {"start": STEPS})
    untouched = copy.deepcopy(late.phases[1].module.state_dict())
    same, history = run(late, training, tmp_path / "late")
    for name, tensor in exported.state_dict().items():
        assert torch.equal(tensor, same.state_dict()[name]), name
    for name, tensor in late.phases[1].module.state_dict().items():
        assert torch.equal(tensor, untouched[name]), name
    assert not any("adversarial" in name or "discriminator" in name for row in history.rows for name in row)


def test_scalars_are_means_over_the_steps_that_gave_them(tmp_path):
    task, training = build(log_every=1, checkpoint_every=1)
    _, single = run(task, training, tmp_path / "each")
    task, training = build()
    _, thirds = run(task, training, tmp_path / "thirds")
    assert "train/adversarial" not in single.rows[START - 1]
    # The first row of three steps holds one step of the discriminator.
    for name in ("discriminator/hinge", "discriminator/lecam", "train/adversarial"):
        assert thirds.rows[0][name] == pytest.approx(single.rows[START][name], rel=1e-6)
        expected = np.mean([row[name] for row in single.rows[3:]])
        assert thirds.rows[1][name] == pytest.approx(expected, rel=1e-5)


def test_the_tokenizer_runs_once_a_step(tmp_path):
    task, training = build()
    calls = []
    task.model.register_forward_hook(lambda *_: calls.append(1))
    run(task, training, tmp_path)
    assert len(calls) == STEPS


def test_each_term_reaches_its_own_weights():
    task, _ = build(ADVERSARIAL | {"start": 0, "weight": 1e3})
    tokenizer, discriminator = (phase.module for phase in task.phases)
    batch = read_noise(np.arange(4), np.arange(4))

    own = {id(p) for p in discriminator.parameters()}
    assert not own & {id(p) for p in tokenizer.parameters()}
    tokenizer(batch, 0)["total"].backward()
    assert all(p.grad is None for p in discriminator.parameters())
    with_term = [p.grad.clone() for p in task.model.parameters()]
    task.model.zero_grad()
    discriminator(batch, 0)["total"].backward()
    assert all(p.grad is None for p in task.model.parameters())
    assert all(p.grad is not None for p in discriminator.parameters())

    plain, _ = build(None)
    plain.phases[0].module(batch, 0)["total"].backward()
    without_term = [p.grad for p in plain.model.parameters()]
    assert any(not torch.allclose(a, b) for a, b in zip(with_term, without_term, strict=True))


def test_learning_rate_of_the_discriminator_spans_its_own_training():
    task, _ = build()
    tokenizer, discriminator = task.phases
    assert [phase.learning_rate(phase.start) for phase in task.phases] == [0, 0]
    assert discriminator.learning_rate(START + 1) == pytest.approx(1e-2)
    # Both cosines end where training ends, whatever the number of processes: they are functions of the step.
    assert tokenizer.learning_rate(STEPS) == pytest.approx(1e-4)
    assert discriminator.learning_rate(STEPS) == pytest.approx(1e-4)


@pytest.mark.parametrize(
    ("name", "end"),
    [
        ("tatitok/bl128-vq", 2.92e-5),
        ("titok/datacomp-bl64-kl", 2.92e-5),
        ("titok_stage_2/l32", 1.03e-5),
        ("titok/bl64-vq8k", 1e-5),
    ],
)
def test_the_papers_discriminators_end_at_the_rate_of_the_release(name, end):
    """A schedule that is longer than what is left of training does not reach its end."""
    entry = load_study(REPOSITORY).tokenizers[name]
    task, _ = build(ADVERSARIAL)
    phase = discriminator_phase(task.phases[0].module, entry.losses.adversarial)
    assert phase.learning_rate(entry.training.steps) == pytest.approx(end, rel=2e-3)


@pytest.mark.slow
def test_two_processes_train_as_one(tmp_path):
    """LeCam, hinge, codebook and usage are functions of the global batch, and so they are after an interruption."""
    task, training = build()
    one, history = run(task, training, tmp_path / "one")
    torch.multiprocessing.spawn(_train_as_rank, (tmp_path, _free_port()), nprocs=2)
    two = torch.load(tmp_path / "two.pt", weights_only=True)
    for name, tensor in every_tensor(task, one).items():
        torch.testing.assert_close(two["tensors"][name], tensor, rtol=1e-4, atol=1e-5, msg=name)
    for ours, theirs in zip(history.rows, two["rows"], strict=True):
        assert ours == pytest.approx(theirs, rel=1e-4)


def _train_as_rank(rank: int, folder: Path, port: int) -> None:
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "ACCELERATE_USE_CPU": "true"}
    accelerator = Accelerator(cpu=True)
    assert accelerator.num_processes == 2
    task, training = build()
    with pytest.raises(InterruptedRunError):
        train(stopping_after(task, 4), training, accelerator, folder / "two", "test", lambda *_: None)
    task, training = build()
    exported, history = train(task, training, accelerator, folder / "two", "test", lambda *_: None)
    if accelerator.is_main_process:
        torch.save({"tensors": every_tensor(task, exported), "rows": history.rows}, folder / "two.pt")
    accelerator.end_training()


def _free_port() -> int:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        port: int = server.getsockname()[1]
        return port


def test_running_means_rest_in_evaluation():
    lecam = LeCam(decay=0.9).eval()
    lecam(torch.ones(2, 1, 4, 4), -torch.ones(2, 1, 4, 4))
    assert lecam.real_mean == 0 and lecam.fake_mean == 0


# ---------------------------------------------------------------------------------------------- guards


def test_a_collapsed_codebook_stops_training(tmp_path):
    task, training = build(None, codebook_floor={"usage": 1.0, "after": 3})
    with pytest.raises(OnetokError) as caught:
        run(task, training, tmp_path)
    message = str(caught.value)
    assert "train/codebook_usage is 0." in message and "at step 6, expected at least 1.0" in message
    assert str(tmp_path / "step-000000003.pt") in message
    assert not (tmp_path / "step-000000006.pt").exists()


def test_codebook_usage_is_counted_over_the_interval(tmp_path, monkeypatch):
    """Three steps of one entry each, another one every step, use three of 16 entries."""
    used = lambda model, tokens: {"codebook_usage": torch.eye(model.codebook_size)[next(entries)]}  # noqa: E731
    monkeypatch.setattr(objectives, "codebook_counts", used)
    entries = iter(range(STEPS))
    task, training = build(None)
    _, history = run(task, training, tmp_path)
    assert [row["train/codebook_usage"] for row in history.rows] == [3 / 16, 3 / 16]


def test_a_loss_that_is_not_finite_stops_training(tmp_path):
    task, training = build()
    forward = task.phases[1].module.forward

    def broken(batch: Batch, step: int) -> dict[str, Tensor]:
        losses = forward(batch, step)
        return losses | {"total": losses["total"] * (float("nan") if step == 5 else 1)}

    task.phases[1].module.forward = broken
    with pytest.raises(
        OnetokError, match=r"discriminator/total is nan at step 6, expected a finite number; last"
    ):
        run(task, training, tmp_path)
