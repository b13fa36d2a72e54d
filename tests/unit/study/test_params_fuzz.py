"""Whatever is written into params, a study is a valid plan or lines that say what is wrong: never a traceback."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from onetok.errors import OnetokError
from onetok.study.load import FOLDERS, build_study, read_params
from onetok.study.plan import all_jobs, jobs_behind, speed_targets, waiting
from onetok.study.schema.study import Study
from onetok.study.yaml_files import parse_yaml
from tests.conftest import REPOSITORY

MUTATIONS = 2000  # shared between the studies
STUDIES = {".": 0.2, "studies/miniature": 0.35, "tests/e2e/smallest": 0.45}  # the smaller, the faster
SECONDS = 5.0  # of the processor, for one mutation

Path = tuple[str | int, ...]
Contents = dict[str, dict[str, Any]]

HOSTILE: tuple[Any, ...] = (
    *(None, True, False, 0, 1, 2, 3, 7, -1, 13, 1000, 2**31, 2**63, 2**64, 10**90, -(10**90)),
    *(0.0, 0.5, 1.0, -1.0, 1e-320, 1e30, 1e308, float("inf"), float("-inf"), float("nan")),
    *(
        "",
        " ",
        "x",
        "/",
        "a/b",
        "../..",
        "titok/vq-16",
        "x" * 10_000,
        "\ud800",
        "\0",
        "a\nb",
        "{class}",
        "{}",
        "%s",
    ),
    *("1", "null", "true", "1e-4", "kind", "digits", "é", "\u202e", "\x1b[2J"),
    *(
        [],
        {},
        [[]],
        [None],
        [0],
        ["a/b"],
        [1.0, 2.0, 3.0],
        {"kind": None},
        {"kind": "x"},
        {"kind": []},
        {"": None},
    ),
    *({"kind": {}}, list(range(3000)), ["x/y"] * 50, {str(i): i for i in range(500)}),
)


def nested(depth: int) -> Any:
    value: Any = 0
    for level in range(depth):
        value = [value] if level % 2 else {"kind": value}
    return value


# ------------------------------------------------------------------------------------------- trees


def places(value: Any, path: Path = ()) -> Iterator[Path]:
    """Yield the paths of a value and of all below it."""
    yield path
    below = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in below:
        yield from places(inner, (*path, key))


def at(value: Any, path: Path) -> Any:
    for key in path:
        value = value[key]
    return value


def changed(value: Any, path: Path, change: Callable[[Any], Any]) -> Any:
    """Return a copy whose value at `path` is changed; what lies beside the path is shared."""
    if not path:
        return change(value)
    key, *rest = path
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[key] = changed(value[key], tuple(rest), change)
    return copy


def without(value: Any, key: Any) -> Any:
    if isinstance(value, dict):
        return {k: v for k, v in value.items() if k != key}
    return [v for i, v in enumerate(value) if i != key]


def renamed(value: Any, old: Any, new: str) -> Any:
    return {new if k == old else k: v for k, v in value.items()} if isinstance(value, dict) else value[::-1]


def scaled(value: Any, rng: random.Random) -> Any:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value) if not isinstance(value, str) else value * 2
    return rng.choice(
        [
            -value,
            value + 1,
            value - 1,
            value * 2,
            value // 2,
            value * 10**9,
            float(value),
            value / 3,
            str(value),
        ]
    )


class Mutator:
    """Draws mutations of a study's params, which it has read once."""

    def __init__(self, contents: Contents, texts: dict[str, str], seed: int) -> None:
        self.contents, self.texts, self.rng = contents, texts, random.Random(seed)
        self.files = sorted(contents)
        self.paths = {name: list(places(contents[name])) for name in self.files}
        every = [at(contents[name], path) for name in self.files for path in self.paths[name]]
        self.values = [value for value in every if not isinstance(value, dict) or len(value) < 40]
        self.names = sorted({v for v in self.values if isinstance(v, str) and "/" in v and " " not in v})
        self.kinds = sorted({v["kind"] for v in self.values if isinstance(v, dict) and "kind" in v})
        self.keys = sorted({k for v in self.values if isinstance(v, dict) for k in v})
        self.fields: dict[str, list[Any]] = {}  # key → values that stand under it anywhere
        for value in self.values:
            for key, inner in value.items() if isinstance(value, dict) else ():
                self.fields.setdefault(key, []).append(inner)

    def draw(self) -> Contents:
        contents = dict(self.contents)
        for _ in range(self.rng.choice((1, 1, 1, 2, 3))):
            name = self.rng.choice(self.files)
            if name in contents:
                self._mutate(contents, name)
        return contents

    def _mutate(self, contents: Contents, name: str) -> None:
        if self.rng.random() < 0.25:
            contents[name] = self._text(name)
        elif self.rng.random() < 0.03:
            self._file(contents, name)
        else:
            path = self.rng.choice([path for path in self.paths[name] if path])
            try:
                contents[name] = self._tree(contents[name], path)
            except (KeyError, IndexError, TypeError):  # an earlier mutation took the place away
                return

    def _file(self, contents: Contents, name: str) -> None:
        """Remove a file, or write it under another name."""
        content = contents.pop(name)
        folder = self.rng.choice(sorted(FOLDERS))
        if self.rng.random() < 0.7:
            contents[f"params/{folder}/{self.rng.choice(['x', name.split('/')[-1][:-5], 'A b'])}.yaml"] = (
                content
            )

    def _tree(self, content: Any, path: Path) -> Any:
        rng, parent, key = self.rng, path[:-1], path[-1]
        match rng.randrange(13):
            case 8 | 9 | 10:
                like = self.fields.get(str(key), [rng.randrange(70)])
                return changed(content, path, lambda _: rng.choice(like))
            case 11:
                return changed(content, path, lambda v: rng.randrange(70) if type(v) is int else rng.random())
            case 0:
                return changed(content, parent, lambda v: without(v, key))
            case 1:
                new = rng.choice(
                    [f"{key}x", str(key)[:-1], str(key).upper(), "", "kind", rng.choice(self.keys), "ké y\n"]
                )
                return changed(content, parent, lambda v: renamed(v, key, new))
            case 2 | 3:
                value = rng.choice([*HOSTILE, nested(60)])
                return changed(content, path, lambda _: value)
            case 4:
                value = rng.choice(self.values)
                return changed(content, path, lambda _: value)
            case 5:
                return changed(content, path, lambda v: scaled(v, rng))
            case 6:
                named = (
                    [p for p in places(content) if p and at(content, p) in self.names] if self.names else []
                )
                target, value = rng.choice(named or [path]), rng.choice([*self.names, "a/b", "x"])
                return changed(content, target, lambda _: value)
            case 7:
                kinds = [p for p in places(content) if p and p[-1] == "kind"]
                value = rng.choice([*self.kinds, "digitz"])
                return changed(content, rng.choice(kinds or [path]), lambda _: value)
            case _:
                return changed(content, path, lambda v: self._doubled(v))

    def _doubled(self, value: Any) -> Any:
        if isinstance(value, list):
            return self.rng.choice([value * 2, value[::-1], [], value * 300, value[:1]])
        if isinstance(value, dict) and value:
            key = self.rng.choice(list(value))
            return value | {f"{key}-2": value[key]}
        return [value]

    def _text(self, name: str) -> Any:
        """Return what a file holds whose text is damaged.

        Raises OnetokError where it is no YAML.
        """
        rng, text = self.rng, self.texts[name]
        lines = text.splitlines(keepends=True)
        at, line = rng.randrange(len(text)), rng.randrange(len(lines))
        signs = [
            *":-[]{}#&*!|>'\"%@`,?\n\t 0x9~\0\x85é=<",
            "{{ x }}",
            "*x",
            "&x ",
            "<<: ",
            "!!set ",
            "---\n",
            "[" * 99,
        ]
        match rng.randrange(7):
            case 0:
                text = text[:at] + rng.choice(signs) + text[at:]
            case 1:
                text = text[:at] + text[at + rng.choice((1, 1, 2, 20)) :]
            case 2:
                text = text[:at] + rng.choice(signs) + text[at + 1 :]
            case 3:
                text = "".join(lines[:line] + lines[line + 1 :])
            case 4:
                text = "".join([*lines[: line + 1], *lines[line:]])
            case 5:
                text = "".join(
                    [*lines[:line], rng.choice(["  ", "\t", "- ", "? "]) + lines[line], *lines[line + 1 :]]
                )
            case _:
                text = text[:at]
        content = parse_yaml(text, name)
        if not isinstance(content, dict):
            raise OnetokError(f"{name}: expected a mapping")
        return content


# ------------------------------------------------------------------------------------------- outcomes


def make_plan(study: Study) -> None:
    """Do with a study what Snakemake and the stages do before any of them runs."""
    for job in (*all_jobs(study), *jobs_behind(study, speed_targets(study))):
        assert job.slice
    waiting(study)


def outcome(mutator: Mutator) -> str | None:
    """Return what is wrong with how a mutation is answered."""
    started = time.process_time()
    try:
        study = build_study(mutator.draw())
    except OnetokError as error:
        lines = str(error).splitlines()
        if not all(line.isprintable() and len(line) < 3000 for line in lines):
            return f"no clear lines: {lines!r}"[:500]
    except Exception as error:
        return f"{type(error).__name__}: {error}"[:500]
    else:
        try:
            make_plan(study)
        except Exception as error:
            return f"valid params, but no plan: {type(error).__name__}: {error}"[:500]
    seconds = time.process_time() - started
    return f"took {seconds:.1f} s" if seconds > SECONDS else None


@pytest.mark.slow
@pytest.mark.parametrize("study", STUDIES)
def test_mutated_params_are_a_plan_or_lines_that_say_what_is_wrong(study):
    contents, problems = read_params(REPOSITORY / study)
    assert not problems
    mutator = Mutator(contents, {name: (REPOSITORY / study / name).read_text() for name in contents}, seed=0)
    make_plan(build_study(contents))
    count = round(MUTATIONS * STUDIES[study])
    wrong = [f"mutation {number}: {found}" for number in range(count) if (found := outcome(mutator))]
    assert not wrong, "\n".join(wrong)
