"""How the faces of a mesh hang together: open and crowded edges, torn fans, pieces, and how well triangles pair up to quads.

Vertices at exactly equal places count as one, and faces that touch a vertex twice do not count. Every share is 0 to 1.

v  vertices      f  faces      e  undirected edges      q  quads
"""

from __future__ import annotations

from types import ModuleType
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int, Integer

from meshgpt.mesh import Mesh

# The weights of the topology score, and the level of `turn_into_quad_dominant_mesh` between fewest triangles (0) and best quads (2).
QUADS, SHAPE, ANGLES, NEIGHBOURS = 0.4, 0.3, 0.2, 0.1
QUAD_LEVEL = 1
MOST_STRETCHED = 1e9  # the ratio of opposite sides where one has no length
SYSTEM_PACKAGES = "libgl1 libopengl0 libx11-6"


def joined(mesh: Mesh) -> Mesh:
    """The vertices that faces use, those at exactly equal places as one, and the faces that touch no vertex twice.

    ValueError when no such face is left.
    """
    vertices, numbers = np.unique(mesh.vertices[mesh.faces.reshape(-1)] + 0.0, axis=0, return_inverse=True)  # -0.0 is 0.0
    faces = numbers.reshape(-1, 3)
    faces = faces[(faces[:, 0] != faces[:, 1]) & (faces[:, 1] != faces[:, 2]) & (faces[:, 2] != faces[:, 0])]
    if not len(faces):
        raise ValueError(f"none of the {len(mesh.faces)} faces has three different vertices; pass a mesh with a surface")
    return Mesh(vertices, faces)


class Edges(NamedTuple):
    """Of `faces`: the undirected edge (a number) of each side, side k between corners k and k + 1, and how many faces use each edge."""

    faces: Int[np.ndarray, "f 3"]
    sides: Int[np.ndarray, "f 3"]
    uses: Int[np.ndarray, "e"]

    @classmethod
    def of(cls, mesh: Mesh) -> Edges:
        faces = joined(mesh).faces
        ends = np.sort(np.stack([faces, np.roll(faces, -1, 1)], -1), -1)
        _, sides, uses = np.unique(ends[..., 0] * (faces.max() + 1) + ends[..., 1], return_inverse=True, return_counts=True)
        return cls(faces, sides.reshape(faces.shape), uses)


def boundary_edge_ratio(mesh: Mesh) -> float:
    """BER of FreeMesh and Mesh-RFT: edges used by exactly one face / 3F, the directed edges of F faces. 0 for closed, 1 for loose ones."""
    edges = Edges.of(mesh)
    return float((edges.uses == 1).sum() / edges.sides.size)


def non_manifold_edge_ratio(mesh: Mesh) -> float:
    """Edges used by more than two faces / undirected edges."""
    return float((Edges.of(mesh).uses > 2).mean())


def non_manifold_vertex_ratio(mesh: Mesh) -> float:
    """Vertices with more than one fan / vertices in use; faces at a vertex are of one fan when edges at that vertex connect them."""
    edges = Edges.of(mesh)
    fans = np.bincount(edges.faces.reshape(-1)[_first_of_each(_fans(edges))])
    return float((fans > 1).mean())


def _fans(edges: Edges) -> Int[np.ndarray, "n"]:
    """The fan (a number) of each corner, face by face."""
    faces = edges.faces
    low_first = faces < np.roll(faces, -1, 1)
    corners = np.arange(faces.size).reshape(-1, 3)
    here, after = corners, np.roll(corners, -1, 1)
    low, high = np.where(low_first, here, after), np.where(low_first, after, here)
    return _connected(faces.size, *(_neighbours(edges, ends) for ends in (low, high)))


def _neighbours(edges: Edges, values: Int[np.ndarray, "f 3"]) -> Int[np.ndarray, "n 2"]:
    """The values of two sides that lie on one edge, for as many pairs of sides as connect all that do."""
    order = np.argsort(edges.sides, axis=None, kind="stable")
    same = np.diff(edges.sides.reshape(-1)[order]) == 0
    return values.reshape(-1)[np.stack([order[:-1][same], order[1:][same]], 1)]


def _connected(count: int, *pairs: Int[np.ndarray, "_ 2"]) -> Int[np.ndarray, "count"]:
    """The group of each of `count` things, of which some pairs belong together."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    one, other = np.concatenate(pairs).T
    graph = coo_array((np.ones(len(one), bool), (one, other)), shape=(count, count))
    return connected_components(graph, directed=False)[1].astype(np.int64)


def _first_of_each(groups: Int[np.ndarray, "n"]) -> Int[np.ndarray, "m"]:
    return np.unique(groups, return_index=True)[1]


def components(mesh: Mesh) -> float:
    """How many pieces there are; faces that share an edge, not just a vertex, are of one piece."""
    edges = Edges.of(mesh)
    face = np.arange(edges.sides.size).reshape(-1, 3) // 3
    return float(_connected(len(edges.faces), _neighbours(edges, face)).max() + 1)


def watertight(mesh: Mesh) -> float:
    """1 when every edge is used by exactly two faces, whichever way they look, else 0."""
    return float((Edges.of(mesh).uses == 2).all())


def duplicate_face_share(mesh: Mesh) -> float:
    """Share of the faces that stand on the same three vertices as an earlier one, whichever way round."""
    faces = np.sort(joined(mesh).faces, 1)
    return 1 - len(np.unique(faces, axis=0)) / len(faces)


def topology_score(mesh: Mesh) -> float:
    """TS of FreeMesh and Mesh-RFT, 0 to 100: how well the triangles pair up to regular quads; see `score_of_quads`.

    Faces on crowded edges and duplicate faces are removed, then pymeshlab pairs triangles (`turn_into_quad_dominant_mesh`, level 1).
    The papers used pymeshlab 0.2.1; ImportError where pymeshlab, or a system library of its, is missing.
    """
    library = _import_pymeshlab()
    mesh = joined(mesh)
    meshes = library.MeshSet()
    meshes.add_mesh(library.Mesh(mesh.vertices.astype(np.float64), mesh.faces))
    meshes.apply_filter("meshing_repair_non_manifold_edges", method="Remove Faces")
    meshes.apply_filter("meshing_remove_duplicate_faces")
    meshes.apply_filter("meshing_tri_to_quad_dominant", level=QUAD_LEVEL)
    polygons = meshes.current_mesh().polygonal_face_list()
    quads = [polygon for polygon in polygons if len(polygon) == 4]
    triangles = sum(len(polygon) == 3 for polygon in polygons)
    return score_of_quads(meshes.current_mesh().vertex_matrix(), np.array(quads, np.int64).reshape(-1, 4), triangles)


def _import_pymeshlab() -> ModuleType:
    """pymeshlab with its filters, or an ImportError with the command that makes it work."""
    try:
        import pymeshlab
    except ModuleNotFoundError as error:
        raise ImportError(f"the topology score needs {error.name}, which is not here; pip install 'meshgpt[evaluate]'") from None
    except (ImportError, OSError) as error:
        raise ImportError(f"pymeshlab cannot be loaded ({error}); apt-get install {SYSTEM_PACKAGES}") from None
    if "meshing_tri_to_quad_dominant" not in pymeshlab.filter_list():
        raise ImportError(f"pymeshlab came without its filters, as a system library is missing; apt-get install {SYSTEM_PACKAGES}")
    return pymeshlab


def score_of_quads(vertices: Float[np.ndarray, "v 3"], quads: Integer[np.ndarray, "q 4"], triangles: int) -> float:
    """The topology score of FreeMesh's and Mesh-RFT's `topo_score.py`: 100 (0.4 Q + 0.3 S + 0.2 A + 0.1 N).

    Q  quads / (quads + triangles)
    S  half 1 / mean of each quad's stretch, half mean of its mean side / longest side; the stretch is the larger of the two ratios
       of opposite sides, longer / shorter
    A  1 - (|mean smallest angle - 90| + |mean largest angle - 90|) / 180, in degrees
    N  mean over quads with neighbours of 1 / (1 + mean difference of their stretches)

    As released, means over no quads count as stretch 1 and all else 0: triangles alone score 15. Unlike released, a neighbour's stretch
    is always its own: there it is looked up by the number of the face among the numbers of quads, which is another's after the first
    triangle (N weighs a tenth). Sides without length stretch a billion times and make angles of 0, so that every number is finite.
    """
    if not len(quads) + triangles:
        return 0.0
    if not len(quads):
        return 100 * SHAPE / 2
    sides = np.linalg.norm(vertices[quads] - vertices[np.roll(quads, -1, 1)], axis=-1)
    stretch = _stretch(sides)
    evenness = (sides.mean(1) / np.maximum(sides.max(1), 1e-300)).mean()
    shape = 0.5 / stretch.mean() + 0.5 * evenness
    angles = _angles(vertices[quads], sides)
    angle = 1 - (abs(angles.min(1).mean() - 90) + abs(angles.max(1).mean() - 90)) / 180
    quad_ratio = len(quads) / (len(quads) + triangles)
    total = QUADS * quad_ratio + SHAPE * shape + ANGLES * angle + NEIGHBOURS * _consistency(quads, stretch)
    return float(np.clip(100 * total, 0, 100))


def _stretch(sides: Float[np.ndarray, "q 4"]) -> Float[np.ndarray, "q"]:
    least = np.maximum(sides.max(1, keepdims=True) / MOST_STRETCHED, 1e-300)
    opposite = np.maximum(sides, least).reshape(-1, 2, 2)  # sides 0 and 2 in one column, 1 and 3 in the other
    return (opposite.max(1) / opposite.min(1)).max(1)


def _angles(corners: Float[np.ndarray, "q 4 3"], sides: Float[np.ndarray, "q 4"]) -> Float[np.ndarray, "q 4"]:
    """Degrees, 0 to 180."""
    ahead, behind = np.roll(corners, -1, 1) - corners, np.roll(corners, 1, 1) - corners
    lengths = sides * np.roll(sides, 1, 1)
    cosines = np.divide((ahead * behind).sum(-1), lengths, out=np.ones_like(lengths), where=lengths > 0)
    return np.degrees(np.arccos(cosines.clip(-1, 1)))


def _consistency(quads: Integer[np.ndarray, "q 4"], stretch: Float[np.ndarray, "q"]) -> float:
    """N of `score_of_quads`; neighbours share a side, and count once however many sides they share."""
    from scipy.sparse import coo_array

    ends = np.sort(np.stack([quads, np.roll(quads, -1, 1)], -1).astype(np.int64), -1)
    _, edge = np.unique(ends[..., 0] * (int(quads.max()) + 1) + ends[..., 1], return_inverse=True)
    quad = np.arange(quads.size) // 4
    on_edge = coo_array((np.ones(quads.size), (quad, edge.reshape(-1))), shape=(len(quads), edge.max() + 1)).tocsr()
    one, other = (on_edge @ on_edge.T).nonzero()
    one, other = one[one != other], other[one != other]
    neighbours = np.bincount(one, minlength=len(quads))
    differences = np.bincount(one, np.abs(stretch[one] - stretch[other]), minlength=len(quads))
    has = neighbours > 0
    return float((1 / (1 + differences[has] / neighbours[has])).mean()) if has.any() else 0.0
