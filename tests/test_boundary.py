"""The boundary of the mesh so far: what it asks for is what plain counting asks for, and what real meshes do next."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from meshgpt.boundary import EXPECTED, Boundary, Vertex
from meshgpt.mesh import corners_of, weld
from meshgpt.train.sources import read_parquet

ROOT = Path(__file__).resolve().parents[1]
Face = tuple[Vertex, Vertex, Vertex]


def face(*numbers: int) -> Face:
    a, b, c = ((number,) for number in numbers)
    return a, b, c


def real_faces(count: int) -> list[list[Face]]:
    """Canonical faces of meshes that ship, as vertex numbers, which sort as canonical order does."""
    meshes = read_parquet(ROOT / "data/artist-kits/val.parquet").at_most(300)
    return [[face(*numbers) for numbers in weld(corners_of(meshes.mesh(index)))[1].tolist()] for index in range(count)]


def edges_that_wait(faces: list[Face]) -> set[tuple[Vertex, Vertex]]:
    """Edges, as they must be walked, that have been walked the other way round only."""
    walked: set[tuple[Vertex, Vertex]] = set()
    for a, b, c in faces:
        for tail, head in ((a, b), (b, c), (c, a)):
            if (head, tail) in walked:
                walked.remove((head, tail))
            else:
                walked.add((tail, head))
    return {(head, tail) for tail, head in walked}


def lowest(vertices: set[Vertex], count: int) -> list[Vertex | None]:
    return [*sorted(vertices)[:count], *[None] * count][:count]


def asked_in_words(faces: list[Face], a: Vertex, b: Vertex) -> list[list[Vertex | None]]:
    """What firsts, seconds(a) and thirds(a, b) are after these faces."""
    last, wait = faces[-1], edges_that_wait(faces)
    waiting = {vertex for edge in wait for vertex in edge}
    known = {vertex for corners in faces for vertex in corners}
    again, anew = (last[0], None) if last[0] in waiting else (None, last[0])
    firsts = [again, anew, *lowest({v for v in waiting if v > last[0]}, 2), *lowest({v for v in known if v > last[0]}, 1)]
    same = last[0] == a
    seconds = lowest({v for tail, v in wait if tail == a and v > a and (not same or v >= last[1])}, 3)
    into, out = {v for v, head in wait if head == a and v > a}, {v for tail, v in wait if tail == b and v > a}
    both = lowest(into & out, 1)
    thirds = [*both, *lowest(into - {b, *both}, 2), *lowest(out - {b, *both}, 2)]
    return [firsts, [*seconds, last[1] if same else None, last[2]], thirds]


def test_a_boundary_asks_for_what_counting_asks_for():
    rng = np.random.default_rng(0)
    soups = [[face(*rng.choice(6, 3, replace=False).tolist()) for _ in range(40)] for _ in range(5)]
    for faces in [*soups, *real_faces(5)]:
        boundary = Boundary()
        for step, (a, b, c) in enumerate(faces):
            if step:
                asked = [list(boundary.firsts()), list(boundary.seconds(a)), list(boundary.thirds(a, b))]
                assert asked == asked_in_words(faces[:step], a, b)
            boundary.add(a, b, c)


def test_nothing_is_asked_for_before_the_first_face():
    boundary, nothing = Boundary(), (None,) * EXPECTED
    assert boundary.firsts() == boundary.seconds((3,)) == boundary.thirds((3,), (4,)) == nothing


def test_a_tetrahedron_is_closed_by_what_is_asked_for():
    boundary = Boundary()
    boundary.add(*face(0, 1, 2))
    assert boundary.firsts()[0] == (0,)
    assert boundary.seconds((0,))[0] == (2,)
    boundary.add(*face(0, 2, 3))
    assert boundary.seconds((0,))[0] == (3,)
    assert boundary.thirds((0,), (3,))[1] == (1,)
    boundary.add(*face(0, 3, 1))
    assert boundary.firsts()[:3] == (None, (0,), (1,))
    assert boundary.seconds((1,))[0] == (3,)
    assert boundary.thirds((1,), (3,))[0] == (2,)
    boundary.add(*face(1, 3, 2))
    assert boundary.firsts() == (None, (1,), None, None, (2,)), "nothing waits any more"


@pytest.mark.parametrize(("place", "least"), [(0, 0.85), (1, 0.7), (2, 0.45)])
def test_artists_go_on_at_the_boundary(place, least):
    """Why it is asked: most corners of real meshes are among the few that it names (0.92, 0.79, 0.57 on sixty validation meshes)."""
    named = total = 0
    for faces in real_faces(40):
        boundary = Boundary()
        for a, b, c in faces:
            asked = (boundary.firsts(), boundary.seconds(a), boundary.thirds(a, b))[place]
            named, total = named + ((a, b, c)[place] in asked), total + 1
            boundary.add(a, b, c)
    assert least < named / total < 1
