"""The Hugging Face hub: a model's files from there into the cache, and a folder's files to there.

Large files are fetched in a way that goes on where it was broken off, by whatever; the part that is there waits beside the blobs of the
cache as *.partial. It knows names of files. It does not know what is in them.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, NamedTuple

from meshgpt.checkpoint import CARD, CONFIG
from meshgpt.families import FAMILIES

WANTED = (CONFIG, CARD, "*.safetensors", *(family.file for family in FAMILIES))
LARGE = 16 << 20  # bytes
NOT_FOUND = (401, 404)


def folder_of(name: str, revision: str | None = None) -> Path:
    """The folder, in the cache, with the files of a model on the hub ("org/name"); what is missing there is downloaded.

    FileNotFoundError, ValueError or OSError with one sentence where they cannot be had. HF_HUB_OFFLINE=1 leaves the hub alone.
    """
    _check_name(name)
    from huggingface_hub import is_offline_mode

    if is_offline_mode():
        return _cached(name, revision, "HF_HUB_OFFLINE is set")
    with _sentences(name, revision):
        info = _info(name, revision)
        if info is None:
            return _cached(name, revision, "the hub cannot be reached")
        files = [file for file in info.siblings or () if "/" not in file.rfilename and any(fnmatch(file.rfilename, one) for one in WANTED)]
        if not any(file.rfilename != CARD for file in files):
            raise FileNotFoundError(f"{name} on the hub holds no {CONFIG} and no safetensors file; is it a model of another kind?")
        folder = [_file(name, info, file) for file in sorted(files, key=lambda file: file.rfilename != CONFIG)][-1].parent
        _remember(name, revision or "main", info.sha)
        return folder


def _remember(name: str, revision: str, commit: str) -> None:
    """Which commit a branch or tag was, so that the cache answers for it offline."""
    place = _storage(name) / "refs" / revision
    if revision != commit:
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(commit)


def _storage(name: str) -> Path:
    """The cache's folder of a repository."""
    from huggingface_hub import constants
    from huggingface_hub.file_download import repo_folder_name

    return Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=name, repo_type="model")


class Listing(NamedTuple):
    """The weights of a repository: their file, its bytes, and the shapes in its header."""

    file: str
    size: int
    shapes: dict[str, tuple[int, ...]]


def listing(name: str, revision: str | None = None) -> Listing | None:
    """Of a model on the hub, without its download; None where the hub cannot be asked, or holds no known file of weights."""
    from huggingface_hub import HfApi, is_offline_mode
    from huggingface_hub.errors import SafetensorsParsingError

    _check_name(name)
    if is_offline_mode():
        return None
    with _sentences(name, revision):
        info = _info(name, revision)
        sizes = {file.rfilename: file.size or 0 for file in (info.siblings or () if info is not None else ())}
        file = next((family.file for family in FAMILIES if family.file in sizes), None)
        if info is None or file is None:
            return None
        try:
            header = HfApi().parse_safetensors_file_metadata(name, file, revision=info.sha)
        except SafetensorsParsingError:
            raise ValueError(f"{file} of {name} is no safetensors file, so that it is not read; pass another model") from None
    return Listing(file, sizes[file], {name: tuple(tensor.shape) for name, tensor in header.tensors.items()})


def _check_name(name: str) -> None:
    if name.count("/") != 1 or name.startswith((".", "/", "~")):
        raise FileNotFoundError(f"{name} is neither a folder nor a hub name of the form org/name; pass one of the two")


def _cached(name: str, revision: str | None, why: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        folder = Path(snapshot_download(name, revision=revision, local_files_only=True))
    except (LocalEntryNotFoundError, HFValidationError):
        folder = None
    if folder is None or not any(fnmatch(path.name, one) for path in folder.iterdir() for one in WANTED[2:]):
        which = f" at {revision}" if revision else ""
        raise FileNotFoundError(f"{name}{which} is no folder here, not in the cache, and {why}; download it while online")
    return folder


def _info(name: str, revision: str | None) -> Any:
    """What the hub says of a repository; None where it cannot be reached."""
    import httpx2
    from huggingface_hub import HfApi

    try:
        return HfApi().model_info(name, revision=revision, files_metadata=True, timeout=20)
    except (httpx2.ConnectError, httpx2.TimeoutException):
        return None


@contextmanager
def _sentences(name: str, revision: str | None) -> Iterator[None]:
    """What the hub refuses, in one sentence each."""
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, HFValidationError, RevisionNotFoundError

    try:
        yield
    except HFValidationError:
        raise FileNotFoundError(f"{name} is no folder and no valid hub name; pass a folder, or a name of the form org/name") from None
    except GatedRepoError:
        raise FileNotFoundError(
            f"{name} is gated: ask for access on its page on the hub, then log in with: hf auth login (or set HF_TOKEN)"
        ) from None
    except RevisionNotFoundError:
        raise FileNotFoundError(f"{name} has no revision {revision!r} on the hub; leave --revision away for the newest") from None
    except HfHubHTTPError as error:
        status = error.response.status_code if error.response is not None else 0
        said = f"there is no {name} on the hub, or it is private" if status in NOT_FOUND else f"the hub does not give out {name} ({status})"
        cure = "check the name, or log in with: hf auth login (or set HF_TOKEN)" if status < 500 else "try again later"
        raise FileNotFoundError(f"{said}; {cure}") from None


def _file(name: str, info: Any, file: Any) -> Path:
    """A file of the repository in the cache; a large one is fetched, and checked, by ourselves."""
    from huggingface_hub import hf_hub_download, try_to_load_from_cache

    found = try_to_load_from_cache(name, file.rfilename, revision=info.sha)
    if isinstance(found, str):
        return Path(found)
    if (file.size or 0) >= LARGE:
        _fetch(name, info, file)
    with _on_full_disk(name, None):
        return Path(hf_hub_download(name, file.rfilename, revision=info.sha))


def _fetch(name: str, info: Any, file: Any) -> None:
    """Put a large file among the blobs of the cache, where the hub's own client will find it."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_url
    from huggingface_hub.file_download import http_get
    from huggingface_hub.utils import build_hf_headers

    blobs = _storage(name) / "blobs"
    url = hf_hub_url(name, file.rfilename, revision=info.sha)
    meta = get_hf_file_metadata(url)
    if meta.etag is None or (blobs / meta.etag).exists():
        return
    blobs.mkdir(parents=True, exist_ok=True)
    partial = blobs / f"{meta.etag}.partial"
    there = partial.stat().st_size if partial.exists() else 0
    _check_room(name, blobs, file.size - there)
    with _on_full_disk(name, partial), _broken_off(name), partial.open("ab") as stream:
        # `location` is where the hub sends us, signed for us: our token is for the hub alone.
        headers = build_hf_headers() if meta.location == url else {}
        http_get(meta.location, stream, resume_size=there, headers=headers, expected_size=file.size, displayed_filename=file.rfilename)
    _check_sum(name, file, partial)
    os.replace(partial, blobs / meta.etag)


def _check_room(name: str, folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise OSError(
            f"{name} needs {needed / 1e9:.2f} GB more and {folder} has {free / 1e9:.2f} GB left; make room, or set HF_HOME to another disk"
        )


@contextmanager
def _on_full_disk(name: str, partial: Path | None) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        if partial is not None:
            partial.unlink(missing_ok=True)
        raise OSError(f"the disk is full, so that {name} cannot be downloaded; make room, or set HF_HOME to another disk") from None


@contextmanager
def _broken_off(name: str) -> Iterator[None]:
    import httpx2

    try:
        yield
    except (httpx2.TransportError, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise OSError(f"the download of {name} broke off; the same command goes on from there") from None


def _check_sum(name: str, file: Any, partial: Path) -> None:
    """Of the bytes that came; what is wrong is thrown away."""
    published = next((family for family in FAMILIES if family.repository == name and family.file == file.rfilename), None)
    told = file.lfs.sha256 if file.lfs is not None else None
    wanted = published.sha256 if published is not None and published.sha256 else told
    if wanted is None:
        return
    with partial.open("rb") as stream:
        came = hashlib.file_digest(stream, "sha256").hexdigest()
    if came != wanted:
        partial.unlink()
        raise ValueError(f"{file.rfilename} of {name} has the checksum {came[:12]} where {wanted[:12]} was published; download it again")


def push(folder: Path, name: str, private: bool = False) -> str:
    """Put all files of a folder into a repository, which is made where there is none; returns its address."""
    from huggingface_hub import HfApi

    with _sentences(name, None):
        url = HfApi().create_repo(name, private=private, exist_ok=True)
        HfApi().upload_folder(repo_id=name, folder_path=folder, commit_message="Upload a meshgpt model")
    return str(url)
