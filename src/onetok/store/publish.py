"""Transfer between a study's results/ and its storage in git and DVC.

publish   verify receipts → dvc commit → dvc push → copy receipts, scores, tables and pictures to evidence/, with a
          record of the machines that made them; evidence/spread/ is not changed
restore   dvc pull → copy evidence/ into results/ → verify receipts   (then Snakemake is told that all is up to date)

Neither replaces files of which there is no other copy, unless it is told to. The new evidence is complete in a
temporary folder before the old evidence is moved.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from onetok import durable
from onetok.errors import OnetokError
from onetok.spread import KEPT, MACHINES
from onetok.spread.machines import write_machines
from onetok.store.dvc_yaml import EVIDENCE, dvc_yaml, stage_name
from onetok.study.digests import sha256
from onetok.study.load import load_study
from onetok.study.plan import Job, all_jobs
from onetok.study.receipts import index_of, parse_receipt, verify

LISTED = 20  # files that an error message names


def publish(study: Path, *, push: bool, replace: bool) -> None:
    """Store a study's results: payloads in DVC (and its remote with `push`), everything else in evidence/.

    Raises OnetokError, and leaves evidence/ as it was, if anything in results/ does not verify against its receipt, if
    payloads cannot be pushed, or if the old evidence is not in git and `replace` does not allow to lose it.
    """
    _finish_swap(study)
    loaded = load_study(study)
    jobs = list(all_jobs(loaded))
    _verify_all(jobs, study)
    _check_dvc(study, "push to" if push else None)
    evidence, new = study / "evidence", study / "evidence.new"
    try:
        _copy_evidence(jobs, study, new)
        replaced = [path for path in _files(evidence) if _differs(path, new / path.relative_to(evidence))]
        if not replace:
            _refuse(_not_in_git(study, replaced), "evidence that is not in git would be replaced; commit it")
        print(f"{evidence}: {len(list(_files(new)))} files; {len(replaced)} of the old ones change or go")
        durable.write_text(study / "dvc.yaml", dvc_yaml(loaded))
        _forget_other_stages(study, jobs)
        # --force, because DVC would ask whether outputs may differ from dvc.lock; they have been verified above.
        _dvc(study, "commit", "--force", "dvc.yaml")
        if push:
            _dvc(
                study,
                "push",
                "dvc.yaml",
                left=f"evidence/ is as it was, the payloads are in {_cache(study)} alone",
            )
        _swap(evidence, new)
    finally:
        shutil.rmtree(new, ignore_errors=True)
    print(
        f"{evidence}: receipts, scores, tables and pictures of {len(jobs)} artefacts; commit it with dvc.lock"
    )
    if not push:
        later = f"dvc push {study / 'dvc.yaml'}"
        print(f"not pushed: the payloads are in {_cache(study)} alone; when there is a remote: {later}")


def restore(study: Path, *, replace: bool) -> None:
    """Restore a study's published results into results/.

    Raises OnetokError, before anything is written, if there is no evidence or no remote, if the evidence is of other
    params, or if results/ has unpublished files and `replace` does not allow to lose them; and afterwards if the
    restored files do not verify against their receipts.
    """
    _finish_swap(study)
    evidence = study / "evidence"
    if not evidence.is_dir():
        raise OnetokError(
            f"{evidence}: no such folder; nothing was published for this study (onetok publish does)"
        )
    _check_dvc(study, "pull from")
    jobs = list(all_jobs(load_study(study)))
    _check_evidence(jobs, study)
    if not replace:
        _refuse(
            _not_published(jobs, study), "results that were not published would be replaced; publish them"
        )
    _dvc(study, "pull", "--force", "dvc.yaml")
    for source in _files(evidence):
        target = study / "results" / source.relative_to(evidence)
        if evidence / MACHINES.name != source and _differs(source, target):
            target.parent.mkdir(parents=True, exist_ok=True)
            durable.copy(source, target)
    _verify_all(jobs, study)


# ---------------------------------------------------------------------------------------------- evidence


def _forget_other_stages(study: Path, jobs: list[Job]) -> None:
    """Remove stages from dvc.lock that dvc.yaml no longer has, which DVC itself never does."""
    from dvc.utils.serialize import dump_yaml, load_yaml  # DVC's own format; slow to import, so only here

    path = study / "dvc.lock"
    if not path.exists():
        return
    lock = load_yaml(path)
    others = lock["stages"].keys() - {stage_name(job.artefact) for job in jobs}
    if others:
        lock["stages"] = {name: stage for name, stage in lock["stages"].items() if name not in others}
        dump_yaml(path, lock)


def _copy_evidence(jobs: list[Job], study: Path, new: Path) -> None:
    """Write the new evidence into a new folder."""
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir()
    for source in _evidence_files(jobs, study / "results"):
        target = new / source.relative_to(study / "results")
        target.parent.mkdir(parents=True, exist_ok=True)
        durable.copy(source, target)
    write_machines(jobs, study, new / MACHINES.name)


def _evidence_files(jobs: list[Job], results: Path) -> Iterator[Path]:
    """Yield the files of results/ that evidence/ holds copies of."""
    for job in jobs:
        folder = results.parent / job.artefact.folder
        yield folder / "receipt.json"
        yield from (folder / output for output in job.outputs if output in EVIDENCE)


def _swap(evidence: Path, new: Path) -> None:
    """Replace evidence/ by a new folder, into which evidence/spread/ is moved."""
    old = evidence.with_name("evidence.old")
    if evidence.exists():
        evidence.rename(old)
        if (old / KEPT.name).exists():  # the runs of `onetok spread`, which no file in results/ could restore
            (old / KEPT.name).rename(new / KEPT.name)
    new.rename(evidence)
    durable.flush_folder(evidence.parent)
    shutil.rmtree(old, ignore_errors=True)


def _finish_swap(study: Path) -> None:
    """Complete or undo a replacement of evidence/ that was interrupted."""
    evidence, new, old = (study / f"evidence{suffix}" for suffix in ("", ".new", ".old"))
    if not old.exists():
        return
    if evidence.exists():  # the new evidence is complete
        shutil.rmtree(old)
        return
    if (new / KEPT.name).exists():
        (new / KEPT.name).rename(old / KEPT.name)
    old.rename(evidence)


def _files(folder: Path) -> Iterator[Path]:
    """Yield the files of evidence/ except evidence/spread/."""
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.relative_to(folder).parts[0] != KEPT.name:
            yield path


def _differs(path: Path, other: Path) -> bool:
    return not other.is_file() or sha256(path) != sha256(other)


def _check_evidence(jobs: list[Job], study: Path) -> None:
    """Raise OnetokError where a receipt in evidence/ is missing, or of other params or another version of a stage."""
    problems = []
    for job in jobs:
        path = study / job.artefact.receipt.replace("results/", "evidence/", 1)
        if not path.exists():
            problems.append(f"{path}: no such file")
            continue
        receipt = parse_receipt(path)
        if (receipt["version"], receipt["params"]) != (job.version, job.params):
            problems.append(f"{path}: is of other params or another version of {job.stage}")
    if problems:
        raise OnetokError(_listed("evidence is not of the params and the code that are here:", problems))


# ---------------------------------------------------------------------------------------------- what is stored


def _not_published(jobs: list[Job], study: Path) -> list[Path]:
    """Return the files of results/ that no receipt in evidence/ or in git's history records."""
    receipts = [study / job.artefact.receipt for job in jobs if (study / job.artefact.receipt).is_file()]
    unknown = set(_not_in_git(study, receipts))
    lost = []
    for job in jobs:
        folder, receipt = study / job.artefact.folder, study / job.artefact.receipt
        published = study / job.artefact.receipt.replace("results/", "evidence/", 1)
        stored = [published, *([receipt] if receipt.is_file() and receipt not in unknown else [])]
        if receipt in unknown and _differs(receipt, published):
            lost.append(receipt)
        known = {
            (name, written["sha256"])
            for path in stored
            for name, written in parse_receipt(path)["outputs"].items()
        }
        with index_of(job.artefact, study) as index:
            lost += [
                folder / name for name in _present(job, folder) if (name, index.digest(name)) not in known
            ]
    return lost


def _present(job: Job, folder: Path) -> Iterator[str]:
    """Yield the names of the existing files among a job's outputs."""
    for output in job.outputs:
        path = folder / output
        for file in [path] if path.is_file() else sorted(path.rglob("*")):
            if file.is_file() and not file.name.startswith((".snakemake", durable.PARTIAL)):
                yield file.relative_to(folder).as_posix()


def _not_in_git(study: Path, paths: list[Path]) -> list[Path]:
    """Return the files whose content is not in the git repository; all of them where git is not installed."""
    if not paths or shutil.which("git") is None:
        return paths
    names = "".join(f"{path.resolve()}\n" for path in paths)
    digests = _git(study, "hash-object", "--stdin-paths", given=names)
    known = _git(study, "cat-file", "--batch-check", given=digests) if digests is not None else None
    if known is None:
        return paths
    lines = zip(paths, known.splitlines(), strict=True)
    return [path for path, line in lines if line.endswith(" missing")]


def _git(study: Path, *arguments: str, given: str) -> str | None:
    command = ["git", "-C", str(study), *arguments]
    done = subprocess.run(command, input=given, capture_output=True, encoding="utf-8", check=False)
    return None if done.returncode else done.stdout


def _refuse(lost: list[Path], what: str) -> None:
    if lost:
        raise OnetokError(_listed(f"{what}, or allow it with --replace:", [str(path) for path in lost]))


def _listed(title: str, lines: list[str]) -> str:
    more = [f"  … and {len(lines) - LISTED} more"] if len(lines) > LISTED else []
    return "\n".join([title, *(f"  {line}" for line in lines[:LISTED]), *more])


def _verify_all(jobs: list[Job], study: Path) -> None:
    problems = [line for job in jobs for line in verify(job, study, digests=True)]
    if problems:
        raise OnetokError(
            "\n".join(["results are not what their receipts say:", *(f"  {line}" for line in problems)])
        )


# ---------------------------------------------------------------------------------------------- DVC


def _check_repository(study: Path) -> None:
    folders = (study.resolve(), *study.resolve().parents)
    if not any((folder / ".git").exists() for folder in folders):
        raise OnetokError(
            f"{study.resolve()}: in no git repository, which DVC needs; clone the project, or where it came as "
            "an archive, `git init` and commit at its root"
        )


def _check_dvc(study: Path, purpose: str | None) -> None:
    """Raise OnetokError where there is no DVC repository, or no default remote although `purpose` needs one."""
    _check_repository(study)
    if _ask_dvc(study, "root").returncode:
        raise OnetokError(f"{study.resolve()}: not inside a DVC repository; dvc init (docs/how-to/dvc.md)")
    if purpose is not None and _ask_dvc(study, "remote", "default").returncode:
        way = "dvc remote add --local --default NAME PLACE (docs/how-to/dvc.md)"
        other = ", or publish with --no-push" if purpose == "push to" else ""
        raise OnetokError(f"dvc: no remote to {purpose}; {way}{other}")


def _cache(study: Path) -> str:
    return _ask_dvc(study, "cache", "dir").stdout.strip() or "DVC's cache"


def _ask_dvc(study: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "dvc", *arguments]
    return subprocess.run(command, cwd=study, capture_output=True, encoding="utf-8", check=False)


def _dvc(study: Path, *arguments: str, left: str = "") -> None:
    if subprocess.run([sys.executable, "-m", "dvc", *arguments], cwd=study, check=False).returncode:
        said = f"dvc {' '.join(arguments)} failed; its own message is above"
        raise OnetokError(f"{said}; {left}" if left else said)
