"""Tokenizers as people use them: found by name, fed any image, and from the command line."""

from __future__ import annotations

import io
import subprocess
import sys
import warnings

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from onetok import load_tokenizer
from onetok.api import tokenizer as inference
from onetok.api.saved import Card, Pretrained, save_pretrained
from onetok.api.tokenizer import ImageTokenizer
from onetok.cli import main
from onetok.errors import OnetokError, OnetokWarning
from onetok.networks.classifier import Classifier, ClassifierConfig
from onetok.nn.quantizers import Tokens
from onetok.study.digests import sha256
from onetok.study.schema.datasets import Images
from onetok.study.schema.encoders import WeightsFile
from onetok.study.schema.study import Study
from onetok.systems.registry import build_tokenizer
from onetok.systems.saved import save_model
from onetok.systems.tatitok.schema import ReleasedTATiTok
from onetok.systems.vqgan.schema import ReleasedVQGAN
from tests.factories.tokenizers import IMAGES, leave_artefact, make, make_text_encoder

CPU = torch.device("cpu")
CARD = Card(name="mine", summary="", receipt=None)
NOISE = np.random.default_rng(0).integers(0, 256, (50, 70, 3), dtype=np.uint8)


@pytest.fixture(autouse=True)
def alone(monkeypatch, tmp_path):
    """No test reads the repository's params or waits for the Hub."""

    def offline(repo, revision, files):
        raise OnetokError(f"{repo}: cannot be downloaded from the Hub: no network")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(inference, "REPOSITORY", tmp_path / "nowhere")
    monkeypatch.setattr("onetok.api.saved.download_folder", offline)


@pytest.fixture
def folder(tmp_path):
    """A saved tokenizer without text."""
    save_pretrained(make("titok"), tmp_path / "saved", images=IMAGES, card=CARD)
    return tmp_path / "saved"


@pytest.fixture
def captioned(tmp_path, monkeypatch):
    """A saved tokenizer that reads captions."""
    encoder = make_text_encoder()
    path = tmp_path / "captioned"
    save_pretrained(make("tatitok"), path, images=IMAGES, card=CARD, text_encoder=encoder)
    return path


def picture(path, size=(64, 48), mode="RGB"):
    Image.fromarray(NOISE).resize(size).convert(mode).save(path)
    return path


# ---------------------------------------------------------------------------------------------- by name


def test_a_folder_is_loaded_as_saved(folder):
    tokenizer = load_tokenizer(folder)
    assert (tokenizer.image_size, tokenizer.tokens, tokenizer.codebook_size) == (32, 6, 32)
    assert tokenizer.images == IMAGES and not tokenizer.takes_text


def test_a_folder_that_says_nothing_is_fed_the_largest_centre_square(tmp_path):
    save_model(make("vqgan"), tmp_path)
    assert load_tokenizer(tmp_path).images == Images(
        resize="torchvision", shorter_edge=32, size=32, filter="bicubic"
    )


def test_a_study_s_tokenizer_is_found_by_its_name(smallest):
    with pytest.raises(
        OnetokError, match=r"titok/vq-16: not made yet, .*make it: onetok make --study .* results"
    ):
        load_tokenizer("titok/vq-16", study=smallest)
    leave_artefact(make("titok"), smallest, "tokenizers", "titok/vq-16", {"from": "receipt"})
    tokenizer = load_tokenizer("titok/vq-16", study=smallest)
    assert tokenizer.images.shorter_edge == 32 and tokenizer.images.filter == "bicubic"
    assert tokenizer.receipt["params"] == {"from": "receipt"}


def test_the_command_that_makes_it_is_one_to_paste(smallest, monkeypatch):
    monkeypatch.chdir(smallest)
    with pytest.raises(OnetokError, match=r": onetok make results/tokenizers/titok/vq-16/receipt.json$"):
        load_tokenizer("titok/vq-16")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (
            "titok/vq-17",
            r"no such folder, and no tokenizer of .*params \(nearest known: titok/vq-16\); .*no network",
        ),
        ("vq-16", "a repository on the Hub would be owner/name"),
        ("../a/b", "a repository on the Hub would be owner/name"),
        ("", "no config.json in it"),
        ("x" * 5000, "xxx: cannot be looked up: File name too long"),
    ],
)
def test_an_unknown_name_is_explained(name, text, smallest, monkeypatch):
    monkeypatch.chdir(smallest)
    with pytest.raises(OnetokError, match=text) as raised:
        load_tokenizer(name)
    assert "\n" not in str(raised.value)


def test_without_a_study_a_name_is_a_repository(tmp_path, monkeypatch, folder):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        OnetokError, match=r"no tokenizer of params \(there are no params/\); someone/x: .*no network"
    ):
        load_tokenizer("someone/x")
    monkeypatch.setattr("onetok.api.saved.download_folder", lambda repo, revision, files: folder)
    assert load_tokenizer("someone/x", revision="v1").images == IMAGES


def published_study(tmp_path, digest, copies=1):
    """A study of published tokenizers only, as load_study would return it."""
    weights = WeightsFile(hub="someone/vqgan", revision="a" * 40, url=None, file="weights.bin", sha256=digest)
    model = {"width": 8, "multipliers": (1, 2), "blocks": 1, "norm_groups": 4}
    quantizer = {"kind": "vq", "codebook_size": 32, "channels": 4, "normalize": False}
    quantizer |= {"commitment": 0.25, "clustering": False}
    entry = ReleasedVQGAN(
        kind="published-vqgan",
        benchmark="reconstruction/digits",
        images=IMAGES,
        model={**model, "quantizer": quantizer},
        weights=weights,
    )
    kinds = {key: {} for key in Study.model_fields}
    names = [f"published/vqgan-{index}" for index in range(copies)]
    return Study.model_construct(**kinds | {"tokenizers": dict.fromkeys(names, entry)}), entry


def released(name):
    """Return a tensor's name in the released layout of MaskGIT-VQGAN."""
    for ours, theirs in (("quantizer.codebook.", "quantize.embedding."), (".middle.", ".mid.")):
        name = name.replace(ours, theirs)
    side = "down" if name.startswith("encoder") else "up"
    name = (
        name.replace(".levels.", f".{side}.")
        .replace(".blocks.", ".block.")
        .replace(".shortcut.", ".nin_shortcut.")
    )
    return name.replace(".grow.", ".upsample_conv.")


def test_a_published_repository_is_had_as_params_pin_it(tmp_path, monkeypatch):
    path = tmp_path / "weights.safetensors"
    (tmp_path / "params").mkdir()
    _, entry = published_study(tmp_path, "0" * 64)
    torch.manual_seed(3)
    model = build_tokenizer(entry, made=None)
    save_file({released(name): tensor for name, tensor in model.state_dict().items()}, path)
    study, _ = published_study(tmp_path, sha256(path))
    monkeypatch.setattr(inference, "load_study", lambda directory: study)
    monkeypatch.setattr("onetok.release.download.hf_hub_download", lambda repo, file, revision: str(path))
    monkeypatch.chdir(tmp_path)
    tokenizer = load_tokenizer("someone/vqgan")
    pixels = tokenizer.prepare(Image.fromarray(NOISE))
    assert torch.equal(tokenizer.encode(pixels).ids, model.eval().encode(pixels).ids)
    several, _ = published_study(tmp_path, sha256(path), copies=2)
    monkeypatch.setattr(inference, "load_study", lambda directory: several)
    with pytest.raises(
        OnetokError, match="holds several tokenizers of params, name one: published/vqgan-0, "
    ):
        load_tokenizer("someone/vqgan")


def test_a_published_one_with_text_needs_its_text_encoder_first(tmp_path, monkeypatch):
    entry = ReleasedTATiTok.model_construct(
        text="published/clip", weights=WeightsFile(hub="a/b", revision=None, url=None, file="x", sha256=None)
    )
    kinds = {key: {} for key in Study.model_fields}
    study = Study.model_construct(**kinds | {"tokenizers": {"published/x": entry}})
    (tmp_path / "params").mkdir()
    monkeypatch.setattr(inference, "load_study", lambda directory: study)
    with pytest.raises(
        OnetokError, match=r"published/clip: not made yet, .*results/encoders/published/clip/receipt"
    ):
        load_tokenizer("a/b", study=tmp_path)


def test_only_tokenizers_are_tokenizers(tmp_path):
    config = ClassifierConfig(image_size=32, channels=(8,), features=8, classes=2, dropout=0.0)
    save_model(Classifier(config), tmp_path)
    with pytest.raises(OnetokError, match="holds a Classifier, expected a tokenizer"):
        load_tokenizer(tmp_path)


def test_a_device_that_is_not_there_is_named(folder):
    for name in ("cuda:63", "gpu", "meta"):
        with pytest.raises(OnetokError, match=f"device '{name}': torch cannot use it here"):
            load_tokenizer(folder, name)


@pytest.mark.parametrize("study", [None, 3, "a\0b"])
def test_a_study_is_a_directory(study):
    with pytest.raises(OnetokError, match=r"study: found .*, expected the path of a study"):
        load_tokenizer("titok/tiny", study=study)


def test_a_text_encoder_of_another_shape_is_named(monkeypatch):
    found = Pretrained(make("tatitok"), make_text_encoder(context_length=7), IMAGES, None)
    with pytest.raises(OnetokError, match="CLIP gives 7 states of width 12, expected 8 of 12"):
        ImageTokenizer(found, "x", CPU)


def test_the_package_is_light():
    code = "import sys, onetok, onetok.study.load, onetok.cli; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


# ---------------------------------------------------------------------------------------------- in use


def test_encode_and_decode(folder):
    tokenizer = load_tokenizer(str(folder))
    pixels = torch.cat([tokenizer.prepare(Image.fromarray(NOISE)), torch.rand(1, 3, 32, 32)])
    tokens = tokenizer.encode(pixels)
    images = tokenizer.decode(tokens)
    assert tokens.ids.shape == (2, 6) and images.shape == (2, 3, 32, 32)
    assert images.min() >= 0 and images.max() <= 1
    torch.testing.assert_close(tokenizer.decode(tokenizer.tokens_from_ids(tokens.ids)), images)
    kept = Tokens(tokens.latents.half(), None)  # as a cache keeps continuous ones
    torch.testing.assert_close(tokenizer.decode(kept), images, atol=0.01, rtol=0)


def test_captions_are_read_where_they_belong(captioned, folder):
    tokenizer, plain = load_tokenizer(captioned), load_tokenizer(folder)
    pixels = torch.rand(2, 3, 32, 32)
    tokens = tokenizer.encode(pixels)
    assert torch.equal(tokens.ids, tokenizer.encode(pixels, ["a", "b"]).ids)
    first = tokenizer.decode(tokens, ['a "red"\ncircle $(x)', "b"])
    assert not torch.equal(first, tokenizer.decode(tokens, ["a", "b"]))
    with pytest.raises(OnetokError, match="takes captions: expected text, a list of one for each image"):
        tokenizer.decode(tokens)
    with pytest.raises(OnetokError, match="found 1 captions, expected 2"):
        tokenizer.decode(tokens, ["a"])
    with pytest.raises(OnetokError, match="found one string, expected a list of captions"):
        tokenizer.decode(tokens, "ab")
    for use in (plain.encode, lambda pixels, text: plain.decode(plain.encode(pixels), text)):
        with pytest.raises(OnetokError, match="takes no captions, but text was given"):
            use(pixels, ["a", "b"])


def test_tensors_of_another_shape_are_named(folder):
    tokenizer = load_tokenizer(folder)
    for images in (
        torch.rand(3, 32, 32),
        torch.rand(1, 3, 16, 16),
        torch.zeros(1, 3, 32, 32, dtype=torch.int64),
        np.zeros((1, 32, 32, 1), dtype=np.uint8),
        np.zeros((2, 16, 16, 3), dtype=np.uint8),
    ):
        with pytest.raises(OnetokError, match=r"images: found .*, expected \(B, 3, 32, 32\) float"):
            tokenizer.encode(images)
    with pytest.raises(OnetokError, match=r"ids: found shape \(1, 5\), expected \(B, 6\)"):
        tokenizer.tokens_from_ids(torch.zeros(1, 5, dtype=torch.int64))
    with pytest.raises(OnetokError, match="ids: found float16, expected integers"):
        tokenizer.tokens_from_ids(torch.zeros(1, 6, dtype=torch.float16))
    with pytest.raises(OnetokError, match="ids: found 0 to 32, expected 0 to 31"):
        tokenizer.tokens_from_ids(torch.tensor([[0, 1, 2, 3, 4, 32]]))
    tokens = tokenizer.encode(torch.rand(1, 3, 32, 32))
    with pytest.raises(OnetokError, match=r"latents of shape \(1, 5, 4\), expected \(B, 6, 4\)"):
        tokenizer.decode(tokens._replace(latents=tokens.latents[:, :5]))


def test_pixels_of_any_type_are_the_same(folder):
    tokenizer = load_tokenizer(folder)
    levels = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
    expected = tokenizer.encode(levels.float() / 255).ids
    last = levels.numpy().transpose(0, 2, 3, 1)
    for images in (
        levels,
        levels.numpy(),
        last,
        last[:, ::-1][:, ::-1],  # negative strides
        last / 255,
        last.astype(">f4") / 255,
        levels.double() / 255,
        [levels[0], levels[1:]],
        list(levels.numpy()),
    ):
        assert torch.equal(tokenizer.encode(images).ids, expected)
    assert tokenizer.encode([]).ids.shape == (0, 6)


def test_pictures_are_prepared_on_the_way(folder, tmp_path):
    tokenizer, path = load_tokenizer(folder), picture(tmp_path / "a.png")
    image = Image.open(path)
    expected = tokenizer.encode(tokenizer.prepare(path)).ids
    with path.open("rb") as stream:
        for images in (path, str(path), image, path.read_bytes(), np.asarray(image), stream):
            assert torch.equal(tokenizer.encode(images).ids, expected)
    assert torch.equal(tokenizer.encode([path, image]).ids, expected.repeat(2, 1))
    grey = np.asarray(image.convert("L"))
    assert torch.equal(tokenizer.prepare(grey), tokenizer.prepare(image.convert("L")))


@pytest.mark.parametrize(
    ("images", "text"),
    [
        (
            torch.rand(1, 3, 32, 32) * 2 - 1,
            r"values from -0.99\d* to 0.99\d*, expected floats in \[0, 1\] .*x / 2",
        ),
        (torch.rand(1, 3, 32, 32) * 255, r"expected floats in \[0, 1\] or uint8; x / 255"),
        (torch.linspace(-0.1, 1.1, 3072).view(1, 3, 32, 32), r"from -0.1 to 1.1, .*clamp\(0, 1\)"),
        (torch.full((1, 3, 32, 32), torch.nan), "from nan to nan"),
        (torch.full((1, 3, 32, 32), torch.inf), "from inf to inf"),
        (np.zeros((40, 50, 3)), r"image: found \(40, 50, 3\) float64, expected uint8 \(H, W, 3\)"),
        (
            np.zeros((1, 3, 32, 32), dtype=object),
            "images: found ndarray of object, expected an array of numbers",
        ),
        (
            torch.zeros(1, 3, 32, 32).to_sparse(),
            "images: found a tensor that is torch.sparse_coo, expected one",
        ),
        (torch.zeros(1, 3, 32, 32, device="meta"), "images: found a tensor that is on the meta device"),
        (Image.new("RGB", (0, 5)), "image: found 0 x 5 px, expected an image with pixels"),
        (None, "image: found NoneType, expected a path"),
        (3, "image: found int, expected a path"),
        ([None], "image: found NoneType, expected a path"),
        ("nowhere.png", "nowhere.png: no such file"),
        ("a\0b.png", "null character"),
        ([[torch.zeros(3, 32, 32)]], "images: found a list in a list, expected pictures or pixels"),
    ],
)
def test_what_holds_no_images_is_said(images, text, folder):
    with pytest.raises(OnetokError, match=text) as raised:
        load_tokenizer(folder).encode(images)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("kind", ["uint8", "uint16", "int16", "uint32", "int64", "uint64", ">u2"])
def test_ids_of_any_integer_type_are_decoded(kind, folder, tmp_path):
    tokenizer = load_tokenizer(folder)
    ids = np.random.default_rng(0).integers(0, 32, (2, 6))
    expected = tokenizer.decode(tokenizer.tokens_from_ids(torch.from_numpy(ids)))
    array = ids.astype(kind)
    np.save(tmp_path / "tokens.npy", array)
    for found in (array, np.load(tmp_path / "tokens.npy", mmap_mode="r"), array.tolist()):
        assert torch.equal(tokenizer.decode(found), expected)
        assert torch.equal(tokenizer.decode(tokenizer.tokens_from_ids(found)), expected)
    if array.dtype.isnative:
        assert torch.equal(tokenizer.decode(torch.from_numpy(array)), expected)


@pytest.mark.parametrize(
    ("tokens", "text"),
    [
        (torch.tensor([[0, 1, 2, 3, 4, 32]], dtype=torch.uint16), "ids: found 0 to 32, expected 0 to 31"),
        (np.array([[0, 1, 2, 3, 4, -1]], dtype=np.int8), "ids: found -1 to 4, expected 0 to 31"),
        (np.zeros((1, 6), dtype=bool), "ids: found bool, expected integers"),
        ([[0, 1], [2]], "tokens: .*expected an array"),
        ([["a"] * 6], "tokens: found list of <U1, expected an array of numbers"),
        (None, "tokens: found NoneType of object, expected an array of numbers"),
        (np.zeros((1, 6)), r"tokens: latents of shape \(1, 6\), expected \(B, 6, 4\)"),
        (np.full((1, 6, 4), np.nan), "tokens: latents that are NaN or infinite"),
        (np.zeros((1, 6, 4), dtype=complex), "tokens: found ndarray of complex128"),
    ],
)
def test_what_holds_no_tokens_is_said(tokens, text, folder):
    with pytest.raises(OnetokError, match=text) as raised:
        load_tokenizer(folder).decode(tokens)
    assert "\n" not in str(raised.value)


def test_continuous_tokens_are_decoded_as_caches_keep_them(tmp_path):
    save_pretrained(make("kl"), tmp_path / "kl", images=IMAGES, card=CARD)
    tokenizer = load_tokenizer(tmp_path / "kl")
    latents = torch.randn(2, 6, 4).half()
    expected = tokenizer.decode(Tokens(latents, None))
    for tokens in (latents, latents.numpy(), latents.double()):
        assert torch.equal(tokenizer.decode(tokens), expected)


def test_captions_that_are_cut_are_said(captioned):
    tokenizer = load_tokenizer(captioned)
    tokens = tokenizer.encode(torch.rand(1, 3, 32, 32))
    long = "a red circle left of a blue square above a green triangle"
    with pytest.warns(
        OnetokWarning, match="^caption 'a red circle left of a blue square above…': the last 6 of its 12 "
    ):
        cut = tokenizer.decode(tokens, [long])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert torch.equal(tokenizer.decode(tokens, ["a red circle left of a"]), cut)


def test_what_is_in_use_can_be_saved_again(captioned, tmp_path):
    tokenizer = load_tokenizer(captioned)
    tokenizer.save_pretrained(tmp_path / "again", summary="Again.")
    again = load_tokenizer(tmp_path / "again")
    tokens = tokenizer.encode(torch.rand(1, 3, 32, 32))
    assert torch.equal(again.decode(tokens, ["a"]), tokenizer.decode(tokens, ["a"]))


# ---------------------------------------------------------------------------------------------- images


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "HSV", "I;16"])
@pytest.mark.parametrize("size", [(64, 48), (1, 1), (31, 200)])
def test_an_image_of_any_mode_and_size_is_prepared(mode, size, folder):
    tokenizer = load_tokenizer(folder)
    if mode == "I;16":
        image = Image.fromarray(np.full(size[::-1], 65535, dtype=np.uint16))
    else:
        image = Image.fromarray(NOISE).resize(size).convert(mode)
    pixels = tokenizer.prepare(image)
    assert pixels.shape == (1, 3, 32, 32) and pixels.min() >= 0 and pixels.max() <= 1
    if mode == "I;16":
        assert pixels.min() == 1  # white stays white


def test_path_bytes_and_image_are_the_same(folder, tmp_path):
    tokenizer, path = load_tokenizer(folder), picture(tmp_path / "a.png")
    expected = tokenizer.prepare(path)
    for image in (str(path), path.read_bytes(), Image.open(path)):
        assert torch.equal(tokenizer.prepare(image), expected)


def test_a_photograph_is_turned_upright(folder):
    tokenizer = load_tokenizer(folder)
    turned, buffer = Image.fromarray(NOISE), io.BytesIO()
    exif = turned.getexif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise
    turned.save(buffer, format="PNG", exif=exif)
    upright = turned.transpose(Image.Transpose.ROTATE_270)
    assert torch.equal(tokenizer.prepare(buffer.getvalue()), tokenizer.prepare(upright))


def test_what_is_no_image_is_named(folder, tmp_path, monkeypatch):
    tokenizer, path = load_tokenizer(folder), picture(tmp_path / "a.png")
    content = path.read_bytes()
    for damaged in (b"", b"text", content[:60], content[: len(content) // 2]):
        path.write_bytes(damaged)
        with pytest.raises(OnetokError, match=r"a.png: not a readable image: ") as raised:
            tokenizer.prepare(path)
        assert "\n" not in str(raised.value)
    with pytest.raises(OnetokError, match=r"b.png: no such file, expected a file"):
        tokenizer.prepare(tmp_path / "b.png")
    with pytest.raises(OnetokError, match="a folder, expected a file"):
        tokenizer.prepare(tmp_path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(OnetokError, match=r"image: not a readable image: .*exceeds limit"):
        tokenizer.prepare(content)
    with pytest.raises(OnetokError, match="1 x 70000 px is too long and narrow to be resized"):
        tokenizer.prepare(Image.new("L", (1, 70_000)))


# ---------------------------------------------------------------------------------------------- command line


@pytest.fixture
def run(monkeypatch, capsys):
    """Call the command line; return (exit status, output lines, error lines)."""

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["onetok", *map(str, arguments)])
        with pytest.raises(SystemExit) as stopped:
            main()
        captured = capsys.readouterr()
        return stopped.value.code, captured.out.splitlines(), captured.err.splitlines()

    return call


def test_one_image_is_reconstructed_to_a_file(run, folder, tmp_path):
    image, out = picture(tmp_path / "a.png", mode="RGBA"), tmp_path / "out.png"
    code, lines, _ = run("reconstruct", image, "--tokenizer", folder, "--out", out)
    assert code == 0 and len(lines) == 1
    assert lines[0].startswith(f"{image}: 6 tokens, ids (1, 6), PSNR ") and lines[0].endswith(f" dB, {out}")
    written = Image.open(out)
    assert written.size == (32, 32)
    assert written.text == {"Software": "onetok", "image": "a.png", "model": "saved"}


def test_continuous_tokens_are_told_by_their_channels(run, tmp_path):
    save_pretrained(make("kl"), tmp_path / "kl", images=IMAGES, card=CARD)
    image, out = picture(tmp_path / "a.png"), tmp_path / "out.png"
    _, lines, _ = run("reconstruct", image, "--tokenizer", tmp_path / "kl", "--out", out)
    assert "6 tokens, 4 channels, PSNR" in lines[0]


def test_several_images_are_reconstructed_to_a_folder(run, folder, tmp_path):
    images = [picture(tmp_path / f"{name}.png") for name in ("a", "b")]
    code, lines, _ = run("reconstruct", *images, "--tokenizer", folder, "--out", tmp_path / "out")
    assert code == 0 and len(lines) == 2
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.png", "b.png"]


def test_captions_are_data(run, captioned, tmp_path):
    image, out = picture(tmp_path / "a.png"), tmp_path / "out.png"
    written = []
    for text in ('a "red"\n$(touch x) `y`', "'; rm -r"):
        code, _, _ = run("reconstruct", image, "--tokenizer", captioned, "--out", out, f"--text={text}")
        assert code == 0
        written.append(out.read_bytes())
    assert written[0] != written[1]
    assert Image.open(out).text["prompt"] == "'; rm -r"


def wrong(tmp_path):
    """Yield (images, further arguments, message) of calls that cannot be done."""
    image = picture(tmp_path / "a.png")
    twin = picture(tmp_path / "a.jpg")
    broken, file, out = tmp_path / "broken.png", tmp_path / "file", tmp_path / "out.png"
    broken.write_bytes(image.read_bytes()[:80])
    file.write_text("")
    saved, text = ["--tokenizer", tmp_path / "saved"], ["--tokenizer", tmp_path / "captioned"]
    yield [broken], [*saved, "--out", out], "broken.png: not a readable image"
    yield [image, broken], [*saved, "--out", tmp_path / "out"], "broken.png: not a readable image"
    yield [tmp_path / "none.png"], [*saved, "--out", out], "none.png: no such file"
    yield [tmp_path], [*saved, "--out", out], "a folder, expected an image file"
    yield [image], ["--tokenizer", "nothing", "--out", out], "nothing: no such folder"
    yield [image], ["--tokenizer", tmp_path / "nowhere", "--out", out], "nowhere: no such folder"
    yield [image], [*saved, "--out", tmp_path], "is a folder, expected --out FILE.png"
    yield [image], [*saved, "--out", tmp_path / "x/out.png"], "x: no such folder"
    yield [image], [*saved, "--out", tmp_path / "out.jpg"], "expected --out FILE.png"
    yield [image], [*saved, "--out", image], "is one of the images, expected another --out"
    yield [image, image], [*saved, "--out", file], "is a file, expected a folder"
    yield (
        [image, twin],
        [*saved, "--out", tmp_path / "e.png"],
        "e.png: 2 images go into a folder, expected --out FOLDER",
    )
    yield [image, twin], [*saved, "--out", tmp_path / "e.JPG"], "e.JPG: 2 images go into a folder"
    yield [image, twin], [*saved, "--out", tmp_path / "out"], "a.png: would hold both"
    yield [image], [*saved, "--out", out, "--text", "a"], "takes no captions, but text was given"
    yield [image], [*text, "--out", out], "takes captions: expected text"
    yield [image], [*text, "--out", out, "--text", "a", "--text", "b"], "found 2 captions, expected 1"
    yield [image], [*saved, "--out", out, "--device", "cuda:63"], "device 'cuda:63'"


@pytest.mark.parametrize("case", range(18))
def test_what_cannot_be_done_is_one_line_and_leaves_nothing(case, run, folder, captioned, tmp_path):
    images, options, text = list(wrong(tmp_path))[case]
    before = {path: path.read_bytes() if path.is_file() else b"" for path in tmp_path.rglob("*")}
    code, lines, errors = run("reconstruct", *images, *options)
    assert code == 1 and lines == [] and len(errors) == 1
    assert errors[0].startswith("error: ") and text in errors[0]
    after = {path: path.read_bytes() if path.is_file() else b"" for path in tmp_path.rglob("*")}
    assert after == before


def test_all_files_are_written_or_none(run, folder, tmp_path, monkeypatch):
    images = [picture(tmp_path / f"{name}.png") for name in ("a", "b")]
    written = []

    def full(path, content):
        written.append(path)
        if len(written) == 2:
            raise OSError(28, "No space left on device")
        path.touch()

    monkeypatch.setattr("pathlib.Path.write_bytes", full)
    code, _, errors = run("reconstruct", *images, "--tokenizer", folder, "--out", tmp_path / "out")
    assert code == 1 and errors == [
        f"error: {tmp_path / 'out'}: cannot be written to: No space left on device"
    ]
    assert not (tmp_path / "out").exists()


def test_pin_prints_a_line_for_params(run, monkeypatch):
    import yaml

    from onetok.release.download import Pin

    monkeypatch.setattr(
        "onetok.release.download.find_pin", lambda repo, file, revision: Pin("a" * 40, "b" * 64)
    )
    code, (line,), _ = run("pin", "someone/x", "a b: c.bin")
    weights = WeightsFile(**yaml.safe_load(line)["weights"])
    assert code == 0 and (weights.hub, weights.file, weights.url) == ("someone/x", "a b: c.bin", None)
    assert (weights.revision, weights.sha256) == ("a" * 40, "b" * 64)


def test_pin_says_in_one_line_what_is_wrong(run, monkeypatch):
    class Offline:
        def model_info(self, *args, **kwargs):
            raise ConnectionError("no route\nto host")

    monkeypatch.setattr("onetok.release.download.HfApi", Offline)
    code, lines, errors = run("pin", "someone/x", "y.bin")
    assert (code, lines) == (1, [])
    assert errors == ["error: someone/x at main: cannot be looked up on the Hub: no route to host"]
