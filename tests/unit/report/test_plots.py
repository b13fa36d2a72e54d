import numpy as np
import pandas as pd
import pytest

from onetok.errors import OnetokError
from onetok.report.contact_sheet import grid
from onetok.report.plots import curves, overview, stacked_sheets

FRAME = pd.DataFrame({"step": [1, 2, 3], "train/total": [3.0, 2.0, 1.0]})


def test_a_misspelt_scalar_is_named(tmp_path):
    with pytest.raises(
        OnetokError, match="tokenizers/titok/a has no scalar 'train/totl'; nearest known: train/total"
    ):
        curves({"tokenizers/titok/a": FRAME}, "train/totl", "title", tmp_path / "figure.png")


def test_figures_are_the_same_bytes_twice(tmp_path):
    sheet = np.asarray(grid(np.zeros((4, 3, 8, 8), dtype=np.uint8), columns=2))
    for name in ("a", "b"):
        curves({"run": FRAME}, "train/total", "title", tmp_path / f"curves-{name}.png")
        stacked_sheets({"one": sheet, "two": sheet}, "title", tmp_path / f"sheets-{name}.png")
        captions, images = ["a $5 circle", "two squares"], np.zeros((2, 3, 8, 8), dtype=np.uint8)
        overview({"one": sheet}, "drawn", captions, images, "title", tmp_path / f"overview-{name}.png")
    for kind in ("curves", "sheets", "overview"):
        assert (tmp_path / f"{kind}-a.png").read_bytes() == (tmp_path / f"{kind}-b.png").read_bytes()


def test_a_sheet_keeps_every_image_in_its_place():
    pixels = np.stack([np.full((3, 64, 64), value, dtype=np.uint8) for value in (10, 20, 30)])
    sheet = np.asarray(grid(pixels, columns=2))
    assert sheet[30, 30, 0] == 10 and sheet[30, 100, 0] == 20 and sheet[100, 30, 0] == 30
