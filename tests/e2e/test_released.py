"""From pins to a table with released weights alone: files in the released layouts, with random weights, on digits.

`onetok pin --all --write` asks a Hub that is replaced here; the jobs then find the pinned files in the Hub's cache, as
they would after a download. Inception and ConvNeXt are files of this machine. The published statistics are an .npz with
the keys of the ADM evaluator.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from onetok import cli
from onetok.networks.convnext import ConvNeXt, ConvNeXtConfig
from onetok.networks.inception import Inception, InceptionConfig
from onetok.study.digests import sha256
from tests.conftest import REPOSITORY
from tests.parity.cases import load_case
from tests.parity.fill import fill_tensor

pytestmark = pytest.mark.slow

COMMIT = "0123456789" * 4
CODES, CLASSES, TOKENS = 1024, 10, 16
TABLE = "generation/digits"
PARAMS = {
    "datasets/labelled": """
datasets:
  labelled:
    digits:
      source: {kind: digits, size: 64, filter: bicubic, caption: null}
      split: {kind: hold-out, per_class: 2, seed: 0}
      classes: 10
      samples_per_shard: 512
""",
    "encoders/published": """
encoders:
  published:
    inception:
      kind: inception
      weights: {hub: null, revision: null, url: null, file: weights/inception.pth, sha256: "INCEPTION"}
    convnext-small:
      kind: convnext
      input_size: 32
      weights: {hub: null, revision: null, url: null, file: weights/convnext.pth, sha256: "CONVNEXT"}
""",
    "tokenizers/published": """
tokenizers:
  published:
    vqgan:
      kind: published-vqgan
      benchmark: reconstruction/digits
      images: {resize: torchvision, shorter_edge: 64, size: 64, filter: bicubic}
      model:
        width: 128
        multipliers: [1, 1, 2, 2, 4]
        blocks: 2
        norm_groups: 32
        quantizer: {kind: vq, codebook_size: 1024, channels: 256, normalize: false, commitment: 0.25, clustering: false}
      weights: {hub: someone/vqgan, revision: null, url: null, file: vqgan.bin, sha256: null}
""",
    "generators/published": """
generators:
  published:
    rar:
      kind: published-rar
      tokenizer: published/vqgan
      classes: 10
      model: {width: 64, layers: 4, heads: 4, hidden: 256, dropout: 0.1, attention_dropout: 0.1, class_dropout: 0.1}
      weights: {hub: someone/rar, revision: null, url: null, file: rar.bin, sha256: null}

samples:
  published:
    rar: &rar
      generator: published/rar
      benchmark: class_conditional/digits
      seed: 0
      micro_batch: 10
      text: null
      sampling: {kind: autoregressive, temperature: 1.0, guidance: {kind: power-cosine, scale: 4.0, power: 2.0}}
    rar-adm:
      <<: *rar
      benchmark: class_conditional/digits-adm
""",
    "benchmarks/reconstruction": """
benchmarks:
  reconstruction:
    digits:
      kind: reconstruction
      dataset: labelled/digits
      split: val
      reference_images: 20
      images: {resize: torchvision, shorter_edge: 64, size: 64, filter: bicubic}
      encoder: published/inception
      second_encoder: published/convnext-small
      class_accuracy: false
      batch: 10
      inception_splits: 1
      inception_shuffle_seed: null
      posterior: {kind: mean}
      captions: null
""",
    "benchmarks/class_conditional": """
benchmarks:
  class_conditional:
    digits: &digits
      kind: generation
      dataset: labelled/digits
      split: val
      reference_images: 20
      images: {resize: torchvision, shorter_edge: 64, size: 64, filter: bicubic}
      encoder: published/inception
      second_encoder: published/convnext-small
      class_accuracy: false
      batch: 10
      samples: 20
      eight_bits: truncated
      blank_deviation: 8.0
      inception_splits: 1
      inception_shuffle_seed: null
      manifold_images: 20
      neighbours: 3
      statistics: null
    digits-adm:
      <<: *digits
      statistics: {hub: null, revision: null, url: null, file: weights/VIRTUAL.npz, sha256: "VIRTUAL"}
""",
    "tables/generation": """
tables:
  generation:
    digits:
      title: RAR on digits
      note: ""
      spread: false
      controls: []
      claims: []
      columns:
        - {metric: fid, label: FID, decimals: 2, better: lower}
        - {metric: sfid, label: sFID, decimals: 2, better: lower}
        - {metric: inception_score, label: IS, decimals: 2, better: higher}
        - {metric: precision, label: Precision, decimals: 2, better: higher}
        - {metric: recall, label: Recall, decimals: 2, better: higher}
      rows:
        - {label: released, tokenizer: null, samples: published/rar, published: null}
        - {label: "released, published statistics", tokenizer: null, samples: published/rar-adm, published: null}
""",
    "tables/reconstruction": """
tables:
  reconstruction:
    digits:
      title: VQGAN on digits
      note: ""
      spread: false
      controls: []
      claims: []
      columns:
        - {metric: rfid, label: rFID, decimals: 2, better: lower}
        - {metric: psnr, label: PSNR, decimals: 2, better: higher}
      rows:
        - {label: released, tokenizer: published/vqgan, samples: null, published: null}
""",
}


def random_network(network, path):
    """Write random weights of an auxiliary network as its publishers do; return the digest."""
    torch.manual_seed(0)
    state = {
        key: torch.randn(value.shape) / max(value[0].numel(), 1) ** 0.5
        if value.ndim > 1
        else (torch.ones_like(value) if value.is_floating_point() else value)
        for key, value in network.network.state_dict().items()
    }
    torch.save(state, path)
    return sha256(path)


def released_states():
    """Return the random weights of both systems in their released layouts, by repository and file."""
    shapes = load_case("rar").meta["params"]
    widened = {}
    for name, (first, *rest) in shapes.items():
        # The golden case has 128 codes; this one has those of the VQGAN.
        codes = {"embeddings.weight": 1 + CLASSES + 1 + CODES, "lm_head.weight": CODES, "lm_head.bias": CODES}
        widened[name] = [codes.get(name, first), *rest]
    rar = {name: torch.from_numpy(fill_tensor(name, shape)) for name, shape in widened.items()}
    return {
        ("someone/vqgan", "vqgan.bin"): load_case("maskgit_vqgan").state(),
        ("someone/rar", "rar.bin"): rar,
    }


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    folder = tmp_path_factory.mktemp("released")
    (folder / "weights").mkdir()
    digests = {
        "INCEPTION": random_network(Inception(InceptionConfig()), folder / "weights/inception.pth"),
        "CONVNEXT": random_network(ConvNeXt(ConvNeXtConfig(input_size=32)), folder / "weights/convnext.pth"),
    }
    rng = np.random.default_rng(0)
    named = {"arr_0": rng.integers(0, 256, (24, 64, 64, 3), dtype=np.uint8), "arr_1": np.arange(24) % 10}
    for suffix, width in (("", 2048), ("_s", 2023)):
        named |= {f"mu{suffix}": rng.random(width), f"sigma{suffix}": np.diag(rng.random(width))}
    np.savez(folder / "weights/VIRTUAL.npz", **named)
    digests["VIRTUAL"] = sha256(folder / "weights/VIRTUAL.npz")
    for name, text in PARAMS.items():
        path = folder / "params" / f"{name}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(re.sub('INCEPTION|CONVNEXT|VIRTUAL(?=")', lambda found: digests[found[0]], text))
    for (hub, file), state in released_states().items():
        snapshot = folder / "hub/hub" / f"models--{hub.replace('/', '--')}" / "snapshots" / COMMIT
        snapshot.mkdir(parents=True)
        torch.save(state, snapshot / file)
    return folder


def snakemake(study: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = ["snakemake", "--snakefile", str(REPOSITORY / "Snakefile"), "--directory", str(study), *options]
    environment = os.environ | {"HF_HOME": str(study / "hub"), "HF_HUB_OFFLINE": "1"}
    return subprocess.run(
        command,
        cwd=study,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )


def test_from_pins_to_the_tables(study, monkeypatch):
    dry = snakemake(study, "-n", "released")
    assert dry.returncode == 0, dry.stdout
    missing = dry.stdout[
        dry.stdout.index("a run would stop before its first job, because this is missing:") :
    ]
    for line in (
        "params/generators/published.yaml: generators.published.rar.weights: rar.bin: not pinned: ",
        "params/tokenizers/published.yaml: tokenizers.published.vqgan.weights: vqgan.bin: not pinned: ",
        "`onetok pin --all --write` looks up every null pin",
    ):
        assert line in missing

    class Hub:
        """The Hub, as the cache has its repositories."""

        def model_info(self, repo, revision, files_metadata):
            folder = study / "hub/hub" / f"models--{repo.replace('/', '--')}" / "snapshots" / COMMIT
            siblings = [
                SimpleNamespace(rfilename=path.name, lfs=SimpleNamespace(sha256=sha256(path)))
                for path in folder.iterdir()
            ]
            return SimpleNamespace(sha=COMMIT, siblings=siblings)

    monkeypatch.setattr("onetok.release.download.HfApi", Hub)
    monkeypatch.setattr(sys, "argv", ["onetok", "pin", "--all", "--write", "--study", str(study)])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 0

    done = snakemake(study, "--cores", "1", "released")
    assert done.returncode == 0, done.stdout
    assert "train_tokenizer" in done.stdout  # which fetches what is released
    for scores, metrics in (
        ("samples/published/rar", ("fid", "sfid", "inception_score", "precision", "recall")),
        ("samples/published/rar-adm", ("fid", "sfid", "fid_second", "precision", "recall")),
        ("reconstruction/published/vqgan", ("rfid", "psnr", "ssim", "rfid_second")),
    ):
        found = json.loads((study / "results/scores" / scores / "scores.json").read_text())
        assert all(isinstance(found[metric], float) for metric in metrics), found
    text = (study / "results/released" / TABLE / "table.md").read_text()
    assert "| released " in text and "against the published statistics weights/VIRTUAL.npz" in text
    assert (study / "results/released/reconstruction/digits/table.csv").exists()

    again = snakemake(study, "-n", "released")
    assert "Nothing to be done" in again.stdout, again.stdout
    verified = subprocess.run(
        ["onetok", "verify", "--released", "--study", str(study)], text=True, capture_output=True, check=False
    )
    assert verified.returncode == 0, verified.stdout
    shutil.rmtree(study / "results/released/reconstruction")
    made = snakemake(study, "--cores", "1", f"results/released/{TABLE}/receipt.json")
    assert made.returncode == 0 and "Nothing to be done" in made.stdout
