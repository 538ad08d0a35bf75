"""Hand-made meshes and quads, pymeshlab's and trimesh's own counts, and that torn or doubled meshes score worse."""

from __future__ import annotations

import sys
from collections import Counter
from itertools import combinations

import numpy as np
import pymeshlab
import pytest
import trimesh
from conftest import mesh_of_solid

from meshgpt.mesh import Mesh
from meshgpt.topology import (
    SYSTEM_PACKAGES,
    Edges,
    boundary_edge_ratio,
    components,
    duplicate_face_share,
    joined,
    non_manifold_edge_ratio,
    non_manifold_vertex_ratio,
    score_of_quads,
    topology_score,
    watertight,
)


def mesh_of(faces: list[list[int]], vertices: np.ndarray | None = None) -> Mesh:
    """Faces on points in general position."""
    count = 1 + max(map(max, faces))
    return Mesh(np.random.default_rng(0).random((count, 3)) if vertices is None else vertices, np.array(faces))


TRIANGLE = mesh_of([[0, 1, 2]])
PAIR = mesh_of([[0, 1, 2], [0, 2, 3]])
BOOK = mesh_of([[0, 1, 2], [0, 1, 3], [0, 1, 4]])  # three pages on one spine
BOW = mesh_of([[0, 1, 2], [0, 3, 4]])  # two triangles that touch in a vertex
APART = mesh_of([[0, 1, 2], [3, 4, 5]])
DOUBLE = mesh_of([[0, 1, 2], [2, 1, 0]])


@pytest.fixture(scope="module")
def box() -> Mesh:
    return mesh_of_solid(trimesh.creation.box())


def test_boundary_edges_are_counted_over_directed_edges(tetrahedron, box):
    assert boundary_edge_ratio(TRIANGLE) == 1
    assert boundary_edge_ratio(PAIR) == pytest.approx(4 / 6)
    assert boundary_edge_ratio(BOOK) == pytest.approx(6 / 9)
    assert boundary_edge_ratio(Mesh(box.vertices, box.faces[1:])) == pytest.approx(3 / 33)
    assert boundary_edge_ratio(tetrahedron) == boundary_edge_ratio(box) == 0


def test_crowded_edges_are_counted_over_undirected_edges(box):
    assert non_manifold_edge_ratio(BOOK) == pytest.approx(1 / 7)
    assert non_manifold_edge_ratio(PAIR) == non_manifold_edge_ratio(BOW) == non_manifold_edge_ratio(box) == 0
    assert non_manifold_edge_ratio(Mesh(box.vertices, np.concatenate([box.faces, box.faces]))) == 1


def test_fans_are_counted_at_each_vertex(box):
    assert non_manifold_vertex_ratio(BOW) == pytest.approx(1 / 5)
    assert non_manifold_vertex_ratio(BOOK) == non_manifold_vertex_ratio(PAIR) == non_manifold_vertex_ratio(box) == 0
    assert non_manifold_vertex_ratio(mesh_of([[0, 1, 2], [0, 2, 3], [0, 4, 5], [0, 6, 7]])) == pytest.approx(1 / 8)


def test_pieces_hang_together_by_edges(box):
    assert [components(mesh) for mesh in (TRIANGLE, PAIR, BOOK, BOW, APART, box)] == [1, 1, 1, 2, 2, 1]


def test_watertight_is_two_faces_on_every_edge(tetrahedron, box):
    assert [watertight(mesh) for mesh in (tetrahedron, box, DOUBLE, TRIANGLE, BOOK)] == [1, 1, 1, 0, 0]
    assert watertight(Mesh(tetrahedron.vertices, tetrahedron.faces[:, [0, 2, 1]])) == 1


def test_duplicates_are_found_whichever_way_round(box):
    assert duplicate_face_share(DOUBLE) == 0.5
    assert duplicate_face_share(mesh_of([[0, 1, 2], [1, 2, 0], [0, 1, 2], [0, 1, 3]])) == 0.5
    assert duplicate_face_share(box) == 0


def test_equal_places_are_one_vertex_and_collapsed_faces_do_not_count(box):
    torn = Mesh(box.triangles().reshape(-1, 3), np.arange(36).reshape(-1, 3))
    assert (boundary_edge_ratio(torn), components(torn), watertight(torn)) == (0, 1, 1)
    signs = Mesh(
        np.array([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [-0.0, 0, 0], [1, 0, 0], [0, 0, 1]]), np.array([[0, 1, 2], [3, 5, 4], [0, 0, 1]])
    )
    assert len(joined(signs).vertices) == 4
    assert boundary_edge_ratio(signs) == pytest.approx(4 / 6)
    with pytest.raises(ValueError, match="none of the 1 faces has three different vertices"):
        watertight(Mesh(signs.vertices, np.array([[0, 3, 1]])))
    with pytest.raises(ValueError, match="none of the 0 faces"):
        components(Mesh(signs.vertices, np.zeros((0, 3), np.int64)))


def torn_up(mesh: Mesh, seed: int) -> Mesh:
    """Some faces gone, some vertices sewn together, some faces added: open, crowded and in pieces."""
    rng = np.random.default_rng(seed)
    faces = mesh.faces[rng.random(len(mesh.faces)) < 0.7]
    extra = rng.integers(0, len(mesh.vertices), (10, 3))
    return joined(Mesh(mesh.vertices, np.concatenate([faces, extra])))


@pytest.mark.parametrize("index", [3, 10, 50, 77])
def test_counts_agree_with_pymeshlab_and_trimesh_on_real_meshes(val, index):
    for mesh in (joined(val.mesh(index)), torn_up(val.mesh(index), index)):
        meshes = pymeshlab.MeshSet()
        meshes.add_mesh(pymeshlab.Mesh(mesh.vertices, mesh.faces))
        theirs = meshes.get_topological_measures()
        uses = Edges.of(mesh).uses
        assert theirs["edges_number"] == len(uses)
        assert theirs["boundary_edges"] == (uses == 1).sum()
        assert (theirs["non_two_manifold_edges"] > 0) == (uses > 2).any()  # it counts some such edges once for each of their faces
        counted = Counter(frozenset(pair) for face in mesh.faces.tolist() for pair in combinations(face, 2))
        assert non_manifold_edge_ratio(mesh) == sum(count > 2 for count in counted.values()) / len(counted)
        assert theirs["connected_components_number"] == components(mesh)
        by_trimesh = trimesh.Trimesh(mesh.vertices, mesh.faces, process=False)
        assert by_trimesh.is_watertight == watertight(mesh)
        if not (uses > 2).any():
            assert theirs["non_two_manifold_vertices"] == round(non_manifold_vertex_ratio(mesh) * len(mesh.vertices))


def test_fans_agree_with_walking_around_each_vertex(val):
    for mesh in (BOW, BOOK, torn_up(val.mesh(10), 0), torn_up(val.mesh(3), 1)):
        crowded = sum(len(walked_fans(mesh, vertex)) > 1 for vertex in np.unique(mesh.faces))
        assert non_manifold_vertex_ratio(mesh) == pytest.approx(crowded / len(np.unique(mesh.faces)))


def walked_fans(mesh: Mesh, vertex: int) -> list[set[int]]:
    """The other vertices of the faces at a vertex, in groups that edges connect."""
    fans: list[set[int]] = []
    for face in mesh.faces[(mesh.faces == vertex).any(1)].tolist():
        others = set(face) - {vertex}
        fans = [*(fan for fan in fans if not fan & others), others.union(*(fan for fan in fans if fan & others))]
    return fans


SQUARE = np.array([[0.0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]])
ONE_QUAD = np.array([[0, 1, 2, 3]])


def test_one_square_scores_everything_but_neighbours():
    assert score_of_quads(SQUARE, ONE_QUAD, 0) == pytest.approx(90)
    assert score_of_quads(SQUARE, ONE_QUAD, 1) == pytest.approx(70)  # half of the polygons are quads


def test_two_squares_score_everything():
    vertices = np.concatenate([SQUARE, [[2, 0, 0], [2, 1, 0]]])
    assert score_of_quads(vertices, np.array([[0, 1, 2, 3], [1, 4, 5, 2]]), 0) == pytest.approx(100)


def test_a_rectangle_loses_evenness():
    """Sides 2, 1, 2, 1: no stretch, mean side / longest side 0.75."""
    assert score_of_quads(SQUARE * [2, 1, 1], ONE_QUAD, 0) == pytest.approx(100 * (0.4 + 0.3 * (0.5 + 0.5 * 0.75) + 0.2))


def test_a_trapezoid_by_hand():
    """Sides 4, sqrt 2, 2, sqrt 2: the parallel ones stretch 2 : 1, corners of 45 and 135 degrees."""
    vertices = np.array([[0.0, 0, 0], [4, 0, 0], [3, 1, 0], [1, 1, 0]])
    shape = 0.5 / 2 + 0.5 * (6 + 2 * np.sqrt(2)) / 16
    assert score_of_quads(vertices, ONE_QUAD, 0) == pytest.approx(100 * (0.4 + 0.3 * shape + 0.2 * 0.5))


def test_neighbours_of_unlike_stretch_by_hand():
    """A square beside a trapezoid of stretch 2: their difference is 1, so both are half consistent."""
    vertices = np.concatenate([SQUARE, [[2, -0.5, 0], [2, 1.5, 0]]])
    quads = np.array([[0, 1, 2, 3], [1, 4, 5, 2]])
    side = np.hypot(1, 0.5)
    shape = 0.5 / 1.5 + 0.5 * (1 + (3 + 2 * side) / 8) / 2
    steep = np.degrees(np.arctan2(1, 0.5))
    angle = 1 - ((90 - (90 + steep) / 2) + ((90 + 180 - steep) / 2 - 90)) / 180
    assert score_of_quads(vertices, quads, 0) == pytest.approx(100 * (0.4 + 0.3 * shape + 0.2 * angle + 0.1 * 0.5))
    triangles = score_of_quads(vertices, quads, 2)
    assert triangles == pytest.approx(100 * (0.4 * 0.5 + 0.3 * shape + 0.2 * angle + 0.1 * 0.5))


def test_no_quads_and_no_polygons():
    none = np.zeros((0, 4), np.int64)
    assert score_of_quads(SQUARE, none, 5) == pytest.approx(15)
    assert score_of_quads(SQUARE, none, 0) == 0


def test_quads_without_extent_score_finitely():
    for flat in (np.zeros((4, 3)), SQUARE[[0, 0, 2, 3]], SQUARE[[0, 1, 1, 0]]):
        assert 0 <= score_of_quads(flat, ONE_QUAD, 0) < 90


def test_a_grid_scores_full_marks_and_a_lone_triangle_fifteen():
    side = np.stack(np.meshgrid(range(6), range(6), indexing="ij"), -1).reshape(-1, 2)
    at = np.arange(36).reshape(6, 6)
    a, b, c, d = at[:-1, :-1], at[1:, :-1], at[1:, 1:], at[:-1, 1:]
    faces = np.concatenate([np.stack([a, b, c], -1).reshape(-1, 3), np.stack([a, c, d], -1).reshape(-1, 3)])
    assert topology_score(Mesh(np.pad(side, ((0, 0), (0, 1))).astype(float), faces)) == pytest.approx(100)
    assert topology_score(TRIANGLE) == pytest.approx(15)


def test_the_quads_scored_are_those_that_pymeshlab_makes(val):
    """Every triangle is in a quad or left over, and the score is that of both."""
    mesh = joined(val.mesh(50))
    meshes = pymeshlab.MeshSet()
    meshes.add_mesh(pymeshlab.Mesh(mesh.vertices, mesh.faces))
    meshes.meshing_repair_non_manifold_edges()
    meshes.meshing_remove_duplicate_faces()
    meshes.meshing_tri_to_quad_dominant(level=1)
    polygons = meshes.current_mesh().polygonal_face_list()
    quads = np.array([polygon for polygon in polygons if len(polygon) == 4], np.int64)
    triangles = sum(len(polygon) == 3 for polygon in polygons)
    assert triangles and len(quads)
    assert 2 * len(quads) + triangles == len(mesh.faces)
    assert topology_score(mesh) == pytest.approx(score_of_quads(meshes.current_mesh().vertex_matrix(), quads, triangles))


def test_a_missing_library_is_named(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "pymeshlab", None)
    with pytest.raises(ImportError, match=r"needs pymeshlab, which is not here; pip install 'meshgpt\[evaluate\]'"):
        topology_score(TRIANGLE)
    monkeypatch.delitem(sys.modules, "pymeshlab")
    (tmp_path / "pymeshlab.py").write_text("raise ImportError('libGL.so.1: cannot open shared object file')")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ImportError, match=rf"libGL.so.1.*apt-get install {SYSTEM_PACKAGES}$"):
        topology_score(TRIANGLE)
    (tmp_path / "pymeshlab.py").write_text("def filter_list():\n    return ['another_filter']\n")
    with pytest.raises(ImportError, match=rf"without its filters.*apt-get install {SYSTEM_PACKAGES}$"):
        topology_score(TRIANGLE)


@pytest.mark.parametrize("index", [3, 10, 50])
def test_damage_makes_real_meshes_score_worse(val, index):
    mesh = val.mesh(index)
    rng = np.random.default_rng(0)
    holes = Mesh(mesh.vertices, mesh.faces[rng.random(len(mesh.faces)) < 0.5])
    doubled = Mesh(mesh.vertices, np.concatenate([mesh.faces, mesh.faces[::2, ::-1]]))
    rough = Mesh(mesh.vertices + rng.normal(0, 0.05, mesh.vertices.shape), mesh.faces)
    assert boundary_edge_ratio(holes) > boundary_edge_ratio(mesh)
    assert watertight(holes) == 0
    assert non_manifold_vertex_ratio(holes) > non_manifold_vertex_ratio(mesh)
    assert components(holes) > components(mesh)
    assert duplicate_face_share(doubled) > duplicate_face_share(mesh)
    assert non_manifold_edge_ratio(doubled) > non_manifold_edge_ratio(mesh)
    assert topology_score(rough) < topology_score(mesh)
    assert topology_score(holes) < topology_score(mesh)
