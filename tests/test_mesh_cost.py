"""What a move is said to save is what it saves, and undoing it leaves no trace."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import mesh_of_solid
from trimesh.creation import box

from meshgpt.coverage import BIN
from meshgpt.mesh import Fit, Mesh, corners_of, mesh_of, sample_surface
from meshgpt.mesh_cost import CHEAPEST, FACE, FAR, MeshCost, Move, Points
from meshgpt.validity import sound


def of_real(val, index: int) -> tuple[Mesh, Points]:
    mesh = val.mesh(index)
    mesh = Mesh(Fit.of(mesh.vertices).apply(mesh.vertices), mesh.faces)
    points = Points(sample_surface(mesh, 4096, np.random.default_rng(0)), oriented=True)
    return sound(mesh_of(corners_of(mesh), 128), manifold=True), points


def moves(work: MeshCost, rng: np.random.Generator) -> list[Move]:
    """A dropped face, a turned edge, and a vertex that joins its neighbour, of those that may be."""
    graph = work.graph
    number = int(rng.choice(list(graph.faces)))
    a, b, c = graph.faces[number]
    found = [Move([number], [])]  # may always be
    if (b, a) in graph.sides:
        d = next(vertex for vertex in graph.faces[graph.sides[(b, a)]] if vertex not in (a, b))
        found.append(Move([number, graph.sides[(b, a)]], [(a, d, c), (d, b, c)]))
    gone = sorted(graph.around[a] | graph.around[b])
    joined = [tuple(b if vertex == a else vertex for vertex in graph.faces[one]) for one in gone]
    found.append(Move(gone, [face for face in joined if len(set(face)) == 3], b, (work.vertices[a] + work.vertices[b]) / 2))
    return [move for move in found if graph.may_replace(move.gone, move.new)]


@pytest.mark.parametrize("index", [3, 40, 77])
def test_undoing_leaves_no_trace(val, index):
    mesh, points = of_real(val, index)
    work, rng = MeshCost(mesh, points, 1, 800), np.random.default_rng(index)
    for _ in range(20):
        for move in moves(work, rng):
            before = work.vertices.copy(), dict(work.graph.faces), work.which.copy(), work.squared.copy(), dict(work.off)
            work.make(move)
            assert work.graph.faces != before[1]
            work.undo()
            np.testing.assert_array_equal(work.vertices, before[0])
            assert (work.graph.faces, work.off) == (before[1], before[4])
            np.testing.assert_array_equal(work.which, before[2])
            np.testing.assert_array_equal(work.squared, before[3])


@pytest.mark.parametrize("index", [3, 40, 77])
def test_points_lie_no_further_from_the_mesh_than_is_kept(val, index):
    """After many moves what is kept of each point is a face that is there, and how far it is from that one."""
    mesh, points = of_real(val, index)
    work, rng = MeshCost(mesh, points, 1, 800), np.random.default_rng(index)
    for _ in range(60):
        if len(work.graph.faces) > 10:
            work.make(moves(work, rng)[-1])
    fresh = MeshCost(Mesh(work.vertices, work.graph.array()), points, 1, 800)
    assert (fresh.squared <= work.squared + 1e-12).all()
    held = work.which >= 0
    assert set(work.which[held]) <= set(work.graph.faces)
    assert (work.squared[~held] == FAR**2).all()


def boxed(scale: float = 1.0) -> tuple[Mesh, MeshCost]:
    mesh = mesh_of_solid(box(scale * np.array((0.9, 0.6, 0.4))))
    return mesh, MeshCost(mesh, Points(sample_surface(mesh, 4096, np.random.default_rng(0)), oriented=True), 1, 800)


def test_planes_meet_in_corners_on_edges_and_where_they_are():
    mesh, work = boxed()
    everything, off = list(work.graph.faces), np.array([2.0, -1.0, 1.5]) * BIN
    np.testing.assert_allclose(work.meeting(everything, mesh.vertices[0] + off, 4 * BIN), mesh.vertices[0], atol=0.35 * BIN)
    middle = mesh.vertices[0] * (0, 1, 1)
    np.testing.assert_allclose(work.meeting(everything, middle + off, 4 * BIN), middle + off * (1, 0, 0), atol=0.35 * BIN)
    top = [number for number, face in work.graph.faces.items() if (mesh.vertices[list(face), 1] > 0).all()]
    place = np.array([0.1, 0.3, 0.05])
    np.testing.assert_allclose(work.meeting(top, place + off, 4 * BIN), place + off * (1, 0, 1), atol=0.35 * BIN)
    assert work.meeting(top, place + 5 * off, 4 * BIN) is None


def test_where_normals_are_not_known_no_planes_meet():
    mesh, _ = boxed()
    cloud = sample_surface(mesh, 1024, np.random.default_rng(0))
    cloud[:, 3:] = 0
    work = MeshCost(mesh, Points(cloud, oriented=False), 1, 800)
    np.testing.assert_array_equal(work.meeting(list(work.graph.faces), mesh.vertices[0], BIN), mesh.vertices[0])


def test_faces_cost_by_the_area_of_the_shape():
    _, whole = boxed()
    _, half = boxed(0.5)
    assert half.face == pytest.approx(whole.face / 4)
    _, tiny = boxed(0.05)
    assert tiny.face == CHEAPEST * FACE


def test_a_face_that_is_missed_costs_more_than_its_price(val):
    mesh, points = of_real(val, 3)
    work = MeshCost(mesh, points, 1, 800)
    largest = max(work.graph.faces, key=lambda number: (work.which == number).sum())
    assert work.saved(Move([largest], [])) < -FACE
    work.make(Move([largest], []))
    assert work.saved(Move([], [tuple(mesh.faces[largest].tolist())])) > FACE


def test_a_face_off_the_cloud_saves_nothing(val):
    mesh, points = of_real(val, 3)
    work = MeshCost(mesh, points, 1, 800)
    a, b, _ = work.graph.faces[0]
    away = work.new_vertex(work.vertices[a] + 20 * BIN)
    assert work.saved(Move([], [(a, b, away)])) < -FACE


def test_too_few_and_too_many_faces_are_no_bargain(val):
    mesh, points = of_real(val, 3)
    work = MeshCost(mesh, points, len(mesh.faces), len(mesh.faces))
    assert work.saved(Move([0], [])) == -np.inf
    a, b, c = work.graph.faces[0]
    middle = work.new_vertex(work.vertices[[a, b, c]].mean(0))
    assert work.saved(Move([0], [(a, b, middle), (b, c, middle), (c, a, middle)])) == -np.inf
