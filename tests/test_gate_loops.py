"""The gate decoder by compiled loops: what the network says, whoever else is asked about."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from meshgpt import MeshGPT
from meshgpt.gate_loops import GateLoops
from meshgpt.gate_model import GateModel, GateWriting
from meshgpt.mesh import sample_surface
from meshgpt.tokenizer.walk_machine import STAGE

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
def test_they_stand_where_the_network_stands(writing, walks):
    """Also behind a gate that was skipped, and whichever rows are read."""
    slow = GateWriting(writing.network, writing.seen.each, STEPS)
    slow.loops = None
    skip = torch.tensor([[writing.network.tokenizer.skip, 0, 0]])
    for at in range(STEPS):
        step, rows = torch.from_numpy(np.stack([walk[at] for walk in walks])).long(), [0, 1, 2]
        if at % 5 == 4 and writing.border.walks[0][STAGE] == 0:
            step, rows = skip, [0]
        writing.take(step, rows)
        slow.take(step, rows)
        quick, wanted = writing.standing, slow.standing
        torch.testing.assert_close(tuple(quick.gate)[:3], tuple(wanted.gate)[:3], atol=1e-6, rtol=1e-5)
        torch.testing.assert_close(quick.offers, wanted.offers, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(quick.base, wanted.base, atol=2e-3, rtol=1e-3)
        for name in ("guess", "references", "uses"):
            assert torch.equal(getattr(quick, name), getattr(wanted, name))
        for name in ("candidates", "there"):
            assert torch.equal(getattr(quick.border, name), getattr(wanted.border, name))


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
