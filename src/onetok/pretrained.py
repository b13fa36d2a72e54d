"""Published weights: had from the network, then brought from the released layouts to ours by readable key maps.

The only module that reaches the network.
"""

from __future__ import annotations

import base64
import hashlib
import http.client
import netrc
import os
import re
import urllib.request
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import torch
from huggingface_hub import HfApi, hf_hub_download, snapshot_download
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    LocalTokenNotFoundError,
    OfflineModeIsEnabled,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
    XetDownloadError,
)
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from onetok import durable
from onetok.digests import sha256
from onetok.errors import OnetokError, nearest, one_line, shown
from onetok.needs import null_pins
from onetok.params import WeightsFile
from onetok.progress import Progress

# ---------------------------------------------------------------------------------------------- network

# The base class of the Hub client's network errors is that of the HTTP library it uses.
_CLIENT_ERROR = HfHubHTTPError.__mro__[1]
_NETWORK_ERRORS: tuple[type[BaseException], ...] = (
    OSError,  # the Hub's errors, urllib's, and a full disk
    ValueError,  # an address or a repository's name that is none
    RuntimeError,
    EntryNotFoundError,
    XetDownloadError,
    http.client.HTTPException,
    _CLIENT_ERROR,
)


PIECE = 1 << 20  # bytes of a download that are read at a time
SECONDS_WITHOUT_A_BYTE = 60.0


class Pin(NamedTuple):
    revision: str  # commit, 40 digits
    sha256: str


def fetch(weights: WeightsFile) -> Path:
    """Return the path of a published file with the digest that params pin: downloaded where it is not there yet.

    Raises OnetokError where it is not pinned, cannot be had, or is not the file that params pin.
    """
    weights = _checked(weights)
    digest = _pinned(weights)
    if weights.url is not None:
        path = Path(torch.hub.get_dir()) / "checkpoints" / weights.file
        if not path.is_file() or sha256(path) != digest:
            _download(weights.url, path, digest)
        return path
    path = Path(weights.file)
    if weights.hub is not None:
        with _explained(f"{weights.file}: cannot be downloaded from {weights.hub} at {weights.revision}"):
            path = Path(hf_hub_download(weights.hub, weights.file, revision=weights.revision))
    if not path.is_file():
        raise OnetokError(f"{path}: no such file (weights.file in params)")
    found = sha256(path)
    if found != digest:
        again = "; remove it to download it again" if weights.hub else ""
        raise OnetokError(f"{path}: sha256 {found}, expected {digest} (params){again}")
    return path


def _checked(weights: WeightsFile) -> WeightsFile:
    """Check an entry again that need not come from a study, before anything is written where it says."""
    try:
        return WeightsFile.model_validate(weights.model_dump())
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(["weights", *map(str, first["loc"])])
        raise OnetokError(f"{where}: found {shown(first['input'])}; {first['msg']}") from None


def _pinned(weights: WeightsFile) -> str:
    """Return the digest of params, which must pin a file before it is downloaded."""
    if (text := null_pins(weights)) is not None:
        raise OnetokError(f"{weights.file}: {text}")
    assert weights.sha256 is not None
    return weights.sha256


def _download(url: str, path: Path, digest: str) -> None:
    """Download a file to a temporary name beside `path`, and move it there if it has the digest."""
    with _explained(f"{path.parent}: cannot be made a folder"):
        path.parent.mkdir(parents=True, exist_ok=True)
    found, head = hashlib.sha256(), b""
    with durable.writing(path) as stream:
        for piece in _pieces(url, path.name):
            head = head or piece
            stream.write(piece)
            found.update(piece)
        if found.hexdigest() != digest:
            kind = _no_weights(head)
            text = f"what came has sha256 {found.hexdigest()}, expected {digest} (params)"
            text += f", and is {kind}" if kind else ""
            raise OnetokError(f"{path.name} from {url}: {text}; nothing was kept")


def _pieces(url: str, name: str) -> Iterator[bytes]:
    """Yield what an address holds, a piece at a time. Raises OnetokError for an end before the last byte."""
    with (
        _explained(f"{name}: cannot be downloaded from {url}"),
        urllib.request.urlopen(_request(url), timeout=SECONDS_WITHOUT_A_BYTE) as response,
    ):
        length, size = int(response.headers["Content-Length"] or 0), 0
        progress = Progress(name, -(-length // PIECE), "MiB") if length > PIECE else None
        while piece := response.read(PIECE):
            size += len(piece)
            if progress is not None:
                progress.advance()
            yield piece
    if size < length:
        text = f"ended after {size:,} of {length:,} bytes; nothing was kept, run it again"
        raise OnetokError(f"{name}: the download from {url} {text}")


def _request(url: str) -> urllib.request.Request:
    """Return a request with what ~/.netrc (or the file that NETRC names) holds for the host."""
    request = urllib.request.Request(url)
    try:
        known = netrc.netrc(os.environ.get("NETRC")).authenticators(urlsplit(url).hostname or "")
    except FileNotFoundError:
        return request
    except netrc.NetrcParseError as error:
        raise OnetokError(
            f"{error.filename}: line {error.lineno}: {error.msg}, expected netrc's form"
        ) from None
    if known is not None:
        user, _, password = known
        token = base64.b64encode(f"{user}:{password}".encode()).decode("ascii")
        request.add_unredirected_header("Authorization", f"Basic {token}")  # not sent on to another host
    return request


def find_pin(repo: str, file: str, revision: str) -> Pin:
    """Ask the Hub for the commit behind a branch, tag or commit, and for the digest of one of its files.

    Raises OnetokError where the repository, the revision or the file does not exist, or without a network.
    """
    with _explained(f"{repo} at {revision}: cannot be looked up on the Hub"):
        info = HfApi().model_info(repo, revision=revision, files_metadata=True)
    files = {sibling.rfilename: sibling for sibling in info.siblings or []}
    if file not in files:
        raise OnetokError(f"{repo} at {revision}: no file {file!r}; {nearest(file, files)}")
    commit, stored = info.sha, files[file].lfs
    if commit is None:
        raise OnetokError(f"{repo} at {revision}: the Hub names no commit")
    if stored is not None:
        return Pin(commit, stored.sha256)
    with _explained(
        f"{file}: cannot be downloaded from {repo} at {commit}"
    ):  # small files have no digest there
        return Pin(commit, sha256(Path(hf_hub_download(repo, file, revision=commit))))


def download_folder(repo: str, revision: str | None, files: tuple[str, ...]) -> Path:
    """Return a folder that holds those of `files` that a repository on the Hub has."""
    at = f" at {revision}" if revision else ""
    with _explained(f"{repo}{at}: cannot be downloaded from the Hub"):
        return Path(snapshot_download(repo, revision=revision, allow_patterns=list(files)))


def upload_folder(repo: str, folder: Path, *, private: bool, message: str) -> str:
    """Upload a folder to a repository on the Hub, made where there is none; return the commit's address."""
    with _explained(f"{repo}: cannot be uploaded to the Hub"):
        api = HfApi()
        api.create_repo(repo, private=private, exist_ok=True)
        return str(api.upload_folder(repo_id=repo, folder_path=folder, commit_message=message))


@contextmanager
def _explained(what: str) -> Iterator[None]:
    """Turn what the network's clients raise into one line that starts with `what`."""
    try:
        yield
    except _NETWORK_ERRORS as error:
        raise OnetokError(f"{what}: {_reason(error)}") from None


def _reason(error: BaseException) -> str:
    text = one_line(error)
    match error:
        case GatedRepoError():
            return "a gated repository: accept its terms on the Hub, then `hf auth login`"
        case RepositoryNotFoundError():
            return "no such repository on the Hub, or a private one: `hf auth login`"
        case RevisionNotFoundError():
            return "no such revision"
        case RemoteEntryNotFoundError():
            return "no such file in the repository"
        case LocalTokenNotFoundError():
            return "not logged in: `hf auth login`"
        case OfflineModeIsEnabled():
            return "no network: offline mode is on (HF_HUB_OFFLINE)"
        case LocalEntryNotFoundError():
            return "no network, and not downloaded before"
        case HFValidationError():
            return f"not a repository's name, expected owner/name: {text}"
        case HfHubHTTPError():
            return text
        case _ if isinstance(error, _CLIENT_ERROR):
            return f"no network: {text}"
    return text


# ---------------------------------------------------------------------------------------------- files


# What a file that is no file of tensors begins with, what it is, and what to do.
_NO_WEIGHTS = (
    (
        rb"version https://git-lfs\.",
        "a Git LFS pointer, not the file itself: `git lfs pull` in its folder gets it",
    ),
    (
        rb"(?i)\s*<(!doctype )?html",
        "an HTML page, as sites send for a file that needs a login or is not there",
    ),
    (rb"\s*<", "XML text, as storage sends for a file that needs a login or is not there"),
    (rb"\s*[{[]", "JSON text, expected the file of tensors that it lists or stands for"),
    (rb"\x89HDF", "an HDF5 file, expected safetensors or torch's format"),
    (rb"\x93NUMPY", "an array of NumPy, expected safetensors or torch's format"),
    (rb"GGUF", "a GGUF file, expected safetensors or torch's format"),
    (
        rb"\x1f\x8b|BZh|\xfd7zXZ|\x28\xb5\x2f\xfd|7z\xbc\xaf|.{257}ustar",
        "an archive: unpack it and name the file in it",
    ),
)
_WRAPPERS = ("module.", "_orig_mod.")  # what DistributedDataParallel and torch.compile put before names


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read a state dict, names to tensors, from safetensors or from torch's format; the content tells, not the name.

    A training's checkpoint is read where it holds one state dict, whatever its key ({"state_dict": …}, {"ema": …}).
    Names lose the `module.` of DistributedDataParallel and the `_orig_mod.` of torch.compile.
    Raises OnetokError for any other file, and for several state dicts in one. No code in a pickle is ever run.
    """
    if not path.is_file():
        raise OnetokError(f"{path}: no such file, expected a file of tensors")
    try:
        with path.open("rb") as stream:
            head = stream.read(512)
    except OSError as error:
        raise OnetokError(f"{path}: cannot be read: {error.strerror}") from None
    size = path.stat().st_size
    if not size:
        raise OnetokError(f"{path}: not a file of tensors but empty, 0 bytes: get it again")
    length = int.from_bytes(head[:8], "little")  # of the header of safetensors, which is JSON
    content: Any
    if head[8:9] == b"{" and length < 2**40:
        content = _read_safetensors(path, size, length)
    elif kind := _no_weights(head):
        raise OnetokError(f"{path}: not a file of tensors but {kind}")
    else:
        content = _read_pickle(path, size)
    return _unwrapped(_only_state_dict(content, path), path)


def _no_weights(head: bytes) -> str | None:
    """Return what a file is by its first bytes, None for what may hold tensors."""
    kinds = (kind for pattern, kind in _NO_WEIGHTS if re.match(pattern, head, re.DOTALL))
    return next(kinds, None)


def _read_safetensors(path: Path, size: int, length: int) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except (
        SafetensorError,
        OSError,
        ValueError,
        KeyError,
        RuntimeError,
    ) as error:  # the last two: unknown types
        cut = f", or cut: its header alone takes {length:,} of {size:,} bytes" if length > size else ""
        text = f"safetensors that are damaged or cut, {size:,} bytes ({one_line(error)})"
        raise OnetokError(f"{path}: not a file of tensors but {text}{cut}: get it again") from None


def _read_pickle(path: Path, size: int) -> Any:
    """Read what torch.save wrote, without running anything that a pickle may ask for."""
    try:
        with warnings.catch_warnings(), path.open("rb") as stream:  # of a path torch would read the suffix
            warnings.simplefilter("ignore")
            return torch.load(stream, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged pickle makes its reader raise anything
        text = str(error)  # torch advises to run what is in the file: only its reason is taken
    mend = "where it was made, save the state_dict() alone"
    if found := re.search(r"GLOBAL (\S+)", text):
        kind = f"a pickle with other things than tensors in it ({found[1]}), which could run code"
    elif "TorchScript" in text:
        kind = "a TorchScript archive"
    elif "Unsupported operand" in text:
        kind = "a pickle that torch did not write"
    else:
        kind, mend = f"torch's format damaged or cut, or another program's ({size:,} bytes)", "get it again"
    raise OnetokError(f"{path}: not a file of tensors but {kind}: {mend}")


def _only_state_dict(content: Any, path: Path) -> dict[str, Tensor]:
    """Return the one state dict of what a file holds."""
    if not isinstance(content, dict):
        raise OnetokError(f"{path}: found {type(content).__name__}, expected a mapping of names to tensors")
    found = dict(_state_dicts(content))
    if len(found) > 1:
        names = ", ".join(map(repr, found))
        raise OnetokError(f"{path}: holds the state dicts {names}, expected one: save the one you mean alone")
    if not found:
        other = next((key for key, value in content.items() if not isinstance(value, Tensor)), None)
        text = "an empty mapping" if other is None else f"{type(content[other]).__name__} at {shown(other)}"
        raise OnetokError(f"{path}: found {text}, expected a mapping of names to tensors")
    return next(iter(found.values()))


def _state_dicts(
    content: dict[Any, Any], key: str = "", depth: int = 0
) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """Yield every mapping of names to tensors with its keys, but for what optimizers keep."""
    if content and all(isinstance(k, str) and isinstance(v, Tensor) for k, v in content.items()):
        yield key, content
        return
    for name, value in content.items():
        if isinstance(name, str) and isinstance(value, dict) and depth < 4 and not re.search("optim", name):
            yield from _state_dicts(value, f"{key}.{name}" if key else name, depth + 1)


def _unwrapped(state: dict[str, Tensor], path: Path) -> dict[str, Tensor]:
    """Return the tensors under the names that the model itself gives them."""
    kept = {
        name for name in state if name != "n_averaged"
    }  # what torch's AveragedModel counts beside `module.`
    wrapped = all(name.startswith("module.") for name in kept)
    names = {name: name for name in state if name in kept or not wrapped}
    while prefix := next((w for w in _WRAPPERS if all(n.startswith(w) for n in names.values())), None):
        names = {old: name.removeprefix(prefix) for old, name in names.items()}
    renamed = {name.replace("._orig_mod.", "."): state[old] for old, name in names.items()}
    if len(renamed) < len(names):
        raise OnetokError(f"{path}: tensors of one name with and without '_orig_mod.', expected one of them")
    return renamed


# ---------------------------------------------------------------------------------------------- key maps


class KeyMap(NamedTuple):
    """How a released state dict is renamed: patterns in order, then tensors to reshape or merge."""

    rename: tuple[tuple[str, str], ...]  # (regular expression, replacement), in order, all that match
    merge: tuple[tuple[tuple[str, ...], str], ...]  # suffixes concatenated on dimension 0 → suffix
    squeeze: tuple[str, ...]  # regular expressions of 1x1 convolutions that are linear layers here
    select: tuple[tuple[str, int | tuple[int, ...]], ...]  # (key, index): keep one row of a table
    unused: tuple[str, ...]  # regular expressions of released entries that hold no parameter
    tied: tuple[tuple[str, str], ...] = ()  # (released entry, another that it repeats): dropped if it does


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

_MASKGIT_UVIT = KeyMap(
    rename=(
        (r"^pos_embed$", "positions"),
        (r"^embeddings\.", "embedding."),
        (r"^in_blocks\.", "down."),
        (r"^mid_block\.", "middle."),
        (r"^out_blocks\.", "up."),
        (r"\.attn\.qkv\.", ".attention.qkv."),
        (r"\.attn\.proj\.", ".attention.out."),
        (r"\.mlp\.fc1\.", ".mlp.up."),
        (r"\.mlp\.fc2\.", ".mlp.down."),
        (r"\.skip_linear\.", ".skip."),
        (r"^norm\.", "norm_out."),
        (r"^lm_head\.", "head."),
    ),
    merge=(),
    squeeze=(),
    select=(("positions", 0),),
    unused=(),
)

_RAR = KeyMap(
    rename=(
        (r"^embeddings\.", "embedding."),
        (r"^cls_token$", "start"),
        (r"^pos_embed$", "positions"),
        (r"^target_aware_pos_embed$", "target_positions"),
        (r"^timesteps_embeddings$", "timesteps"),
        (r"^adaln_before_head\.adaLN_modulation\.1\.", "final_modulation."),
        (r"\.adaLN_modulation\.1\.", ".modulation."),
        (r"\.attn\.qkv\.", ".attention.qkv."),
        (r"\.attn\.([qk])_norm\.", r".attention.norm_\1."),
        (r"\.attn\.proj\.", ".attention.out."),
        (r"\.mlp\.fc1\.", ".up."),
        (r"\.mlp\.fc2\.", ".down."),
        (r"^lm_head\.", "head."),
    ),
    merge=(),
    squeeze=(),
    select=tuple((table, 0) for table in ("start", "positions", "target_positions", "timesteps")),
    unused=(),
)

_MMDIT = (  # of both MaskGens, below `blocks`
    (r"\.norm1\.linear\.", ".image.modulation."),
    (r"\.norm1_context\.linear\.", ".text.modulation."),
    (r"\.attn\.to_([qkv])\.", r".image.\1."),
    (r"\.attn\.add_([qkv])_proj\.", r".text.\1."),
    (r"\.attn\.to_out\.0\.", ".image.out."),
    (r"\.attn\.to_add_out\.", ".text.out."),
    (r"\.ff\.net\.0\.proj\.", ".image.up."),
    (r"\.ff\.net\.2\.", ".image.down."),
    (r"\.ff_context\.net\.0\.proj\.", ".text.up."),
    (r"\.ff_context\.net\.2\.", ".text.down."),
)

_MMDIT_MERGE = tuple(
    (tuple(f".{stream}.{part}.{kind}" for part in "qkv"), f".{stream}.qkv.{kind}")
    for stream in ("image", "text")
    for kind in ("weight", "bias")
)

_MASKGEN_VQ = KeyMap(
    rename=(
        (r"^pos_embed$", "positions"),
        (r"^embeddings\.", "embedding."),
        (r"^text_embed_proj\.", "backbone.text_projection."),
        (r"^cond_pooled_proj\.", "backbone.pooled_projection."),
        (r"^blocks\.", "backbone.blocks."),
        (r"^norm\.linear\.", "backbone.final_modulation."),
        *_MMDIT,
    ),
    merge=_MMDIT_MERGE,
    squeeze=(),
    select=(("positions", 0),),
    unused=(),
    tied=(("lm_head.weight", "embeddings.weight"),),
)

_MASKGEN_KL = KeyMap(
    rename=(
        (r"^decoder_pos_embed_learned$", "positions"),
        (r"^diffusion_pos_embed_learned$", "output_positions"),
        (r"^z_proj\.", "input."),
        (r"^z_proj_ln\.", "norm_in."),
        (r"^text_emb\.", "backbone.text_projection."),
        (r"^text_pooled_emb\.", "backbone.pooled_projection."),
        (r"^decoder_blocks\.", "backbone.blocks."),
        (r"^decoder_norm\.linear\.", "backbone.final_modulation."),
        (r"^diffloss\.net\.", "head."),
        (r"^head\.input_proj\.", "head.input."),
        (r"^head\.time_embed\.mlp\.", "head.time."),
        (r"^head\.cond_embed\.", "head.condition."),
        (r"^head\.res_blocks\.", "head.blocks."),
        (r"^head\.final_layer\.linear\.", "head.output."),
        (r"^head\.final_layer\.adaLN_modulation\.1\.", "head.final_modulation."),
        (r"\.adaLN_modulation\.1\.", ".modulation."),
        (r"\.in_ln\.", ".norm."),
        (r"^head\.(.*)\.mlp\.0\.", r"head.\1.up."),
        (r"^head\.(.*)\.mlp\.2\.", r"head.\1.down."),
        *_MMDIT,
    ),
    merge=_MMDIT_MERGE,
    squeeze=(),
    select=(("positions", 0), ("output_positions", 0), ("mask_token", (0, 0))),
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
    "maskgit_uvit": _MASKGIT_UVIT,
    "rar": _RAR,
    "maskgen_vq": _MASKGEN_VQ,
    "maskgen_kl": _MASKGEN_KL,
}


def from_published(system: str, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a released state dict in our layout; what is missing in it is missing in ours.

    Raises OnetokError for an unknown system, and where tied entries differ.
    """
    if system not in KEY_MAPS:
        raise OnetokError(f"no key map for {system!r}, known: {', '.join(sorted(KEY_MAPS))}")
    key_map = KEY_MAPS[system]
    ours: dict[str, Tensor] = {}
    for name, tensor in _untied(state, key_map).items():
        if any(re.search(pattern, name) for pattern in key_map.unused):
            continue
        for pattern, replacement in key_map.rename:
            name = re.sub(pattern, replacement, name)
        ours[name] = tensor.flatten(1) if any(re.search(p, name) for p in key_map.squeeze) else tensor
    for suffixes, merged in key_map.merge:
        for first in [name for name in ours if name.endswith(suffixes[0])]:
            parts = [first.removesuffix(suffixes[0]) + suffix for suffix in suffixes]
            if all(part in ours for part in parts):
                ours[first.removesuffix(suffixes[0]) + merged] = torch.cat([ours.pop(p) for p in parts])
    for name, row in key_map.select:
        if name in ours:  # what is missing, load_strictly names
            ours[name] = ours[name][row]
    return ours


def _untied(state: Mapping[str, Tensor], key_map: KeyMap) -> dict[str, Tensor]:
    """Return the entries but for those that repeat another."""
    for name, other in key_map.tied:
        if name in state and other in state and not _same(state[name], state[other]):
            raise OnetokError(f"tensor {name!r} differs from {other!r}, expected the same: they are tied")
    repeated = {name for name, _ in key_map.tied}
    return {name: tensor for name, tensor in state.items() if name not in repeated}


def _same(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and (a.is_meta or a.data_ptr() == b.data_ptr() or torch.equal(a, b))


def load_strictly(model: nn.Module, state: Mapping[str, Tensor], source: str) -> None:
    """Load `state` into `model`. Raises OnetokError as `check_fit`."""
    check_fit(model, state, source)
    model.load_state_dict(state)


def check_fit(model: nn.Module, state: Mapping[str, Tensor], source: str) -> None:
    """Check that `state` is what `model`, which may be on torch's meta device, takes.

    Raises OnetokError naming the first missing key, unexpected key, or tensor of another shape, of another kind of
    numbers, or with values that are not finite.
    """
    expected = model.state_dict()
    missing, unexpected = expected.keys() - state.keys(), state.keys() - expected.keys()
    if missing:
        hint = _prefix(state, expected)
        raise OnetokError(f"{source}: {len(missing)} tensors missing, first {min(missing)!r}{hint}")
    if unexpected:
        raise OnetokError(f"{source}: {len(unexpected)} unexpected tensors, first {min(unexpected)!r}")
    for name, tensor in state.items():
        if tensor.shape != expected[name].shape:
            found, wanted = tuple(tensor.shape), tuple(expected[name].shape)
            raise OnetokError(f"{source}: tensor {name!r} has shape {found}, expected {wanted}")
    for name, tensor in state.items():
        if problem := _unusable(tensor, expected[name].dtype):
            raise OnetokError(f"{source}: tensor {name!r} {problem}")


def _prefix(state: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> str:
    """Return a hint where all names, or those of one part, have something before them that ours have not."""
    firsts = {name.partition(".")[0] + "." for name in state if "." in name}
    for first in sorted(firsts):
        behind = {name.removeprefix(first) for name in state if name.startswith(first)}
        foreign = not any(name.startswith(first) for name in expected)
        if foreign and (2 * len(behind) > len(state) or expected.keys() <= behind):
            return f"; names in the file begin with {first!r}: save those alone, without it"
    if any(".module." in name for name in state):
        return "; names in the file hold '.module.' of DistributedDataParallel: save the model inside it"
    return ""


def _unusable(tensor: Tensor, dtype: torch.dtype) -> str | None:
    """Return why a tensor cannot be a weight of a type."""
    found = str(tensor.dtype).removeprefix("torch.")
    if tensor.layout is not torch.strided:
        return f"is {str(tensor.layout).removeprefix('torch.')}, expected it dense"
    if not tensor.is_meta and tensor.numel() * tensor.itemsize > tensor.untyped_storage().nbytes():
        return (
            f"has {tensor.numel():,} values, but only {tensor.untyped_storage().nbytes():,} bytes are stored"
        )
    if not dtype.is_floating_point:
        same = not (tensor.is_floating_point() or tensor.is_complex()) and (tensor.dtype is torch.bool) == (
            dtype is torch.bool
        )
        return None if same else f"holds {found}, expected {str(dtype).removeprefix('torch.')}"
    if not tensor.is_floating_point():
        return f"holds {found}, expected floating point numbers"
    if tensor.is_meta:
        return None
    values = tensor.to(dtype)
    if values.isnan().any():
        return f"holds NaN in {int(values.isnan().sum()):,} of {values.numel():,} places"
    if not values.isfinite().all():
        return f"holds infinite values in {int((~values.isfinite()).sum()):,} of {values.numel():,} places"
    return None
