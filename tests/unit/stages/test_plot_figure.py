"""Which images a figure shows."""

from __future__ import annotations

import numpy as np
import pytest

from onetok.data.images import encode_png
from onetok.data.shards import write_shards
from onetok.data.sources import Sample
from onetok.errors import OnetokError
from onetok.stages.plot_figure import in_turn
from onetok.study.load import load_study


def test_classes_take_turns_in_a_row(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    labels = [1, 1, 0, 0, 2, 1]
    samples = [
        Sample(f"{i}", encode_png(np.full((3, 64, 64), 10 * i, dtype=np.uint8)), "png", label, None)
        for i, label in enumerate(labels)
    ]
    write_shards(samples, tmp_path / "results/samples/a/b/shards", 8)
    row = in_turn("a/b", 5)  # gaps of 2 pixels
    assert row.shape == (68, 5 * 66 + 2, 3)
    assert row[30, [30 + 66 * i for i in range(5)], 0].tolist() == [20, 0, 40, 30, 10]


def test_an_overview_of_the_wrong_samples_is_refused(smallest):
    path = smallest / "params/tables/overview.yaml"
    path.write_text(path.read_text().replace("samples: maskgit/tiny,", "samples: maskgen_tuned/vq,"))
    message = "classes.samples: maskgen_tuned/vq are of captions, expected samples of classes"
    with pytest.raises(OnetokError, match=message):
        load_study(smallest)
