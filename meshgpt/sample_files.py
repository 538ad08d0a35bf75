"""The `sample` command: clouds in files to meshes in files, each with its picture.

    --cond chair.ply                  chair.glb       chair.png        beside the cloud, unless --out says where
    --cond chair.ply --samples 2      chair-0.glb     chair-0.png      chair-1.glb     chair-1.png
    --cond scans                      scans-meshes/chair.glb  ...      one for each file in the folder

It knows names of files and words for users. It does not know how a mesh comes about.
"""

from __future__ import annotations

import itertools
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from meshgpt.cloud import Cloud
from meshgpt.compile_ahead import compiling_ahead
from meshgpt.files import MESH_ENDINGS, read_mesh, read_points
from meshgpt.mesh import Mesh, sample_surface
from meshgpt.mistakes import say, sentence
from meshgpt.particulars import Particulars, Surface, write_report
from meshgpt.sample_options import SampleOptions, check
from meshgpt.sample_places import Job, job_of_file, jobs_of_folder
from meshgpt.shared_jobs import helped, processors

if TYPE_CHECKING:
    from meshgpt.model import MeshGPT, Sample, Shown

SHELL_POINTS = 16_384
MOST_PROCESSES = 8  # unless more are asked for: each takes memory
MOST_ROWS = 16  # meshes written at the same time
TURNS = 8  # so often several processes take as many as they write at the same time: so they end together, though meshes differ in length
TRIES = 5  # seeds more, when a sample has no face


def run(options: SampleOptions) -> None:
    """Write what the options ask for; ValueError or FileNotFoundError, with one sentence, where that cannot be.

    A bad file in a folder does not stop the others. On Ctrl-C what is there of the meshes at work is written first.
    """
    check(options)
    records: list[Particulars] = []
    try:
        (_run_folder if options.cond.is_dir() else _run_file)(options, records)
    finally:
        if options.report is not None and records:
            write_report(options.report, records)


def _run_file(options: SampleOptions, records: list[Particulars]) -> None:
    given = _read(options.cond, options)  # first: a bad input is found out at once, a model takes seconds
    job = job_of_file(options)
    with compiling_ahead(_say_that_it_compiles, beside=options.model is None):
        desk = _Desk(_load(options), options, records)
        desk.one(job, _shown(desk.model, given, options))


def _run_folder(options: SampleOptions, records: list[Particulars]) -> None:
    jobs = jobs_of_folder(options)
    count = min(options.processes or _fitting_processes(options), len(jobs))
    rows = rows_at_once(len(jobs) * options.samples * options.best_of, count)
    shares: list[_Share] = []
    try:
        compiling = compiling_ahead(_say_that_it_compiles, beside=count == 1 and options.model is None)
        with compiling, helped(partial(_share, options, rows), jobs, count - 1, shares) as left:
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
        bad = _Desk(model, options, records, counting=False).many(jobs, rows)
    except KeyboardInterrupt:
        pass
    except Exception as error:
        if sentence(error) is None:
            raise
    return _Share(bad, records)


def rows_at_once(meshes: int, processes: int) -> int:
    """How many each process writes at the same time."""
    turns = TURNS if processes > 1 else 1
    return min(-(-meshes // (processes * turns)), MOST_ROWS)


def _fitting_processes(options: SampleOptions) -> int:
    """One for each processor; one alone where a GPU works for all."""
    import torch

    on_gpu = torch.cuda.is_available() if options.device is None else options.device != "cpu"
    return 1 if on_gpu else min(processors(), MOST_PROCESSES)


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

    def __init__(self, model: MeshGPT, options: SampleOptions, records: list[Particulars], counting: bool = True) -> None:
        self.model, self.options, self.records, self.counting = model, options, records, counting
        self.sampling = options.sampling(model.sampling)

    def one(self, job: Job, cloud: Cloud) -> None:
        """All meshes of one input."""
        from meshgpt.model import Stopped

        options = self.options
        count = options.samples * options.best_of
        try:
            with _notes_said(), _progress(self.sampling.max_faces, self.counting) as progress:
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
            with _notes_said(), _progress(self.sampling.max_faces, self.counting) as progress:
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


def _say_that_it_compiles() -> None:
    if sys.stderr.isatty():
        say("the first run on a machine compiles its loops, which takes about a minute; later ones do not")


@contextmanager
def _progress(most: int, counting: bool) -> Iterator[Callable[[int], None]]:
    """A line that counts faces where there is a terminal (one for all processes); it goes when the mesh is there."""
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
    with Progress(*columns, console=console, transient=True, disable=not (counting and console.is_terminal)) as progress:
        task = progress.add_task("faces", total=most)
        yield lambda faces: progress.update(task, completed=faces)
