"""What users say to the `sample` command, and what of it does not fit. It knows words. It does not know models."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from tyro.conf import arg
from tyro.constructors import PrimitiveConstructorSpec

from meshgpt.sample_places import check_place

if TYPE_CHECKING:
    from meshgpt.generate import Sampling


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
    tidy: Literal["cloud", "none"] = "cloud"
    """cloud closes slits, joins faces that say nothing, and splits those that the cloud lies far from, where edges are manifold and
    vertices settle; none leaves the faces that were written."""
    complete: Literal["auto", "none"] = "auto"
    """auto adds the unseen side to a cloud that was seen from one side only, by a network and where the shape mirrors itself (not for
    published models); none leaves it open. The distance is that to the cloud as it came."""
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


def check(options: SampleOptions) -> None:
    """ValueError, in one sentence, where options do not fit each other."""
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
