"""The `sample` command: clouds in files to meshes in files, each with its picture.

    --cond chair.ply                  chair.glb       chair.png        beside the cloud, unless --out says where
    --cond chair.ply --samples 2      chair-0.glb     chair-0.png      chair-1.glb     chair-1.png
    --cond scans                      scans-meshes/chair.glb  ...      one for each file in the folder

It knows names of files and words for users. It does not know how a mesh comes about.
"""

from __future__ import annotations

import os
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
from tyro.conf import arg
from tyro.constructors import PrimitiveConstructorSpec

from meshgpt.cloud import Cloud
from meshgpt.files import MESH_ENDINGS, POINT_ENDINGS, WRITTEN_ENDINGS, read_mesh, read_points
from meshgpt.mesh import Mesh, sample_surface
from meshgpt.mistakes import sentence

if TYPE_CHECKING:
    from meshgpt.generate import Sampling
    from meshgpt.model import MeshGPT, Sample

ROWS = 16  # samples written at the same time
SHELL_POINTS = 16_384
TRIES = 5  # seeds more, when a sample has no face


def _path_or_nothing(words: list[str]) -> Path | None:
    if len(words) > 1:
        raise ValueError(f"{len(words)} paths are too many; pass one, or none")
    return Path(words[0]) if words else None


PICTURE = PrimitiveConstructorSpec(
    nargs="*",
    metavar="[PATH]",
    instance_from_str=_path_or_nothing,
    is_instance=lambda value: value is None or isinstance(value, Path),
    str_from_instance=lambda value: [] if value is None else [str(value)],
)


@dataclass(frozen=True)
class SampleOptions:
    """Generate the mesh of a point cloud, in the cloud's own frame, and draw a picture of both.

    Each mesh is a line on the standard output: the file, its faces and vertices, how far it is from the cloud (mean distance from mesh to
    cloud plus mean distance back, in per cent of the cloud's longest side), the time, and the seed that gives the same mesh again.
    """

    cond: Path
    """The input: points (.ply .pcd .xyz .npy .npz), a mesh to be built anew (.glb .gltf .obj .ply .stl .off .dae), or a folder of these."""
    out: Annotated[Path | None, arg(metavar="PATH", help_behavior_hint="(default: beside the input, as .glb)")] = None
    """The mesh: .glb, .obj, .ply or .stl, or a folder; for a folder of inputs a folder. What is there is replaced, but never an input."""
    picture: Annotated[Path | None, PICTURE, arg(help_behavior_hint="(default: beside the mesh)")] = None
    """The picture, a .png: the cloud on the left, the mesh on the right."""
    no_picture: bool = False
    """Draw none."""
    model: Annotated[str | None, arg(metavar="PLACE", help_behavior_hint="(default: the one that ships with meshgpt)")] = None
    """A model: its folder, or its name on the Hugging Face hub (org/name)."""
    revision: Annotated[str | None, arg(metavar="NAME", help_behavior_hint="(default: the newest)")] = None
    """Commit, tag or branch of a model on the hub."""
    samples: int = 1
    """Meshes to write, with seeds seed, seed + 1 ...; several are named chair-0.glb, chair-1.glb ..."""
    best_of: int = 1
    """For each mesh that is written, generate so many and keep the one nearest to the cloud."""
    seed: int = 0
    """The first seed. The same seed gives the same mesh."""
    temperature: Annotated[float | None, arg(metavar="NUMBER", help_behavior_hint="(default: 1; of published models 0)")] = None
    """Below 1 the likelier is preferred; 0 takes the likeliest always."""
    top_k: int = 0
    """Choose among the k likeliest only; 0 means all."""
    top_p: float = 1.0
    """Choose among the likeliest that together have this probability."""
    guidance: float = 1.0
    """Above 1 the network minds the cloud more than it has learned to (classifier-free guidance), which takes twice the time."""
    edges: Literal["manifold", "any"] = "manifold"
    """manifold gives no edge more than two faces, and lets neighbours face the same way; any leaves it to the model."""
    bounds: Literal["cloud", "none"] = "cloud"
    """cloud keeps vertices on the cloud, and lets faces come bottom up, as they came in training; none leaves it to the model."""
    tries: Annotated[int | None, arg(metavar="INT", help_behavior_hint="(default: 32; of published models 1)")] = None
    """Ways in which each face is tried at a time; the one that suits the cloud best is taken, and the mesh ends when the cloud lies on
    it. Fewer are faster; 1 leaves all to the model."""
    max_faces: Annotated[int | None, arg(metavar="INT", help_behavior_hint="(default: 400; of published models 800 or 1600)")] = None
    """The mesh is cut off there."""
    min_faces: int = 1
    """The mesh does not end before."""
    up: Literal["y", "z"] = "y"
    """The axis that points up in the input, and so in the mesh."""
    as_released: bool = False
    """For published models: nothing that the published code does not do. No id is ruled out, points are rounded to float16, and the mesh is
    that of the network, in the network's frame."""
    mc: bool = False
    """For published models, and meshes as input: show both sides of a shell around the mesh (marching cubes), as in their training."""
    mc_level: int = 7
    """The shell is made on 2^level cells a side."""
    precision: Literal["fp32", "bf16", "int8"] = "fp32"
    """Of the transformer: bf16 takes half the memory, int8 (CPUs only) a quarter; large ones are faster so, the one that ships hardly."""
    compile: bool = False
    """Turn a model of gates (the one that ships is) into machine code first: for half a minute, which pays for folders of a few clouds.
    A C++ compiler must be there. A seed may give another mesh so."""
    device: Annotated[str | None, arg(metavar="NAME", help_behavior_hint="(default: a GPU where there is one)")] = None
    """cpu, cuda, cuda:1, mps ..."""
    threads: int = 1
    """CPU threads; one is fastest while a mesh is written face by face. 0 leaves it to torch."""

    def sampling(self, default: Sampling) -> Sampling:
        """What is not given is as in the default. ValueError where the numbers do not fit."""
        given = {field.name: getattr(self, field.name) for field in fields(default)}
        return replace(default, **{name: value for name, value in given.items() if value is not None})


@dataclass(frozen=True)
class Job:
    """An input, and the files to write: as many meshes as samples, as many pictures or none."""

    cond: Path
    meshes: tuple[Path, ...]
    pictures: tuple[Path, ...]


def run(options: SampleOptions) -> None:
    """Write what the options ask for; ValueError or FileNotFoundError, with one sentence, where that cannot be.

    A bad file in a folder does not stop the others.
    """
    _check(options)
    if options.cond.is_dir():
        jobs = _jobs_of_folder(options)
        model = _load(options)
        bad = sum(not _tried(model, job, options) for job in jobs)
        if bad:
            raise ValueError(f"{bad} of the {len(jobs)} inputs in {options.cond} gave no mesh; mend or remove those named above")
    else:
        began = time.monotonic()
        given = _read(options.cond, options)  # first: a bad input is found out at once, a model takes seconds
        job = _job_of_file(options)
        model = _load(options)
        _write(model, _shown(model, given, options), job, options, began)


def _check(options: SampleOptions) -> None:
    if min(options.samples, options.best_of) < 1 or options.threads < 0 or options.seed < 0:
        raise ValueError(
            f"{options.samples} samples, best of {options.best_of}, seed {options.seed} and {options.threads} threads do not fit; "
            "use samples and best-of of at least 1, seed and threads of at least 0"
        )
    if (options.as_released or options.mc) and options.model is None:
        raise ValueError("--as-released and --mc are for published models, and the one that ships is none; name one with --model")
    if options.as_released and options.up != "y":
        raise ValueError("--as-released turns nothing, so that it leaves no choice of --up; leave one of them away")
    if not 4 <= options.mc_level <= 9:
        raise ValueError(f"--mc-level {options.mc_level} does not fit; use 4 to 9")
    if options.no_picture and options.picture is not None:
        raise ValueError(f"--no-picture and --picture {options.picture} contradict each other; pass one of them")


def _tried(model: MeshGPT, job: Job, options: SampleOptions) -> bool:
    began = time.monotonic()
    try:
        _write(model, _shown(model, _read(job.cond, options), options), job, options, began)
    except Exception as error:
        said = sentence(error)
        if said is None:
            raise
        _say(said if job.cond.name in said else f"{job.cond.name}: {said}")
        return False
    return True


# Names


def _job_of_file(options: SampleOptions) -> Job:
    mesh = options.out or options.cond.with_suffix(".glb")
    mesh = mesh / f"{options.cond.stem}.glb" if mesh.is_dir() else mesh
    _check_place(mesh, "meshes", WRITTEN_ENDINGS)
    if options.picture is not None:
        _check_place(options.picture, "pictures", (".png",))
    return _job(options.cond, mesh, options, {options.cond.resolve()})


def _jobs_of_folder(options: SampleOptions) -> list[Job]:
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


def _check_place(path: Path, what: str, endings: tuple[str, ...]) -> None:
    """Early, so that nobody waits for a mesh that cannot be written."""
    if path.suffix.lower() not in endings:
        raise ValueError(f"{path.name} ends in {path.suffix or 'nothing'}; {what} are written as {' '.join(endings)}")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"the folder {path.parent} does not exist; make it first, or write elsewhere")
    if not os.access(path.parent, os.W_OK):
        raise PermissionError(f"the folder {path.parent} may not be written to; name another place with --out")


def _job(cond: Path, mesh: Path, options: SampleOptions, taken: set[Path]) -> Job:
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
        _say(f"{path} is an input or the mesh of another one, so this one goes to {free}")
    return free


# Meshes


def _load(options: SampleOptions) -> MeshGPT:
    import torch

    from meshgpt.generate import Sampling
    from meshgpt.model import MeshGPT

    options.sampling(Sampling())  # numbers that do not fit are found out before the model is loaded
    if options.threads:
        torch.set_num_threads(options.threads)
    if options.device is not None:
        try:
            torch.zeros(1, device=options.device)
        except (RuntimeError, AssertionError) as error:
            reason = str(error).partition("\n")[0]
            raise ValueError(f"the device {options.device!r} cannot be used here ({reason}); leave --device away, or use cpu") from None
    with _notes_said():
        model = MeshGPT.from_pretrained(options.model, options.revision, options.device, options.precision, options.as_released)
    if options.compile:
        model.compile()
    return model


def _read(path: Path, options: SampleOptions) -> Cloud | Mesh:
    """A mesh where the model wants the mesh itself."""
    is_mesh = path.suffix.lower() in MESH_ENDINGS and not (path.suffix.lower() == ".ply" and _is_cloud(path))
    if options.mc and not is_mesh:
        raise ValueError(f"{path.name} is no mesh, and --mc makes a shell around one; leave --mc away")
    return read_mesh(path) if is_mesh and (options.mc or options.as_released) else read_points(path)


def _cloud_of(mesh: Mesh) -> Cloud:
    points = sample_surface(mesh, SHELL_POINTS, np.random.default_rng(0))
    return Cloud(points[:, :3], points[:, 3:])


def _is_cloud(path: Path) -> bool:
    try:
        read_mesh(path)
    except ValueError:
        return True
    return False


def _shown(model: MeshGPT, given: Cloud | Mesh, options: SampleOptions) -> Cloud:
    """What the model is to see of what was read."""
    published = model.published
    if published is None:
        if options.mc:
            raise ValueError(f"--mc is for published models of other projects, and {options.model} is none; leave it away")
        return given
    from meshgpt import published_points as points

    if options.mc:
        given = points.shell_of(given, published.shell_side, options.mc_level)
    if not options.as_released:
        return given if isinstance(given, Cloud) else _cloud_of(given)
    if isinstance(given, Cloud):
        return points.cloud_as_shown(points.points_of_cloud(given, published.points, options.seed))
    return points.cloud_as_shown(points.points_of_mesh(given, published.points, options.seed))


def _write(model: MeshGPT, cloud: Cloud, job: Job, options: SampleOptions, began: float) -> None:
    from meshgpt.views import save_picture

    with _notes_said(), _progress(options.sampling(model.sampling).max_faces) as progress:
        chosen = _chosen(model, cloud, options, progress)
    job.meshes[0].parent.mkdir(parents=True, exist_ok=True)
    for number, (sample, path) in enumerate(zip(chosen, job.meshes, strict=True)):
        sample.mesh.save(path)
        if job.pictures:
            save_picture(sample.mesh, job.pictures[number], cloud, options.up)
        print(_line(sample, path, time.monotonic() - began, options.sampling(model.sampling).max_faces), flush=True)


def _chosen(model: MeshGPT, cloud: Cloud, options: SampleOptions, progress: Callable[[int], None]) -> list[Sample]:
    """As many samples as are wanted, each the nearest of its group and with at least one face."""

    def draw(count: int, seed: int) -> list[Sample]:
        return model.samples(cloud, count, seed, options.up, options.sampling(model.sampling), progress)

    count = options.samples * options.best_of
    drawn = [sample for start in range(0, count, ROWS) for sample in draw(min(ROWS, count - start), options.seed + start)]
    groups = [drawn[start : start + options.best_of] for start in range(0, count, options.best_of)]
    spare = (draw(1, seed)[0] for seed in range(options.seed + count, options.seed + count + TRIES))
    return [_nearest(group, spare) for group in groups]


def _nearest(group: list[Sample], spare: Iterator[Sample]) -> Sample:
    best = min(group, key=lambda sample: sample.distance)
    while not len(best.mesh.faces):
        tried, best = best, next(spare, None)
        if best is None:
            raise ValueError(
                f"the model wrote no face for this cloud, with seeds up to {tried.seed}; pass another --seed, a cloud with more points, "
                "or --tries 1 for a model that is hardly trained, or check --up"
            )
        _say(f"seed {tried.seed} gave a mesh without faces; trying seed {best.seed}")
    return best


def _line(sample: Sample, path: Path, seconds: float, most: int) -> str:
    mesh = sample.mesh
    parts = [
        f"{path}: {len(mesh.faces)} faces",
        f"{len(mesh.vertices)} vertices",
        f"{100 * sample.distance:.2f} % from the cloud",
        f"{seconds:.1f} s",
        f"seed {sample.seed}",
    ]
    cut = [] if sample.ended else [f"cut off by --max-faces {most}"]
    return ", ".join(parts + cut)


# Words for the user


def _say(text: str) -> None:
    print(f"meshgpt: {text}", file=sys.stderr)


@contextmanager
def _notes_said() -> Iterator[None]:
    """Warnings of the block as sentences, each once."""
    with warnings.catch_warnings(record=True) as notes:
        warnings.simplefilter("always", UserWarning)
        yield
    for text in dict.fromkeys(str(note.message) for note in notes if issubclass(note.category, UserWarning)):
        _say(text)


@contextmanager
def _progress(most: int) -> Iterator[Callable[[int], None]]:
    """A line that counts faces where there is a terminal; it goes when the mesh is there."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    columns = (
        SpinnerColumn(),
        TextColumn("{task.completed} faces"),
        BarColumn(),
        TextColumn("of at most {task.total}"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("faces", total=most)
        yield lambda faces: progress.update(task, completed=faces)
