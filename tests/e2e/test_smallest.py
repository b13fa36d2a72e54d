"""The whole study, run small: every rule, twice, with both doors; then a kill. About two minutes each."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from onetok.data.shards import Shards
from onetok.data.texts import TextCache
from onetok.study.load import load_study
from onetok.study.plan import KIND_OF_STAGE, all_jobs, plan
from onetok.study.receipts import verify
from tests.conftest import REPOSITORY

pytestmark = pytest.mark.slow

SMALLEST = REPOSITORY / "tests/e2e/smallest"


def run(command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, cwd=folder, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False
    )


def snakemake(study: Path, *options: str) -> str:
    done = run(
        ["snakemake", "--snakefile", str(REPOSITORY / "Snakefile"), "--directory", str(study), *options],
        study,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def digests(study: Path) -> dict[str, str]:
    """What must be the same in every run: all of results/ but logs, timings and Snakemake's stamps."""
    kept = [
        p for p in sorted((study / "results").rglob("*")) if p.is_file() and p.name != ".snakemake_timestamp"
    ]
    return {
        str(p.relative_to(study)): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in kept
        if p.relative_to(study).parts[1] not in ("logs", "benchmarks", "scratch")
    }


def jobs_run(output: str) -> list[str]:
    return sorted(re.findall(r"^(?:local)?rule (\w+):", output, flags=re.MULTILINE))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A git and DVC repository whose one study has been run."""
    repository = tmp_path_factory.mktemp("repository")
    study = repository / "studies/smallest"
    shutil.copytree(SMALLEST / "params", study / "params")
    assert run(["onetok", "generated", "--study", str(study)], repository).returncode == 0
    put_under_versions(repository)
    snakemake(study)
    return study


def put_under_versions(repository: Path) -> None:
    """Make a folder a git and DVC repository, with a store beside it as the remote."""
    shutil.copy(REPOSITORY / ".dvcignore", repository)
    (repository / ".gitignore").write_text("results/\n.snakemake/\n")
    for command in (["git", "init", "-q"], ["dvc", "init", "-q"]):
        assert run(command, repository).returncode == 0
    commit(repository, "params")
    add_remote(repository, repository.parent / "store")


def add_remote(repository: Path, store: Path) -> None:
    local = ["dvc", "remote", "add", "--local", "--default", "store", str(store)]
    assert run(local, repository).returncode == 0


def commit(repository: Path, message: str) -> None:
    who = ["-c", "user.name=test", "-c", "user.email=test@example.org"]
    assert run(["git", "add", "-A"], repository).returncode == 0
    done = run(["git", *who, "commit", "-q", "--allow-empty", "-m", message], repository)
    assert done.returncode == 0, done.stdout


def test_every_target_is_made_and_a_second_run_does_nothing(made):
    for kind in ("tables", "figures"):
        assert len(list((made / "results" / kind).glob("*/*/receipt.json"))) >= 2
    assert "Nothing to be done" in snakemake(made, "-n")
    verified = run(["onetok", "verify"], made)
    assert verified.returncode == 0 and "artefacts are what" in verified.stdout
    for log in ("train_tokenizer/titok/vq-16", "sample_images/maskgit/tiny"):
        assert (made / "results/logs" / log / "log.txt").stat().st_size > 0
    assert list((made / "results/logs/train_tokenizer/titok/vq-16").rglob("events.out.tfevents.*"))
    jobs = list(all_jobs(load_study(made)))
    assert len(list((made / "results/benchmarks").rglob("*.tsv"))) == len(jobs)
    record = json.loads((made / "results/logs/train_tokenizer/titok/vq-16/run.json").read_text())
    assert record["machine"]["threads"] == 1 and record["device"] == "cpu"


def test_the_log_holds_plain_lines_with_rate_and_eta(made):
    log = (made / "results/logs/train_tokenizer/titok/vq-16/log.txt").read_text()
    assert re.search(
        r"train_tokenizer titok/vq-16: 12/12 steps \(100%\), [\d.]+/s, ETA 0:00, loss [\d.]+", log
    )
    assert "\r" not in log


def test_a_run_from_scratch_gives_the_same_bytes(made, tmp_path):
    shutil.copytree(made / "params", tmp_path / "params")
    snakemake(tmp_path, "--cores", "1")
    assert digests(tmp_path) == digests(made)


def test_continuous_tokens_are_cached_on_demand(made, tmp_path):
    """A cache that no table pulls: one more entry of params, one target."""
    study = tmp_path / "study"
    shutil.copytree(made, study, symlinks=True)
    path = study / "params/tokenizers/tatitok.yaml"
    entry = {"tokenizer": "tatitok/kl-16", "dataset": "labelled/digits", "split": "train", "batch": 500}
    entry |= {
        "images": {"resize": "torchvision", "shorter_edge": 32, "size": 32, "filter": "bicubic"},
        "crops": "center",
        "flip": False,
        "captions": None,
    }
    path.write_text(f"{path.read_text()}\ntokens:\n  tatitok: {{kl-16: {json.dumps(entry)}}}\n")
    assert jobs_run(snakemake(study, "results/tokens/tatitok/kl-16/receipt.json")) == ["cache_tokens"]
    tokens = np.load(study / "results/tokens/tatitok/kl-16/tokens.npy")
    assert (tokens.shape, tokens.dtype) == ((1697, 1, 2, 16, 8), np.float16)  # mean and log-variance


def test_dvc_builds_nothing_writes_the_lock_and_then_both_tools_are_clean(made):
    before = digests(made)
    repro = run(["dvc", "repro", "dvc.yaml"], made)
    assert repro.returncode == 0, repro.stdout
    assert jobs_run(repro.stdout) == []
    assert digests(made) == before
    assert (made / "dvc.lock").exists()
    assert "Nothing to be done" in snakemake(made, "-n")
    status = run(["dvc", "status", "dvc.yaml"], made)
    assert "up to date" in status.stdout, status.stdout


def test_publish_restore_and_a_change_after_it(made, tmp_path):
    """The doors, then one changed sampling value under Snakemake and another under DVC."""
    kept = made / "evidence/spread/a-run.json"  # publish has no say in what onetok spread keeps
    kept.parent.mkdir(parents=True)
    kept.write_text("{}")
    publish = run(["onetok", "publish"], made)
    assert publish.returncode == 0, publish.stdout
    assert kept.read_text() == "{}"
    compare = run(["onetok", "compare"], made)
    assert compare.returncode == 0 and compare.stdout.count(": identical") == 5
    assert "receipts: all hold" in compare.stdout
    assert "machine: as that of the evidence" in compare.stdout
    repository = made.parents[1]
    commit(repository, "evidence")

    clone = tmp_path / "repository"
    assert run(["git", "clone", "-q", str(repository), str(clone)], tmp_path).returncode == 0
    study = clone / "studies/smallest"
    without = run(["onetok", "restore"], study)
    assert without.returncode == 1 and "error: dvc: no remote to pull from" in without.stdout
    add_remote(clone, repository.parent / "store")
    restored = run(["onetok", "restore"], study)
    assert restored.returncode == 0, restored.stdout
    assert "Nothing to be done" in snakemake(study, "-n")
    assert not (study / "results/spread").exists() and not (study / "results/machine.json").exists()
    assert run(["git", "status", "--porcelain"], clone).stdout == ""
    shutil.rmtree(study / "results/tables")
    assert set(jobs_run(snakemake(study))) == {"all", "build_table"}
    assert digests(study).items() >= {k: v for k, v in digests(made).items() if "/tables/" in k}.items()

    params = study / "params/generators/maskgit.yaml"
    below = ["build_table", "plot_figure", "sample_images", "score_samples"]  # the figure shows these samples
    params.write_text(params.read_text().replace("linear, scale: 3.0", "linear, scale: 5.0"))
    assert jobs_run(snakemake(study)) == ["all", *below]

    params.write_text(params.read_text().replace("linear, scale: 5.0", "linear, scale: 7.0"))
    repro = run(["dvc", "repro", "dvc.yaml"], study)
    assert repro.returncode == 0, repro.stdout
    assert jobs_run(repro.stdout) == below
    assert "Nothing to be done" in snakemake(study, "-n")
    assert "up to date" in run(["dvc", "status", "dvc.yaml"], study).stdout


def test_a_damaged_payload_is_not_published(made, tmp_path):
    study = tmp_path / "study"
    shutil.copytree(made, study, symlinks=True)
    weights = study / "results/generators/maskgit/tiny/weights.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(bytes(content))
    verified = run(["onetok", "verify"], study)
    assert verified.returncode == 1
    assert "generators/maskgit/tiny/weights.safetensors: sha256" in verified.stdout
    weights.unlink()
    stage = [
        "python",
        "-m",
        "onetok.stages.sample_images",
        "maskgit/tiny",
        "--device",
        "cpu",
        "--threads",
        "1",
    ]
    sampled = run(stage, study)
    assert sampled.returncode == 1
    assert sampled.stdout.startswith("error: ") and "weights.safetensors: missing" in sampled.stdout


def test_a_gpu_that_is_not_there_is_an_error(made):
    import torch

    if torch.cuda.is_available():
        pytest.skip("a GPU is here")
    stage = [
        "python",
        "-m",
        "onetok.stages.cache_tokens",
        "titok/vq-16",
        "--device",
        "cuda",
        "--threads",
        "1",
    ]
    done = run(stage, made)
    assert done.returncode == 1
    assert done.stdout.strip() == (
        "error: device: the profile asks for cuda, but torch finds no GPU here; set device: cpu to use none"
    )


ON_TWO_PROCESSES = ["python", "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "-m"]


def on_two_processes(study: Path, stage: str, name: str) -> str:
    """Run a stage on two processes; return what it said."""
    record = study / f"results/logs/{stage}/{name}/run.json"
    record.unlink(missing_ok=True)
    command = [*ON_TWO_PROCESSES, f"onetok.stages.{stage}", name, "--device", "cpu", "--threads", "1"]
    done = run(command, study)
    assert done.returncode == 0, done.stdout
    assert json.loads(record.read_text())["processes"] == 2
    return done.stdout


def test_processes_share_sampling_and_caching_without_changing_a_byte(made, tmp_path):
    """Two processes give the bytes of one."""
    study = tmp_path / "study"
    shutil.copytree(made, study)
    before = digests(study)
    for stage, name in (
        ("cache_tokens", "titok/vq-16"),
        ("cache_tokens", "captioned/scenes-kl"),
        ("sample_images", "maskgit/tiny"),
        ("sample_images", "rar/titok"),
        ("sample_images", "maskgen_tuned/vq"),
        ("sample_images", "maskgen/kl-shuffled"),
    ):
        on_two_processes(study, stage, name)
    assert digests(study) == before


# One of each task: its losses, its frozen networks, what of its model has no gradient.
TRAINED = [
    ("train_encoder", "classifiers/digits"),
    ("train_generator", "maskgit/tiny"),
    ("train_tokenizer", "titok_stage_2/vq-16"),
    ("train_encoder", "clip/digits"),
    ("train_tokenizer", "vqgan/tiny"),
    ("train_tokenizer", "titok/vq-16"),
    ("train_tokenizer", "titok_stage_1/vq-16"),
    ("train_tokenizer", "tatitok/kl-16"),
    ("train_generator", "rar/titok"),
    ("train_generator", "maskgen/kl"),
    ("train_generator", "maskgen/vq"),
    ("train_generator", "maskgen_tuned/vq"),
]


@pytest.mark.parametrize(("stage", "name"), TRAINED)
def test_processes_share_a_training_that_ends_with_a_receipt(made, tmp_path, stage, name):
    study = tmp_path / "study"
    shutil.copytree(made, study, symlinks=True)
    on_two_processes(study, stage, name)
    kind = KIND_OF_STAGE[stage].name
    assert not list(verify(plan(load_study(study), kind, name), study, digests=True))


def test_your_own_images_go_through_the_same_dag(tmp_path):
    """A folder of classes with pictures of several sizes and modes, and one params file that names it.

    The study is published and restored elsewhere, as docs/how-to/your-own-images.md and dvc.md say.
    """
    rng = np.random.default_rng(0)
    for label, mode in (("a heron", "RGB"), ("a wren", "L")):
        folder = tmp_path / "birds" / label
        folder.mkdir(parents=True)
        for i in range(12):
            size = (40 + i, 33) if i % 2 else (32, 48)
            pixels = rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
            Image.fromarray(pixels).convert(mode).save(folder / f"{i}.png")
            (folder / f"{i}.txt").write_text(f"{label}, number {i}")
    repository = tmp_path / "repository"
    study = repository / "studies/birds"
    shutil.copytree(SMALLEST / "params", study / "params")
    without_text = "tables: {text_to_image: {}}\nfigures: {text_to_image: {}}\n"
    (study / "params/tables/text_to_image.yaml").write_text(without_text)
    (study / "params/datasets/labelled.yaml").write_text(
        f"""
datasets:
  labelled:
    digits:
      source: {{kind: imagefolder, path: {tmp_path / "birds"}, caption: "a {{class}}", class_names: folders}}
      split: {{kind: hold-out, per_class: 4, seed: 0}}
      classes: 2
      samples_per_shard: 10
"""
    )
    for file, old, new in (
        ("generators/maskgit.yaml", "classes: 10", "classes: 2"),
        ("generators/rar.yaml", "classes: 10", "classes: 2"),
        ("benchmarks/reconstruction.yaml", "inception_splits: 10", "inception_splits: 2"),
        ("benchmarks/reconstruction.yaml", "reference_images: 100", "reference_images: 8"),
        ("benchmarks/class_conditional.yaml", "manifold_images: 500", "manifold_images: 16"),
        ("benchmarks/class_conditional.yaml", "reference_images: 1697", "reference_images: 16"),
    ):
        path = study / "params" / file
        path.write_text(path.read_text().replace(old, new))
    put_under_versions(repository)
    snakemake(study)
    assert "TA-TiTok KL" in (study / "results/tables/reconstruction/titok/table.md").read_text()
    assert (study / "results/samples/maskgit/tiny/contact-sheet.png").stat().st_size > 0

    published = run(["onetok", "publish"], study)  # writes dvc.yaml too, which a copied study has not
    assert published.returncode == 0, published.stdout
    commit(repository, "evidence")
    clone = tmp_path / "clone"
    assert run(["git", "clone", "-q", str(repository), str(clone)], tmp_path).returncode == 0
    add_remote(clone, tmp_path / "store")
    restored = run(["onetok", "restore"], clone / "studies/birds")
    assert restored.returncode == 0, restored.stdout
    assert run(["onetok", "verify"], clone / "studies/birds").returncode == 0
    assert "Nothing to be done" in snakemake(clone / "studies/birds", "-n")


def hostile(canary: Path) -> list[str]:
    """Captions that are no trouble as data; `canary` appears where a shell reads one."""
    return [
        "",
        "zażółć gęślą jaźń, 日本語 العربية 😀 \u200f",
        "a heron on a post by the water, " * 320,  # 10,240 characters
        f'"; rm -rf ~/none; touch {canary}; echo "',
        f"$(touch {canary}) `touch {canary}` ${{HOME}} $math$ \\frac{{1}}{{2}}",
        f"'; touch {canary} # %s {{wildcards.family}} {{0}} *",
        f"\ntouch {canary}\r\n\n\t && touch {canary} | cat",
        "--help -rf / \\ <end_of_text> &amp; \x1b[31m",
    ]


def test_hostile_captions_are_data_from_conversion_to_the_command_line(made, tmp_path):
    """Beside images and in their records, in both token caches, trained on, drawn, drawn of, and plotted."""
    canary = tmp_path / "canary"
    captions = hostile(canary)
    longer = [*captions[1:], captions[0]]
    rng = np.random.default_rng(0)
    for split, times in (("train", 2), ("val", 1)):
        folder = tmp_path / "birds" / split / "$(a heron)"
        folder.mkdir(parents=True)
        for i in range(times * len(captions)):
            pixels = rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / f"{i:02d}.png")
            (folder / f"{i:02d}.txt").write_bytes(captions[i % len(captions)].encode())
            record = {"aesthetic": 4.0 + i, "augmented": longer[i % len(captions)], "prompt": None}
            (folder / f"{i:02d}.json").write_text(json.dumps(record, ensure_ascii=bool(i % 2)))
    study = tmp_path / "study"
    shutil.copytree(made, study, symlinks=True)
    (study / "params/datasets/captioned.yaml").write_text(
        """
datasets:
  captioned:
    scenes:
      source: {kind: imagefolder, path: ../birds, caption: null, class_names: folders}
      split: {kind: folders, train: train, val: val}
      classes: 1
      samples_per_shard: 5
"""
    )
    for file in ("reconstruction", "text_to_image", "captions"):
        path = study / f"params/benchmarks/{file}.yaml"
        text = path.read_text().replace("detector: scenes-exact", "detector: null")
        text = text.replace("exact: scenes", "exact: null")
        text = re.sub(r"prompts: \{.*\}", "prompts: null", text).replace(
            "reference_images: 16", "reference_images: 8"
        )
        path.write_text(text.replace("manifold_images: 16", "manifold_images: 8"))
    figure = "results/figures/text_to_image/prompts"
    snakemake(study, f"{figure}/receipt.json")

    def kept(shards: Shards) -> list[str]:
        return [shards.caption(i) for i in range(len(shards))]

    shards = Shards(study / "results/datasets/captioned/scenes/shards/train")
    assert kept(shards) == captions * 2
    assert [shards.record(i).augmented for i in range(len(shards))] == longer * 2
    texts = TextCache(study / "results/tokens/captioned/scenes-vq/captions")
    images = np.arange(len(shards))
    assert texts.texts(images, np.zeros(len(images), dtype=bool)) == captions * 2
    assert texts.texts(images, np.ones(len(images), dtype=bool)) == longer * 2
    states = TextCache(study / "results/tokens/captioned/scenes-kl/captions")
    plain, other = (states.states(images, np.full(len(images), kind))["pooled"] for kind in (False, True))
    assert len(plain.unique(dim=0)) == len(captions)
    assert np.array_equal(plain[1:8], other[0:7])  # the next one's caption is this one's longer one
    assert np.array_equal(states.empty_states()["pooled"][0], plain[0])
    for drawn in ("maskgen_tuned/vq", "maskgen/kl-shuffled"):
        kept_captions = kept(Shards(study / f"results/samples/{drawn}/shards"))
        assert sorted(kept_captions) == sorted(captions * 2)
        assert (kept_captions == captions * 2) == (drawn == "maskgen_tuned/vq")
    assert Image.open(study / figure / "figure.png").size[1] > 500

    for generator, samples in (
        ("maskgen_tuned/vq", "maskgen_tuned/vq"),
        ("maskgen/kl", "maskgen/kl-shuffled"),
    ):
        out = tmp_path / generator.replace("/", "-")
        command = ["onetok", "generate", "--generator", generator, "--samples", samples, "--seed", "0"]
        command += ["--out", str(out), *(f"--prompt={caption}" for caption in captions)]
        done = run(command, study)
        assert done.returncode == 0, done.stdout
        lines = done.stdout.splitlines()
        cut = [line for line in lines if line.startswith("warning: ")]  # longer than the text encoder reads
        said = [line.split(": image 0 of seed 0, ")[0] for line in lines if line not in cut]
        assert cut and all(re.search(r": the last \d+ of its \d+ tokens are cut off", line) for line in cut)
        assert said == [f"prompt {caption!r}" for caption in captions]
        assert sorted(path.name for path in out.iterdir()) == [f"prompt-{i}-0.png" for i in range(8)]
    assert not list(tmp_path.rglob("canary*"))


def processes(module: str, folder: Path) -> list[int]:
    """Return the Python processes that run `module` in `folder`."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            arguments = (entry / "cmdline").read_bytes().split(b"\0")
            if module.encode() in arguments and (entry / "cwd").resolve() == folder.resolve():
                found.append(int(entry.name))
        except (OSError, ValueError):
            continue  # not a process, or one that has just ended
    return found


def test_a_spread_is_made_kept_and_made_again_where_params_have_changed(made, tmp_path):
    """Two runs: the study's own results are the first; the second has other seeds and another instruction set."""
    if {"ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA"} & os.environ.keys():
        pytest.skip("the instruction sets are limited here, so the study's results are no native run")
    study = tmp_path / "study"
    shutil.copytree(made, study, symlinks=True)
    first = run(["onetok", "spread"], study)
    assert first.returncode == 0, first.stdout
    assert "seeds-0-native: 14" not in first.stdout  # nothing to be made
    assert "seeds-1000-sse41: 14 of 14 scores to be made" in first.stdout
    names = ("seeds-0-native", "seeds-1000-sse41")
    kept = {name: json.loads((study / f"evidence/spread/{name}.json").read_text()) for name in names}
    scores = [run["scores"]["scores/reconstruction/titok/vq-16"] for run in kept.values()]
    assert len({score["chain"] for score in scores}) == 1
    assert len({score["figures"]["psnr"] for score in scores}) == 2
    (machine,) = kept["seeds-1000-sse41"]["machines"].values()
    assert machine["instructions"]["torch"] == "DEFAULT"
    assert machine["instructions"]["limits"]["ONEDNN_MAX_CPU_ISA"] == "SSE41"
    weights = "results/tokenizers/titok/vq-16/weights.safetensors"
    other = study / "results/spread/seeds-1000-sse41" / weights
    assert other.read_bytes() != (study / weights).read_bytes()
    assert jobs_run(run(["onetok", "spread"], study).stdout) == []

    params = study / "params/generators/maskgit.yaml"
    params.write_text(params.read_text().replace("linear, scale: 3.0", "linear, scale: 5.0"))
    again = run(["onetok", "spread", "--runs", "seeds-1000-sse41"], study)
    assert again.returncode == 0, again.stdout
    assert jobs_run(again.stdout) == ["sample_images", "score_samples"]
    new = json.loads((study / "evidence/spread/seeds-1000-sse41.json").read_text())["scores"]
    old = kept["seeds-1000-sse41"]["scores"]
    assert [key for key in new if new[key]["chain"] != old[key]["chain"]] == [
        "scores/samples/maskgit/tiny-guided"
    ]


def test_a_killed_training_of_two_processes_goes_on(made, tmp_path):
    study = tmp_path / "study"
    shutil.copytree(made, study, symlinks=True)
    params = study / "params/encoders/classifiers.yaml"
    params.write_text(params.read_text().replace("steps: 12", "steps: 300"))
    stage, name = "train_encoder", "classifiers/digits"
    command = [*ON_TWO_PROCESSES, f"onetok.stages.{stage}", name, "--device", "cpu", "--threads", "1"]
    running = subprocess.Popen(command, cwd=study, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 300
    while not list((study / f"results/scratch/{stage}").rglob("step-*.pt")):
        assert time.monotonic() < deadline and running.poll() is None
        time.sleep(0.05)
    for pid in processes(f"onetok.stages.{stage}", study):
        os.kill(pid, signal.SIGKILL)
    running.wait(timeout=120)
    assert "resuming after step" in on_two_processes(study, stage, name)


def test_a_killed_training_goes_on_to_the_same_bytes(tmp_path):
    """kill -9 of the training process in the middle, then the same command again."""
    study = tmp_path / "study"
    shutil.copytree(SMALLEST / "params", study / "params")
    params = study / "params/tokenizers/titok.yaml"
    params.write_text(params.read_text().replace("steps: 12", "steps: 150"))
    whole = tmp_path / "whole"
    shutil.copytree(study, whole)
    target = "results/tokenizers/titok/vq-16/receipt.json"
    snakemake(whole, target)

    command = ["snakemake", "--snakefile", str(REPOSITORY / "Snakefile"), "--directory", str(study), target]
    running = subprocess.Popen(command, cwd=study, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 300
    while not list((study / "results/scratch/train_tokenizer").rglob("step-*.pt")):
        assert time.monotonic() < deadline and running.poll() is None
        time.sleep(0.05)
    pids = processes("onetok.stages.train_tokenizer", study)
    assert len(pids) == 1
    os.kill(pids[0], signal.SIGKILL)
    assert running.wait(timeout=120) != 0
    assert not (study / target).exists()
    assert "resuming after step" in snakemake(study, target)
    assert digests(study) == digests(whole)
