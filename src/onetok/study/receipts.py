"""Receipts: a small deterministic file beside each artefact that proves what it was made from.

A receipt holds the stage, the name, the stage's version, the resolved params, what was read, and the size and digest
of every file written. Of each input it holds the digest of the receipt and the digests of the payloads as they were
when the stage read them: should these bytes have been wrong, the receipt goes on to say so after they are mended. No
clock and no host name: the same run gives the same bytes. It is written last, in one move, so an artefact without a
receipt is not complete.
"""

from __future__ import annotations

import hashlib
import json
import math
import stat
from collections.abc import Collection, Iterator
from pathlib import Path, PurePosixPath
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    ConfigDict,
    Field,
    StringConstraints,
    TypeAdapter,
    ValidationError,
    with_config,
)
from typing_extensions import TypedDict  # pydantic reads typing's from Python 3.12 on

from onetok import durable
from onetok.errors import OnetokError, one_line, printable, shown
from onetok.study.digests import DigestIndex, sha256
from onetok.study.plan import Artefact, Job, artefact_at, jobs_behind
from onetok.study.schema.study import Study

LARGEST = 64 * 2**20  # bytes of a receipt; that of ImageNet's shards has 300 kB
DEEPEST = 32  # levels of a receipt


# ---------------------------------------------------------------------------------------------- the form


def _is_inside(name: str) -> str:
    parts = PurePosixPath(name).parts
    if not parts or "/".join(parts) != name or ".." in parts or "\\" in name or not name.isprintable():
        raise ValueError("expected the name of a file inside the artefact's folder")
    if len(name.encode()) > 1000 or any(len(part.encode()) > 255 for part in parts):
        raise ValueError("expected a name that file systems take")
    return name


def _is_receipt(path: str) -> str:
    if artefact_at(path) is None:
        raise ValueError("expected results/<kind>/<family>/<variant>/receipt.json")
    return path


Digest = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Name = Annotated[str, AfterValidator(_is_inside)]
STRICT = ConfigDict(extra="forbid", strict=True)


@with_config(STRICT)
class Written(TypedDict):
    """A file that the stage wrote."""

    sha256: Digest
    size: Annotated[int, Field(ge=0, lt=2**63)]


@with_config(STRICT)
class Read(TypedDict):
    """An input as the stage read it."""

    sha256: Digest  # of its receipt
    payloads: dict[Name, Digest]  # of each file and folder of it, see payloads_of


@with_config(STRICT)
class Receipt(TypedDict):
    stage: str
    name: str
    version: Annotated[int, Field(ge=1, lt=2**31)]
    params: dict[str, Any]
    inputs: dict[Annotated[str, AfterValidator(_is_receipt)], Read]
    outputs: dict[Name, Written]


_FORM = TypeAdapter(Receipt)


def parse_receipt(path: Path) -> Receipt:
    """Return a receipt that has the form of one, whoever's it is.

    Raises OnetokError, one line that names the file and the place in it, for anything else.
    """
    content = _parse(path)
    for problem in _unusable(content):
        raise OnetokError(f"{path}: {problem}, expected a receipt")
    try:
        return _FORM.validate_python(content)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(_key(key) for key in first["loc"] if key != "[key]") or "the content"
        reason = first["msg"].removeprefix("Value error, ")
        raise OnetokError(f"{path}: {where}: found {shown(first['input'])}, {reason} (receipt)") from None


def _parse(path: Path) -> Any:
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):
            raise OnetokError(f"{path}: is no regular file, expected a receipt")
        if found.st_size > LARGEST:
            raise OnetokError(f"{path}: {found.st_size} bytes, expected a receipt of {LARGEST} at most")
        return json.loads(
            path.read_bytes().decode("utf-8"),
            object_pairs_hook=_unique,
            parse_constant=_finite,
            parse_float=_finite,
        )
    except OSError as error:
        raise OnetokError(f"{path}: cannot be read: {error.strerror}") from None
    except RecursionError:
        raise OnetokError(f"{path}: nested more than {DEEPEST} levels deep, expected a receipt") from None
    except ValueError as error:
        reason = (
            shown(one_line(error)) if isinstance(error, UnicodeDecodeError) else printable(one_line(error))
        )
        raise OnetokError(f"{path}: not JSON ({reason}), expected a receipt") from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"the key {next(key for key in keys if keys.count(key) > 1)!r} twice")
    return content


def _finite(text: str) -> float:
    if not math.isfinite(float(text)):
        raise ValueError(f"the number {shown(text)}")
    return float(text)


def _unusable(content: Any) -> Iterator[str]:
    """Yield what JSON allows and no receipt holds: deep nesting, and texts that are no Unicode."""
    level, depth = [content], 0
    while level:
        if depth > DEEPEST:
            yield f"nested more than {DEEPEST} levels deep"
            return
        texts = [text for value in level for text in _texts(value)]
        yield from (f"no Unicode in {shown(text)}" for text in texts if not _is_unicode(text))
        level = [below for value in level for below in _below(value)]
        depth += 1


def _texts(value: Any) -> list[str]:
    return [value] if isinstance(value, str) else list(value) if isinstance(value, dict) else []


def _below(value: Any) -> list[Any]:
    return list(value.values()) if isinstance(value, dict) else value if isinstance(value, list) else []


def _is_unicode(text: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in text)


def _key(key: Any) -> str:
    """Return a key as part of a line, the middle of a long one left out."""
    text = printable(str(key))
    return text if len(text) <= 80 else f"{text[:50]}…{text[-20:]}"


# ---------------------------------------------------------------------------------------------- read and write


def read_receipt(artefact: Artefact, study: Path) -> Receipt:
    """Return an artefact's receipt.

    Raises OnetokError if it is missing, has not the form of one, or is another artefact's.
    """
    path = study / artefact.receipt
    if not path.exists():
        raise OnetokError(f"{path}: no such receipt; make it first: onetok make {artefact.receipt}")
    receipt = parse_receipt(path)
    for key, found, expected in (
        ("stage", receipt["stage"], artefact.stage),
        ("name", receipt["name"], artefact.name),
    ):
        if found != expected:
            raise OnetokError(f"{path}: {key}: found {shown(found)}, expected {expected!r} (receipt)")
    return receipt


def write_receipt(job: Job, study: Path, read: dict[str, Read]) -> Path:
    """Hash what a job wrote, and leave the receipt; `read` is what check_inputs returned before the work.

    Raises OnetokError if an output is missing, or if an input is no longer what it was when the job began.
    """
    for name, now in check_inputs(job, study).items():
        if now != read[name]:
            raise OnetokError(f"{study / name}: changed while {job.stage} {job.name} ran; start it again")
    folder = study / job.artefact.folder
    with index_of(job.artefact, study) as index:
        names = [p.relative_to(folder).as_posix() for o in job.outputs for p in _files(folder / o)]
        outputs = {
            name: {"sha256": index.digest(name, again=True), "size": (folder / name).stat().st_size}
            for name in names
        }
    receipt = {
        "stage": job.stage,
        "name": job.name,
        "version": job.version,
        "params": job.params,
        "inputs": read,
        "outputs": outputs,
    }
    path = study / job.artefact.receipt
    durable.write_json(path, receipt)
    return path


def check_inputs(job: Job, study: Path) -> dict[str, Read]:
    """Check that what a job reads is, byte for byte, what the receipts say, and return it as receipts name it.

    Bytes are read once for each version of a file (onetok.study.digests).

    Raises OnetokError for the first file that is missing or differs.
    """
    for artefact in job.inputs:
        read_receipt(artefact, study)
    read: dict[str, Read] = {}
    for artefact in job.inputs:
        try:
            read[artefact.receipt] = check_artefact(artefact, study)
        except OnetokError as error:
            raise OnetokError(f"{error}{_set_aside(job, study)}") from None
    return read


def check_artefact(artefact: Artefact, study: Path) -> Read:
    """Check an artefact's files against its receipt before somebody reads them; raises as check_inputs."""
    receipt = read_receipt(artefact, study)
    for problem in _file_problems(receipt, index_of(artefact, study), again=False):
        raise OnetokError(f"{problem}; restore the file, or remove {artefact.receipt} and make it again")
    return _as_listed(artefact, receipt, study)


def check_folder(folder: Path, names: Collection[str]) -> Receipt:
    """Check files of a folder against the receipt in it, wherever it is, and return the receipt.

    Raises OnetokError for a receipt that is damaged or lists no such file, and as check_inputs.
    """
    receipt = parse_receipt(folder / "receipt.json")
    for name in names:
        if name not in receipt["outputs"]:
            raise OnetokError(f"{folder / 'receipt.json'}: lists no {name}")
    part: Receipt = {**receipt, "outputs": {name: receipt["outputs"][name] for name in names}}
    for problem in _file_problems(part, DigestIndex(folder, None), again=True):
        raise OnetokError(problem)
    return receipt


def _as_listed(artefact: Artefact, receipt: Receipt, study: Path) -> Read:
    return {"sha256": sha256(study / artefact.receipt), "payloads": payloads_of(receipt)}


def payloads_of(receipt: Receipt) -> dict[str, str]:
    """Return one digest for each file and each folder that a job wrote.

    That of a folder is the digest of what `find FOLDER -type f | LC_ALL=C sort | xargs sha256sum` prints.
    """
    files: dict[str, list[str]] = {}
    for name in sorted(receipt["outputs"], key=str.encode):
        files.setdefault(name.split("/")[0], []).append(name)
    digests = {name: written["sha256"] for name, written in receipt["outputs"].items()}
    return {
        top: digests[top] if names == [top] else _digest_of_list({name: digests[name] for name in names})
        for top, names in files.items()
    }


def _digest_of_list(digests: dict[str, str]) -> str:
    lines = "".join(f"{digest}  {name}\n" for name, digest in digests.items())
    return hashlib.sha256(lines.encode()).hexdigest()


def scratch_folder(job: Job, study: Path) -> Path:
    """Return where an interrupted run of a job keeps its state: another folder for other params or other inputs."""
    state = {"slice": job.slice, "inputs": {a.receipt: sha256(study / a.receipt) for a in job.inputs}}
    digest = hashlib.sha256(json.dumps(state, sort_keys=True).encode()).hexdigest()[:16]
    return study / "results/scratch" / job.stage / job.name / digest


def _set_aside(job: Job, study: Path) -> str:
    """Keep a run from going on with state that it may have computed from wrong bytes; say where the state is."""
    scratch = scratch_folder(job, study)
    if not scratch.is_dir():
        return ""
    aside = scratch.with_name(f"{scratch.name}.set-aside")
    number = 1
    while aside.exists():
        number += 1
        aside = scratch.with_name(f"{scratch.name}.set-aside-{number}")
    scratch.rename(aside)
    return f"; what an interrupted run computed, maybe from these bytes, is now {aside}"


def index_of(artefact: Artefact, study: Path) -> DigestIndex:
    """Return the index of the files of an artefact."""
    folder = study / artefact.folder
    return DigestIndex(folder, study / "results/scratch/digests" / artefact.kind / f"{artefact.name}.json")


# ---------------------------------------------------------------------------------------------- verify


def verify(job: Job, study: Path, *, digests: bool) -> list[str]:
    """Return what is wrong with an artefact, one line a problem; `digests` reads every file, else sizes must do."""
    try:
        receipt = read_receipt(job.artefact, study)
    except OnetokError as error:
        return [str(error)]
    path = job.artefact.receipt
    problems = []
    if receipt["version"] != job.version:
        problems.append(f"{path}: version {receipt['version']} of {job.stage}, expected {job.version}")
    problems += [f"{path}: params.{line}" for line in _differences(receipt["params"], job.params)]
    problems += [f"{path}: {line}" for line in _input_problems(job, receipt, study)]
    listed = {name.split("/")[0] for name in receipt["outputs"]}
    problems += [f"{path}: lists no {output}" for output in job.outputs if output not in listed]
    problems += [f"{path}: lists {name}, which is no output" for name in sorted(listed - {*job.outputs})]
    problems += _file_problems(receipt, index_of(job.artefact, study), again=True if digests else None)
    return problems


class Made:
    """Says of an artefact whether it is made, with all that it is made from, as params, receipts and sizes say.

    It looks at an artefact once: what is made later does not count.
    """

    def __init__(self, study: Study, directory: Path) -> None:
        self.study, self.directory = study, directory
        self._holds: dict[Artefact, bool] = {}

    def __call__(self, artefact: Artefact) -> bool:
        return all(self._receipt_holds(job) for job in jobs_behind(self.study, [artefact]))

    def _receipt_holds(self, job: Job) -> bool:
        if job.artefact not in self._holds:
            self._holds[job.artefact] = not verify(job, self.directory, digests=False)
        return self._holds[job.artefact]


def _input_problems(job: Job, receipt: Receipt, study: Path) -> Iterator[str]:
    expected = {artefact.receipt: artefact for artefact in job.inputs}
    yield from (f"names {name}, which is no input" for name in sorted(receipt["inputs"].keys() - expected))
    for name, artefact in expected.items():
        if name not in receipt["inputs"]:
            yield f"does not name its input {name}"
            continue
        if not (study / name).exists():
            yield f"its input {name} is missing"
            continue
        try:
            now = _as_listed(artefact, read_receipt(artefact, study), study)
        except OnetokError:  # the input's own line says what is wrong with it
            yield f"its input {name} is damaged"
            continue
        yield from _differing_input(artefact, receipt["inputs"][name], now)


def _differing_input(artefact: Artefact, recorded: Read, now: Read) -> Iterator[str]:
    if recorded["sha256"] != now["sha256"]:
        yield f"was made from another {artefact.receipt}"
    elif recorded["payloads"] != now["payloads"]:
        names = sorted(recorded["payloads"].keys() | now["payloads"].keys())
        differing = [n for n in names if recorded["payloads"].get(n) != now["payloads"].get(n)]
        yield f"was made from other bytes of {artefact.folder}/{differing[0]} than {artefact.receipt} lists"


def _file_problems(receipt: Receipt, index: DigestIndex, *, again: bool | None) -> Iterator[str]:
    """Yield what is wrong with an artefact's files; None: by size alone, True: read again what the index knows."""
    with index:
        for name, expected in receipt["outputs"].items():
            path = index.folder / name
            try:
                size = path.stat().st_size
                if size != expected["size"]:
                    yield f"{path}: {size} bytes, expected {expected['size']} (receipt)"
                elif again is not None and index.digest(name, again=again) != expected["sha256"]:
                    # The index may be what is damaged: only the file itself is believed.
                    found = index.digest(name, again=True)
                    if found != expected["sha256"]:
                        yield f"{path}: sha256 {found[:12]}…, expected {expected['sha256'][:12]}… (receipt)"
            except FileNotFoundError:
                yield f"{path}: missing, but its receipt lists it"
            except OSError as error:
                yield f"{path}: cannot be read: {error.strerror}"
            except OnetokError as error:
                yield str(error)


def _differences(found: Any, expected: Any, path: str = "") -> Iterator[str]:
    """Yield one line for each leaf that differs."""
    if isinstance(found, dict) and isinstance(expected, dict):
        for key in sorted(found.keys() | expected.keys()):
            below = f"{path}.{_key(key)}" if path else _key(key)
            if key not in found or key not in expected:
                yield f"{below}: only in {'the receipt' if key in found else 'params'}"
            else:
                yield from _differences(found[key], expected[key], below)
    elif found != expected:
        yield f"{path}: made with {shown(found)}, params say {shown(expected)}"


def _files(path: Path) -> Iterator[Path]:
    if not path.exists():
        raise OnetokError(f"{path}: the stage did not write it, but it is a declared output")
    if path.is_file():
        yield path
        return
    # Snakemake leaves a time stamp in folders that it declares.
    yield from sorted(p for p in path.rglob("*") if p.is_file() and p.name != ".snakemake_timestamp")
