"""Downloads of released weights and of saved models, and uploads: the only module that reaches the network."""

from __future__ import annotations

import base64
import hashlib
import http.client
import netrc
import os
import urllib.request
from collections.abc import Iterable, Iterator
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

from onetok import durable
from onetok.errors import OnetokError, nearest, one_line, shown
from onetok.progress import Progress
from onetok.release.tensors import kind_without_tensors
from onetok.study.digests import sha256
from onetok.study.schema.encoders import WeightsFile
from onetok.workflow.needs import null_pins

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
SECONDS_WITHOUT_A_BYTE = 60.0  # time limit of a stalled download


class Pin(NamedTuple):
    """The exact version of a file on the Hub."""

    revision: str  # commit, 40 hexadecimal digits
    sha256: str


def fetch(weights: WeightsFile) -> Path:
    """Return the path of a published file, downloaded if needed, after comparing its digest with that of params.

    Raises OnetokError where params do not pin it, where it cannot be downloaded, and where its digest differs.
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
    """Return an entry after validating it again: it may not come from params, and its path is written to."""
    try:
        return WeightsFile.model_validate(weights.model_dump())
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(["weights", *map(str, first["loc"])])
        raise OnetokError(f"{where}: found {shown(first['input'])}; {first['msg']}") from None


def _pinned(weights: WeightsFile) -> str:
    """Return the digest in params. Raises OnetokError where params do not pin the file."""
    if (text := null_pins(weights)) is not None:
        raise OnetokError(f"{weights.file}: {text}")
    assert weights.sha256 is not None
    return weights.sha256


def _download(url: str, path: Path, digest: str) -> None:
    """Download a file under a temporary name, and rename it to `path` if it has the expected digest."""
    with _explained(f"{path.parent}: cannot be made a folder"):
        path.parent.mkdir(parents=True, exist_ok=True)
    found, head = hashlib.sha256(), b""
    with durable.writing(path) as stream:
        for piece in _pieces(url, path.name):
            head = head or piece
            stream.write(piece)
            found.update(piece)
        if found.hexdigest() != digest:
            kind = kind_without_tensors(head)
            text = f"what came has sha256 {found.hexdigest()}, expected {digest} (params)"
            text += f", and is {kind}" if kind else ""
            raise OnetokError(f"{path.name} from {url}: {text}; nothing was kept")


def _pieces(url: str, name: str) -> Iterator[bytes]:
    """Yield the content of a URL in pieces. Raises OnetokError if it ends before the last byte."""
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
    """Return a request, with the login for the host from ~/.netrc or the file named by NETRC if there is one."""
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
        request.add_unredirected_header("Authorization", f"Basic {token}")  # not sent after a redirect
    return request


def find_pin(repo: str, file: str, revision: str) -> Pin:
    """Return the commit of a branch, tag or commit of a repository on the Hub, and the digest of one of its files.

    Raises OnetokError where the repository, the revision or the file does not exist, or without a network.
    """
    return find_pins(repo, (file,), revision)[file]


def find_pins(repo: str, files: Iterable[str], revision: str) -> dict[str, Pin]:
    """Return the pins of several files of a repository by file; asks for the repository once. Raises as find_pin."""
    with _explained(f"{repo} at {revision}: cannot be looked up on the Hub"):
        info = HfApi().model_info(repo, revision=revision, files_metadata=True)
    known = {sibling.rfilename: sibling for sibling in info.siblings or []}
    if info.sha is None:
        raise OnetokError(f"{repo} at {revision}: the Hub names no commit")
    found = {}
    for file in files:
        if file not in known:
            raise OnetokError(f"{repo} at {revision}: no file {file!r}; {nearest(file, known)}")
        found[file] = _pin(repo, file, info.sha, known[file].lfs)
    return found


def _pin(repo: str, file: str, commit: str, stored: Any) -> Pin:
    """Return the pin of a file at a commit; `stored` is what the Hub says of a large file, None of a small one."""
    if stored is not None:
        return Pin(commit, stored.sha256)
    with _explained(f"{file}: cannot be downloaded from {repo} at {commit}"):
        # The Hub records no digest of small files, so it is computed.
        return Pin(commit, sha256(Path(hf_hub_download(repo, file, revision=commit))))


def download_folder(repo: str, revision: str | None, files: tuple[str, ...]) -> Path:
    """Download those of `files` that a repository on the Hub has, and return their folder.

    Raises OnetokError where the repository or revision does not exist, or without a network.
    """
    at = f" at {revision}" if revision else ""
    with _explained(f"{repo}{at}: cannot be downloaded from the Hub"):
        return Path(snapshot_download(repo, revision=revision, allow_patterns=list(files)))


def upload_folder(repo: str, folder: Path, *, private: bool, message: str) -> str:
    """Upload a folder to a repository on the Hub, which is created if needed; return the commit's URL.

    Raises OnetokError without a network, a login or the right to write there.
    """
    with _explained(f"{repo}: cannot be uploaded to the Hub"):
        api = HfApi()
        api.create_repo(repo, private=private, exist_ok=True)
        return str(api.upload_folder(repo_id=repo, folder_path=folder, commit_message=message))


@contextmanager
def _explained(what: str) -> Iterator[None]:
    """Turn any error of the network clients into an OnetokError of one line that starts with `what`."""
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
