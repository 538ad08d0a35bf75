"""The gate decoder by compiled loops: what the network says, whoever else is asked about."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from meshgpt import MeshGPT
from meshgpt.gate_decoder import frame_features
from meshgpt.gate_geometry import gate_of
from meshgpt.gate_loops import GateLoops
from meshgpt.gate_model import GateModel, GateWriting
from meshgpt.mesh import sample_surface

STEPS = 24


@pytest.fixture(scope="module")
def shipped() -> GateModel:
    return MeshGPT.from_pretrained(device="cpu").network


@pytest.fixture
def walks(shipped, real) -> list[np.ndarray]:
    """The first steps of real meshes: two over gates soon, and one that begins several faces of its own."""
    return [shipped.tokenizer.encode(real[index])[:STEPS] for index in (3, 8, 40)]


@pytest.fixture
def writing(shipped, val) -> GateWriting:
    with torch.inference_mode():
        clouds = [sample_surface(val.mesh(index), 2048, np.random.default_rng(0)).astype(np.float32) for index in (3, 8, 40)]
        return shipped.writing(shipped.see(torch.from_numpy(np.stack(clouds))), STEPS)


@torch.inference_mode()
def test_they_say_what_the_network_says(shipped, writing, walks):
    """Here and there a position lies between two buckets, and the last bit decides."""
    rows, apart = torch.arange(3), []
    ready = [shipped.decoder.ready(slot) for slot in range(3)]
    for at in range(STEPS):
        step = torch.from_numpy(np.stack([walk[at] for walk in walks])).long()
        for slot in range(3):
            seen = writing.seen.of(rows)
            wanted = shipped.decoder(writing.standing, step[:, None, :slot], seen.places, seen.field, slot, ready[slot])[:, 0]
            apart.append((writing.logits(rows, step[:, :slot]) - wanted).abs().flatten())
        writing.take(step)
    apart = torch.cat(apart)
    assert apart.quantile(0.999) < 1e-4
    assert apart.max() < 2


@torch.inference_mode()
def test_they_stand_where_the_network_stands(shipped, writing, walks):
    rows = torch.arange(3)
    for at in range(STEPS):
        writing.take(torch.from_numpy(np.stack([walk[at] for walk in walks])).long())
        border, field = writing.border.look([0, 1, 2]), writing.seen.of(rows).field
        gate, features = writing.loops.frames(border, field)
        wanted = gate_of(border)
        torch.testing.assert_close(tuple(gate), tuple(wanted), atol=1e-6, rtol=1e-5)
        torch.testing.assert_close(features, frame_features(border, wanted, field), atol=2e-5, rtol=1e-4)
        hidden = torch.full((3, 1, shipped.config.body.dim), 0.1)
        quick = writing.loops.stand(hidden, features, border, gate, writing.uses, field)
        slow = shipped.decoder.stand(hidden, features, border, wanted, writing.uses, field)
        torch.testing.assert_close(quick.offers, slow.offers, atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(quick.base, slow.base, atol=1e-4, rtol=1e-4)


@torch.inference_mode()
def test_who_else_is_asked_about_changes_nothing(writing, walks):
    for at in range(6):
        writing.take(torch.from_numpy(np.stack([walk[at] for walk in walks])).long())
    opened = torch.from_numpy(np.stack([walk[6 + more] for walk in walks for more in range(4)])).long()
    rows = torch.arange(3).repeat_interleave(4)
    for slot in range(3):
        together = writing.logits(rows, opened[:, :slot])
        for one in range(len(rows)):
            assert torch.equal(writing.logits(rows[one : one + 1], opened[one : one + 1, :slot])[0], together[one])


def test_where_gradients_are_wanted_they_are_left_out(shipped, tiny_gates):
    assert not GateLoops.fit(shipped.decoder)
    with torch.no_grad():
        assert GateLoops.fit(shipped.decoder)
        assert not GateLoops.fit(tiny_gates(16).bfloat16().decoder)
