"""Published encoders, from synthetic files in the published format: there is no network in tests."""

from __future__ import annotations

import pickle
from types import SimpleNamespace

import pytest
import torch
from huggingface_hub import errors
from safetensors.torch import save_file
from torch import nn

from onetok.errors import OnetokError
from onetok.models.convnext import ConvNeXt, ConvNeXtConfig
from onetok.models.inception import Inception, InceptionConfig
from onetok.params import WeightsFile
from onetok.pretrained import fetch, find_pin, load_strictly, read_tensors
from onetok.receipts import sha256
from onetok.registry import load_model, save_model

CPU = torch.device("cpu")


def local(path, digest):
    return WeightsFile(hub=None, revision=None, url=None, file=str(path), sha256=digest)


def test_a_file_is_taken_only_with_the_pinned_digest(tmp_path):
    path = tmp_path / "weights.bin"
    path.write_bytes(b"weights")
    digest = sha256(path)
    assert fetch(local(path, digest)) == fetch(local(path, digest[:8])) == path
    with pytest.raises(OnetokError, match=rf"weights.bin: sha256 {digest}, expected 00000000 \(params\)"):
        fetch(local(path, "00000000"))
    with pytest.raises(OnetokError, match="no such file"):
        fetch(local(tmp_path / "nothing.bin", digest))


@pytest.mark.parametrize(
    "where",
    [{"hub": "someone/something", "url": None}, {"hub": None, "url": "https://localhost:1/weights.bin"}],
)
def test_without_a_network_the_origin_is_named(where, monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("torch.hub.get_dir", lambda: str(tmp_path))
    weights = WeightsFile(**where, revision="abc", file="weights.bin", sha256="00000000")
    with pytest.raises(
        OnetokError, match=r"weights.bin: cannot be downloaded from (someone/something|https://)"
    ):
        fetch(weights)


HUB = {"hub": "someone/something", "url": None, "file": "weights.bin"}


def response(status):
    """What the Hub's errors want to be made with: a response, of which only a few fields are read."""
    return SimpleNamespace(status_code=status, headers={}, request=None)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (
            errors.RepositoryNotFoundError("404\n\nlong", response=response(404)),
            "no such repository on the Hub",
        ),
        (errors.GatedRepoError("403", response=response(403)), "a gated repository: accept its terms"),
        (errors.RevisionNotFoundError("404", response=response(404)), "no such revision$"),
        (errors.RemoteEntryNotFoundError("404", response=response(404)), "no such file in the repository$"),
        (errors.LocalEntryNotFoundError("a\nb"), "no network, and not downloaded before$"),
        (errors.OfflineModeIsEnabled("offline"), "no network: offline mode is on"),
        (errors.HFValidationError("bad"), "not a repository's name, expected owner/name: bad$"),
        (errors.HfHubHTTPError("500 Server\n\nError", response=response(500)), "500 Server Error$"),
        (
            errors.HTTPError("[Errno -2] Name or service\nnot known"),
            "no network: .* Name or service not known$",
        ),
        (OSError(28, "No space left on device"), "No space left on device$"),
    ],
)
def test_whatever_the_hub_says_is_one_line(error, reason, monkeypatch):
    def fail(*args, **kwargs):
        raise error

    monkeypatch.setattr("onetok.pretrained.hf_hub_download", fail)
    with pytest.raises(OnetokError, match=f"weights.bin: .* someone/something at abc: .*{reason}") as raised:
        fetch(WeightsFile(**HUB, revision="abc", sha256="00000000"))
    assert "\n" not in str(raised.value)


def test_a_file_of_the_hub_is_taken_at_its_revision_with_its_digest(monkeypatch, tmp_path):
    path = tmp_path / "weights.bin"
    path.write_bytes(b"weights")
    asked = []

    def download(repo, file, revision):
        asked.append((repo, file, revision))
        return str(path)

    monkeypatch.setattr("onetok.pretrained.hf_hub_download", download)
    assert fetch(WeightsFile(**HUB, revision="abc", sha256=sha256(path))) == path
    assert asked == [("someone/something", "weights.bin", "abc")]
    with pytest.raises(OnetokError, match=r"expected 00000000 \(params\); remove it to download it again"):
        fetch(WeightsFile(**HUB, revision="abc", sha256="00000000"))


@pytest.mark.parametrize(
    ("revision", "digest", "text"),
    [
        (None, None, "weights.revision and weights.sha256 are null in params; `.*` prints them"),
        ("abc", None, "weights.sha256 is null in params; `.*` prints it"),
        (None, "00000000", "weights.revision is null in params; `.*` prints it"),
    ],
)
def test_nothing_is_downloaded_without_its_pins(revision, digest, text, monkeypatch):
    monkeypatch.delattr("onetok.pretrained.hf_hub_download")
    with pytest.raises(OnetokError, match=f"^weights.bin: not pinned: {text}$") as raised:
        fetch(WeightsFile(**HUB, revision=revision, sha256=digest))
    assert "`onetok pin someone/something weights.bin`" in str(raised.value)


COMMIT, DIGEST = "a" * 40, "b" * 64


class FakeHub:
    """One repository with a large file and a small one."""

    def model_info(self, repo, revision, files_metadata):
        if revision != "main":
            raise errors.RevisionNotFoundError("404", response=response(404))
        large = SimpleNamespace(rfilename="weights.bin", lfs=SimpleNamespace(sha256=DIGEST))
        return SimpleNamespace(sha=COMMIT, siblings=[large, SimpleNamespace(rfilename="small.bin", lfs=None)])


def test_pins_are_what_the_hub_says(monkeypatch, tmp_path):
    small = tmp_path / "small.bin"
    small.write_bytes(b"small")
    monkeypatch.setattr("onetok.pretrained.HfApi", FakeHub)
    monkeypatch.setattr("onetok.pretrained.hf_hub_download", lambda repo, file, revision: str(small))
    assert find_pin("someone/something", "weights.bin", "main") == (COMMIT, DIGEST)
    assert find_pin("someone/something", "small.bin", "main") == (COMMIT, sha256(small))
    with pytest.raises(OnetokError, match=r"no file 'weight.bin'; nearest known: weights.bin"):
        find_pin("someone/something", "weight.bin", "main")
    with pytest.raises(
        OnetokError, match=r"something at v2: cannot be looked up on the Hub: no such revision"
    ):
        find_pin("someone/something", "weights.bin", "v2")


class Harmful:
    def __reduce__(self):
        return print, ("code ran",)


def test_a_pickle_with_code_in_it_is_refused(tmp_path, capsys):
    path = tmp_path / "weights.bin"
    path.write_bytes(pickle.dumps({"x": Harmful()}, protocol=2))
    with pytest.raises(OnetokError, match=r"weights.bin: not a file of tensors"):
        read_tensors(path)
    assert "code ran" not in capsys.readouterr().out


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"\x80\x02", b"<html>", bytes(100)])
@pytest.mark.parametrize("suffix", [".bin", ".safetensors"])
def test_what_is_no_file_of_tensors_is_refused(content, suffix, tmp_path):
    path = tmp_path / f"weights{suffix}"
    path.write_bytes(content)
    with pytest.raises(OnetokError, match="not a file of tensors") as raised:
        read_tensors(path)
    assert "\n" not in str(raised.value)
    torch.save([1], path.with_suffix(".bin"))
    with pytest.raises(OnetokError, match="found list, expected a mapping of names to tensors"):
        read_tensors(path.with_suffix(".bin"))


@pytest.mark.parametrize("suffix", [".bin", ".safetensors"])
def test_tensors_are_read_from_both_formats(suffix, tmp_path):
    state = {"x": torch.arange(3.0)}
    path = tmp_path / f"weights{suffix}"
    save_file(state, path) if suffix == ".safetensors" else torch.save(state, path)
    assert torch.equal(read_tensors(fetch(local(path, sha256(path))))["x"], state["x"])


def test_every_misfit_is_named(tmp_path):
    model = nn.Linear(2, 3)
    state = model.state_dict()
    with pytest.raises(OnetokError, match="file: 1 tensors missing, first 'bias'"):
        load_strictly(model, {"weight": state["weight"]}, "file")
    with pytest.raises(OnetokError, match="file: 1 unexpected tensors, first 'extra'"):
        load_strictly(model, {**state, "extra": state["bias"]}, "file")
    with pytest.raises(OnetokError, match=r"'weight' has shape \(3, 1\), expected \(3, 2\)"):
        load_strictly(model, {**state, "weight": torch.zeros(3, 1)}, "file")


def random_like(model: nn.Module) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {
        k: torch.rand(v.shape, generator=generator) * 0.02 if v.is_floating_point() else v
        for k, v in model.state_dict().items()
    }


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_inception_loads_and_agrees_with_torch_fidelity(tmp_path, suffix):
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    model = Inception(InceptionConfig()).eval()
    state = random_like(model.network)
    path = tmp_path / f"inception{suffix}"
    save_file(state, path) if suffix == ".safetensors" else torch.save(state, path)
    load_strictly(model.network, read_tensors(path), "file")
    save_model(model, tmp_path)
    again = load_model(tmp_path, CPU)

    torch.save(state, tmp_path / "reference.pth")
    names = ["2048", "logits_unbiased"]
    theirs = FeatureExtractorInceptionV3(
        "x", names, feature_extractor_weights_path=tmp_path / "reference.pth"
    )
    pixels = torch.randint(
        0, 256, (2, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(1)
    )
    with torch.inference_mode():
        features = again.features(pixels.float() / 255)
        expected_features, expected_logits = theirs(pixels)
        assert torch.equal(features, expected_features)
        assert torch.allclose(again.logits(features), expected_logits, rtol=1e-5)


def test_convnext_gives_torchvisions_logits(tmp_path):
    from torchvision.models import convnext_small

    theirs = convnext_small(weights=None).eval()
    ours = ConvNeXt(ConvNeXtConfig(input_size=224)).eval()
    load_strictly(ours.network, theirs.state_dict(), "file")
    save_model(ours, tmp_path)
    images = torch.rand(1, 3, 224, 224)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    normalised = (images - mean.view(3, 1, 1)) / std.view(3, 1, 1)
    with torch.inference_mode():
        again = load_model(tmp_path, CPU)
        assert torch.allclose(again.logits(again.features(images)), theirs(normalised), atol=1e-5)
        assert [m.shape[1] for m in again.maps(images)] == [96, 192, 384, 768]
