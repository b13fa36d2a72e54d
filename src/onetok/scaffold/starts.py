"""What a new study is fine-tuned from: a tokenizer or a generator that a study trained, or a released tokenizer."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from onetok.errors import OnetokError, nearest, shown
from onetok.study.load import load_study
from onetok.study.receipts import Receipt, parse_receipt
from onetok.study.schema.starts import OURS
from onetok.study.schema.tokenizers import ReleasedTokenizer

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
    """Return a released tokenizer by its name in the papers' params, or by its repository on the Hub."""
    # Imports torch, which takes seconds.
    from onetok.systems.records import TokenizerSystem
    from onetok.systems.registry import layout_of, system_of

    released = {
        key: entry
        for key, entry in load_study(repository).tokenizers.items()
        if isinstance(entry, ReleasedTokenizer) and entry.text_encoder is None
    }
    models = {}
    for key, entry in released.items():
        record = system_of(type(entry))
        model = record.fine_tuned(entry) if isinstance(record, TokenizerSystem) else None
        if model is not None:
            models[key] = model
    found = next((key for key in models if name in (key, released[key].weights.hub)), None)
    if found is None:
        what = "a folder of a study's results with a receipt.json, or a released tokenizer of one stage"
        raise OnetokError(
            f"--from: {name}: expected {what}; {nearest(name, models)} (onetok list tokenizers)"
        )
    entry = released[found]
    weights = entry.weights.model_dump(mode="json")
    init_from = {"kind": "weights", "layout": layout_of(entry), "weights": weights}
    start = Start(model=models[found], init_from=init_from)
    return Starts(name=name, tokenizer=start, generator=None, size=entry.images.size)
