"""Where a model is: ours as it stands; another project's as a converted copy, which is kept, so that the second start is fast.

The copies are in ~/.cache/meshgpt, or where MESHGPT_CACHE says. It knows folders and files. It does not know tensors.
"""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import blake2b
from pathlib import Path

from meshgpt import hub
from meshgpt.card import card_of
from meshgpt.checkpoint import CARD, Checkpoint, replace_folder
from meshgpt.convert import Source, convert, source_in

TABLES = 1  # goes up when the tables of `families.py` change, so that older copies are made anew
HOUR = 3600
# The models inside the package, by their names; without a name, the first one.
PRETRAINED = Path(__file__).parent / "pretrained"
SHIPPED = ("gates", "vqvae")

Progress = Callable[[int, int], None]


def at(place: str | Path | None = None, revision: str | None = None) -> Checkpoint:
    """A model of ours: the one that ships, that of a folder or a hub repository, or the converted copy of what is there.

    FileNotFoundError, ValueError or OSError with one sentence where there is none.
    """
    folder = folder_of(SHIPPED[0] if place is None else place, revision)
    source = source_in(folder)
    return Checkpoint.at(folder) if source is None else _copy_of(source)


def folder_of(place: str | Path, revision: str | None = None) -> Path:
    """The folder itself; or, when there is none, that of a model that ships, or of a hub repository in the cache."""
    if Path(place).is_dir():
        return Path(place)
    return PRETRAINED / place if str(place) in SHIPPED else hub.folder_of(str(place), revision)


def _copy_of(source: Source) -> Checkpoint:
    real = source.file.resolve()
    state = real.stat()
    start = f"{source.family.name}-{_digest(str(real))}"
    target = cache() / f"{start}-{_digest(f'{state.st_size} {state.st_mtime_ns} {TABLES}')}"
    if not target.is_dir():
        warnings.warn(f"{source.family.name} is under the {source.family.licence}", stacklevel=4)
        write_converted(source, target)
        for older in cache().glob(f"{start}-*"):
            if older != target:
                shutil.rmtree(older)
    return Checkpoint.at(target)


def cache() -> Path:
    given = os.environ.get("MESHGPT_CACHE")
    return Path(given) if given else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "meshgpt"


def _digest(text: str) -> str:
    return blake2b(text.encode(), digest_size=6).hexdigest()


def write_converted(source: Source, target: Path, progress: Progress = lambda done, total: None) -> None:
    """The copy, with a card: whole or not there."""
    target.parent.mkdir(parents=True, exist_ok=True)
    needed, free = source.file.stat().st_size, shutil.disk_usage(target.parent).free
    if free < needed:
        raise OSError(
            f"converting {source.file.name} needs {needed / 1e9:.2f} GB and {target.parent} has {free / 1e9:.2f} GB left; "
            "make room, or set MESHGPT_CACHE to another disk"
        )
    _sweep(target)
    with _beside(target) as part:
        convert(source, part, progress)
        (part / CARD).write_text(card_of(Checkpoint.at(part)), encoding="utf-8")
        replace_folder(part, target)


@contextmanager
def _beside(target: Path) -> Iterator[Path]:
    part = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        yield part
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        raise OSError(f"the disk of {target.parent} is full, so that nothing was converted; make room there") from None
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _sweep(target: Path) -> None:
    """What a killed process left; younger parts may be another process's."""
    for part in target.parent.glob(f".{target.name}-*"):
        if time.time() - part.stat().st_mtime > HOUR:
            shutil.rmtree(part, ignore_errors=True)
