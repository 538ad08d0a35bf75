"""The `convert` command: a published checkpoint to a folder in our format, and on request from there to the hub.

It knows names of files and words for users.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from meshgpt import hub
from meshgpt.convert import Source, source_in
from meshgpt.converted import folder_of, write_converted


@dataclass(frozen=True)
class ConvertOptions:
    """Write a published checkpoint (MeshAnything, MeshAnythingV2) in our format: config.json, model.safetensors and a card."""

    place: Annotated[str, Positional, arg(metavar="NAME")]
    """Its folder, or its name on the Hugging Face hub (org/name)."""
    out: Annotated[Path, Positional, arg(metavar="OUT")]
    """The folder to write; it must be new or empty."""
    revision: Annotated[str | None, arg(metavar="NAME", help_behavior_hint="(default: the newest)")] = None
    """Commit, tag or branch on the hub."""
    push: Annotated[str | None, arg(metavar="NAME", help_behavior_hint="(default: to none)")] = None
    """Upload what was written to this repository on the hub, too; mind the licence."""
    private: bool = False
    """Nobody else may see that repository, if it is new."""


def run(options: ConvertOptions) -> None:
    """ValueError, FileNotFoundError or OSError with one sentence where that cannot be."""
    _check(options.out)
    source = source_in(folder_of(options.place, options.revision))
    if source is None:
        raise ValueError(f"{options.place} is no checkpoint of another project; if it is a model of ours, --model takes it as it is")
    print(f"meshgpt: {source.family.name} is under the {source.family.licence}", file=sys.stderr)
    with _progress(source) as progress:
        write_converted(source, options.out, progress)
    print(f"{options.out}: {source.family.name}, {sum(path.stat().st_size for path in options.out.iterdir()) / 1e6:,.0f} MB")
    if options.push is not None:
        print(hub.push(options.out, options.push, options.private))


def _check(out: Path) -> None:
    if out.is_file() or (out.is_dir() and any(out.iterdir())):
        raise ValueError(f"{out} is {'a file' if out.is_file() else 'not empty'}; name a new folder")
    if not out.absolute().parent.is_dir():
        raise FileNotFoundError(f"the folder {out.absolute().parent} does not exist; make it first, or write elsewhere")


@contextmanager
def _progress(source: Source) -> Iterator[Callable[[int, int], None]]:
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn

    console = Console(stderr=True)
    with Progress(
        TextColumn(f"converting {source.family.name}"),
        BarColumn(),
        DownloadColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    ) as progress:
        task = progress.add_task("bytes", total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)
