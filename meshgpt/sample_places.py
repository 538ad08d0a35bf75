"""Where the `sample` command reads and writes: names of inputs, meshes and pictures. It knows names of files only."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

from meshgpt.files import MESH_ENDINGS, POINT_ENDINGS, WRITTEN_ENDINGS
from meshgpt.mistakes import say


@runtime_checkable
class Wanted(Protocol):
    """What the user says of places."""

    cond: Path
    out: Path | None
    picture: Path | None
    no_picture: bool
    samples: int


@dataclass(frozen=True)
class Job:
    """An input, and the files to write: as many meshes as samples, as many pictures or none."""

    cond: Path
    meshes: tuple[Path, ...]
    pictures: tuple[Path, ...]


def job_of_file(options: Wanted) -> Job:
    """ValueError or an OSError, in one sentence, where a place does not fit."""
    mesh = options.out or options.cond.with_suffix(".glb")
    mesh = mesh / f"{options.cond.stem}.glb" if mesh.is_dir() else mesh
    check_place(mesh, "meshes", WRITTEN_ENDINGS)
    if options.picture is not None:
        check_place(options.picture, "pictures", (".png",))
    return _job(options.cond, mesh, options, {options.cond.resolve()})


def jobs_of_folder(options: Wanted) -> list[Job]:
    """One for each file that holds points or a mesh; ValueError where that cannot be."""
    folder = options.cond
    if options.picture is not None:
        raise ValueError(f"{options.picture} is one picture, but {folder} is a folder; leave the path away: each goes beside its mesh")
    out = options.out or folder.resolve().with_name(f"{folder.resolve().name}-meshes")
    if out.is_file():
        raise ValueError(f"{out} is a file, but the meshes of a folder go to a folder; name another --out")
    endings = sorted({*MESH_ENDINGS, *POINT_ENDINGS})
    inputs = [path for path in sorted(folder.iterdir()) if path.suffix.lower() in endings and not path.name.startswith(".")]
    if not inputs:
        raise ValueError(f"{folder} holds no point cloud and no mesh; a folder with files ending in {' '.join(endings)} fits")
    taken = {path.resolve() for path in inputs}
    return [_job(path, out / f"{path.stem}.glb", options, taken) for path in inputs]


def check_place(path: Path, what: str, endings: tuple[str, ...]) -> None:
    """Early, so that nobody waits for a mesh that cannot be written."""
    if path.suffix.lower() not in endings:
        raise ValueError(f"{path.name} ends in {path.suffix or 'nothing'}; {what} are written as {' '.join(endings)}")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"the folder {path.parent} does not exist; make it first, or write elsewhere")
    if not os.access(path.parent, os.W_OK):
        raise PermissionError(f"the folder {path.parent} may not be written to; name another place with --out")


def _job(cond: Path, mesh: Path, options: Wanted, taken: set[Path]) -> Job:
    """Names beside those that are taken, which grow by them."""
    meshes = tuple(_free(name, taken) for name in _numbered(mesh, options.samples))
    if options.no_picture:
        return Job(cond, meshes, ())
    if options.picture is not None:
        return Job(cond, meshes, tuple(_numbered(options.picture, options.samples)))
    return Job(cond, meshes, tuple(path.with_suffix(".png") for path in meshes))


def _numbered(path: Path, count: int) -> list[Path]:
    return [path] if count == 1 else [path.with_stem(f"{path.stem}-{number}") for number in range(count)]


def _free(path: Path, taken: set[Path]) -> Path:
    free = path
    while free.resolve() in taken:
        free = free.with_stem(f"{free.stem}-mesh")
    taken.add(free.resolve())
    if free != path:
        say(f"{path} is an input or the mesh of another one, so this one goes to {free}")
    return free
