"""The common part of the released configurations of class-conditional generators."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

RELEASED_INIT_STD = 0.02  # a constant of the released code, not in its configurations


def class_fields(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of our config that all class-conditional generators share, from a released configuration."""
    released = config["model"]["generator"]
    return {
        "codebook_size": config["model"]["vq_model"]["codebook_size"],
        "tokens": released["image_seq_len"],
        "classes": released["condition_num_classes"],
        "width": released["hidden_size"],
        "layers": released["num_hidden_layers"],
        "heads": released["num_attention_heads"],
        "hidden": released["intermediate_size"],
        "dropout": released["dropout"],
        "attention_dropout": released["attn_drop"],
        "class_dropout": released["class_label_dropout"],
        "init_std": RELEASED_INIT_STD,
    }
