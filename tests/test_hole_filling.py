"""Holes are found, and closed by the triangles that lie on the cloud."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import mesh_of_solid
from trimesh.creation import box

from meshgpt.face_graph import FaceGraph, sides_of
from meshgpt.hole_filling import HOLE, Prices, fillings, open_loops, polygons_without, triangles_of
from meshgpt.mesh import Fit, Mesh, face_normals, sample_surface
from meshgpt.mesh_cost import MeshCost, Move, Points
from meshgpt.tidy import tidied
from meshgpt.topology import Edges, watertight

# Of a box, counterclockwise.
SIDE = [(-0.4, -0.25, 0.2), (0.4, -0.25, 0.2), (0.4, 0.25, 0.2), (-0.4, 0.25, 0.2)]


def without(mesh: Mesh, numbers) -> Mesh:
    return Mesh(mesh.vertices, np.delete(mesh.faces, list(numbers), axis=0))


def cost_of(mesh: Mesh, whole: Mesh) -> MeshCost:
    return MeshCost(mesh, Points(sample_surface(whole, 8192, np.random.default_rng(0)).astype(np.float64), oriented=True), 1, 800)


def area(mesh: Mesh) -> float:
    return float(np.linalg.norm(face_normals(mesh.triangles()), axis=1).sum() / 2)


@pytest.fixture(scope="module")
def l_block() -> Mesh:
    """A block whose top is an L: a polygon that cannot be cut anyhow."""
    outline = [(-0.4, -0.4), (0.4, -0.4), (0.4, -0.1), (-0.1, -0.1), (-0.1, 0.4), (-0.4, 0.4)]
    vertices = [(x, y, z) for z in (0.0, 0.3) for x, y in outline]
    top = [(6, 7, 8), (6, 8, 9), (6, 9, 10), (6, 10, 11)]
    bottom = [(c - 6, b - 6, a - 6) for a, b, c in top]
    walls = [face for a, b in zip(range(6), (1, 2, 3, 4, 5, 0), strict=True) for face in ((a, b, b + 6), (a, b + 6, a + 6))]
    return Mesh(np.array(vertices), np.array([*top, *bottom, *walls]))


@pytest.fixture(scope="module")
def topless(l_block) -> Mesh:
    return without(l_block, range(4))


def test_a_closed_mesh_has_no_hole(l_block):
    assert open_loops(FaceGraph(l_block.faces)) == []


def test_a_hole_is_found_once(topless):
    loops = open_loops(FaceGraph(topless.faces))
    assert len(loops) == 1 and len(loops[0]) == 6
    assert all(loops[0][at][1] == loops[0][(at + 1) % 6][0] for at in range(6))


def test_holes_that_share_a_corner_are_two():
    solid = mesh_of_solid(box((0.9, 0.6, 0.4)))
    a, b = next(
        (a, b) for a in range(12) for b in range(a) if len(set(solid.faces[a]) & set(solid.faces[b])) == 1
    )  # two faces with one corner in common
    assert sorted(map(len, open_loops(FaceGraph(without(solid, (a, b)).faces)))) == [3, 3]


def test_long_holes_are_left_alone():
    """The border of a sheet of many faces."""
    side = HOLE // 4 + 2
    grid = np.arange((side + 1) ** 2).reshape(side + 1, side + 1)
    corners = np.stack([grid[:-1, :-1], grid[1:, :-1], grid[1:, 1:], grid[:-1, 1:]], -1).reshape(-1, 4)
    assert open_loops(FaceGraph(np.concatenate([corners[:, [0, 1, 2]], corners[:, [0, 2, 3]]]))) == []


def test_a_polygon_with_a_notch_is_filled_inside(l_block, topless):
    """The new faces have the area that was missing, and look the way it did."""
    work = cost_of(topless, l_block)
    (loop,) = open_loops(work.graph)
    faces = triangles_of(work.graph, Prices(work), [corner for corner, _ in loop], ())
    assert len(faces) == 4 and work.graph.may_replace((), faces)
    work.make(Move((), faces))
    done, _ = work.mesh()
    assert watertight(done) == 1
    assert area(done) == pytest.approx(area(l_block), rel=1e-9)


def test_a_line_that_has_its_faces_is_not_crossed(l_block, topless):
    """New faces may not meet on an edge that has two already."""
    work = cost_of(topless, l_block)
    polygon = [corner for corner, _ in open_loops(work.graph)[0]]
    free = triangles_of(work.graph, Prices(work), polygon, ())
    a, b = next((a, b) for a, b in sides_of(free) if (b, a) in sides_of(free))
    fin = work.new_vertex(np.array((0.0, 0.0, 0.45)))
    work.graph.replace([], [(a, b, fin), (b, a, work.new_vertex(np.array((0.0, 0.1, 0.45))))])
    new = triangles_of(work.graph, Prices(work), polygon, ())
    assert new and not any({a, b} <= set(face) for face in new)
    assert work.graph.may_replace((), new)


def test_what_is_open_without_a_face_is_a_polygon_too(topless):
    graph = FaceGraph(topless.faces)
    (loop,) = open_loops(graph)
    number = graph.sides[loop[0]]
    (polygon,) = polygons_without(graph, loop, [number])
    assert len(polygon) == 7 and set(graph.faces[number]) <= set(polygon)
    far = next(other for other, face in graph.faces.items() if not set(face) & {corner for corner, _ in loop})
    assert sorted(map(len, polygons_without(graph, loop, [far]))) == [3, 6]


def test_a_face_that_covers_the_hole_is_given_up():
    """As the model leaves it: one corner of a side of a box is there twice, and two of the faces there lie on each other, so that the hole
    lies under them and none can fill it."""
    whole = mesh_of_solid(box((0.8, 0.5, 0.4)))
    a, b, c, d = (int(np.linalg.norm(whole.vertices - corner, axis=1).argmin()) for corner in SIDE)
    side = [number for number, face in enumerate(whole.faces) if set(face) <= {a, b, c, d}]
    p = len(whole.vertices)
    faces = np.concatenate([without(whole, side).faces, [(a, b, d), (b, c, p), (p, c, d)]])
    beside = np.add(SIDE[0], (0.005, 0.01, 0))
    mesh = Mesh(np.concatenate([whole.vertices, beside[None]]), faces)
    work = cost_of(mesh, whole)
    (loop,) = open_loops(work.graph)
    assert set(loop) == {(b, d), (d, p), (p, b)}
    gains = [(work.saved(move), move) for move in fillings(work, loop)]
    plain = [gain for gain, move in gains if not move.gone]
    gain, best = max(gains, key=lambda pair: pair[0])
    assert best.gone and gain > max([*plain, 0.0])
    work.make(best)
    assert watertight(work.mesh()[0]) == 1


def test_tidying_closes_what_a_real_mesh_lost(val):
    """Every tenth face of closed meshes is gone."""
    closed = 0
    for index in range(0, 100, 9):
        mesh = val.mesh(index)
        if not watertight(mesh):
            continue
        whole = Mesh(Fit.of(mesh.vertices).apply(mesh.vertices), mesh.faces)
        cloud = sample_surface(whole, 8192, np.random.default_rng(1)).astype(np.float64)
        done = tidied(without(whole, range(0, len(whole.faces), 10)), cloud)
        closed += 1
        assert (Edges.of(done).uses == 1).sum() <= 3, val.ids[index]
    assert closed >= 3


@pytest.mark.parametrize("oriented", [True, False])
def test_a_sheet_is_not_closed_with_its_own_back(oriented):
    """Where faces may face either way its back lies on the cloud as well."""
    sheet = Mesh(np.array(SIDE), np.array([(0, 1, 2), (0, 2, 3)]))
    cloud = sample_surface(sheet, 4096, np.random.default_rng(0)).astype(np.float64)
    work = MeshCost(sheet, Points(cloud, oriented), 1, 800)
    (loop,) = open_loops(work.graph)
    assert all(work.saved(move) < 0 for move in fillings(work, loop))


def test_no_hole_is_filled_with_a_face_that_has_no_area():
    """Three open edges on one line."""
    whole = mesh_of_solid(box((0.8, 0.5, 0.4)))
    a, b, c = (len(whole.vertices) + at for at in range(3))
    line = [(-0.4, 0.3, 0.0), (0.0, 0.3, 0.0), (0.4, 0.3, 0.0)]
    tips = [(-0.2, 0.4, 0.0), (0.2, 0.4, 0.0), (0.0, 0.2, 0.0)]
    faces = [*whole.faces.tolist(), (a, b, c + 1), (b, c, c + 2), (c, a, c + 3)]
    mesh = Mesh(np.array([*whole.vertices.tolist(), *line, *tips]), np.array(faces))
    work = cost_of(mesh, whole)
    polygon = [a, b, c]
    assert triangles_of(work.graph, Prices(work), polygon, ()) == []
    done = tidied(mesh, sample_surface(whole, 4096, np.random.default_rng(0)).astype(np.float64))
    assert (np.linalg.norm(face_normals(done.triangles()), axis=1) > 1e-12).all()
