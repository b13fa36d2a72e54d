"""What a file's pixels are: one rule for conversion, training, evaluation and the public calls."""

import io
import os

import numpy as np
import pytest
from PIL import Image, ImageOps

from onetok.data.images import LONGEST, augment, check_shape, decode, five_crops, prepare
from onetok.errors import OnetokError
from onetok.study.schema.datasets import Images, TrainingImages

NOISE = np.random.default_rng(0).integers(0, 256, (24, 40, 3), dtype=np.uint8)
PLAIN = Images(resize="torchvision", shorter_edge=16, size=16, filter="bicubic")
TRAINING = TrainingImages(**PLAIN.model_dump(), crop="center", flip=False, shift=0)
RAMP = np.linspace(0, 1, 24 * 40, dtype=np.float32).reshape(24, 40)


def file(image, form="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def levels(content):
    return np.asarray(decode(content, "a.png"))[:, :, 0]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_photograph_is_upright_wherever_it_is_read(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = file(Image.fromarray(NOISE), exif=exif)
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(content)))
    assert np.array_equal(np.asarray(decode(content)), np.asarray(upright))
    expected = prepare(file(Image.fromarray(np.asarray(upright))), PLAIN)
    for found in (
        prepare(content, PLAIN),
        augment(content, TRAINING, np.random.default_rng(0)),
        five_crops(content, PLAIN, flip=False)[4],
    ):
        assert np.array_equal(found, expected)


@pytest.mark.parametrize(
    "damaged", [b"Exif\0\0garbage", b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0MM\0*\0\0\0\x08\xff\xff"]
)
def test_damaged_metadata_spoils_no_picture(damaged):
    plain = np.asarray(decode(file(Image.fromarray(NOISE), "JPEG")))
    assert np.array_equal(np.asarray(decode(file(Image.fromarray(NOISE), "JPEG", exif=damaged))), plain)


def test_sixteen_bits_and_floats_keep_their_white():
    expected = (RAMP * 255).round()
    sixteen = Image.fromarray((RAMP * 65535).round().astype(np.uint16))
    for content in (file(sixteen), file(sixteen, "TIFF"), file(Image.fromarray(RAMP), "TIFF")):
        found = levels(content)
        assert found.min() == 0 and found.max() == 255
        assert np.abs(found - expected).max() <= 1


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (RAMP * 255, r"a\.png: float values from 0 to 255, expected 0 to 1"),
        (RAMP - 0.5, r"a\.png: float values from -0\.5 to 0\.5, expected 0 to 1"),
        (np.where(RAMP > 0.5, np.nan, RAMP), r"a\.png: float values from nan to nan, expected 0 to 1"),
        ((RAMP * 255).astype(np.int32), r"a\.png: 32-bit integers, of which none is known to be white"),
    ],
)
def test_values_without_a_known_white_are_refused(values, message):
    with pytest.raises(OnetokError, match=message) as error:
        prepare(file(Image.fromarray(values), "TIFF"), PLAIN, "a.png")
    assert "\n" not in str(error.value)


def test_transparency_is_dropped_and_the_stored_colours_count():
    image = Image.fromarray(NOISE)
    clear = image.copy()
    clear.putalpha(0)
    assert np.array_equal(np.asarray(decode(file(clear))), NOISE)
    palette = image.convert("P")
    expected = np.asarray(palette.convert("RGB"))
    assert np.array_equal(np.asarray(decode(file(palette, transparency=bytes(256)))), expected)


@pytest.mark.parametrize("form", ["GIF", "WEBP", "PNG"])
def test_of_several_frames_the_first_counts(form):
    first, second = Image.new("RGB", (8, 8), "white"), Image.new("RGB", (8, 8), "black")
    assert levels(file(first, form, save_all=True, append_images=[second])).min() > 250


def test_a_file_of_another_kind_is_one_line_that_is_the_same_every_time():
    for content in (b"", b"text", file(Image.fromarray(NOISE), "EPS"), file(Image.fromarray(NOISE), "ICO")):
        with pytest.raises(OnetokError, match=r"a\.png: not a readable image: it is none of AVIF, .*, WEBP$"):
            decode(content, "a.png")


@pytest.mark.parametrize("resize", ["torchvision", "adm"])
def test_resizing_cannot_fill_the_memory(resize):
    images = Images(resize=resize, shorter_edge=256, size=256, filter="bicubic")
    content = file(Image.new("RGB", (20_000, 1)))
    assert len(content) < 300
    message = r"a\.png: 20000 x 1 px is too long and narrow to be resized to a shorter edge of 256 px"
    views = TrainingImages(**images.model_dump(), crop="random", flip=False, shift=0)
    for read in (
        lambda: prepare(content, images, "a.png"),
        lambda: five_crops(content, images, False, "a.png"),
        lambda: augment(content, views, np.random.default_rng(0), "a.png"),
    ):
        with pytest.raises(OnetokError, match=message):
            read()
    check_shape(Image.new("RGB", (LONGEST, 1)), "a.png")  # what datasets take can be resized
    assert prepare(file(Image.new("RGB", (LONGEST, 1))), images).shape == (3, 256, 256)
    with pytest.raises(OnetokError, match=rf"a\.png: 1 x {LONGEST + 1} px is too long and narrow"):
        check_shape(Image.new("RGB", (1, LONGEST + 1)), "a.png")


def test_no_damaged_file_is_more_than_one_line():
    rng = np.random.default_rng(0)
    for form in ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF"):
        whole = file(Image.fromarray(NOISE), form)
        for trial in range(40):
            damaged = bytearray(whole[: rng.integers(len(whole))] if trial % 3 == 0 else whole)
            for place in rng.integers(0, max(len(damaged), 1), 3 if damaged else 0):
                damaged[place] = rng.integers(256)
            try:
                decode(bytes(damaged), "a.png")
            except OnetokError as error:
                assert str(error).startswith("a.png: ") and "\n" not in str(error)


def test_what_is_no_file_is_said_by_the_command_line_s_reader_at_once(tmp_path):
    from onetok.data.folders import read_file

    os.mkfifo(tmp_path / "x.png")
    (tmp_path / "zero.png").symlink_to("/dev/zero")
    for name, message in (
        ("x.png", r"a named pipe \(FIFO\), expected a file"),
        ("zero.png", "a device, expected a file"),
    ):
        with pytest.raises(OnetokError, match=rf"{name}: {message}"):
            read_file(tmp_path / name, 100)
