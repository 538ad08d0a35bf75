"""Faces take the place of others, and sides keep one face each way."""

from __future__ import annotations

import numpy as np
import pytest

from meshgpt.face_graph import FaceGraph, sides_of

TETRAHEDRON = np.array([(0, 2, 1), (0, 1, 3), (1, 2, 3), (2, 0, 3)])


@pytest.fixture
def closed() -> FaceGraph:
    return FaceGraph(TETRAHEDRON)


def test_a_closed_mesh_has_no_open_side(closed):
    assert closed.open_sides() == [] and not any(closed.is_border(vertex) for vertex in range(4))


def test_a_hole_has_the_ear_that_closes_it(closed):
    closed.replace([0], [])
    assert sorted(closed.open_sides()) == [(0, 1), (1, 2), (2, 0)]
    assert {frozenset(face) for face in closed.ears()} == {frozenset((0, 1, 2))}
    face = closed.ears()[0]
    assert closed.may_replace([], [face])
    closed.replace([], [face])
    assert closed.open_sides() == []


@pytest.mark.parametrize(
    ("gone", "new"),
    [
        ([], [(0, 1, 2)]),  # the same vertices the other way round
        ([], [(0, 2, 4)]),  # walks a side of face 0 as it does
        ([0], [(0, 1, 1)]),
        ([0], [(0, 2, 4), (4, 0, 2)]),
    ],
)
def test_what_may_not_be(closed, gone, new):
    assert not closed.may_replace(gone, new)


def test_restoring_gives_back_everything(closed):
    before = dict(closed.faces), dict(closed.sides), {vertex: set(numbers) for vertex, numbers in closed.around.items()}
    gone = {number: closed.faces[number] for number in (0, 1)}
    numbers = closed.replace(gone, [(0, 2, 4), (4, 2, 1)])
    closed.restore(gone, numbers)
    after = closed.faces, closed.sides, {vertex: numbers for vertex, numbers in closed.around.items() if numbers}
    assert after == before


def test_opened_sides_are_those_that_a_look_before_and_after_finds(val):
    graph, rng = FaceGraph(_clean(val.mesh(5).faces)), np.random.default_rng(0)
    for _ in range(60):
        gone = sorted(rng.choice(list(graph.faces), rng.integers(0, 4), replace=False).tolist())
        faces = [graph.faces[number] for number in gone]
        new = faces[1:] + [(c, b, a) for a, b, c in graph.ears()[:1]] * bool(rng.integers(2))
        if not graph.may_replace(gone, new):
            continue
        before, after = graph.opened(gone, new)
        looked = set(graph.open_sides())
        graph.replace(gone, new)
        then = set(graph.open_sides())
        assert looked - then == set(before) - set(after)
        assert then - looked == set(after) - set(before)


def test_a_thin_waist_may_not_be_joined():
    """Two vertices of an open border, with an edge through the inside: joined, the surface would hang together at a point."""
    graph = FaceGraph(np.array([(0, 1, 2), (2, 1, 3)]))
    assert not graph.may_join(1, 2)
    assert graph.may_join(0, 1)


def _clean(faces: np.ndarray) -> np.ndarray:
    """The first faces that walk each side once."""
    walked: set[tuple[int, int]] = set()
    kept = []
    for face in faces.tolist():
        if not walked & set(sides_of([tuple(face)])):
            walked |= set(sides_of([tuple(face)]))
            kept.append(face)
    return np.array(kept)
