"""What one generated mesh is, in plain numbers: for the line that users read, and for the file that programs read."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from meshgpt.files import whole_file
from meshgpt.mesh import Mesh
from meshgpt.topology import Edges, components


@dataclass(frozen=True)
class Surface:
    """How a mesh hangs together. Boundary edges have one face, non-manifold edges more than two; a mesh without faces is not watertight."""

    faces: int
    vertices: int
    components: int
    boundary_edges: int
    non_manifold_edges: int
    watertight: bool

    @classmethod
    def of(cls, mesh: Mesh) -> Surface:
        if not len(mesh.faces):
            return cls(0, len(mesh.vertices), 0, 0, 0, False)
        uses = Edges.of(mesh).uses
        open_edges, crowded = int((uses == 1).sum()), int((uses > 2).sum())
        return cls(len(mesh.faces), len(mesh.vertices), int(components(mesh)), open_edges, crowded, bool((uses == 2).all()))

    @property
    def words(self) -> list[str]:
        """For a line."""
        parts = [_counted(self.faces, "face", "faces"), f"{self.vertices} vertices", _counted(self.components, "piece", "pieces")]
        crowded = [_counted(self.non_manifold_edges, "crowded edge", "crowded edges")] if self.non_manifold_edges else []
        return [*parts, "watertight" if self.watertight else _counted(self.boundary_edges, "open edge", "open edges"), *crowded]


def _counted(count: int, one: str, many: str) -> str:
    return f"{count} {one if count == 1 else many}"


@dataclass(frozen=True)
class Particulars:
    """Of one mesh in a file. The distance is in per cent of the cloud's longest side, or None where there is no face; `removed` are faces
    that were written and left out; `ended` is false where a limit or the user (`stopped`) cut the mesh off."""

    input: str
    mesh: str
    model: str
    seed: int
    surface: Surface
    distance_percent: float | None
    tokens: int
    steps: int
    seconds: float
    removed: int
    ended: bool
    stopped: bool

    def as_json(self) -> dict[str, object]:
        """Flat: the surface's numbers stand among the others."""
        values = asdict(self)
        surface = values.pop("surface")
        return values | surface


def write_report(path: Path, meshes: Sequence[Particulars]) -> None:
    """A list with an object for each mesh."""
    with whole_file(path) as place:
        place.write_text(json.dumps([mesh.as_json() for mesh in meshes], indent=1) + "\n", encoding="utf-8")
