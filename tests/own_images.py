"""What docs/how-to/your-own-images.md tells readers to write, remove and adapt in params, done as its text says it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from tests.conftest import REPOSITORY
from tests.documentation import blocks

OWN_IMAGES = REPOSITORY / "docs/how-to/your-own-images.md"


def write_datasets(study: Path, home: Path) -> None:
    """Write the params of the datasets that the page shows, with another home folder."""
    (block,) = (block for block in blocks(OWN_IMAGES) if block.text.startswith("datasets:"))
    (file,) = re.findall(r"in `studies/birds/(params/[\w/]+\.yaml)`:", OWN_IMAGES.read_text(encoding="utf-8"))
    assert "/home/me" in block.text
    (study / file).write_text(block.text.replace("/home/me", str(home)), encoding="utf-8")


def leave_out_text(study: Path) -> None:
    """Do what the page says to a study without captions: delete params files, and what names their entries."""
    families = set()
    for part in item("delete ").split(", "):
        files, folders = (re.findall(r"`([\w/.]+)`", words) for words in part.split(" in "))
        assert files and folders, part
        for file in files:
            families.add(Path(file).stem)
            for folder in folders:
                (study / folder / file).unlink()
    named = re.compile(rf"(?:^|/)(?:{'|'.join(sorted(families))})/")
    for file in re.findall(r"`(params/[\w/]+\.yaml)`", item("remove what names these")):
        content = yaml.safe_load((study / file).read_text(encoding="utf-8"))
        before = yaml.safe_dump(content)
        for kind, entries in content.items():
            if not kind.startswith("_"):
                content[kind] = {family: _without(variants, named) for family, variants in entries.items()}
        assert yaml.safe_dump(content) != before, f"{file} names nothing of what is deleted"
        _write(study / file, content)


def _without(variants: dict[str, Any], named: re.Pattern[str]) -> dict[str, Any]:
    """Return variants without the entries of lists that a name is in, and without those whose list becomes empty."""
    kept = {}
    for variant, entry in variants.items():
        pruned = _prune(entry, named)
        labels = {row["label"] for row in pruned.get("rows", [])}
        if "claims" in pruned:  # sentences about rows, which go with them
            pruned["claims"] = [c for c in pruned["claims"] if {c["row"], c["other"]} <= labels]
        if not any(had and not has for had, has in _lists(entry, pruned)):
            kept[variant] = pruned
    return kept


def _prune(value: Any, named: re.Pattern[str]) -> Any:
    if isinstance(value, dict):
        return {key: _prune(one, named) for key, one in value.items()}
    if isinstance(value, list):
        return [_prune(one, named) for one in value if not any(map(named.search, _strings(one)))]
    return value


def _strings(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [text for one in value.values() for text in _strings(one)]
    return [value] if isinstance(value, str) else []


def _lists(before: Any, after: Any) -> list[tuple[list[Any], list[Any]]]:
    """Return the lists of an entry beside what is left of each, but for claims, of which a table may have none."""
    if isinstance(before, list):
        return [(before, after)]
    if isinstance(before, dict):
        return [pair for key in before if key != "claims" for pair in _lists(before[key], after[key])]
    return []


def adapt_params(study: Path, *, classes: int, train: int, val: int) -> None:
    """Adapt what the page says depends on the data to images of so many classes and in so many of each split."""
    generators = study / "params/generators"
    for file in re.findall(r"(\w+\.yaml)`", item("`classes` in `params/generators/")):
        content = yaml.safe_load((generators / file).read_text(encoding="utf-8"))
        for entry in content["generators"][Path(file).stem].values():
            _set(entry, "classes", classes)
        _write(generators / file, content)
    _adapt(study, item("`reference_images` in `params/benchmarks`"), {"reference_images": None}, train, val)
    splits = item("`inception_splits` there: 1, with `inception_shuffle_seed: null`")
    _adapt(study, splits, {"inception_splits": 1, "inception_shuffle_seed": None}, train, val)
    samples = item("`samples` in `params/benchmarks/class_conditional.yaml`")
    assert "`manifold_images`" in samples
    _adapt(study, samples, {"samples": 10 * classes, "manifold_images": train}, train, val)


def _adapt(study: Path, text: str, values: dict[str, int | None], train: int, val: int) -> None:
    """Set keys of the benchmarks of one's own images, in the file that an item of the page names, or in all."""
    files = re.findall(r"`params/benchmarks/(\w+\.yaml)`", text)
    for path in (study / "params/benchmarks").glob("*.yaml"):
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        entries = content.get("benchmarks", {}).get(path.stem, {}).values()
        mine = [entry for entry in entries if entry["dataset"] == "labelled/digits"]
        if not mine or (files and path.name not in files):
            continue
        for entry in mine:
            for key, value in values.items():
                images = train if entry["split"] == "train" else val
                _set(entry, key, images if key == "reference_images" else value)
        _write(path, content)


def _set(entry: dict[str, Any], key: str, value: Any) -> None:
    assert key in entry, f"the page names {key}, which is no key of {sorted(entry)}"
    entry[key] = value


def _write(path: Path, content: dict[str, Any]) -> None:
    path.write_text(yaml.safe_dump(content, sort_keys=False, allow_unicode=True), encoding="utf-8")


def item(start: str) -> str:
    """Return the item of a list of the page that starts so, on one line."""
    text = OWN_IMAGES.read_text(encoding="utf-8")
    items = [" ".join(found.split()) for found in re.findall(r"^- ((?:.+\n)(?:  .+\n)*)", text, re.MULTILINE)]
    (found,) = [one for one in items if one.startswith(start)]
    return found
