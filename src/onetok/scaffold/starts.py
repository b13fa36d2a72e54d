"""What a new study is fine-tuned from: a tokenizer or a generator that a study trained, or a released tokenizer."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from onetok.errors import OnetokError, nearest, shown
from onetok.study.load import load_study
from onetok.study.receipts import Receipt, parse_receipt
from onetok.study.schema.starts import OURS

WEIGHTS = "weights.safetensors"
KINDS = {"train_tokenizer": ("titok",), "train_generator": ("maskgit-vit",)}


@dataclass(frozen=True, kw_only=True)
class Start:
    """A model to start from: its sizes as params name them, and the weights as `init_from`."""

    model: dict[str, Any]  # of a tokenizer or a generator
    init_from: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Starts:
    """What --from names. With a generator, its tokenizer is taken as it is."""

    name: str
    tokenizer: Start
    generator: Start | None
    size: int  # of the tokenizer's images

    @property
    def tokens(self) -> int:
        """Tokens of an image."""
        return int(self.tokenizer.model["tokens"])


def find_starts(name: str, repository: Path) -> Starts:
    """Return what a name stands for: a folder of a study's results, or a released tokenizer of the papers' params.

    Raises OnetokError for a name of neither, and for a model that a new study cannot be fine-tuned from.
    """
    folder = Path(name).expanduser()
    if (folder / "receipt.json").exists():
        return _trained(name, folder.absolute())
    return _released(name, repository)


def _trained(name: str, folder: Path) -> Starts:
    receipt = parse_receipt(folder / "receipt.json")
    if receipt["stage"] == "train_generator":
        tokens = _input_of(receipt, folder, "tokens")
        tokenizer = _input_of(parse_receipt(tokens / "receipt.json"), tokens, "tokenizers")
        found = _trained(name, tokenizer)
        return Starts(
            name=name, tokenizer=found.tokenizer, generator=_start(name, folder, receipt), size=found.size
        )
    size = int(receipt["params"].get("images", {}).get("size", 0))
    return Starts(name=name, tokenizer=_start(name, folder, receipt), generator=None, size=size)


def _start(name: str, folder: Path, receipt: Receipt) -> Start:
    """Return a trained model. Raises OnetokError for one of a kind that new studies do not have."""
    stage, params = receipt["stage"], receipt["params"]
    if params.get("kind") not in KINDS.get(stage, ()):
        known = ", ".join(kind for kinds in KINDS.values() for kind in kinds)
        raise OnetokError(f"--from: {name}: is of kind {shown(params.get('kind'))}, expected one of {known}")
    if WEIGHTS not in receipt["outputs"] or not (folder / WEIGHTS).is_file():
        raise OnetokError(f"--from: {folder / WEIGHTS}: no such file; make it first: onetok make")
    weights = {"hub": None, "revision": None, "url": None, "file": str(folder / WEIGHTS)}
    weights["sha256"] = receipt["outputs"][WEIGHTS]["sha256"]
    return Start(model=params["model"], init_from={"kind": "weights", "layout": OURS, "weights": weights})


def _input_of(receipt: Receipt, folder: Path, kind: str) -> Path:
    """Return the folder of an artefact that another one of the same study was made from."""
    results = folder.parents[2]  # of results/<kind>/<family>/<variant>
    for path in receipt["inputs"]:
        if path.startswith(f"results/{kind}/"):
            return (results / Path(path).relative_to("results")).parent
    raise OnetokError(
        f"--from: {folder / 'receipt.json'}: names no {kind}, expected those that it was made from"
    )


def _released(name: str, repository: Path) -> Starts:
    """Return a released TiTok by its name in the papers' params, or by its repository on the Hub."""
    from onetok.systems.registry import layout_of  # imports torch, which takes seconds
    from onetok.systems.titok.schema import RELEASED_INIT, ReleasedTiTok

    tokenizers = load_study(repository).tokenizers
    fit = {
        key: entry
        for key, entry in tokenizers.items()
        if isinstance(entry, ReleasedTiTok) and entry.stages == 1
    }
    entry = fit.get(name) or next((entry for entry in fit.values() if entry.weights.hub == name), None)
    if entry is None:
        what = "a folder of a study's results with a receipt.json, or a released tokenizer of one stage"
        raise OnetokError(
            f"--from: {name}: expected {what}; {nearest(name, fit)}; `onetok list tokenizers` has all"
        )
    model = json.loads(entry.model.model_dump_json())
    patch = model.pop("patch")
    model |= {"encoder_patch": patch, "decoder_patch": patch, "init": RELEASED_INIT.model_dump(mode="json")}
    weights = entry.weights.model_dump(mode="json")
    start = {"kind": "weights", "layout": layout_of(entry), "weights": weights}
    return Starts(
        name=name, tokenizer=Start(model=model, init_from=start), generator=None, size=entry.images.size
    )
