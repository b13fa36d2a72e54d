"""Published encoders, from synthetic files in the published format: there is no network in tests."""

from __future__ import annotations

import pickle
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import pytest
import torch
import yaml
from huggingface_hub import errors
from pydantic import ValidationError
from safetensors.torch import save_file
from torch import nn

from onetok.errors import OnetokError, shown
from onetok.networks.convnext import ConvNeXt, ConvNeXtConfig
from onetok.networks.inception import Inception, InceptionConfig
from onetok.release.download import _request, fetch, find_pin
from onetok.release.tensors import load_strictly, read_tensors
from onetok.study.digests import sha256
from onetok.study.load import load_study
from onetok.study.schema.encoders import WeightsFile
from onetok.systems.saved import load_model, save_model

CPU = torch.device("cpu")
COMMIT, DIGEST = "a" * 40, "b" * 64


def local(path, digest):
    return WeightsFile(hub=None, revision=None, url=None, file=str(path), sha256=digest)


def test_a_file_is_taken_only_with_the_pinned_digest(tmp_path):
    path = tmp_path / "weights.bin"
    path.write_bytes(b"weights")
    digest = sha256(path)
    assert fetch(local(path, digest)) == path
    with pytest.raises(OnetokError, match=rf"weights.bin: sha256 {digest}, expected 0{{64}} \(params\)"):
        fetch(local(path, "0" * 64))
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
    weights = WeightsFile(**where, revision=COMMIT, file="weights.bin", sha256="0" * 64)
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

    monkeypatch.setattr("onetok.release.download.hf_hub_download", fail)
    with pytest.raises(
        OnetokError, match=f"weights.bin: .* someone/something at {COMMIT}: .*{reason}"
    ) as raised:
        fetch(WeightsFile(**HUB, revision=COMMIT, sha256="0" * 64))
    assert "\n" not in str(raised.value)


def test_a_file_of_the_hub_is_taken_at_its_revision_with_its_digest(monkeypatch, tmp_path):
    path = tmp_path / "weights.bin"
    path.write_bytes(b"weights")
    asked = []

    def download(repo, file, revision):
        asked.append((repo, file, revision))
        return str(path)

    monkeypatch.setattr("onetok.release.download.hf_hub_download", download)
    assert fetch(WeightsFile(**HUB, revision=COMMIT, sha256=sha256(path))) == path
    assert asked == [("someone/something", "weights.bin", COMMIT)]
    with pytest.raises(OnetokError, match=r"expected 0{64} \(params\); remove it to download it again"):
        fetch(WeightsFile(**HUB, revision=COMMIT, sha256="0" * 64))


@pytest.mark.parametrize(
    ("revision", "digest", "text"),
    [
        (None, None, "weights.revision and weights.sha256 are null in params; `.*` prints them"),
        (COMMIT, None, "weights.sha256 is null in params; `.*` prints it"),
        (None, "0" * 64, "weights.revision is null in params; `.*` prints it"),
    ],
)
def test_nothing_is_downloaded_without_its_pins(revision, digest, text, monkeypatch):
    monkeypatch.delattr("onetok.release.download.hf_hub_download")
    with pytest.raises(OnetokError, match=f"^weights.bin: not pinned: {text}$") as raised:
        fetch(WeightsFile(**HUB, revision=revision, sha256=digest))
    assert "`onetok pin someone/something weights.bin`" in str(raised.value)


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
    monkeypatch.setattr("onetok.release.download.HfApi", FakeHub)
    monkeypatch.setattr("onetok.release.download.hf_hub_download", lambda repo, file, revision: str(small))
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
    with pytest.raises(
        OnetokError, match=r"weights.bin: not a file of tensors but .*save the state_dict"
    ) as raised:
        read_tensors(path)
    assert "code ran" not in capsys.readouterr().out
    assert "weights_only" not in str(raised.value) and "\n" not in str(raised.value)


def test_a_pickle_says_what_else_it_holds(tmp_path):
    path = tmp_path / "weights.bin"
    torch.save({"state_dict": {"x": torch.zeros(1)}, "arguments": SimpleNamespace(width=3)}, path)
    with pytest.raises(OnetokError, match=r"other things than tensors in it \(types.SimpleNamespace\)"):
        read_tensors(path)


X, Y = {"x": torch.zeros(2)}, {"x": torch.ones(2), "y.z": torch.ones(1)}
OPTIMIZER = {
    "state": {0: {"step": torch.zeros(1)}, "x": {"exp_avg": torch.zeros(1)}},
    "param_groups": [{"lr": 1.0}],
}


@pytest.mark.parametrize(
    "content",
    [
        {"state_dict": Y},
        {"model": Y, "step": 3, "optimizer": OPTIMIZER, "lr_schedulers": [{}]},
        {"params_ema": Y, "step": torch.tensor(3)},
        {"checkpoint": {"ema": Y, "decay": 0.9}},
        {f"module.{name}": tensor for name, tensor in Y.items()},
        {"ema": {f"module._orig_mod.{name}": tensor for name, tensor in Y.items()}},
        {f"_orig_mod.module.{name}": tensor for name, tensor in Y.items()},
        {"x": Y["x"], "y._orig_mod.z": Y["y.z"]},
        {"n_averaged": torch.tensor(7), **{f"module.{name}": tensor for name, tensor in Y.items()}},
    ],
    ids=range(9),
)
def test_a_checkpoint_of_a_training_is_read_where_it_leaves_no_choice(content, tmp_path):
    torch.save(content, tmp_path / "weights.bin")
    found = read_tensors(tmp_path / "weights.bin")
    assert list(found) == list(Y) and all(torch.equal(found[name], Y[name]) for name in Y)


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (
            {"model": X, "ema": {"shadow": Y}},
            "holds the state dicts 'model', 'ema.shadow', expected one: save",
        ),
        ({"x": torch.zeros(1), "epoch": 3}, "found int at 'epoch', expected a mapping of names to tensors"),
        ({"state_dict": {}}, "found dict at 'state_dict', expected a mapping of names to tensors"),
        ({}, "found an empty mapping, expected a mapping of names to tensors"),
        ({0: torch.zeros(1)}, "expected a mapping of names to tensors"),
        ({"a.b": X["x"], "a._orig_mod.b": X["x"]}, "tensors of one name with and without '_orig_mod.'"),
    ],
)
def test_a_checkpoint_that_leaves_a_choice_is_refused(content, text, tmp_path):
    torch.save(content, tmp_path / "weights.bin")
    with pytest.raises(OnetokError, match=text):
        read_tensors(tmp_path / "weights.bin")


def test_the_content_tells_the_format_not_the_name(tmp_path):
    save_file(X, tmp_path / "pytorch_model.bin")
    torch.save(X, tmp_path / "model.safetensors")
    for path in tmp_path.iterdir():
        assert torch.equal(read_tensors(path)["x"], X["x"])


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"", "empty, 0 bytes: get it again"),
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n",
            "a Git LFS pointer, .* `git lfs pull`",
        ),
        (b"\n<!DOCTYPE html><html>", "an HTML page, as sites send"),
        (b"<?xml version='1.0'?><Error>", "XML text"),
        (b'{"weight_map": {}}', "JSON text, expected the file of tensors that it lists"),
        (b"\x1f\x8b\x08", "an archive: unpack it"),
    ],
)
@pytest.mark.parametrize("suffix", [".bin", ".safetensors"])
def test_what_came_instead_of_weights_is_said(content, text, suffix, tmp_path):
    path = tmp_path / f"weights{suffix}"
    path.write_bytes(content)
    with pytest.raises(OnetokError, match=f"not a file of tensors but .*{text}"):
        read_tensors(path)


@pytest.mark.parametrize("write", [save_file, torch.save])
def test_a_cut_file_is_said_to_be_cut(write, tmp_path):
    path = tmp_path / "weights.bin"
    write({"x": torch.zeros(1000)}, path)
    content = path.read_bytes()
    for size in (12, 100, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:size])
        with pytest.raises(OnetokError, match=r"damaged or cut.*get it again") as raised:
            read_tensors(path)
        assert "\n" not in str(raised.value) and "weights_only" not in str(raised.value)


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


@pytest.mark.parametrize(
    ("tensor", "text"),
    [
        (torch.full((3, 2), torch.nan), "holds NaN in 6 of 6 places"),
        (torch.tensor([[1.0, torch.inf]] * 3), "holds infinite values in 3 of 6 places"),
        (torch.full((3, 2), 1e300, dtype=torch.float64), "holds infinite values"),
        (torch.zeros(3, 2, dtype=torch.int64), "holds int64, expected floating point numbers"),
        (torch.zeros(3, 2, dtype=torch.bool), "holds bool, expected floating point numbers"),
        (torch.zeros(3, 2, dtype=torch.complex64), "holds complex64, expected floating point numbers"),
        (torch.zeros(3, 2).to_sparse(), "is sparse_coo, expected it dense"),
    ],
)
def test_what_cannot_be_a_weight_is_named(tensor, text):
    state = nn.Linear(2, 3).state_dict() | {"weight": tensor}
    with pytest.raises(OnetokError, match=f"^file: tensor 'weight' {text}"):
        load_strictly(nn.Linear(2, 3), state, "file")


def test_weights_of_other_precision_and_counts_are_taken():
    norm = nn.BatchNorm1d(2)
    state = {k: v.to(torch.float16) if v.is_floating_point() else v for k, v in norm.state_dict().items()}
    load_strictly(norm, state, "file")
    with pytest.raises(OnetokError, match="'num_batches_tracked' holds float32, expected int64"):
        load_strictly(norm, state | {"num_batches_tracked": torch.tensor(0.0)}, "file")


def test_a_prefix_of_every_name_is_said():
    state = {f"net.{name}": tensor for name, tensor in nn.Linear(2, 3).state_dict().items()}
    with pytest.raises(
        OnetokError, match=r"first 'bias'; names in the file begin with 'net.': save those alone, without it"
    ):
        load_strictly(nn.Linear(2, 3), state, "file")
    with pytest.raises(OnetokError, match=r"begin with 'net.'"):
        load_strictly(nn.Linear(2, 3), state | {"loss.weight": torch.zeros(1)}, "file")
    inner = nn.Sequential(nn.Sequential(nn.Linear(2, 3)))
    state = {name.replace("0.0.", "0.module.0."): tensor for name, tensor in inner.state_dict().items()}
    with pytest.raises(OnetokError, match="of DistributedDataParallel: save the model inside it"):
        load_strictly(inner, state, "file")


# ---------------------------------------------------------------------------------------------- addresses


@pytest.fixture
def served(tmp_path, monkeypatch):
    """A folder that http serves; (its address, the folder, the cache)."""

    class Handler(SimpleHTTPRequestHandler):
        def __init__(self, *args):
            super().__init__(*args, directory=str(tmp_path / "www"))

        def log_message(self, *args):
            pass

        def do_GET(self):
            if self.path.endswith("cut"):
                self.send_response(200)
                self.send_header("Content-Length", "1000")
                self.end_headers()
                self.wfile.write(b"payload")
                return
            super().do_GET()

    (tmp_path / "www").mkdir()
    monkeypatch.setattr("torch.hub.get_dir", lambda: str(tmp_path / "hub"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", tmp_path / "www", tmp_path / "hub/checkpoints"
        server.shutdown()


def at(url, file="weights.bin", digest=DIGEST):
    return WeightsFile(hub=None, revision=None, url=url, file=file, sha256=digest)


def test_a_download_is_kept_only_with_the_pinned_digest(served):
    address, folder, cache = served
    (folder / "w").write_bytes(b"payload")
    (folder / "page").write_bytes(b"<html>log in</html>")
    digest = sha256(folder / "w")
    with pytest.raises(
        OnetokError, match=rf"w: what came has sha256 {digest}, expected b+ \(params\); nothing was kept"
    ):
        fetch(at(f"{address}/w"))
    with pytest.raises(OnetokError, match="and is an HTML page"):
        fetch(at(f"{address}/page"))
    with pytest.raises(OnetokError, match=r"ended after 7 of 1,000 bytes; nothing was kept"):
        fetch(at(f"{address}/cut", digest=digest))
    with pytest.raises(OnetokError, match=r"cannot be downloaded from .*: HTTP Error 404"):
        fetch(at(f"{address}/nothing"))
    assert list(cache.iterdir()) == []
    path = fetch(at(f"{address}/w", "below/w.bin", digest))
    assert path == cache / "below/w.bin" and path.read_bytes() == b"payload"
    path.write_bytes(b"pay")  # as an interrupted program left it
    assert fetch(at(f"{address}/w", "below/w.bin", digest)).read_bytes() == b"payload"
    (folder / "w").unlink()
    assert fetch(at(f"{address}/w", "below/w.bin", digest)) == path


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"file": "/etc/x"}, "relative path without"),
        ({"file": "a/../../x"}, "relative path without"),
        ({"file": "."}, "relative path without"),
        ({"file": "../x", "url": None, "hub": "a/b", "revision": COMMIT}, "relative path without"),
        ({"url": "file:///etc/passwd"}, "expected an http or https address"),
        ({"url": "ftp://host/x"}, "expected an http or https address"),
        ({"url": "https:///x"}, "expected an http or https address"),
        ({"url": "https://host/x y"}, "expected an http or https address"),
        ({"url": "https://me:s3cret@host/x"}, "no user or password; write them to ~/.netrc"),
        ({"url": "https://s3cret@host/x"}, "no user or password"),
        ({"url": "https://host/x?token=s3cret"}, "no query, which may be a secret"),
        ({"hub": "https://me:s3cret@host/a"}, "should match pattern"),
        ({"hub": "a/b"}, "hub or url, not both"),
        ({"sha256": "0" * 8}, "should match pattern"),
        ({"sha256": "A" * 64}, "should match pattern"),
        ({"revision": "main"}, "should match pattern"),
    ],
)
def test_what_params_must_not_pin_is_refused_by_schema_and_code(changes, text, smallest):
    values = {"hub": None, "revision": None, "url": "https://host/x", "file": "x", "sha256": DIGEST} | changes
    with pytest.raises(ValidationError, match=text):
        WeightsFile(**values)
    with pytest.raises(OnetokError, match=text) as raised:
        fetch(WeightsFile.model_construct(**values))
    entry = {"kind": "convnext", "input_size": 32, "weights": values}
    (smallest / "params/encoders/more.yaml").write_text(yaml.safe_dump({"encoders": {"more": {"x": entry}}}))
    with pytest.raises(OnetokError, match=text) as loaded:
        load_study(smallest)
    assert "s3cret" not in str(raised.value) + str(loaded.value)


def test_secrets_come_from_netrc_and_stay_out_of_messages(tmp_path, monkeypatch):
    (tmp_path / "netrc").write_text("machine host login me password s3cret\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    assert _request("https://host/x").unredirected_hdrs == {"Authorization": "Basic bWU6czNjcmV0"}
    assert _request("https://other/x").unredirected_hdrs == {}
    text = str(OnetokError("no https://me:s3/c@ret@host/x?sig=s3cret here, git@host"))
    assert text == "no https://…@host/x?… here, git@host"
    assert "s3cret" not in shown("https://me:s3cret" + 200 * "x" + "@host")


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
