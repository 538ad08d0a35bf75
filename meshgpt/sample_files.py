"""The `sample` command: clouds in files to meshes in files, each with its picture.

    --cond chair.ply                  chair.glb       chair.png        beside the cloud, unless --out says where
    --cond chair.ply --samples 2      chair-0.glb     chair-0.png      chair-1.glb     chair-1.png
    --cond scans                      scans-meshes/chair.glb  ...      one for each file in the folder

It knows names of files and words for users. It does not know how a mesh comes about.
"""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple

import numpy as np
from tyro.conf import arg
from tyro.constructors import PrimitiveConstructorSpec

from meshgpt.cloud import Cloud
from meshgpt.files import MESH_ENDINGS, read_mesh, read_points
from meshgpt.mesh import Mesh, sample_surface
from meshgpt.mistakes import say, sentence
from meshgpt.particulars import Particulars, Surface, write_report
from meshgpt.sample_places import Job, check_place, job_of_file, jobs_of_folder
from meshgpt.shared_jobs import helped, processors

if TYPE_CHECKING:
    from meshgpt.generate import Sampling
    from meshgpt.model import MeshGPT, Sample, Shown

SHELL_POINTS = 16_384
MOST_PROCESSES = 8  # unless more are asked for: each takes memory
MOST_ROWS = 16  # meshes written at the same time
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
EDGES = arg(metavar="{manifold,any}", help_behavior_hint="(default: manifold; of published models any)")


@dataclass(frozen=True)
class SampleOptions:
    """Generate the mesh of a point cloud, in the cloud's own frame, and draw a picture of both.

    Each mesh is a line on the standard output: the file, its faces, vertices, pieces and open edges, how far it is from the cloud (mean
    distance from mesh to cloud plus mean distance back, in per cent of the cloud's longest side), the time, and the seed that gives the
    same mesh again. Ctrl-C writes what is there of the meshes at work.
    """

    cond: Path
    """The input: points (.ply .pcd .xyz .npy .npz), a mesh to be built anew (.glb .gltf .obj .ply .stl .off .dae), or a folder of these."""
    out: Annotated[Path | None, arg(metavar="PATH", help_behavior_hint="(default: beside the input, as .glb)")] = None
    """The mesh: .glb, .obj, .ply or .stl, or a folder; for a folder of inputs a folder. What is there is replaced, but never an input."""
    picture: Annotated[Path | None, PICTURE, arg(help_behavior_hint="(default: beside the mesh)")] = None
    """The picture, a .png: the cloud on the left, the mesh on the right."""
    no_picture: bool = False
    """Draw none."""
    report: Annotated[Path | None, arg(metavar="PATH", help_behavior_hint="(default: none)")] = None
    """A .json file: for each mesh its faces, vertices, components, boundary and non-manifold edges, whether it is watertight, how far it is
    from the cloud, tokens, seconds, seed, model, and the faces that were left out."""
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
    edges: Annotated[Literal["manifold", "any"] | None, EDGES] = None
    """manifold gives no edge more than two faces, and lets neighbours face the same way; any leaves it to the model."""
    bounds: Literal["cloud", "none"] = "cloud"
    """cloud keeps vertices on the cloud, and lets faces come bottom up, as they came in training; none leaves it to the model."""
    settle: Literal["cloud", "none"] | None = None
    """cloud (the default, also of published models unless --as-released) moves the vertices that were written onto the cloud, by two
    bins at most; none leaves them in the middles of their bins."""
    tries: Annotated[int | None, arg(metavar="INT", help_behavior_hint="(default: 32; of published models 1)")] = None
    """Ways in which each face is tried at a time; the one that suits the cloud best is taken, and the mesh ends when the cloud lies on
    it. Fewer are faster; 1 leaves all to the model."""
    max_faces: Annotated[int | None, arg(metavar="INT", help_behavior_hint="(default: 800; of published models 800 or 1600)")] = None
    """The mesh is cut off there."""
    min_faces: int = 1
    """The mesh does not end before; faces that are left out afterwards are counted here."""
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
    """Turn a model of gates (the one that ships is) into machine code first, which takes half a minute and may pay for large folders.
    A C++ compiler must be there. A seed may give another mesh so."""
    device: Annotated[str | None, arg(metavar="NAME", help_behavior_hint="(default: a GPU where there is one)")] = None
    """cpu, cuda, cuda:1, mps ..."""
    processes: int = 0
    """Of a folder: so many processes share its files, each with the model in its own memory (0.7 GB); 0 takes one for each processor."""
    threads: int = 1
    """CPU threads of each; one is fastest while a mesh is written face by face. 0 leaves it to torch."""

    def sampling(self, default: Sampling) -> Sampling:
        """What is not given is as in the default. ValueError where the numbers do not fit."""
        given = {field.name: getattr(self, field.name) for field in fields(default)}
        return replace(default, **{name: value for name, value in given.items() if value is not None})


def run(options: SampleOptions) -> None:
    """Write what the options ask for; ValueError or FileNotFoundError, with one sentence, where that cannot be.

    A bad file in a folder does not stop the others. On Ctrl-C what is there of the meshes at work is written first.
    """
    _check(options)
    records: list[Particulars] = []
    try:
        (_run_folder if options.cond.is_dir() else _run_file)(options, records)
    finally:
        if options.report is not None and records:
            write_report(options.report, records)


def _run_file(options: SampleOptions, records: list[Particulars]) -> None:
    given = _read(options.cond, options)  # first: a bad input is found out at once, a model takes seconds
    job = job_of_file(options)
    desk = _Desk(_load(options), options, records)
    desk.one(job, _shown(desk.model, given, options))


def _run_folder(options: SampleOptions, records: list[Particulars]) -> None:
    jobs = jobs_of_folder(options)
    count = min(options.processes or _fitting_processes(options), len(jobs))
    rows = min(-(-len(jobs) * options.samples * options.best_of // count), MOST_ROWS)
    shares: list[_Share] = []
    try:
        with helped(partial(_share, options, rows), jobs, count - 1, shares) as left:
            bad = _Desk(_load(options), options, records).many(left, rows)
    finally:
        records.extend(itertools.chain(*(share.records for share in shares)))
        records.sort(key=lambda record: (record.input, record.seed))
    bad += sum(share.bad for share in shares)
    if bad:
        raise ValueError(f"{bad} of the {len(jobs)} inputs in {options.cond} gave no mesh; mend or remove those named above")


class _Share(NamedTuple):
    """What one of several processes did."""

    bad: int
    records: list[Particulars]


def _share(options: SampleOptions, rows: int, jobs: Iterable[Job]) -> _Share:
    """In a process beside the one that the user started, which says whatever keeps both from working."""
    records: list[Particulars] = []
    bad = 0
    try:
        with warnings.catch_warnings(action="ignore"):
            model = _load(options)
        bad = _Desk(model, options, records).many(jobs, rows)
    except KeyboardInterrupt:
        pass
    except Exception as error:
        if sentence(error) is None:
            raise
    return _Share(bad, records)


def _fitting_processes(options: SampleOptions) -> int:
    """One for each processor; one alone where a GPU works for all."""
    import torch

    on_gpu = torch.cuda.is_available() if options.device is None else options.device != "cpu"
    return 1 if on_gpu else min(processors(), MOST_PROCESSES)


def _check(options: SampleOptions) -> None:
    if min(options.samples, options.best_of) < 1 or min(options.processes, options.threads, options.seed) < 0:
        raise ValueError(
            f"{options.samples} samples, best of {options.best_of}, seed {options.seed}, {options.processes} processes and "
            f"{options.threads} threads do not fit; use samples and best-of of at least 1, and the others of at least 0"
        )
    if (options.as_released or options.mc) and options.model is None:
        raise ValueError("--as-released and --mc are for published models, and the one that ships is none; name one with --model")
    if options.as_released and options.up != "y":
        raise ValueError("--as-released turns nothing, so that it leaves no choice of --up; leave one of them away")
    if not 4 <= options.mc_level <= 9:
        raise ValueError(f"--mc-level {options.mc_level} does not fit; use 4 to 9")
    if options.report is not None:
        check_place(options.report, "reports", (".json",))
    if options.no_picture and options.picture is not None:
        raise ValueError(f"--no-picture and --picture {options.picture} contradict each other; pass one of them")


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


class _Desk:
    """A model, what is wanted of it, and where the particulars of each mesh go."""

    def __init__(self, model: MeshGPT, options: SampleOptions, records: list[Particulars]) -> None:
        self.model, self.options, self.records = model, options, records
        self.sampling = options.sampling(model.sampling)

    def one(self, job: Job, cloud: Cloud) -> None:
        """All meshes of one input."""
        from meshgpt.model import Stopped

        options = self.options
        count = options.samples * options.best_of
        try:
            with _notes_said(), _progress(self.sampling.max_faces) as progress:
                drawn = self.model.samples(cloud, count, options.seed, options.up, self.sampling, progress)
                chosen = self._chosen(drawn, cloud, progress)
        except Stopped as stop:
            self.rescue(job, cloud, stop.samples)
            raise
        self._save(job, cloud, chosen)

    def many(self, jobs: Iterable[Job], rows: int) -> int:
        """Several inputs, up to so many meshes side by side; says how many of them gave no mesh."""
        from meshgpt.model import Stopped

        inputs = _Inputs(self, jobs)
        try:
            with _notes_said(), _progress(self.sampling.max_faces) as progress:
                for number, sample in self.model.written(inputs.asked(), self.sampling, rows, progress):
                    inputs.done(number, sample)
        except Stopped as stop:
            inputs.stopped(stop.samples)
            raise
        return inputs.bad

    def _chosen(self, drawn: list[Sample], cloud: Cloud, progress: Callable[[int], None] = lambda faces: None) -> list[Sample]:
        """As many samples as are wanted, each the nearest of its group and with at least one face."""
        options = self.options
        groups = [drawn[start : start + options.best_of] for start in range(0, len(drawn), options.best_of)]
        seeds = range(options.seed + len(drawn), options.seed + len(drawn) + TRIES)
        spare = (self.model.samples(cloud, 1, seed, options.up, self.sampling, progress)[0] for seed in seeds)
        return [_nearest(group, spare) for group in groups]

    def finish(self, job: Job, cloud: Cloud, drawn: list[Sample]) -> None:
        self._save(job, cloud, self._chosen(drawn, cloud))

    def _save(self, job: Job, cloud: Cloud, chosen: Sequence[Sample | None], stopped: bool = False) -> None:
        """Each sample in its place; nothing where there is none."""
        from meshgpt.views import save_picture

        job.meshes[0].parent.mkdir(parents=True, exist_ok=True)
        for number, (sample, path) in enumerate(zip(chosen, job.meshes, strict=True)):
            if sample is None:
                continue
            sample.mesh.save(path)
            if job.pictures and not stopped:
                save_picture(sample.mesh, job.pictures[number], cloud, self.options.up)
            self.records.append(self._particulars(sample, job, path, stopped and not sample.ended))
            print(_line(sample, self.records[-1], self.sampling.max_faces), flush=True)

    def rescue(self, job: Job, cloud: Cloud, samples: list[tuple[int, Sample]]) -> None:
        """What is there of an input's meshes, whole ones first."""
        groups: list[list[Sample]] = [[] for _ in job.meshes]
        for number, sample in samples:
            if len(sample.mesh.faces):
                groups[number // self.options.best_of].append(sample)
        best = [min(group, key=lambda sample: (not sample.ended, sample.distance), default=None) for group in groups]
        if any(best):
            self._save(job, cloud, best, stopped=True)

    def _particulars(self, sample: Sample, job: Job, path: Path, stopped: bool) -> Particulars:
        distance = 100 * sample.distance if np.isfinite(sample.distance) else None
        model = str(self.options.model or "the one that ships")
        numbers = (sample.tokens, sample.steps, sample.seconds, sample.dropped)
        return Particulars(str(job.cond), str(path), model, sample.seed, Surface.of(sample.mesh), distance, *numbers, sample.ended, stopped)


class _Inputs:
    """Several inputs that are written side by side: whose each sample is, and which inputs are through. A bad one stops no other."""

    def __init__(self, desk: _Desk, jobs: Iterable[Job]) -> None:
        self.desk, self.jobs, self.bad = desk, jobs, 0
        self.owners: list[Job] = []
        self.clouds: dict[Job, Cloud] = {}
        self.drawn: dict[Job, dict[int, Sample]] = {}

    def asked(self) -> Iterator[tuple[Shown, int]]:
        """What is to be written, read when it is its turn."""
        options = self.desk.options
        for job in self.jobs:
            with self._surviving(job):
                cloud = _shown(self.desk.model, _read(job.cond, options), options)
                shown = self.desk.model.look(cloud, options.up, self.desk.sampling)
                self.clouds[job], self.drawn[job] = cloud, {}
            if job not in self.clouds:
                continue
            for number in range(options.samples * options.best_of):
                self.owners.append(job)
                yield shown, options.seed + number

    def done(self, number: int, sample: Sample) -> None:
        job, options = self.owners[number], self.desk.options
        self.drawn[job][sample.seed - options.seed] = sample
        if len(self.drawn[job]) == options.samples * options.best_of:
            drawn, cloud = self.drawn.pop(job), self.clouds.pop(job)
            with self._surviving(job):
                self.desk.finish(job, cloud, [drawn[key] for key in sorted(drawn)])

    def stopped(self, samples: list[tuple[int, Sample]]) -> None:
        """Write what is there of those that are not through."""
        for number, sample in samples:
            self.drawn[self.owners[number]][sample.seed - self.desk.options.seed] = sample
        for job, drawn in self.drawn.items():
            self.desk.rescue(job, self.clouds[job], list(drawn.items()))

    @contextmanager
    def _surviving(self, job: Job) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            said = sentence(error)
            if said is None:
                raise
            say(said if job.cond.name in said else f"{job.cond.name}: {said}")
            self.bad += 1


def _nearest(group: list[Sample], spare: Iterator[Sample]) -> Sample:
    best = min(group, key=lambda sample: sample.distance)
    while not len(best.mesh.faces):
        tried, best = best, next(spare, None)
        if best is None:
            raise ValueError(
                f"the model wrote no face for this cloud, with seeds up to {tried.seed}; pass another --seed, a cloud with more points, "
                "or --tries 1 for a model that is hardly trained, or check --up"
            )
        say(f"seed {tried.seed} gave a mesh without faces; trying seed {best.seed}")
    return best


def _line(sample: Sample, found: Particulars, most: int) -> str:
    parts = [*found.surface.words, f"{100 * sample.distance:.2f} % from the cloud", f"{sample.seconds:.1f} s", f"seed {sample.seed}"]
    cut = [] if sample.ended else ["stopped by Ctrl-C" if found.stopped else f"cut off by --max-faces {most}"]
    removed = [f"{found.removed} faces left out"] if found.removed else []
    return f"{found.mesh}: " + ", ".join([*parts, *removed, *cut])


# Words for the user


@contextmanager
def _notes_said() -> Iterator[None]:
    """Warnings of the block as sentences, each once."""
    with warnings.catch_warnings(record=True) as notes:
        warnings.simplefilter("always", UserWarning)
        yield
    for text in dict.fromkeys(str(note.message) for note in notes if issubclass(note.category, UserWarning)):
        say(text)


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
