"""What holds for every system, now and later: one entry of params for each kind that is trained.

A new system is tested here as soon as the registry has it, and the miniature's params or those beside these tests.
"""

from functools import cache

import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load_file, save_file
from torch import nn

from onetok.data.batches import Batch
from onetok.errors import OnetokError
from onetok.networks.registry import build_classifier, build_clip
from onetok.nn.protocols import Generator, Tokenizer
from onetok.sampling.seeds import ImageRandom
from onetok.speed.generators import random_condition
from onetok.study.schema.generators import TrainedCaptioner, TrainedGenerator
from onetok.study.schema.tokenizers import TrainedTokenizer
from onetok.systems.records import GeneratorSystem
from onetok.systems.registry import (
    RECORDS,
    build_generator,
    build_tokenizer,
    generator_objective,
    generator_system,
    shapes_of,
    system_of,
    tokenizer_objective,
)
from onetok.systems.saved import load_model, save_model
from onetok.training.optimizers import build_optimizer
from tests.factories.studies import contract_study

CPU = torch.device("cpu")
STUDY = contract_study()


def examples(kind):
    """Return the first trained entry of each kind: kind → name."""
    found = {}
    for name, entry in getattr(STUDY, kind).items():
        if isinstance(entry, TrainedTokenizer | TrainedGenerator):
            found.setdefault(entry.kind, name)
    return found


TOKENIZERS = list(examples("tokenizers").values())
GENERATORS = [name for name in examples("generators").values() if STUDY.generators[name].starts_from is None]


class Untrained:
    """What the study would have made, with weights as they start."""

    @cache  # noqa: B019 (one object, for all tests)
    def encoder(self, name):
        torch.manual_seed(0)
        entry = STUDY.encoders[name]
        if entry.kind == "clip":
            return build_clip(entry).eval().requires_grad_(False)
        return build_classifier(entry, STUDY.datasets[entry.dataset].classes).eval().requires_grad_(False)

    text_encoder = encoder

    @cache  # noqa: B019
    def tokenizer(self, name):
        torch.manual_seed(0)
        return build_tokenizer(STUDY.tokenizers[name], self).eval().requires_grad_(False)


MADE = Untrained()


def make_tokenizer(name) -> Tokenizer:
    torch.manual_seed(0)
    return build_tokenizer(STUDY.tokenizers[name], MADE)


def make_generator(name) -> Generator:
    torch.manual_seed(0)
    entry = STUDY.generators[name]
    model = build_generator(entry, shapes_of(STUDY, entry))
    with torch.no_grad():  # what starts at 0 would hide whatever is behind it
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.02)
    return model


def images(count, size):
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(1))


def text_states(model, count):
    widths = model.text_widths
    if widths is None:
        return None
    return torch.randn(count, widths.length, widths.states, generator=torch.Generator().manual_seed(2))


def part(condition, rows):
    """Return the condition of some images of a batch."""
    if isinstance(condition, torch.Tensor):
        return condition[rows]
    return condition._replace(
        sequence=condition.sequence[rows],
        pooled=condition.pooled[rows],
        aesthetic=condition.aesthetic[rows],
    )


def sampled(model, name, rows):
    """Sample some images of one set of eight."""
    system = generator_system(model)
    torch.manual_seed(3)
    condition = random_condition(model, shapes_of(STUDY, STUDY.generators[name]), 8, CPU)
    entry = next(s for s in STUDY.samples.values() if s.sampling.kind == STUDY.generators[name].sampling_kind)
    settings = entry.sampling
    return system.sample(model.eval(), part(condition, rows), settings, ImageRandom(7, rows, CPU))


# ---------------------------------------------------------------------------------------------- all systems


def test_there_is_an_entry_of_every_trained_kind():
    """But of captioners, which make no images: test_flowtok_captions.py has them."""
    kinds = {*examples("tokenizers"), *examples("generators")}
    trained = {
        entry.model_fields["kind"].annotation.__args__[0]
        for record in RECORDS
        for entry in record.builds
        if issubclass(entry, TrainedTokenizer | TrainedGenerator) and not issubclass(entry, TrainedCaptioner)
    }
    assert trained <= kinds


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: record.kind)
def test_an_entry_with_an_unknown_key_is_refused(record):
    for entry in record.builds:
        with pytest.raises(ValidationError, match="extra_forbidden"):
            entry.model_validate({"unknown": 1})


@pytest.mark.parametrize("name", [*TOKENIZERS, *GENERATORS])
def test_a_saved_model_is_loaded_as_it_was(name, tmp_path):
    model = make_tokenizer(name) if name in TOKENIZERS else make_generator(name)
    save_model(model, tmp_path)
    again = load_model(tmp_path, CPU)
    assert type(again) is type(model) and again.config == model.config and not again.training
    assert all(torch.equal(again.state_dict()[key], value) for key, value in model.state_dict().items())
    weights = tmp_path / "weights.safetensors"
    save_file({**load_file(weights), "unknown": torch.zeros(1)}, weights)
    with pytest.raises(OnetokError, match="1 unexpected tensors, first 'unknown'"):
        load_model(tmp_path, CPU)


@pytest.mark.parametrize("name", [*TOKENIZERS, *GENERATORS])
def test_weight_decay_is_left_out_by_names_that_there_are(name):
    model = make_tokenizer(name) if name in TOKENIZERS else make_generator(name)
    for word in system_of(model).no_decay:
        assert any(word in parameter for parameter, _ in model.named_parameters()), word


# ---------------------------------------------------------------------------------------------- tokenizers


@pytest.mark.parametrize("name", TOKENIZERS)
@torch.inference_mode()
def test_a_tokenizer_encodes_and_decodes(name):
    model = make_tokenizer(name).eval()
    entry, size = STUDY.tokenizers[name], model.image_size
    assert size == entry.images.size
    assert entry.token_shape(STUDY) == (model.codebook_size, model.channels, model.tokens)
    tokens = model.encode(images(3, size))
    assert tokens.latents.shape == (3, model.tokens, model.channels)
    text = text_states(model, 3)
    decoded = model.decode(tokens, text)
    assert decoded.shape == (3, 3, size, size) and decoded.dtype == torch.float32
    if model.codebook_size is None:
        assert tokens.ids is None and tokens.posterior is not None
    else:
        assert tokens.ids.dtype == torch.int64 and int(tokens.ids.max()) < model.codebook_size
        again = model.decode(model.tokens_from_ids(tokens.ids), text)
        torch.testing.assert_close(again, decoded, atol=1e-4, rtol=1e-4)  # the straight-through sum rounds


@pytest.mark.parametrize("name", TOKENIZERS)
@torch.inference_mode()
def test_a_reconstruction_does_not_depend_on_its_batch(name):
    model = make_tokenizer(name).eval()
    batch, text = images(4, model.image_size), text_states(model, 4)
    together = model(batch, text)
    alone = model(batch[2:3], text[2:3] if text is not None else None)
    torch.testing.assert_close(together.images[2:3], alone.images, atol=1e-5, rtol=1e-5)
    assert torch.equal(model(batch, text).images, together.images), "something is drawn in evaluation"


# ---------------------------------------------------------------------------------------------- generators


@pytest.mark.parametrize("name", GENERATORS)
def test_an_image_does_not_depend_on_its_batch_or_on_other_draws(name):
    model = make_generator(name)
    together = sampled(model, name, list(range(6)))
    assert together.shape[:2] == (6, model.tokens)
    torch.rand(10)
    alone = torch.cat([sampled(model, name, [row]) for row in (0, 5)])
    if model.codebook_size is None:
        torch.testing.assert_close(together[[0, 5]], alone, atol=1e-4, rtol=1e-4)
    else:
        assert torch.equal(together[[0, 5]], alone)
        assert int(together.min()) >= 0 and int(together.max()) < model.codebook_size


@pytest.mark.parametrize("name", GENERATORS)
def test_nothing_is_sampled_from_a_model_in_training(name):
    model = make_generator(name)
    system = generator_system(model)
    with pytest.raises(ValueError, match="eval"):
        system.sample(model.train(), None, None, ImageRandom(0, [0], CPU))


@pytest.mark.parametrize("name", GENERATORS)
def test_dropout_and_dropped_conditions_are_off_in_evaluation(name):
    model = make_generator(name).eval()
    assert all(not module.training for module in model.modules() if isinstance(module, nn.Dropout))
    assert torch.equal(sampled(model, name, [0, 1]), sampled(model, name, [0, 1]))


# ---------------------------------------------------------------------------------------------- training


def a_batch(name, system: GeneratorSystem, model: Generator, count=8):
    torch.manual_seed(4)
    if model.codebook_size is None:
        mean = torch.randn(
            count,
            model.tokens,
            STUDY.tokenizers[STUDY.generators[name].tokenizer_name(STUDY)].token_shape(STUDY).channels,
        )
        inputs = torch.stack([mean, torch.full_like(mean, -4.0)], dim=1)
    else:
        inputs = torch.randint(model.codebook_size, (count, model.tokens))
    return Batch.of(inputs, torch.arange(count) % (model.classes or 1))


@pytest.mark.parametrize("name", GENERATORS)
def test_a_generator_learns_a_batch_in_twenty_steps(name):
    entry, system = STUDY.generators[name], generator_system(type(STUDY.generators[name]))
    torch.manual_seed(0)
    condition = None

    def conditions(batch):
        return condition if condition is not None else batch.labels

    objective = generator_objective(STUDY, entry, conditions, MADE)
    if objective.model.text_widths is not None:
        condition = random_condition(objective.model, shapes_of(STUDY, entry), 8, CPU)
    settings = entry.training.optimizer.model_copy(update={"learning_rate": 1e-3})
    assert falls(objective, a_batch(name, system, objective.model), settings, system.no_decay)


@pytest.mark.parametrize("name", TOKENIZERS)
def test_a_tokenizer_learns_a_batch_in_twenty_steps(name):
    entry = STUDY.tokenizers[name]
    torch.manual_seed(0)
    objective = tokenizer_objective(entry, MADE)
    pixels = (images(8, entry.images.size) * 255).to(torch.uint8)
    texts = {}
    if objective.tokenize is not None:
        texts["captions"] = objective.tokenize(["a red circle"] * 8)
    settings = entry.training.optimizer.model_copy(update={"learning_rate": 1e-3})
    batch = Batch.of(pixels, torch.zeros(8, dtype=torch.int64), **texts)
    assert falls(objective, batch, settings, system_of(objective.model).no_decay)


def falls(objective, batch, settings, no_decay):
    """Return whether the loss falls: the mean over the last five of 25 steps below that over the first five."""
    objective.train()
    optimizer = build_optimizer(objective, settings, no_decay)
    losses = []
    for step in range(25):
        loss = objective(batch, step)["total"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    return sum(losses[-5:]) < sum(losses[:5])
