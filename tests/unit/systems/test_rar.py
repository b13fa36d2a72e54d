import shutil
from contextlib import contextmanager

import pytest
import torch
import torch._dynamo
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from onetok.data.batches import Batch
from onetok.sampling.guidance import guidance_weight
from onetok.sampling.seeds import ImageRandom
from onetok.study.schema.sampling import Guidance
from onetok.systems.rar import sampling as rar_sampling
from onetok.systems.rar.model import RAR, draw_orders
from onetok.systems.rar.objective import NextTokenObjective
from onetok.systems.rar.sampling import CachedDecoder
from onetok.systems.rar.schema import AutoregressiveSampling, RandomnessAnnealing, RARConfig
from onetok.systems.registry import generator_system
from onetok.systems.saved import load_model, save_model

CPU = torch.device("cpu")
CONFIG = RARConfig(
    codebook_size=24,
    tokens=40,  # more than a cache of keys holds before it grows
    classes=5,
    width=32,
    layers=2,
    heads=4,
    hidden=48,
    dropout=0.1,
    attention_dropout=0.1,
    class_dropout=0.1,
    init_std=0.02,
    checkpointing=False,
)


def build(config=CONFIG):
    """Return a model that is not at its start, where every block is the identity."""
    torch.manual_seed(0)
    model = RAR(config).eval()
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.2)
    return model


@pytest.fixture
def model():
    return build()


def settings(scale=3.0, temperature=1.0):
    guidance = Guidance(kind="power-cosine", scale=scale, power=1.5)
    return AutoregressiveSampling(kind="autoregressive", temperature=temperature, guidance=guidance)


def draw(model, images, sampling, seed=7, compiled=False):
    labels = torch.tensor([i % CONFIG.classes for i in images])
    return generator_system(model).sample(
        model, labels, sampling, ImageRandom(seed, images, CPU), compiled=compiled
    )


def random_ids(batch):
    return torch.randint(CONFIG.codebook_size, (batch, CONFIG.tokens))


# ---------------------------------------------------------------------------------------------- sampling


@torch.inference_mode()
@pytest.mark.parametrize("condition_rows", [1024, 10])
@pytest.mark.parametrize("labels", [[3], [0, 5, 3, 3, 1]])
def test_cached_logits_are_those_of_the_whole_sequence(model, labels, condition_rows, monkeypatch):
    monkeypatch.setattr(rar_sampling, "CONDITION_ROWS", condition_rows)
    labels = torch.tensor(labels)
    ids = random_ids(len(labels))
    decoder = CachedDecoder(model, labels)
    cached = [decoder.first()] + [decoder.next(ids[:, k]) for k in range(CONFIG.tokens - 1)]
    whole = model(ids, labels, None)[:, :-1]
    assert (torch.stack(cached, dim=1) - whole).abs().max() <= 1e-5 * whole.abs().max()


@torch.inference_mode()
@pytest.mark.parametrize("scale", [0.0, 3.0])
def test_sampling_is_the_plain_loop(model, scale):
    """The same tokens as from the whole sequence at every step, both branches apart."""
    labels, sampling = torch.tensor([1, 4]), settings(scale, temperature=0.7)
    noise = ImageRandom(7, [0, 1], CPU).gumbel(CONFIG.tokens, CONFIG.codebook_size)
    ids = torch.zeros(2, CONFIG.tokens, dtype=torch.int64)
    for step in range(CONFIG.tokens):
        logits = model(ids, labels, None)[:, step]
        if scale:
            w = 1 + guidance_weight(sampling.guidance, step, CONFIG.tokens)
            unconditional = model(ids, None, None)[:, step]
            logits = unconditional + (logits - unconditional) * w
        ids[:, step] = (logits / 0.7 + noise[:, step]).argmax(dim=-1)
    assert torch.equal(
        generator_system(model).sample(model, labels, sampling, ImageRandom(7, [0, 1], CPU)), ids
    )


def test_an_image_does_not_depend_on_its_batch(model):
    together = draw(model, range(8), settings())
    alone = torch.cat([draw(model, [i], settings()) for i in range(8)])
    assert torch.equal(together, alone)
    assert not torch.equal(together, draw(model, range(8), settings(), seed=8))


def test_tokens_are_drawn_from_the_softmax(model):
    count, temperature = 4000, 1.5
    sampling = settings(scale=0.0, temperature=temperature)
    model = build(CONFIG.replace(tokens=1))
    labels = torch.full((count,), 2)
    ids = generator_system(model).sample(model, labels, sampling, ImageRandom(0, range(count), CPU))
    frequency = ids.flatten().bincount(minlength=CONFIG.codebook_size) / count
    logits = model(ids[:1], labels[:1], None)[0, 0]
    assert (frequency - (logits / temperature).softmax(dim=0)).abs().sum() < 0.1
    greedy = generator_system(model).sample(
        model, labels[:1], settings(scale=0.0, temperature=0.0), ImageRandom(0, [0], CPU)
    )
    assert greedy.item() == logits.argmax()


@pytest.mark.parametrize(("scale", "rows"), [(0.0, 3), (1.0, 3), (4.0, 6)])
def test_no_unconditional_branch_without_guidance(model, scale, rows, monkeypatch):
    seen = []
    made = CachedDecoder.__init__
    monkeypatch.setattr(
        CachedDecoder,
        "__init__",
        lambda self, m, labels, **more: seen.append(len(labels)) or made(self, m, labels, **more),
    )
    draw(model, range(3), settings(scale))
    assert seen == [rows]


def test_sampling_sees_weights_that_have_changed(model):
    before = draw(model, range(4), settings())
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.3)
    changed = draw(model, range(4), settings())
    assert not torch.equal(before, changed)
    model.load_state_dict(state)
    assert torch.equal(draw(model, range(4), settings()), before)


class Tape(TorchDispatchMode):
    """A CUDA graph as far as a CPU can be one: what is recorded is undone, and played back on the same tensors."""

    def __init__(self):
        super().__init__()
        self.calls, self.played = [], 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        with self:
            parts = func.decompose(*args, **(kwargs or {}))
        if parts is not NotImplemented:
            return parts
        out = func(*args, **(kwargs or {}))
        self.calls.append((func, args, kwargs or {}, out))
        return out

    @contextmanager
    def record(self):
        with self:
            yield
        for func, args, _, _ in self.calls:  # places of tokens; all else is written again
            if func is torch.ops.aten.add_.Tensor:
                args[0].sub_(args[1])

    def replay(self):
        self.played += 1
        for func, args, kwargs, out in self.calls:
            returned = func._schema.returns[0].alias_info
            if returned is None:
                again = func(*args, **kwargs)
                for old, new in zip(tree_leaves(out), tree_leaves(again), strict=True):
                    old.copy_(new)
            elif returned.is_write:
                func(*args, **kwargs)


@pytest.mark.parametrize("condition_rows", [1024, 10])
@pytest.mark.parametrize("scale", [0.0, 3.0])
def test_a_recorded_step_draws_the_same(model, scale, condition_rows, monkeypatch):
    tapes = []
    monkeypatch.setattr(rar_sampling, "CONDITION_ROWS", condition_rows)
    expected = draw(model, range(3), settings(scale))
    monkeypatch.setattr(rar_sampling, "_records", lambda model, compiled: True)
    monkeypatch.setattr(torch.cuda, "CUDAGraph", lambda: tapes.append(Tape()) or tapes[-1])
    monkeypatch.setattr(torch.cuda, "graph", Tape.record)
    assert torch.equal(draw(model, range(3), settings(scale)), expected)
    # Of 39 steps after the first, 30 read places up to the 32nd; of each shape, one is computed and one recorded.
    assert [tape.played for tape in tapes] == [29, 8]


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
def test_compiled_sampling_draws_the_same(model):
    torch._dynamo.reset()
    counted = torch._dynamo.utils.counters["stats"]
    counted.clear()
    expected = [draw(model, images, settings()) for images in ([4], range(3))]
    found = [draw(model, images, settings(), compiled=True) for images in ([4], range(3), [4])]
    assert all(torch.equal(a, b) for a, b in zip(found, [*expected, expected[0]], strict=True))
    # Once, for all layers and any number of places; products of six rows gain nothing from it.
    assert counted["unique_graphs"] == 1


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_sampling_on_a_gpu_is_the_same_compiled(model, dtype):
    cuda = torch.device("cuda")
    model.to(cuda, dtype)
    labels = torch.tensor([0, 3, 1], device=cuda)
    drawn = []
    for compiled in (False, True):
        drawn.append(
            generator_system(model).sample(
                model, labels, settings(), ImageRandom(7, range(3), cuda), compiled=compiled
            )
        )
    share = (drawn[0] == drawn[1]).float().mean()
    assert share == 1 if dtype == torch.float32 else share > 0.5, "bfloat16 rounds elsewhere when compiled"


def test_dropout_cannot_be_on_while_sampling(model):
    with pytest.raises(ValueError, match="eval"):
        draw(model.train(), [0], settings())


def test_saved_and_loaded(model, tmp_path):
    save_model(model, tmp_path)
    loaded = load_model(tmp_path, CPU)
    assert loaded.config == CONFIG
    assert torch.equal(draw(loaded, range(2), settings()), draw(model, range(2), settings()))


# ---------------------------------------------------------------------------------------------- training


@pytest.mark.parametrize(
    ("step", "probability"), [(0, 1.0), (9, 1.0), (10, 1.0), (15, 0.75), (20, 0.5), (30, 0.0), (99, 0.0)]
)
def test_annealing(step, probability):
    assert RandomnessAnnealing(start=10, end=30).probability(step) == probability


def test_annealing_at_once():
    annealing = RandomnessAnnealing(start=5, end=5)
    assert [annealing.probability(step) for step in (4, 5)] == [1.0, 0.0]


def test_orders_are_drawn_for_each_sample():
    torch.manual_seed(0)
    ids = random_ids(200)
    raster = torch.arange(CONFIG.tokens).expand_as(ids)
    assert torch.equal(draw_orders(ids, 0.0), raster)
    for share in (0.5, 1.0):
        orders = draw_orders(ids, share)
        assert torch.equal(orders.sort(dim=1).values, raster), "each row is a permutation"
        shuffled = (orders != raster).any(dim=1)
        assert shuffled.float().mean() == pytest.approx(share, abs=0.1)
        assert len(orders[shuffled].unique(dim=0)) == shuffled.sum()


def test_the_objective_follows_the_annealing(model, monkeypatch):
    seen = []
    monkeypatch.setattr(
        "onetok.systems.rar.model.draw_orders",
        lambda ids, share: seen.append(share) or draw_orders(ids, share),
    )
    objective = NextTokenObjective(model, RandomnessAnnealing(start=2, end=4))
    batch = Batch.of(random_ids(2), torch.tensor([0, 1]))
    losses = [objective(batch, step) for step in (0, 3, 4)]
    assert seen == [1.0, 0.5, 0.0]
    assert all(loss["total"].isfinite() for loss in losses)


@pytest.mark.parametrize(("training", "dropped"), [(True, True), (False, False)])
def test_classes_are_dropped_in_training_only(training, dropped, monkeypatch):
    model = build(CONFIG.replace(class_dropout=1 - 1e-9)).train(training)
    seen = []
    forward = model.forward
    monkeypatch.setattr(
        model, "forward", lambda ids, labels, orders: seen.append(labels) or forward(ids, labels, orders)
    )
    labels = torch.tensor([0, 3])
    model.loss(random_ids(2), labels, 0.0)
    assert torch.equal(seen[0], torch.full((2,), CONFIG.classes) if dropped else labels)


def test_the_class_after_the_last_is_no_class(model):
    ids = random_ids(2)
    assert torch.equal(model(ids, torch.full((2,), CONFIG.classes), None), model(ids, None, None))


def test_places_see_no_later_token(model):
    ids, labels, orders = random_ids(1), torch.tensor([2]), torch.randperm(CONFIG.tokens)[None]
    before = model(ids, labels, orders)
    ids[0, orders[0, 20]] += 1 - 2 * (ids[0, orders[0, 20]] > 0)
    after = model(ids, labels, orders)
    assert torch.equal(before[:, :21], after[:, :21])
    assert not torch.equal(before[:, 21], after[:, 21])


def test_checkpointing_changes_no_gradient():
    gradients = []
    for checkpointing in (False, True):
        model = build(CONFIG.replace(checkpointing=checkpointing)).train()
        torch.manual_seed(1)
        model.loss(random_ids(2), torch.tensor([0, 3]), 0.5)["total"].backward()
        gradients.append([p.grad for p in model.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


def test_the_start_is_the_identity_in_every_block():
    model = RAR(CONFIG).eval()
    x, condition = torch.randn(2, 3, CONFIG.width), torch.randn(2, 3, CONFIG.width)
    assert all(torch.equal(block(x, condition), x) for block in model.blocks)
    assert not model.start.any()
