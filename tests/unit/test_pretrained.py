"""Published encoders, from synthetic files in the published format: there is no network in tests."""

from __future__ import annotations

import pickle

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from onetok.errors import OnetokError
from onetok.models.convnext import ConvNeXt, ConvNeXtConfig
from onetok.models.inception import Inception, InceptionConfig
from onetok.params import WeightsFile
from onetok.pretrained import fetch, load_strictly, read_tensors
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
    weights = WeightsFile(**where, revision="main", file="weights.bin", sha256="00000000")
    with pytest.raises(
        OnetokError, match=r"weights.bin: cannot be downloaded from (someone/something|https://)"
    ):
        fetch(weights)


class Harmful:
    def __reduce__(self):
        return print, ("code ran",)


def test_a_pickle_with_code_in_it_is_refused(tmp_path, capsys):
    path = tmp_path / "weights.bin"
    path.write_bytes(pickle.dumps({"x": Harmful()}, protocol=2))
    with pytest.raises(OnetokError, match=r"weights.bin: not a file of tensors"):
        read_tensors(path)
    assert "code ran" not in capsys.readouterr().out


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
