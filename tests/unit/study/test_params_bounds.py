"""Numbers that nothing can be trained, drawn or scored with are refused with the params, not by a job."""

from __future__ import annotations

import copy
import re

import pytest

from onetok.errors import OnetokError
from onetok.study.load import build_study, read_params
from onetok.study.schema.study import Study
from tests.conftest import REPOSITORY

TITOK = ("tokenizers/titok.yaml", "tokenizers.titok.vq-16")
STAGE_2 = ("tokenizers/titok_stage_2.yaml", "tokenizers.titok_stage_2.vq-16")
VQGAN = ("tokenizers/vqgan.yaml", "tokenizers.vqgan.tiny")
CLASSIFIER = ("encoders/classifiers.yaml", "encoders.classifiers.digits")
MASKGIT = ("generators/maskgit.yaml", "generators.maskgit.tiny")
MASKGEN = ("generators/maskgen.yaml", "generators.maskgen.kl")
RAR_SAMPLES = ("generators/rar.yaml", "samples.rar.titok")
MASKGIT_SAMPLES = ("generators/maskgit.yaml", "samples.maskgit.tiny")
KL_SAMPLES = ("generators/maskgen.yaml", "samples.maskgen.kl-shuffled")
DIGITS = ("datasets/labelled.yaml", "datasets.labelled.digits")
BENCHMARK = ("benchmarks/class_conditional.yaml", "benchmarks.class_conditional.digits")
SPEED = ("benchmarks/speed.yaml", "speeds.speed.against-dit")
TABLE = ("tables/reconstruction.yaml", "tables.reconstruction.titok")
FIGURE = ("tables/generation.yaml", "figures.generation.maskgit-loss")

REFUSED = [
    (TITOK, "training.optimizer.learning_rate", -1.0, "greater than 0"),
    (TITOK, "training.optimizer.learning_rate", 0.0, "greater than 0"),
    (TITOK, "training.optimizer.learning_rate", float("inf"), "finite number"),
    (TITOK, "training.optimizer.learning_rate", 10**400, "valid number"),
    (TITOK, "training.optimizer.betas.0", 1.0, "less than 1"),
    (TITOK, "training.optimizer.epsilon", 0.0, "greater than 0"),
    (TITOK, "training.optimizer.weight_decay", -1.0, "greater than or equal to 0"),
    (TITOK, "training.schedule.end", -1e-5, "greater than or equal to 0"),
    (TITOK, "training.max_gradient_norm", 0.0, "greater than 0"),
    (TITOK, "training.schedule.warmup", 12, "training.schedule.warmup 12 is not below the 12 steps"),
    (TITOK, "training.seed", 2**63, "less than 9223372036854775808"),
    (TITOK, "training.seed", -1, "greater than or equal to 0"),
    (TITOK, "training.ema_decay", 1.0, "less than 1"),
    (TITOK, "model.init.linear_std", 0.0, "greater than 0"),
    (TITOK, "model.init.position_scale", -1.0, "greater than 0"),
    (TITOK, "model.init.query_key_gain", 0.0, "greater than 0"),
    (TITOK, "model.init.output_gain", -1.0, "greater than or equal to 0"),
    (TITOK, "model.quantizer.commitment", -1.0, "greater than or equal to 0"),
    (TITOK, "model.quantizer.codebook_size", 1, "greater than or equal to 2"),
    (TITOK, "model.tokens", 10**6, "less than or equal to 65536"),
    (TITOK, "losses.l2", -1.0, "greater than or equal to 0"),
    (TITOK, "losses.perceptual.0.weight", -0.1, "greater than or equal to 0"),
    (
        TITOK,
        "losses",
        {"l1": 0.0, "l2": 0.0, "quantizer": 1.0, "perceptual": [], "adversarial": None},
        "are 0",
    ),
    (TITOK, "images.size", 10**6, "less than or equal to 16384"),
    (
        STAGE_2,
        "losses.adversarial.schedule.warmup",
        4,
        "adversarial.schedule.warmup 4 is not below the 4 steps",
    ),
    (STAGE_2, "losses.adversarial.discriminator.stages", [], "at least 1 item"),
    (STAGE_2, "losses.adversarial.discriminator.stages", [8] * 6, "6 cannot halve images.size 32"),
    (STAGE_2, "losses.adversarial.lecam.decay", 1.0, "less than 1"),
    (VQGAN, "model.multipliers", [], "at least 1 item"),
    (VQGAN, "model.multipliers", [1] * 99, "at most 14 items"),
    (VQGAN, "model.blocks", 2**31, "less than or equal to 1024"),
    (CLASSIFIER, "model.channels", [], "at least 1 item"),
    (CLASSIFIER, "model.channels", [8] * 8, "8 stages cannot halve images.size 32"),
    (CLASSIFIER, "model.dropout", 1.0, "less than 1"),
    (CLASSIFIER, "label_smoothing", 1.0, "less than 1"),
    (MASKGIT, "model.init_std", -1.0, "greater than 0"),
    (MASKGIT, "model.class_dropout", 1.0, "less than 1"),
    (MASKGIT, "loss.label_smoothing", 1.0, "less than 1"),
    (MASKGEN, "model.text_dropout", 1.0, "less than 1"),
    (MASKGEN, "model.scale", 0.0, "greater than 0"),
    (RAR_SAMPLES, "sampling.temperature", -1.0, "greater than or equal to 0"),
    (MASKGIT_SAMPLES, "sampling.temperature", -1.0, "greater than or equal to 0"),
    (MASKGIT_SAMPLES, "sampling.steps", 2**31 - 1, "less than or equal to 10000"),
    (
        MASKGIT_SAMPLES,
        "sampling.guidance",
        {"kind": "power-cosine", "scale": 3.0, "power": -5.0},
        "equal to 0",
    ),
    (MASKGIT_SAMPLES, "seed", 2**64, "less than 9223372036854775808"),
    (KL_SAMPLES, "sampling.temperature", -1.0, "greater than or equal to 0"),
    (KL_SAMPLES, "sampling.clip", -1.0, "greater than 0"),
    (KL_SAMPLES, "sampling.guidance.scale", 0.5, "greater than or equal to 1"),
    (KL_SAMPLES, "text.aesthetic", -1.0, "greater than or equal to 0"),
    (DIGITS, "classes", 11, "classes 11, but there are 10 digits"),
    (DIGITS, "split.per_class", 174, "leaves nothing to train on"),
    (DIGITS, "split", {"kind": "folders", "train": "a", "val": "b"}, "kind digits needs hold-out"),
    (
        DIGITS,
        "source",
        {"kind": "imagefolder", "path": "", "caption": None, "class_names": "folders"},
        "pattern",
    ),
    (BENCHMARK, "neighbours", 20, "neighbours 20, expected fewer than the 20 images"),
    (BENCHMARK, "inception_splits", 21, "inception_splits 21 of 20 images"),
    (SPEED, "comparisons.0.diffusion.width", 34, "multiple of 4"),
    (SPEED, "comparisons.1.published.ratio", 0.0, "greater than 0"),
    (TABLE, "rows", [], "at least 1 item"),
    (TABLE, "columns.0.decimals", 2**31 - 1, "less than or equal to 15"),
    (FIGURE, "runs", ["tokenizers/titok/vq-61"], "no run named"),
    (FIGURE, "runs", [], "at least 1 item"),
]


@pytest.fixture(scope="module")
def contents():
    return read_params(REPOSITORY / "tests/e2e/smallest")[0]


@pytest.mark.parametrize(
    ("place", "path", "value", "message"),
    REFUSED,
    ids=[f"{m[0][1]}.{m[1]}={str(m[2])[:20]}" for m in REFUSED],
)
def test_a_value_that_cannot_be_used_is_refused(contents, place, path, value, message):
    file, name = place
    *parents, last = [int(key) if key.isdigit() else key for key in [*name.split("."), *path.split(".")]]
    content = copy.deepcopy(contents[f"params/{file}"])
    entry = content
    for key in parents:
        entry = entry[key]
    entry[last] = value
    with pytest.raises(OnetokError, match=re.escape(message)) as caught:
        build_study(contents | {f"params/{file}": content})
    assert name in str(caught.value)


def test_nothing_is_trained_in_zero_steps_so_that_they_need_no_warm_up(contents):
    assert build_study(contents).generators["maskgit/untrained"].training.steps == 0


UNBOUNDED = {"PublishedFigure.value"}


def test_every_number_of_the_schema_has_bounds():
    schema = Study.model_json_schema()
    found = {
        f"{model}.{field}"
        for model, content in schema["$defs"].items()
        for field, value in content.get("properties", {}).items()
        for number in numbers(value)
        if not (
            {"minimum", "exclusiveMinimum"} & number.keys()
            and {"maximum", "exclusiveMaximum"} & number.keys()
        )
    }
    assert found <= UNBOUNDED


def numbers(node):
    """Yield every schema of a number below a field's."""
    if isinstance(node, dict):
        if node.get("type") in ("number", "integer") and not {"enum", "const"} & node.keys():
            yield node
        for value in node.values():
            yield from numbers(value)
    elif isinstance(node, list):
        for value in node:
            yield from numbers(value)
