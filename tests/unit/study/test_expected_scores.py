"""The comment above each tokenizer and generator of the root study tells its published scores and its training.

    # Expected: rFID 2.21 on ImageNet val (TiTok README, model zoo).
    # 500 k steps x 256 images = 128 M images; GPU-hours: 4,736 (64 A100-40G x 74 h; secondary source).

The scores and their sources are those of the rows of tables that show the entry. A generator's are those of its first
samples; further samples of it that stand in a table have a line "Expected" of their own. Released weights have no
steps here: their second line tells the GPU-hours, if these are published.
"""

from __future__ import annotations

import re
from functools import cache
from typing import NamedTuple

from onetok.study.load import load_study
from onetok.study.schema.study import Study
from tests.conftest import REPOSITORY

DATA = {  # what comments call the data of a benchmark
    "reconstruction/imagenet": "ImageNet val",
    "reconstruction/imagenet-release-captions": "ImageNet val",
    "reconstruction/imagenet-paper-captions": "ImageNet val",
    "reconstruction/imagenet-512-release-captions": "ImageNet val",
    "class_conditional/imagenet": "ImageNet",
    "class_conditional/imagenet-adm": "ImageNet",
    "text_to_image/mjhq": "MJHQ-30K",
    "text_to_image/mjhq-512": "MJHQ-30K",
    "text_to_image/coco-30k": "COCO-30K",
}
NOT_IN_TABLES = {
    # A training loss: nothing else is published of this stage, and no table has a column for it.
    "tokenizers/titok_stage_1/s128": "code cross-entropy near 3.0 at the end of training (upstream issue 43)",
}

SCORE = r"[A-Za-z]+ [\d.]+"
ON_DATA = re.compile(rf"(?P<scores>{SCORE}(, {SCORE})*) on (?P<data>[^()]+) \((?P<source>[^()]+)\)")
STEPS = r"(?P<steps>[\d,.]+ [kM]) steps x (?P<batch>\d+) images = (?P<images>[\d,.]+ M) images"
TRAINING = re.compile(rf"{STEPS}; GPU-hours: (?P<hours>.+)\.")
RELEASED = re.compile(r"GPU-hours: (?P<hours>.+)\.")
HOURS = re.compile(
    r"(about )?(?P<hours>[\d,]+) \((?P<gpus>\d+) \S+ x (?P<time>[\d.]+) (?P<unit>h|days?); [^()]+\)"
)


@cache
def study() -> Study:
    return load_study(REPOSITORY)


class Score(NamedTuple):
    label: str  # of the table's column
    value: str  # with the column's decimals
    data: str


@cache
def published_scores() -> dict[str, dict[Score, set[str]]]:
    """Return the published scores that rows of tables show of an entry (kind/family/variant), with their sources."""
    found: dict[str, dict[Score, set[str]]] = {}
    for table in study().tables.values():
        columns = {column.metric: column for column in table.columns}
        for row in table.rows:
            if row.published is None or (row.tokenizer is None and row.samples is None):
                continue
            if row.tokenizer:
                name, benchmark = f"tokenizers/{row.tokenizer}", study().tokenizers[row.tokenizer].benchmark
            else:
                name, benchmark = place_of_samples(row.samples), study().samples[row.samples].benchmark
            for metric, figure in row.published.figures.items():
                column = columns[metric]
                score = Score(column.label, f"{figure.value:.{column.decimals}f}", DATA[benchmark])
                source = re.sub(r" \(arXiv [^)]*\)", "", figure.source)  # the head of the file has the number
                source += ", unverified" if figure.unverified else ""
                found.setdefault(name, {}).setdefault(score, set()).add(source)
    return found


def place_of_samples(name: str) -> str:
    """Return the entry whose comment tells the scores of samples: their generator, or else they themselves."""
    generator = study().samples[name].generator
    first = next(other for other, entry in study().samples.items() if entry.generator == generator)
    return f"generators/{generator}" if name == first else f"samples/{name}"


@cache
def names() -> list[str]:
    """Return the entries (kind/family/variant) that need a comment."""
    trained_or_released = [f"tokenizers/{n}" for n in study().tokenizers] + [
        f"generators/{n}" for n in study().generators
    ]
    return sorted({*trained_or_released, *published_scores()})


@cache
def comments() -> dict[str, list[str]]:
    """Return the comment directly above each entry from its line "Expected" on, without the # signs."""
    found: dict[str, list[str]] = {}
    for folder in ("tokenizers", "generators"):
        for path in sorted((REPOSITORY / "params" / folder).glob("*.yaml")):
            kind, above = "", []
            for line in path.read_text().splitlines():
                if key := re.match(r"(\w+):", line):
                    kind = key[1]
                if key := re.match(r"    ([a-z0-9-]+):", line):
                    starts = [i for i, text in enumerate(above) if text.startswith("Expected:")]
                    found[f"{kind}/{path.stem}/{key[1]}"] = above[starts[-1] :] if starts else []
                above = [*above, line.removeprefix("    # ")] if line.startswith("    # ") else []
    return found


def number(text: str) -> float:
    amount, _, unit = text.partition(" ")
    return float(amount.replace(",", "")) * {"": 1, "k": 1e3, "M": 1e6}[unit]


def test_every_entry_tells_the_published_scores_of_the_tables():
    problems = {name: text for name in names() if (text := problem_of_scores(name, comments()[name]))}
    assert problems == {}


def problem_of_scores(name: str, comment: list[str]) -> str | None:
    published = published_scores().get(name, {})
    expected = NOT_IN_TABLES.get(name, "" if published else "not published")
    if not comment:
        return "no line '# Expected: …' directly above the entry"
    if expected:
        return (
            None if comment[0] == f"Expected: {expected}." else f"found {comment[0]!r}, expected {expected}"
        )
    stated: dict[Score, str] = {}
    for part in re.split(r"(?<=\)); ", comment[0].removeprefix("Expected: ").removesuffix(".")):
        if not (match := ON_DATA.fullmatch(part)):
            return f"{part!r} has not the form of the first lines of this file"
        for score in match["scores"].split(", "):
            stated[Score(*score.split(), match["data"])] = match["source"]
    if stated.keys() != published.keys():
        return f"found {sorted(stated)}, expected {sorted(published)}"
    wrong = {score: sources for score, sources in published.items() if stated[score] not in sources}
    return f"found {stated}, expected the sources {wrong}" if wrong else None


def test_every_entry_tells_its_steps_its_images_and_gpu_hours():
    problems = {name: text for name in names() if (text := problem_of_training(name, comments()[name][1:]))}
    assert problems == {}


def problem_of_training(name: str, comment: list[str]) -> str | None:
    kind, entry = name.split("/", 1)
    training = getattr(getattr(study(), kind)[entry], "training", None)
    if training is None and not comment:
        return None
    form = RELEASED if training is None else TRAINING
    if len(comment) != 1 or not (match := form.fullmatch(comment[0])):
        return f"below 'Expected' found {comment}, which has not the form of the first lines of this file"
    if training is not None:
        stated = tuple(number(match[group]) for group in ("steps", "batch", "images"))
        actual = (training.steps, training.batch, training.steps * training.batch)
        if stated != actual:
            return f"found {stated}, but the entry has {actual} (steps, batch, images)"
    if match["hours"] == "not published":
        return None
    if not (hours := HOURS.fullmatch(match["hours"])):
        return f"GPU-hours {match['hours']!r} have not the form of the first lines of this file"
    product = int(hours["gpus"]) * float(hours["time"]) * (1 if hours["unit"] == "h" else 24)
    return (
        None
        if number(hours["hours"]) == round(product)
        else f"found {hours[0]}, expected {product:.0f} hours"
    )


def test_expected_scores_stand_nowhere_else():
    files = sorted((REPOSITORY / "params").rglob("*.yaml"))
    lines = [line for path in files for line in path.read_text().splitlines() if "# Expected" in line]
    assert len(lines) == len(names())
