"""The `bench` command: how fast this machine writes meshes, beside what its memory allows and beside how MeshAnything does it.

It knows words and numbers for users. What is run is `bench_loops.py`'s.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from tyro.conf import arg

if TYPE_CHECKING:
    from meshgpt.bench_loops import Loop, Theirs
    from meshgpt.gate_model import GateModel
    from meshgpt.loading import Precision
    from meshgpt.model import MeshGPT
    from meshgpt.steps import StepModel

FACES = 800


@dataclass(frozen=True)
class BenchOptions:
    """Measure how fast meshes are written here: our networks as they ship and with 350 M parameters, beside transformers' OPT-350M with
    `generate`, nine ids a face, as MeshAnything runs it, and beside what reading the weights from memory costs.

    On a CPU it is the processor time of one process that counts, medians of several steps. A few minutes, and up to 6 GB of memory.
    """

    quick: bool = False
    """Fewer precisions, rows and repeats: under two minutes where nothing else runs."""
    json: Annotated[Path | None, arg(metavar="FILE")] = None
    """Write the numbers there, too."""
    repeats: int = 7
    """Steps of which the median is taken."""
    threads: int = 1
    """CPU threads; one is fastest while meshes are written step by step."""
    device: str = "cpu"
    """cpu, cuda, cuda:1 ..."""


def run(options: BenchOptions) -> None:
    """ValueError where the options do not fit."""
    import torch

    from meshgpt.precision import fast_float32

    if options.repeats < 1 or options.threads < 1:
        raise ValueError(f"{options.repeats} repeats and {options.threads} threads do not fit; use at least 1 of each")
    if options.json is not None and not options.json.absolute().parent.is_dir():
        raise ValueError(f"the folder {options.json.parent} does not exist; make it first, or write elsewhere")
    torch.set_num_threads(options.threads)
    fast_float32()
    measured = measure(plan_of(options), options.device)
    for table in tables(measured):
        _console().print(table)
    if options.json is not None:
        partial = options.json.with_name(f"{options.json.name}.part")
        partial.write_text(json.dumps(measured, indent=1) + "\n", encoding="utf-8")
        partial.replace(options.json)


@dataclass(frozen=True)
class Plan:
    """What is measured: our networks, each with the rows that it writes; the model that writes `most` faces whole; and OPT."""

    networks: Mapping[str, tuple[Callable[[], GateModel | StepModel], tuple[int, ...]]]
    precisions: tuple[Precision, ...]
    faces: tuple[int, ...]
    model: Callable[[], MeshGPT]
    most: int
    opt: Callable[[], Any]
    lengths: tuple[int, ...]
    repeats: int


def plan_of(options: BenchOptions) -> Plan:
    from meshgpt import bench_loops as loops
    from meshgpt.gate_model import GateModelConfig
    from meshgpt.model import MeshGPT
    from meshgpt.transformer import TransformerConfig

    def shipped(name: str | None = None) -> MeshGPT:
        return MeshGPT.from_pretrained(name, device=options.device)

    quick, body = options.quick, TransformerConfig(1024, 24, 16)
    networks = {
        "gates": (lambda: shipped().network, (1, 32) if quick else (1, 8, 32)),
        "vqvae": (lambda: shipped("vqvae").network, (1,) if quick else (1, 8, 32)),
        "gates-350m": (lambda: loops.large(GateModelConfig(), body).to(options.device), (1,) if quick else (1, 8, 32)),
    }
    return Plan(
        networks,
        ("fp32", "int8") if quick else ("fp32", "bf16", "int8"),
        (100, 400, FACES),
        shipped,
        40 if quick else 200,
        lambda: loops.opt(body, 132, 10340).to(options.device),
        (300, 7000) if quick else (300, 1000, 3000, 5000, 7000),
        min(options.repeats, 3) if quick else options.repeats,
    )


def measure(plan: Plan, device: str) -> dict[str, Any]:
    """What the JSON holds."""
    import torch

    from meshgpt import bench_loops as loops
    from meshgpt.stopwatch import bandwidth

    rate, ours = bandwidth(5, torch.device(device)), []
    for name, (make, batches) in plan.networks.items():
        ours += loops.time_loops(name, make, plan.precisions, batches, plan.faces, plan.repeats, rate)
    whole = [loops.time_whole(plan.model(), tries, plan.most) for tries in (1, 32)]
    theirs = loops.time_theirs(plan.opt(), plan.lengths, plan.repeats + 2, rate)
    machine = {"device": device, "torch": torch.__version__, "threads": torch.get_num_threads(), "bandwidth_gb_a_second": rate / 1e9}
    return {
        "machine": machine | {"clock": "process CPU time" if device == "cpu" else "wall"},
        "ours": [_as_json(loop, theirs, plan.faces[-1]) for loop in ours],
        "whole": [{**asdict(one), "faces_a_second": one.faces / one.took} for one in whole],
        "theirs": {**asdict(theirs), "ids_a_face": loops.OPT_IDS, "mesh_seconds": theirs.mesh_seconds(plan.faces[-1])},
    }


def _as_json(loop: Loop, theirs: Theirs, faces: int) -> dict[str, Any]:
    written = []
    for at in loop.written:
        speeds = {"steps_a_second": loop.batch / at.step, "faces_a_second": loop.faces_a_second(at.faces), "floors": at.step / at.floor}
        written.append(asdict(at) | speeds)
    return {
        **asdict(loop),
        "written": written,
        "mesh_seconds": loop.mesh_seconds(faces),
        "times_faster": loop.batch * theirs.mesh_seconds(faces) / loop.mesh_seconds(faces),
    }


def tables(measured: dict[str, Any]) -> Iterator[Any]:
    """Of what `measure` says, for a terminal."""
    from rich.table import Table

    machine, theirs = measured["machine"], measured["theirs"]
    title = f"The network loop; {machine['threads']} thread, {machine['clock']}, memory {machine['bandwidth_gb_a_second']:.0f} GB/s"
    table = Table("network", "precision", "rows", "faces", "ms a step", "floors", "faces/s", "s for 800", "x OPT", "cache MB", title=title)
    for loop in measured["ours"]:
        for at in loop["written"]:
            first = [loop["network"], loop["precision"], str(loop["batch"])] if at is loop["written"][0] else [""] * 3
            last = at is loop["written"][-1]
            whole = [f"{loop['mesh_seconds']:.1f}", f"{loop['times_faster']:.0f}", f"{loop['cache'] / 1e6:.0f}"] if last else [""] * 3
            table.add_row(*first, str(at["faces"]), f"{1e3 * at['step']:.1f}", f"{at['floors']:.1f}", f"{at['faces_a_second']:.0f}", *whole)
    yield table
    table = Table("positions", "ms an id", "floors", title=f"transformers' OPT with generate: {theirs['mesh_seconds']:.0f} s for 800 faces")
    for length, took, floor in zip(theirs["lengths"], theirs["times"], theirs["floors"], strict=True):
        table.add_row(str(length), f"{1e3 * took:.0f}", f"{took / floor:.1f}")
    yield table
    table = Table("ways tried", "faces", "s", "faces/s", title="Whole meshes, with grammar and judge (the model that ships)")
    for one in measured["whole"]:
        table.add_row(str(one["tries"]), str(one["faces"]), f"{one['took']:.1f}", f"{one['faces_a_second']:.1f}")
    yield table


def _console() -> Any:
    from rich.console import Console

    return Console()
