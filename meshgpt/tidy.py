"""A generated mesh is made tidy: slits are closed, faces that say nothing are joined, edges turned to where the cloud has them.

Moves that make the mesh cheaper (`mesh_cost.py`) are made, one after another, until none does; in between vertices settle on the cloud.

    join    one vertex into another one, along an edge, or over a slit, or both to where the planes around them meet
    sew     an open edge to a vertex beside it, and what can be joined then
    fill    the corner between two open edges with a face, or split the face at one of them at the far end of the other
    close   a hole, with faces beside it given up
    turn    the edge between two faces to the other two corners
    split   faces at a point that lies far from them, or where the planes around it meet
    shift   a vertex to where the planes around it meet
    drop    a face

It knows triangles and points. It does not know tokens.

n, m  points      f  faces
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Float

from meshgpt.coverage import BIN
from meshgpt.face_graph import Face, Side, sides_of
from meshgpt.hole_filling import fillings, open_loops
from meshgpt.mesh import Mesh
from meshgpt.mesh_cost import FAR, FLAT, MeshCost, Move, Points
from meshgpt.settle import settled

# Vertices at open edges that are as near to each other may be joined, and to open edges, sewn.
SLIT = 4 * BIN
# How far around a vertex, and around a point at which faces are split, the planes count that may meet there.
AROUND, AROUND_SPLIT = 4 * BIN, 8 * BIN
# Faces must not turn further than this (the cosine) when they change, nor lie on their neighbours (the cosine between both).
TURNED, FOLDED = 0.2, -0.3
# The area of a face that may turn any way.
SMALL = 0.5 * BIN**2
# A turn or a shift has to save as much.
LEAST = 0.5
# How often all moves are tried, and in how many rounds vertices settle in between.
ROUNDS, SETTLING = 6, 2


def tidied(
    mesh: Mesh,
    cloud: Float[np.ndarray, "n 6"],
    oriented: bool = True,
    least: int = 1,
    most: int = 800,
    whole: Float[np.ndarray, "m 6"] | None = None,
    gap: float = 0.0,
) -> Mesh:
    """The mesh, tidy and settled on the cloud, both in the cube. No edge of it may have more than two faces, nor two that walk it alike;
    none does then. There are `least` to `most` faces, unless there are fewer or more already. Normals of zeros mean that they are not
    known, and without `oriented` ones faces may face either way. Moves are judged by the `whole` cloud, where points were added to the one
    that came, of which it is `gap` from one to the next."""
    if not len(mesh.faces):
        return mesh
    points = Points(cloud if whole is None else whole, oriented, gap)
    mesh = settled(mesh, cloud, oriented, SETTLING)
    least, most, due = min(least, len(mesh.faces)), max(most, len(mesh.faces)), None
    for _ in range(ROUNDS):
        work = MeshCost(mesh, points, least, most, due)
        if not sum(sum(moves(work)) for moves in MOVES):
            break
        mesh, due = work.mesh()
        mesh = settled(mesh, cloud, oriented, SETTLING)
    return settled(mesh, cloud, oriented)


def _joins(work: MeshCost) -> Iterator[bool]:
    """Along edges, the short ones first."""
    graph = work.graph
    sides = [(a, b) for a, b in graph.sides if a < b or (b, a) not in graph.sides]
    for a, b in _short_ones_first(work, sides):
        if work.is_due(a, b) and graph.beside(a, b) and graph.may_join(a, b):
            yield _joined(work, a, b)


def _slits(work: MeshCost) -> Iterator[bool]:
    """Over what is between open edges."""
    from scipy.spatial import KDTree

    graph = work.graph
    border = np.array(sorted({vertex for side in graph.open_sides() for vertex in side}), dtype=np.int64)
    pairs = sorted(KDTree(work.vertices[border]).query_pairs(SLIT)) if len(border) else []
    for a, b in _short_ones_first(work, [(int(border[one]), int(border[other])) for one, other in pairs]):
        if work.is_due(a, b) and graph.around[a] and graph.around[b] and b not in graph.neighbours(a):
            yield _joined(work, a, b)


def _joined(work: MeshCost, a: int, b: int) -> bool:
    """Into the better one of two vertices, or where the planes around them meet (or into their middle), where that saves anything."""
    middle = (work.vertices[a] + work.vertices[b]) / 2
    reach = float(np.linalg.norm(work.vertices[a] - work.vertices[b])) + AROUND
    corner = work.meeting(work.graph.around[a] | work.graph.around[b], middle, reach)
    ways = (a, b, None), (b, a, None), (a, b, middle if corner is None else corner)
    moves = [_join(work, left, kept, place) for left, kept, place in ways]
    return _best_made(work, [move for move in moves if move is not None])


def _join(work: MeshCost, left: int, kept: int, place: Float[np.ndarray, "3"] | None = None) -> Move | None:
    """None where it may not be."""
    graph = work.graph
    gone = sorted(graph.around[left] | (set() if place is None else graph.around[kept]))
    changed = [graph.faces[number] for number in gone if not {left, kept} <= set(graph.faces[number])]
    new = [tuple(kept if vertex == left else vertex for vertex in face) for face in changed]
    if not graph.may_replace(gone, new):
        return None
    if changed and _turned(work, changed, new, kept, place):
        return None
    return Move(gone, new, -1 if place is None else kept, place)


def _turned(work: MeshCost, old: Sequence[Face], new: Sequence[Face], kept: int, place: Float[np.ndarray, "3"] | None) -> bool:
    """Whether one of the faces would turn round, or have no area."""
    from meshgpt.tidy_kernels import turned

    numbers = np.array(new)
    after = work.vertices[numbers]
    if place is not None:
        after[numbers == kept] = place
    return turned(work.vertices[np.array(old)], after, TURNED, SMALL, FLAT)


def _sews(work: MeshCost) -> Iterator[bool]:
    """Each vertex at an open edge to the open edges that pass it by."""
    graph = work.graph
    sides = graph.open_sides()
    for vertex in sorted({vertex for side in sides for vertex in side}):
        for side in _passing(work, vertex, sides):
            if work.is_due(vertex, *side) and graph.is_open(side) and graph.around[vertex] and graph.is_border(vertex):
                yield _sewn(work, vertex, side)


def _passing(work: MeshCost, vertex: int, sides: Sequence[Side]) -> list[Side]:
    """Those of the sides that come near to the vertex in between their ends."""
    start, end = work.vertices[np.array(sides)].transpose(1, 0, 2)
    along = end - start
    share = ((work.vertices[vertex] - start) * along).sum(1) / np.maximum((along**2).sum(1), 1e-18)
    apart = np.linalg.norm(start + share[:, None] * along - work.vertices[vertex], axis=1)
    return [sides[at] for at in np.flatnonzero((share > 0.02) & (share < 0.98) & (apart < SLIT))]


def _sewn(work: MeshCost, vertex: int, side: Side) -> bool:
    """The face at the side becomes two, the vertex between them; then the ends of the side are joined to the neighbours of the vertex."""
    graph = work.graph
    (a, b), cut = side, _cut(work, side, vertex)
    if cut is None:
        return False
    gains = [work.saved(cut)]
    work.make(cut)
    beside = list(graph.open_sides_at(vertex))
    for end, others in ((a, [after for _, after in beside]), (b, [before for before, _ in beside])):
        near = [
            other for other in others if other not in (vertex, end) and np.linalg.norm(work.vertices[end] - work.vertices[other]) < SLIT
        ]
        moves = [move for other in near for pair in ((other, end), (end, other)) if (move := _join(work, *pair)) is not None]
        gain, move = max(((work.saved(move), move) for move in moves), key=lambda pair: pair[0], default=(0.0, None))
        if gain > 0:
            work.make(move)
            gains.append(gain)
    if sum(gains) > 0:
        return True
    for _ in gains:
        work.undo()
    return False


def _cut(work: MeshCost, side: Side, vertex: int) -> Move | None:
    """The face at an open side becomes two, the vertex between them; None where that may not be."""
    (a, b), number = side, work.graph.sides[side]
    (c,) = set(work.graph.faces[number]) - {a, b}
    move = Move([number], [(a, vertex, c), (vertex, b, c)])
    return move if work.graph.may_replace(move.gone, move.new) and not _bent(work, move) else None


def _fills(work: MeshCost) -> Iterator[bool]:
    """The corners between open edges, the narrow ones first, again and again."""
    graph, again = work.graph, True
    while again:
        again = False
        ears = graph.ears()
        for at in np.argsort([np.linalg.norm(work.vertices[a] - work.vertices[c]) for a, _, c in ears], kind="stable"):
            a, b, c = face = ears[at]
            if not (work.is_due(*face) and graph.is_open((b, a)) and graph.is_open((c, b))):
                continue
            ways = _filled(work, face), _cut(work, (b, a), c), _cut(work, (c, b), a)
            made = _best_made(work, [move for move in ways if move is not None])
            again |= made
            yield made


def _filled(work: MeshCost, face: Face) -> Move | None:
    """None where it may not be, or would lie on other faces."""
    if not work.graph.may_replace((), [face]) or _folded(work, face) or work.is_there(face):
        return None
    return Move((), [face])


def _closes(work: MeshCost) -> Iterator[bool]:
    """Holes, small ones first."""
    for loop in sorted(open_loops(work.graph), key=len):
        if all(map(work.graph.is_open, loop)) and work.is_due(*(corner for corner, _ in loop)):
            yield _best_made(work, list(fillings(work, loop)))


def _folded(work: MeshCost, face: Face) -> bool:
    """Whether the face would lie on one of its neighbours, or have no area."""
    from meshgpt.tidy_kernels import across_and_areas

    graph = work.graph
    numbers = [graph.sides[side[::-1]] for side in sides_of([face]) if side[::-1] in graph.sides]
    across, areas = across_and_areas(work.vertices[np.array([face, *(graph.faces[number] for number in numbers)])])
    return areas[0] < FLAT or bool((across[1:] @ across[0] < FOLDED).any())


def _turns(work: MeshCost) -> Iterator[bool]:
    graph = work.graph
    for a, b in [side for side in graph.sides if side[0] < side[1]]:
        beside = graph.beside(a, b)
        if len(beside) < 2:
            continue
        c, d = (next(vertex for vertex in graph.faces[number] if vertex not in (a, b)) for number in beside)
        move = Move(beside, [(a, d, c), (d, b, c)])
        if not work.is_due(a, b, c, d) or not graph.may_replace(move.gone, move.new) or _bent(work, move):
            continue
        if work.saved(move) > LEAST:
            work.make(move)
            yield True


def _bent(work: MeshCost, move: Move) -> bool:
    """Whether a new face looks away from those that were there, or has no area."""
    from meshgpt.tidy_kernels import bent

    before = work.vertices[np.array([work.graph.faces[number] for number in move.gone])]
    return bent(before, work.vertices[np.array(move.new)], TURNED, FLAT)


def _splits(work: MeshCost) -> Iterator[bool]:
    """Where the points of a face lie far from it: the face, or it and a neighbour, at the one that lies farthest, or where the planes
    around that one meet."""
    graph = work.graph
    for number in list(graph.faces):
        if number not in graph.faces or not work.is_due(*graph.faces[number]):
            continue
        mine = np.flatnonzero((work.which == number) & (work.squared < FAR**2))
        if not len(mine) or work.share * work.squared[mine].sum() < work.face:
            continue
        farthest = work.points.places[mine[work.squared[mine].argmax()]]
        corner = work.meeting([number, *graph.beyond([number])], farthest, AROUND_SPLIT)
        vertices = [work.new_vertex(place) for place in (farthest, corner) if place is not None]
        ways = [[number], *(graph.beside(a, b) for a, b in sides_of([graph.faces[number]]))]
        moves = [_split(work, gone, vertex) for vertex in vertices for gone in ways]
        yield _best_made(work, [move for move in moves if graph.may_replace(move.gone, move.new) and not _bent(work, move)])


def _split(work: MeshCost, gone: Sequence[int], vertex: int) -> Move:
    """A fan around the vertex for one face, or for two, without the edge between them, or without the open edge of one."""
    faces = [work.graph.faces[number] for number in gone]
    sides = sides_of(faces)
    return Move(gone, [(a, b, vertex) for a, b in sides if (b, a) not in sides])


def _shifts(work: MeshCost) -> Iterator[bool]:
    graph = work.graph
    for vertex in sorted(graph.around):
        if not graph.around[vertex] or not work.is_due(vertex):
            continue
        numbers = sorted(graph.around[vertex])
        corner = work.meeting(numbers, work.vertices[vertex], AROUND)
        if corner is None:
            continue
        faces = [graph.faces[number] for number in numbers]
        move = Move(numbers, faces, vertex, corner)
        if not _turned(work, faces, faces, vertex, corner) and work.saved(move) > LEAST:
            work.make(move)
            yield True


def _drops(work: MeshCost) -> Iterator[bool]:
    graph = work.graph
    for number, face in list(graph.faces.items()):
        if work.is_due(*face) and any(map(graph.is_open, sides_of([face]))) and work.saved(Move([number], [])) > 0:
            work.make(Move([number], []))
            yield True


def _best_made(work: MeshCost, moves: Sequence[Move]) -> bool:
    """The best one of some moves, where it saves anything."""
    saved = [work.saved(move) for move in moves]
    if not saved or max(saved) <= 0:
        return False
    work.make(moves[int(np.argmax(saved))])
    return True


def _short_ones_first(work: MeshCost, pairs: Sequence[Side]) -> list[Side]:
    if not pairs:
        return []
    ends = work.vertices[np.array(pairs)]
    return [pairs[at] for at in np.argsort(np.linalg.norm(ends[:, 1] - ends[:, 0], axis=1), kind="stable")]


MOVES = (_joins, _slits, _sews, _fills, _closes, _turns, _splits, _shifts, _drops)
