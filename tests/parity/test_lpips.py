"""LPIPS against torch-fidelity's module of it, on random weights in the format of the published files.

The weights cannot be shipped, so there is no golden case. The layouts are torchvision's and LPIPS 0.1's.
"""

import hashlib

import pytest
import torch
from torch_fidelity import sample_similarity_lpips
from torchvision.models import vgg16

from onetok.losses.reconstruction import LPIPSTerm
from onetok.networks.lpips import DEPTHS, LPIPS
from onetok.stages.train_encoder import fetch_lpips
from onetok.study.schema.encoders import LPIPSEncoder, WeightsFile
from tests.parity.cases import relative_error


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """Return the two files, and torch-fidelity's module that has read them."""
    folder = tmp_path_factory.mktemp("lpips")
    generator = torch.Generator().manual_seed(0)
    with torch.device("meta"):
        backbone = vgg16(weights=None)
    backbone.classifier = torch.nn.Sequential(torch.nn.Linear(2, 2))  # 470 MB, and not read
    backbone.to_empty(device="cpu")
    for parameter in backbone.parameters():
        torch.nn.init.normal_(parameter, std=(parameter[0].numel() / 2) ** -0.5, generator=generator)
    weights = {
        f"lin{index}.model.1.weight": torch.rand(1, channels, 1, 1, generator=generator)
        for index, channels in enumerate(DEPTHS.values())
    }
    torch.save(backbone.state_dict(), folder / "vgg16.pth")
    torch.save(weights, folder / "lpips.pth")

    with pytest.MonkeyPatch.context() as patch:  # its constructor downloads
        patch.setattr(sample_similarity_lpips, "load_state_dict_from_url", lambda *_, **__: weights)
        patch.setattr(sample_similarity_lpips, "torchvision_load_pretrained_vgg16", lambda: backbone)
        reference = sample_similarity_lpips.SampleSimilarityLPIPS("lpips")
    return folder, reference


def encoder(folder) -> LPIPSEncoder:
    def local(name: str) -> WeightsFile:
        path = folder / name
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        return WeightsFile(hub=None, revision=None, url=None, file=str(path), sha256=digest)

    return LPIPSEncoder(kind="lpips", backbone=local("vgg16.pth"), weights=local("lpips.pth"))


@pytest.fixture(scope="module")
def model(published) -> LPIPS:
    return fetch_lpips(encoder(published[0])).requires_grad_(False)


@pytest.mark.parametrize("size", [32, 45])
def test_distance(published, model, size):
    _, reference = published
    a, b = torch.rand(2, 3, 3, size, size, generator=torch.Generator().manual_seed(1))
    golden = reference(255 * a, 255 * b).flatten()  # torch-fidelity takes images in [0, 255]
    assert relative_error(model.distance(a, b), golden) <= 2e-5
    assert model.distance(a, a).abs().max() == 0


def test_as_a_term_of_the_loss(model):
    a, b = torch.rand(2, 2, 3, 32, 32, generator=torch.Generator().manual_seed(2))
    images = a.requires_grad_()
    term = LPIPSTerm(network=model, weight=1.0)
    loss = term(images, b)
    loss.backward()
    assert loss == model.distance(a, b).mean()
    assert images.grad is not None and images.grad.abs().sum() > 0
    assert all(parameter.grad is None for parameter in model.parameters())
