"""The network of gate tokens: it says the same of whole sequences and step by step, and nothing that comes later has a say."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy
from torch.nn.utils.rnn import pad_sequence

from meshgpt.cloud import Cloud
from meshgpt.gate_model import GateModel
from meshgpt.generate import Sampling, generate
from meshgpt.mesh import canonical, corners_of, sample_surface, weld
from meshgpt.model import MeshGPT

CLOSE = {"atol": 2e-4, "rtol": 2e-4}


@pytest.fixture
def network(tiny_gates) -> GateModel:
    return tiny_gates(16)


@pytest.fixture
def batch(network, val) -> tuple[torch.Tensor, torch.Tensor]:
    """Two meshes of different lengths."""
    rows = [torch.from_numpy(network.tokenizer.encode(corners_of(val.mesh(index), 16)[:20])) for index in (3, 8)]
    return pad_sequence(rows, batch_first=True), torch.tensor([len(row) for row in rows])


def nats_step_by_step(network: GateModel, seen, ids: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
    total, rows = torch.zeros(len(ids)), torch.arange(len(ids))
    writing = network.writing(seen, 40)
    for step in range(ids.shape[1] + 1):
        real = ids[:, step] if step < ids.shape[1] else torch.zeros(len(ids), 3, dtype=torch.long)
        for slot in range(3):
            logits = writing.logits(rows, real[:, :slot])
            target = real[:, slot].clone()
            if slot == 0:
                target[lengths == step] = network.tokenizer.vocab
            said = (lengths >= step) if slot == 0 else (lengths > step) & (real[:, 0] != network.tokenizer.skip)
            nats = cross_entropy(logits, target.clamp(max=logits.shape[1] - 1), reduction="none")
            total = total + torch.where(said, nats, 0)
        writing.take(real)
    return total


def test_whole_sequences_are_what_is_said_step_by_step(network, batch, surface):
    ids, lengths = batch
    drop = torch.tensor([False, True])
    with torch.no_grad():
        whole = network(ids, lengths, surface(), drop)
        torch.testing.assert_close(whole, nats_step_by_step(network, network.see(surface(), drop), ids, lengths), **CLOSE)


def test_what_comes_later_has_no_say(network, batch, surface):
    ids, lengths = batch
    with torch.no_grad():
        before = network.nats(ids, lengths, surface())
        for at in (1, 7, 15):
            shorter = network.nats(ids[:, : at + 1], torch.minimum(lengths, torch.tensor(at + 1)), surface())
            for one, two in zip(before, shorter, strict=True):
                torch.testing.assert_close(one[:, : at + 1], two[:, : at + 1], **CLOSE)


def test_padding_and_other_rows_have_no_say(network, batch, surface):
    ids, lengths = batch
    with torch.no_grad():
        both = network(ids, lengths, surface())
        for row in range(2):
            alone = network(ids[row : row + 1, : lengths[row]], lengths[row : row + 1], surface()[row : row + 1])
            torch.testing.assert_close(alone[0], both[row], **CLOSE)


def test_what_should_be_written_is_asked_for_and_not_read(network, batch, surface):
    """Another vertex is asked for at one step: only there do the nats change."""
    ids, lengths = batch
    at = int((ids[0, :, 0] != network.tokenizer.skip).nonzero()[4])
    written = ids.clone()
    written[0, at, 1] = (ids[0, at, 1] + 1) % network.tokenizer.sizes[1]
    with torch.no_grad():
        plain, same, other = (sum(network.nats(ids, lengths, surface(), written=said)) for said in (None, ids, written))
    torch.testing.assert_close(plain, same, atol=0, rtol=0)
    assert (plain != other).nonzero().tolist() == [[0, at]]


def test_every_weight_learns(network, batch, surface):
    ids, lengths = batch
    network(ids, lengths, surface(), torch.tensor([False, True])).sum().backward()
    still = [name for name, weight in network.named_parameters() if weight.grad is None or not weight.grad.any()]
    assert not still


def test_a_cloud_that_is_not_shown_has_no_say(network, surface):
    drop = torch.tensor([True, True])
    one, two = network.see(surface(seed=0), drop), network.see(surface(seed=1), drop)
    torch.testing.assert_close(one.prefix.vectors, two.prefix.vectors)
    torch.testing.assert_close(one.field, two.field)
    torch.testing.assert_close(one.places.vectors, two.places.vectors)


def test_where_a_vertex_lies_to_its_gate_is_seen(network, batch, surface):
    """The same ids over another gate are not as likely: the decoder knows more than the ids of its step."""
    ids, _ = batch
    seen = network.see(surface())
    writing = network.writing(seen, 40)
    rows = torch.arange(2)
    for step in range(4):
        writing.take(ids[:, step])
    first = writing.logits(rows, torch.zeros(2, 0, dtype=torch.long))
    writing.take(ids[:, 4])
    assert not torch.allclose(first, writing.logits(rows, torch.zeros(2, 0, dtype=torch.long)))


@pytest.mark.parametrize("guidance", [1.0, 2.0])
def test_untrained_samples_are_sound(network, surface, guidance):
    seeds = list(range(4))
    same = torch.zeros(4, dtype=torch.long)
    seen = network.see(surface(1)).select(same)
    blank = network.see(surface(1), torch.tensor([True])).select(same)
    grammar = network.tokenizer.grammar(manifold=True, faces=12)
    with torch.inference_mode():
        steps = list(generate(network, seen, blank, grammar, seeds, Sampling(1.5, guidance=guidance, max_faces=12)))
    for row in range(4):
        ids = np.array([step[row] for step in steps if step[row, 0] >= 0]).reshape(-1, 3)
        corners = network.tokenizer.decode(ids)
        np.testing.assert_array_equal(corners, canonical(corners))
        assert len(corners) <= 12
        assert len(np.unique(np.sort(weld(corners)[1], 1), axis=0)) == len(corners)


def test_steps_one_by_one_are_those_of_the_sample(network, val):
    model, sampling = MeshGPT(network.tokenizer, network, "cpu"), Sampling(max_faces=12, tries=4, settle="none")
    points = sample_surface(val.mesh(3), 1024, np.random.default_rng(0))
    cloud = Cloud(points[:, :3], points[:, 3:])
    steps = np.stack(list(model.steps(model.look(cloud, sampling=sampling), 5, sampling)))
    (sample,) = model.samples(cloud, seed=5, sampling=sampling)
    assert len(steps) == sample.steps
    assert len(model.tokenizer.decode(steps, strict=False)) == len(sample.mesh.faces) + sample.dropped > 0
