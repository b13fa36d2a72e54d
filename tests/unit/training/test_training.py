"""The loop: a run is a function of its params, whatever interrupts it."""

from __future__ import annotations

import math
from functools import partial

import pytest
import torch
from accelerate import Accelerator
from torch import nn

from onetok.data.batches import Batch
from onetok.durable import PARTIAL
from onetok.errors import OnetokError
from onetok.nn.quantizers import VectorQuantizer
from onetok.stages.common.fit import check_precision
from onetok.stages.common.runtime import set_tf32
from onetok.study.load import load_study
from onetok.study.schema.architecture import VectorQuantizerConfig
from onetok.study.schema.generators import MaskedLoss
from onetok.study.schema.training import AdamW, Schedule, Training
from onetok.systems.maskgit.model import MaskGIT
from onetok.systems.maskgit.uvit import MaskGITUViT
from onetok.systems.registry import rename_released, system_of
from onetok.systems.titok.model import TiTok
from onetok.training.checkpoints import latest_checkpoint, save_checkpoint
from onetok.training.loop import train
from onetok.training.objectives import MaskedGeneratorObjective, labels_of
from onetok.training.optimizers import decays
from onetok.training.tasks import single_phase
from tests.conftest import REPOSITORY
from tests.parity.cases import load_case
from tests.unit.systems.test_maskgit import CONFIG

WORDS = ("ln", "bias", "latent_tokens", "mask_token", "embed", "norm", "gamma")


def settings(**changes):
    values = {
        "steps": 6,
        "batch": 8,
        "accumulation": 1,
        "seed": 3,
        "precision": "float32",
        "max_gradient_norm": 1.0,
        "ema_decay": 0.9,
        "optimizer": AdamW(learning_rate=1e-2, betas=(0.9, 0.99), epsilon=1e-8, weight_decay=0.1),
        "schedule": Schedule(kind="cosine", warmup=2, end=0.0),
        "log_every": 2,
        "checkpoint_every": 2,
    }
    return Training(**{**values, **changes})


class Ids:
    def __call__(self, positions, indices):
        generator = torch.Generator().manual_seed(0)
        ids = torch.randint(0, CONFIG.codebook_size, (50, CONFIG.tokens), generator=generator)
        labels = torch.from_numpy(indices % CONFIG.classes)
        return Batch.of(ids[indices], labels)


def run(scratch, training, stop=None):
    """Train a tiny generator; `stop` raises after so many steps, as a kill would."""
    torch.manual_seed(training.seed)
    model = MaskGIT(CONFIG)
    settings_ = MaskedLoss(mask_schedule="arccos", label_smoothing=0.1, unmasked_weight=0.1)
    objective = MaskedGeneratorObjective(model, labels_of, settings_)
    accelerator = Accelerator(cpu=True)
    task = single_phase(
        model, objective, system_of(model).no_decay, Ids(), 50, training, accelerator.state, workers=0
    )
    if stop is not None:
        whole = task.batches

        def interrupted(start):
            for step, batch in enumerate(whole(start), start):
                if step == stop:
                    raise KeyboardInterrupt
                yield batch

        task = type(task)(**{**task.__dict__, "batches": interrupted})
    return train(task, training, accelerator, scratch, "test", lambda *_: None)


@pytest.mark.parametrize("stop", [1, 3, 5])
def test_a_resumed_run_ends_with_the_same_bits(tmp_path, stop):
    whole, history = run(tmp_path / "whole", settings())
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "cut", settings(), stop=stop)
    resumed, resumed_history = run(tmp_path / "cut", settings())
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, resumed.state_dict()[name]), name
    assert history.rows == resumed_history.rows


def test_without_a_limit_gradients_are_as_they_are(tmp_path):
    """And a limit that no gradient reaches changes nothing."""
    free, history = run(tmp_path / "free", settings(max_gradient_norm=None))
    wide, _ = run(tmp_path / "wide", settings(max_gradient_norm=1e6))
    tight, _ = run(tmp_path / "tight", settings(max_gradient_norm=1e-3))
    assert all(torch.equal(t, wide.state_dict()[name]) for name, t in free.state_dict().items())
    assert any(not torch.equal(t, tight.state_dict()[name]) for name, t in free.state_dict().items())
    assert all(row["train/gradient_norm"] > 0 for row in history.rows)


def test_float16_on_a_cpu_is_refused():
    message = (
        "maskgit/tiny: training.precision float16: a CPU trains in float32 or bfloat16; take one of these"
    )
    with pytest.raises(OnetokError, match=message):
        check_precision("maskgit/tiny", "float16", torch.device("cpu"))
    for precision in ("float32", "bfloat16"):
        check_precision("maskgit/tiny", precision, torch.device("cpu"))


def test_tf32_on_a_cpu_is_refused():
    with pytest.raises(
        OnetokError, match="tf32: the profile asks for it, but device cpu has none; set tf32: false"
    ):
        set_tf32(True, torch.device("cpu"))


def test_every_part_of_a_u_vit_learns():
    torch.manual_seed(0)
    model = MaskGITUViT(CONFIG)
    settings_ = MaskedLoss(mask_schedule="arccos", label_smoothing=0.1, unmasked_weight=0.1)
    batch = Ids()(None, torch.arange(8).numpy())
    losses = MaskedGeneratorObjective(model, labels_of, settings_)(batch, 0)
    losses["total"].backward()
    assert all(p.grad is not None and p.grad.any() for p in model.parameters())


def test_the_papers_u_vit_is_trained_without_dropout_in_its_blocks():
    settings_ = load_study(REPOSITORY).generators["maskgit/uvit-s128"].model
    config = CONFIG.replace(dropout=settings_.dropout, attention_dropout=settings_.attention_dropout)
    model, batch = MaskGITUViT(config).train(), Ids()(None, torch.arange(8).numpy())
    assert torch.equal(model(batch.inputs, batch.labels), model(batch.inputs, batch.labels))


def test_a_batch_that_cannot_be_shared_evenly_is_an_error(tmp_path):
    with pytest.raises(OnetokError, match="batch 8 cannot be shared evenly by 1 processes x accumulation 3"):
        run(tmp_path, settings(accumulation=3))


def test_looking_at_a_model_does_not_change_its_training(tmp_path):
    """Without EMA, pictures are drawn from the model that is trained, codebook and all."""
    from torch import Tensor

    from onetok.losses.reconstruction import ReconstructionLoss
    from onetok.study.schema.architecture import TransformerSize
    from onetok.systems.titok.schema import TiTokConfig, TiTokInit
    from onetok.training.objectives import PixelObjective, rebuild_pictures

    pixels = torch.randint(
        0, 256, (8, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(1)
    )
    size = TransformerSize(width=16, layers=1, heads=2)
    quantizer = VectorQuantizerConfig(
        codebook_size=64, channels=4, normalize=True, commitment=0.25, clustering=True
    )
    init = TiTokInit(
        linear_std=None, positions="normal", position_scale=4.0, query_key_gain=1.0, output_gain=1.0
    )
    config = TiTokConfig(
        image_size=16,
        encoder=size,
        decoder=size,
        encoder_patch=8,
        decoder_patch=8,
        tokens=4,
        quantizer=quantizer,
        init=init,
    )
    training = settings(ema_decay=None)
    found = []
    for name, looks in (("blind", False), ("looking", True)):
        torch.manual_seed(0)
        model = TiTok(config)
        loss = ReconstructionLoss(l1=0.0, l2=1.0, quantizer=1.0, perceptual=[])
        objective = PixelObjective(model, loss, None, None)
        look = partial(rebuild_pictures, objective=objective, pixels=pixels, captions=torch.zeros(8, 0))
        draw = look if looks else None
        accelerator = Accelerator(cpu=True)

        def read(positions, indices):
            labels = torch.zeros(len(indices), dtype=torch.int64)
            return Batch.of(pixels[indices], labels)

        task = single_phase(
            model, objective, system_of(model).no_decay, read, 8, training, accelerator.state, 0, draw, 1
        )
        train(task, training, accelerator, tmp_path / name, "test", lambda *_: None)
        found.append(model.state_dict())
    assert isinstance(found[0]["quantizer.codebook.weight"], Tensor)
    assert all(torch.equal(found[0][key], found[1][key]) for key in found[0])


def test_training_reduces_the_loss(tmp_path):
    _, history = run(tmp_path, settings(steps=100, log_every=10, checkpoint_every=100))
    assert history.rows[-1]["train/total"] < 0.93 * history.rows[0]["train/total"]


def test_accumulation_takes_the_mean_over_its_parts(tmp_path):
    """Not bit for bit (other random masks by part), but the same size of steps."""
    _, one = run(tmp_path / "1", settings(steps=2))
    _, two = run(tmp_path / "2", settings(steps=2, accumulation=2))
    assert two.rows[0]["train/total"] == pytest.approx(one.rows[0]["train/total"], rel=0.1)
    assert two.rows[0]["train/gradient_norm"] == pytest.approx(one.rows[0]["train/gradient_norm"], rel=0.5)


def test_a_loss_that_is_not_finite_stops_with_step_value_and_checkpoint(tmp_path):
    run(tmp_path, settings(steps=2))
    checkpoint = torch.load(latest_checkpoint(tmp_path), weights_only=True)
    checkpoint["modules"][0]["model.head.weight"][0, 0] = math.nan
    torch.save(checkpoint, latest_checkpoint(tmp_path))
    message = (
        r"train/\w+ is nan at step 4, expected a finite number; last good checkpoint .*step-000000002.pt"
    )
    with pytest.raises(OnetokError, match=message):
        run(tmp_path, settings())


def test_two_checkpoints_are_kept(tmp_path):
    (tmp_path / f"{PARTIAL}12345678.pt").write_bytes(b"of a program that was killed")
    for step in (2, 4, 6):
        save_checkpoint(tmp_path, step, {"x": torch.ones(1)})
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step-000000004.pt", "step-000000006.pt"]
    assert latest_checkpoint(tmp_path).name == "step-000000006.pt"


def flipped(content):
    """One bit of the tensors, of which the file is mostly made."""
    changed = bytearray(content)
    changed[len(changed) // 2] ^= 1
    return bytes(changed)


DAMAGE = {
    "empty": lambda content: b"",
    "cut": lambda content: content[: len(content) // 2],
    "zeros": lambda content: bytes(len(content)),
    "zeros at the end": lambda content: (
        content[: len(content) // 2] + bytes(len(content) - len(content) // 2)
    ),
    "a flipped bit": flipped,
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_newest_checkpoint_is_named_and_the_older_one_taken(tmp_path, capsys, damage):
    whole, history = run(tmp_path / "whole", settings())
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "cut", settings(), stop=5)
    newest = latest_checkpoint(tmp_path / "cut")
    newest.write_bytes(DAMAGE[damage](newest.read_bytes()))
    resumed, resumed_history = run(tmp_path / "cut", settings())
    said = capsys.readouterr().out
    assert f"{newest}: damaged checkpoint: " in said and "an older one is whole" in said
    assert "resuming after step 2 from" in said
    assert all(torch.equal(t, resumed.state_dict()[name]) for name, t in whole.state_dict().items())
    assert history.rows == resumed_history.rows


def test_without_a_whole_checkpoint_training_does_not_start_over_by_itself(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, settings(), stop=3)
    latest_checkpoint(tmp_path).write_bytes(b"")
    message = rf"step-000000002.pt: damaged checkpoint: the file is empty; remove {tmp_path} to train from"
    with pytest.raises(OnetokError, match=message):
        run(tmp_path, settings())


def test_checkpoints_after_the_one_that_was_taken_go(tmp_path):
    for step in (2, 4):
        save_checkpoint(tmp_path, step, {})
    save_checkpoint(tmp_path, 3, {})
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step-000000002.pt", "step-000000003.pt"]


@pytest.mark.parametrize(
    ("case", "system", "model_class"),
    [("titok_vq_single_stage", "titok_vq_single_stage", TiTok), ("maskgit_vit", "maskgit_vit", MaskGIT)],
)
def test_what_never_decays_is_what_the_published_names_say(case, system, model_class):
    """Each published parameter is filled with its own number, so that it can be found again under our name."""
    params = load_case(case).meta["params"]
    exempt = {float(i): len(s) < 2 or any(w in n for w in WORDS) for i, (n, s) in enumerate(params.items())}
    state = {name: torch.full(shape, float(i)) for i, (name, shape) in enumerate(params.items())}
    for name, tensor in rename_released(system, state).items():
        ours = not decays(name, nn.Parameter(tensor), system_of(model_class).no_decay)
        assert {exempt[v] for v in tensor.unique().tolist()} == {ours}, name


def test_clustering_revives_unused_entries():
    config = VectorQuantizerConfig(
        codebook_size=64, channels=4, normalize=True, commitment=0.25, clustering=True
    )
    torch.manual_seed(0)
    quantizer = VectorQuantizer(config)
    with torch.no_grad():
        quantizer.codebook.weight[:] = torch.tensor([1.0, 0, 0, 0])  # collapsed
    features = torch.randn(8, 16, 4)
    assert len(quantizer.train()(features).tokens.ids.unique()) == 1
    for _ in range(20):
        quantizer(torch.randn(8, 16, 4))
    assert len(quantizer.eval()(features).tokens.ids.unique()) > 10
    before = quantizer.codebook.weight.clone()
    quantizer(features)
    assert torch.equal(before, quantizer.codebook.weight), "evaluation must not move the codebook"


def test_gradients_pass_straight_through_the_quantizer():
    config = VectorQuantizerConfig(
        codebook_size=8, channels=4, normalize=False, commitment=0.25, clustering=False
    )
    features = torch.randn(2, 3, 4, requires_grad=True)
    VectorQuantizer(config)(features).tokens.latents.sum().backward()
    assert torch.equal(features.grad, torch.ones_like(features))
