"""Gates have upright frames, wherever they are; the distance to a cloud is what a tree of its points says."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.spatial import KDTree

from meshgpt.border import CANDIDATES, Border, borders_along
from meshgpt.gate_geometry import BUCKETS, beyond, buckets, gate_of, local, nearness
from meshgpt.mesh import canonical, sample_surface, weld
from meshgpt.nearest import distance_field, look_up
from meshgpt.tokenizer import GatesTokenizer

TOKENIZER = GatesTokenizer()


@pytest.fixture(scope="module")
def border(real) -> Border:
    ids = torch.from_numpy(TOKENIZER.encode(real[10]))[None]
    return borders_along(TOKENIZER, ids, torch.tensor([ids.shape[1]]))


def test_the_border_is_what_the_walk_is_placed_upon(border, real):
    """Over a gate the face's three corners are b, a and the vertex that is written; the gate's own face is there already."""
    ids = TOKENIZER.encode(real[10])
    places, _ = TOKENIZER.places_of(ids)
    faces = {frozenset(map(tuple, face)) for face in real[10].tolist()}
    corners = ((border.corners[0] + 0.5) * TOKENIZER.bins - 0.5).round().long().tolist()
    over = [at for at in range(len(ids)) if border.stage[0, at] == 0 and places[at] >= 0]
    assert len(over) > len(faces) / 2
    for at in over:
        a, b, c, _, _ = map(tuple, corners[at])
        vertex = (int(places[at] & 1023), int(places[at] >> 20), int(places[at] >> 10 & 1023))
        assert frozenset((a, b, vertex)) in faces
        assert frozenset((a, b, c)) in faces


def test_most_vertices_that_are_used_again_are_offered(border, real):
    ids = torch.from_numpy(TOKENIZER.encode(real[10]))
    seen, offered, again = set(), 0, 0
    for at, vertex in enumerate(map(tuple, ids.tolist())):
        if vertex in seen and vertex[0] != TOKENIZER.skip and border.stage[0, at] == 0:
            again += 1
            offered += bool((border.candidates[0, at] == ids[at]).all(-1)[border.there[0, at]].any())
        seen.add(vertex)
    assert again > 20
    assert offered / again > 0.9
    assert border.candidates.shape[2] == CANDIDATES


def test_what_is_offered_lies_where_its_ids_say(border):
    bins = sum(TOKENIZER.shifts[level][border.candidates[..., level]] for level in range(3))
    apart = ((bins + 0.5) / TOKENIZER.bins - 0.5 - border.positions).norm(dim=-1)
    assert float(apart[border.there].max()) < 1e-6


def test_frames_are_upright_and_turn_with_the_mesh(border):
    gate = gate_of(border)
    identity = torch.eye(3).expand_as(gate.axes)
    torch.testing.assert_close(gate.axes @ gate.axes.transpose(-1, -2), identity, atol=1e-5, rtol=0)
    over = border.stage == 0
    a, b, c = border.corners[over][:, 0], border.corners[over][:, 1], border.corners[over][:, 2]
    along = torch.nn.functional.normalize(b - a, dim=-1)
    torch.testing.assert_close(gate.axes[over][:, 0], along, atol=1e-5, rtol=0)
    inward = (gate.axes[over][:, 1] * (c - a)).sum(-1)
    assert bool((inward <= 1e-6).all()), "outward is away from the face of the gate"
    turn = torch.tensor([[0.0, 0, 1], [0, 1, 0], [-1, 0, 0]])
    turned = border._replace(corners=border.corners @ turn.T)
    torch.testing.assert_close(local(gate_of(turned), turned.corners)[over], local(gate, border.corners)[over], atol=1e-5, rtol=0)


def test_the_corner_of_a_parallelogram_is_a_gate_away(border):
    gate, over = gate_of(border), border.stage == 0
    found = buckets(gate, border.corners[:, :, :2])[over] - BUCKETS // 2
    assert found[:, 0].tolist() == [[-4, 0, 0]] * len(found), "a is half a gate behind the middle"
    assert found[:, 1].tolist() == [[4, 0, 0]] * len(found)
    torch.testing.assert_close(gate.guess[over], border.corners[over][:, :2].sum(1) - border.corners[over][:, 2])


def test_a_gate_of_no_length_is_finite():
    nothing = Border(torch.zeros(1, 4, 5, 3), torch.arange(4)[None], *(None,) * 3)
    gate = gate_of(nothing)
    assert all(bool(part.isfinite().all()) for part in gate)
    begun = gate.axes[:, 1:3]
    torch.testing.assert_close(begun @ begun.transpose(-1, -2), torch.eye(3).expand(1, 2, 3, 3))


def test_distances_are_those_of_the_points(val):
    surface = sample_surface(val.mesh(3), 2048, np.random.default_rng(0)).astype(np.float32)
    field = distance_field(torch.from_numpy(surface)[None], 32)
    positions = np.random.default_rng(1).uniform(-0.48, 0.48, (500, 3)).astype(np.float32)
    found = look_up(field, torch.from_numpy(positions)[None])[0].numpy()
    apart = KDTree(surface[:, :3]).query(positions)[0]
    assert np.abs(found - apart).max() < 0.03
    assert np.abs(found - apart).mean() < 0.01
    on = look_up(field, torch.from_numpy(surface[None, :, :3]))[0]
    assert float(on.mean()) < 0.03


def test_beyond_a_gate_in_a_plane_the_surface_goes_straight_on():
    rng = np.random.default_rng(0)
    plane = np.zeros((1, 4096, 6), dtype=np.float32)
    plane[0, :, [0, 2]] = rng.uniform(-0.5, 0.5, (2, 4096))
    a, b, c = torch.tensor([0.05, 0, 0]), torch.tensor([-0.05, 0, 0]), torch.tensor([0.0, 0, 0.1])
    border = Border(torch.stack([a, b, c, a, b])[None, None], torch.zeros(1, 1, dtype=torch.long), *(None,) * 3)
    fan = beyond(gate_of(border), distance_field(torch.from_numpy(plane), 32)).view(4, 7, 2)
    assert fan[[1, 3], :, 1].argmax(1).tolist() == [3, 3], "a tenth of the cube away; nearer than a cell all ways are alike"


def test_nearness_falls_with_the_distance():
    field = torch.linspace(0, 0.2, 32)[None, None, None].expand(1, 32, 32, 32)
    near = nearness(field, torch.tensor([[[[-0.45, 0, 0], [0.0, 0, 0], [0.45, 0, 0]]]]))
    assert bool((near[0, 0].diff(dim=0) < 0).all())
    assert float(near.max()) <= 1


def test_faces_of_two_meshes_do_not_meet(real):
    """A shorter row is padded with what is there at its end, and the rows of a batch do not know of each other."""
    rows = [torch.from_numpy(TOKENIZER.encode(mesh)) for mesh in (real[10], real[11])]
    lengths = torch.tensor([len(row) for row in rows])
    ids = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
    both = borders_along(TOKENIZER, ids, lengths)
    for row, (alone, length) in enumerate(zip(rows, lengths.tolist(), strict=True)):
        single = borders_along(TOKENIZER, alone[None], torch.tensor([length]))
        for one, many in zip(single, both, strict=True):
            assert torch.equal(one[0, : length + 1], many[row, : length + 1])


def test_a_closed_mesh_ends_without_a_gate():
    places = np.array([[0, 0, 0], [9, 0, 0], [0, 9, 0], [0, 0, 9]])
    ids = torch.from_numpy(TOKENIZER.encode(canonical(places[np.array([[0, 1, 2], [0, 3, 1], [0, 2, 3], [1, 3, 2]])])))
    border = borders_along(TOKENIZER, ids[None], torch.tensor([len(ids)]))
    assert border.stage[0].tolist() == [1, 2, 3, 0, 0, 0, 1]
    assert not border.there[0, 0].any()
    gate = gate_of(border)
    assert all(bool(part.isfinite().all()) for part in gate)
    torch.testing.assert_close(gate.axes @ gate.axes.transpose(-1, -2), torch.eye(3).expand_as(gate.axes))
    assert len(weld(TOKENIZER.decode(ids.numpy()))[0]) == 4
