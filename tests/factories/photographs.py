"""Photographs that scikit-image and scikit-learn ship, cut into classes: one for each photograph."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import skimage.data
from PIL import Image
from sklearn.datasets import load_sample_images


def write_photographs(folder: Path, per_class: int, classes: int = 6, side: int = 96) -> Path:
    """Write random square crops of photographs as JPEGs, with a caption beside each; return the folder."""
    temple, flower = load_sample_images().images
    photographs = {
        "astronaut": skimage.data.astronaut,
        "cat": skimage.data.chelsea,
        "coffee": skimage.data.coffee,
        "flower": lambda: flower,
        "rocket": skimage.data.rocket,
        "temple": lambda: temple,
    }
    rng = np.random.default_rng(0)
    for name in list(photographs)[:classes]:
        whole = photographs[name]()
        (folder / name).mkdir(parents=True)
        largest = min(whole.shape[:2]) * 2 // 3
        for i in range(per_class):
            edge = int(rng.integers(largest * 3 // 4, largest))
            top, left = (int(rng.integers(length - edge)) for length in whole.shape[:2])
            crop = Image.fromarray(whole[top : top + edge, left : left + edge, :3])
            crop.resize((side, side), Image.Resampling.LANCZOS).save(
                folder / name / f"{i:03d}.jpg", quality=95
            )
            (folder / name / f"{i:03d}.txt").write_text(f"a photo of the {name}", encoding="utf-8")
    return folder
