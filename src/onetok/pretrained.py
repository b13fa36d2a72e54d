"""Published weights: from the released layouts to ours, through one readable map for each system.

The only module that reaches the network.
"""

from __future__ import annotations

import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from huggingface_hub import hf_hub_download
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from onetok.errors import OnetokError
from onetok.params import WeightsFile
from onetok.receipts import sha256


def fetch(weights: WeightsFile) -> Path:
    """Return the path of a published file: downloaded once, then checked against its digest.

    Raises OnetokError where it cannot be had, or is not the file that params pin, or they pin none.
    """
    expected = _pinned(weights)
    try:
        if weights.hub is not None:
            path = Path(hf_hub_download(weights.hub, weights.file, revision=weights.revision))
        elif weights.url is not None:
            path = Path(torch.hub.get_dir()) / "checkpoints" / weights.file
            if not path.exists():
                path.parent.mkdir(parents=True, exist_ok=True)
                torch.hub.download_url_to_file(weights.url, str(path))
        else:
            path = Path(weights.file)
    except OSError as error:  # what the Hub's client and urllib raise without a network
        origin = weights.hub or weights.url
        raise OnetokError(f"{weights.file}: cannot be downloaded from {origin}: {error}") from None
    if not path.exists():
        raise OnetokError(f"{path}: no such file (weights.file in params)")
    found = sha256(path)
    if not found.startswith(expected):
        raise OnetokError(f"{path}: sha256 {found}, expected {expected} (params)")
    return path


def _pinned(weights: WeightsFile) -> str:
    """Return the digest that params pin; a file of the Hub needs its revision, too."""
    needed = ("revision", "sha256") if weights.hub is not None else ("sha256",)
    lacking = [f"weights.{name}" for name in needed if getattr(weights, name) is None]
    if weights.sha256 is not None and not lacking:
        return weights.sha256
    place = f"{weights.hub}/{weights.file}" if weights.hub is not None else weights.file
    text = (
        f"{place}: not pinned: {' and '.join(lacking)} {'are' if len(lacking) > 1 else 'is'} null in params"
    )
    if weights.hub is not None:
        text += f"; `onetok pin {weights.hub} {weights.file}` prints them"
    raise OnetokError(text)


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read a state dict from safetensors, or from a pickle that may hold nothing but tensors.

    Raises OnetokError for any other file. No code in a pickle is ever run.
    """
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        state: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
        return state
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError) as error:
        reason = str(error).splitlines()[0]
        raise OnetokError(f"{path}: not a file of tensors and nothing else: {reason}") from None


class KeyMap(NamedTuple):
    """How a released state dict is renamed: patterns in order, then tensors to reshape or merge."""

    rename: tuple[tuple[str, str], ...]  # (regular expression, replacement), in order, all that match
    merge: tuple[tuple[tuple[str, ...], str], ...]  # suffixes concatenated on dimension 0 → suffix
    squeeze: tuple[str, ...]  # regular expressions of 1x1 convolutions that are linear layers here
    select: tuple[tuple[str, int], ...]  # (key, row): keep one row of a table
    unused: tuple[str, ...]  # regular expressions of released entries that hold no parameter


_VIT = (  # encoder and decoder of every 1D tokenizer
    (r"^quantize\.embedding\.", "quantizer.codebook."),
    (r"^quantize\.embed_prob$", "quantizer.usage"),
    (r"\.transformer\.(\d+)\.", r".blocks.\1."),
    (r"\.attn\.in_proj_", ".attention.qkv."),
    (r"\.attn\.out_proj\.", ".attention.out."),
    (r"\.mlp\.c_fc\.", ".mlp.up."),
    (r"\.mlp\.c_proj\.", ".mlp.down."),
    (r"\.ln_([12])\.", r".norm\1."),
    (r"\.ln_pre\.", ".norm_in."),
    (r"\.ln_post\.", ".norm_out."),
    (r"\.latent_token_positional_embedding$", ".latent_positions"),
    (r"^decoder\.text_guidance_positional_embedding$", "text.positions"),
    (r"^decoder\.text_guidance_proj\.", "text.projection."),
    (r"\.positional_embedding$", ".positions"),
    (r"^encoder\.conv_out\.", "encoder.head."),
    (r"^decoder\.decoder_embed\.", "decoder.embed."),
)

_TITOK = KeyMap(
    rename=(
        *_VIT,
        (r"^decoder\.ffn\.0\.", "decoder.to_pixels."),
        (r"^decoder\.conv_out\.", "decoder.smooth."),
    ),
    merge=(),
    squeeze=(r"^encoder\.head\.weight$", r"^decoder\.to_pixels\.weight$"),
    select=(),
    unused=(),
)

_VQGAN_LEVELS = (
    (r"\.(?:down|up)\.(\d+)\.block\.(\d+)\.", r".levels.\1.blocks.\2."),
    (r"\.up\.(\d+)\.upsample_conv\.", r".levels.\1.grow."),
    (r"\.mid\.(\d+)\.", r".middle.\1."),
    (r"\.nin_shortcut\.", ".shortcut."),
)

_MASKGIT_VQGAN = KeyMap(
    rename=((r"^quantize\.embedding\.", "quantizer.codebook."), *_VQGAN_LEVELS),
    merge=(),
    squeeze=(),
    select=(),
    unused=(),
)

_TITOK_TWO_STAGE = KeyMap(
    rename=(
        *_VIT,
        (r"^decoder\.ffn\.(\d)\.", r"decoder.to_codes.\1."),
        (r"^pixel_quantize\.embedding\.", "pixel_codebook."),
        *_VQGAN_LEVELS,
    ),
    merge=(),
    squeeze=(r"^encoder\.head\.weight$", r"^decoder\.to_codes\.\d\.weight$"),
    select=(),
    unused=(),
)

_MASKGIT_VIT = KeyMap(
    rename=(
        (r"^model\.embeddings\.word_embeddings\.weight$", "word_embedding.weight"),
        (r"^model\.embeddings\.position_embeddings\.weight$", "positions"),
        (r"^model\.embeddings\.token_type_embeddings\.weight$", "token_type"),
        (r"^model\.embeddings\.LayerNorm\.", "norm_in."),
        (r"^model\.encoder\.layer\.(\d+)\.", r"blocks.\1."),
        (r"\.attention\.self\.(query|key|value)\.", r".attention.\1."),
        (r"\.attention\.output\.dense\.", ".attention.out."),
        (r"\.attention\.output\.LayerNorm\.", ".norm1."),
        (r"\.intermediate\.dense\.", ".mlp.up."),
        (r"\.output\.dense\.", ".mlp.down."),
        (r"\.output\.LayerNorm\.", ".norm2."),
        (r"^model\.lm_head\.", "head."),
    ),
    merge=tuple(
        (tuple(f".attention.{part}.{kind}" for part in ("query", "key", "value")), f".attention.qkv.{kind}")
        for kind in ("weight", "bias")
    ),
    squeeze=(),
    select=(("token_type", 0),),
    unused=(),
)

KEY_MAPS = {
    "maskgit_vqgan": _MASKGIT_VQGAN,
    "titok_vq_legacy_stage1": _TITOK_TWO_STAGE,  # the parts that stage 1 trains, without the pixel path
    "titok_vq_legacy_stage2": _TITOK_TWO_STAGE,
    "titok_vq_two_stage": _TITOK_TWO_STAGE,
    "titok_vq_single_stage": _TITOK,
    "titok_kl": _TITOK,
    "tatitok_vq": _TITOK,
    "tatitok_kl": _TITOK,
    "maskgit_vit": _MASKGIT_VIT,
}


def from_published(system: str, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a released state dict in our layout."""
    if system not in KEY_MAPS:
        raise OnetokError(f"no key map for {system!r}, known: {', '.join(sorted(KEY_MAPS))}")
    key_map = KEY_MAPS[system]
    ours: dict[str, Tensor] = {}
    for name, tensor in state.items():
        if any(re.search(pattern, name) for pattern in key_map.unused):
            continue
        for pattern, replacement in key_map.rename:
            name = re.sub(pattern, replacement, name)
        ours[name] = tensor.flatten(1) if any(re.search(p, name) for p in key_map.squeeze) else tensor
    for suffixes, merged in key_map.merge:
        for first in [name for name in ours if name.endswith(suffixes[0])]:
            stem = first.removesuffix(suffixes[0])
            ours[stem + merged] = torch.cat([ours.pop(stem + suffix) for suffix in suffixes])
    for name, row in key_map.select:
        ours[name] = ours[name][row]
    return ours


def load_strictly(model: torch.nn.Module, state: Mapping[str, Tensor], source: str) -> None:
    """Load `state` into `model`.

    Raises OnetokError naming the first missing key, unexpected key or tensor of another shape.
    """
    expected = model.state_dict()
    missing, unexpected = expected.keys() - state.keys(), state.keys() - expected.keys()
    if missing:
        raise OnetokError(f"{source}: {len(missing)} tensors missing, first {min(missing)!r}")
    if unexpected:
        raise OnetokError(f"{source}: {len(unexpected)} unexpected tensors, first {min(unexpected)!r}")
    for name, tensor in state.items():
        if tensor.shape != expected[name].shape:
            found, wanted = tuple(tensor.shape), tuple(expected[name].shape)
            raise OnetokError(f"{source}: tensor {name!r} has shape {found}, expected {wanted}")
    model.load_state_dict(state)
