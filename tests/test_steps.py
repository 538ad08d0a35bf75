"""The autoregressive model: what it says of whole sequences is what it says step by step, whoever stands beside them."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.nn.functional import cross_entropy

from meshgpt.boundary import EXPECTED
from meshgpt.conditioners import Condition
from meshgpt.depth import DepthDecoder
from meshgpt.memory import HINTS, Memory, RunningMemory, remember
from meshgpt.steps import Seen, StepModel

CLOSE = {"rtol": 1e-4, "atol": 1e-3}

# vocab, width, spell, places
KINDS = [(11, 9, 3, False), (11, 9, 3, True), (7, 6, 2, True), (5, 3, 1, True), (13, 4, 4, False)]


@pytest.fixture(params=KINDS, ids=str)
def network(request, tiny_steps) -> StepModel:
    return tiny_steps(*request.param)


def random_ids(network: StepModel, rows: int = 2, steps: int = 7, seed: int = 0) -> torch.Tensor:
    return torch.randint(network.config.vocab, (rows, steps, network.config.width), generator=torch.Generator().manual_seed(seed))


def full(ids: torch.Tensor) -> torch.Tensor:
    return torch.full((len(ids),), ids.shape[1])


@torch.no_grad()
def nats_step_by_step(network: StepModel, seen: Seen, ids: torch.Tensor) -> torch.Tensor:
    """As generation does it, with the ids given."""
    rows, steps, width = ids.shape
    cache, hidden = network.begin(seen, steps)
    memory = RunningMemory(rows, width, network.depth.shifts, network.config.bins, ids.device)
    total = torch.zeros(rows)
    for step in range(steps + 1):
        if step == steps:
            opened = ids[:, 0, :0]
            logits = network.slot_logits(hidden, opened, memory.within_step(opened), seen)
            return total + cross_entropy(logits, torch.full((rows,), network.config.vocab), reduction="none")
        for slot in range(width):
            opened = ids[:, step, :slot]
            logits = network.slot_logits(hidden, opened, memory.within_step(opened), seen)
            assert logits.shape == (rows, network.config.vocab + (slot == 0)), "END belongs to slot 0 and to no other"
            total += cross_entropy(logits, ids[:, step, slot], reduction="none")
        memory.advance(ids[:, step])
        hidden = network.read_step(ids[:, step], seen, cache)


@torch.no_grad()
def test_whole_sequences_cost_what_their_steps_cost(network, surface):
    ids, points = random_ids(network, rows=3), surface(3)
    drop = torch.tensor([False, True, False])
    whole = network(ids, full(ids), points, drop)
    torch.testing.assert_close(whole, nats_step_by_step(network, network.see(points, drop), ids), **CLOSE)


@torch.no_grad()
def test_each_slot_is_a_distribution(network, surface):
    """All continuations of one step together are certain: the sum over the ids of the first slot, END included, is one."""
    points = surface(1)
    cache, hidden = network.begin(network.see(points), 1)
    memory = RunningMemory(1, network.config.width, network.depth.shifts, network.config.bins, hidden.device)
    opened = torch.zeros(1, 0, dtype=torch.long)
    logits = network.slot_logits(hidden, opened, memory.within_step(opened), network.see(points))
    end = network(torch.zeros(1, 0, network.config.width, dtype=torch.long), torch.tensor([0]), points)
    torch.testing.assert_close(end, -logits.log_softmax(-1)[:, -1], **CLOSE)
    assert cache.capacity == network.config.cloud.vectors + 2


def slots_of(network: StepModel, ids: torch.Tensor, points: torch.Tensor) -> list[torch.Tensor]:
    """Logits of every slot of every step, of whole sequences."""
    seen = network.see(points)
    memory = remember(ids, network.depth.shifts, network.config.bins)
    hidden = network._read(ids, seen)
    return list(network.depth(hidden, network._with_end_row(ids), memory, seen.places, range(network.config.width)))


@torch.no_grad()
def test_a_slot_sees_what_stands_before_it_and_nothing_else(network, surface):
    ids, points, width = random_ids(network), surface(), network.config.width
    before = slots_of(network, ids, points)
    step = 3
    for slot in range(width):
        changed = ids.clone()
        changed[:, step, slot] = (changed[:, step, slot] + 1) % network.config.vocab
        after = slots_of(network, changed, points)
        for other in range(width):
            apart = (after[other] - before[other]).abs().amax(-1)
            sees = step + (other <= slot)  # the first step whose slot `other` may differ
            assert not apart[:, :sees].any(), f"slot {other} sees slot {slot}, which comes later"
            assert (apart[:, sees:] > 1e-5).all(), f"slot {other} of steps {sees} .. does not see slot {slot} of step {step}"


@torch.no_grad()
def test_only_slot_0_knows_end(network, surface):
    widths = [logits.shape[-1] for logits in slots_of(network, random_ids(network), surface())]
    assert widths == [network.config.vocab + 1] + [network.config.vocab] * (network.config.width - 1)


@torch.no_grad()
def test_a_row_costs_the_same_alone_and_padded_among_others(network, surface):
    ids, points = random_ids(network, rows=4, steps=9), surface(4)
    lengths = torch.tensor([9, 4, 0, 6])
    together = network(ids, lengths, points)
    junk = ids.clone()
    for row, length in enumerate(lengths.tolist()):
        alone = network(ids[row : row + 1, :length], lengths[row : row + 1], points[row : row + 1])
        torch.testing.assert_close(together[row : row + 1], alone, **CLOSE)
        junk[row, length:] = 1
    torch.testing.assert_close(network(junk, lengths, points), together, **CLOSE)


def test_gradients_reach_every_weight_and_are_finite(network, surface):
    ids = random_ids(network, rows=4, steps=9)
    nats = network(ids, torch.tensor([9, 4, 1, 6]), surface(4), torch.tensor([False, False, False, True]))
    nats.sum().backward()
    for name, weight in network.named_parameters():
        if network.config.spell == 1 and name in ("depth.trust", "depth.touch"):
            continue  # vertices of one id have no second one to hint at
        assert weight.grad is not None, f"{name} has no say"
        assert torch.isfinite(weight.grad).all(), name
        assert weight.grad.any(), f"{name} has no say"


@torch.no_grad()
def test_who_sees_nothing_does_not_see_the_points(network, surface):
    ids = random_ids(network)
    drop = torch.tensor([False, True])
    one, two = (network(ids, full(ids), surface(seed=seed), drop) for seed in (0, 1))
    assert abs(one[0] - two[0]) > 1e-3
    torch.testing.assert_close(one[1], two[1], rtol=0, atol=0)
    seen = network.see(surface(), drop)
    torch.testing.assert_close(seen.prefix.vectors[1], network.cloud.nothing)
    if network.surroundings is not None:
        torch.testing.assert_close(seen.places.vectors[1], network.surroundings.nothing.expand(network.config.vocab, -1))


@torch.no_grad()
def test_the_points_matter_and_their_order_does_not(network, surface):
    ids, points = random_ids(network), surface()
    nats = network(ids, full(ids), points)
    torch.testing.assert_close(network(ids, full(ids), points[:, torch.randperm(64)]), nats, **CLOSE)
    assert ((network(ids, full(ids), points + 0.05) - nats).abs() > 1e-3).all()


@torch.no_grad()
def test_padding_of_the_prefix_changes_nothing(network, surface, monkeypatch):
    ids, points = random_ids(network), surface()
    nats = network(ids, full(ids), points)
    seen = network.see(points)
    for at in (0, 2, 4):
        vectors, keep = seen.prefix
        junk = 100 * torch.randn(2, 3, vectors.shape[2])
        longer = Condition(
            torch.cat([vectors[:, :at], junk, vectors[:, at:]], 1), torch.cat([keep[:, :at], torch.zeros(2, 3) > 0, keep[:, at:]], 1)
        )
        monkeypatch.setattr(network, "see", lambda *_, longer=longer: replace(seen, prefix=longer))
        torch.testing.assert_close(network(ids, full(ids), points), nats, **CLOSE)
        with pytest.raises(ValueError, match=r"^the prefix of a generation holds padding; pass conditions of equal length together$"):
            network.begin(network.see(points), 5)


@torch.no_grad()
def test_rows_of_what_is_seen_can_be_chosen_and_joined(network, surface):
    ids, points = random_ids(network, rows=3), surface(3)
    nats = nats_step_by_step(network, network.see(points), ids)
    rows = torch.tensor([2, 0, 2])
    chosen = network.see(points).select(rows)
    torch.testing.assert_close(nats_step_by_step(network, chosen, ids[rows]), nats[rows], **CLOSE)
    joined = Seen.gathered([*network.see(points[:1]).rows(), *network.see(points[1:]).rows()])
    torch.testing.assert_close(nats_step_by_step(network, joined, ids), nats, **CLOSE)


@torch.no_grad()
def test_hints_are_trusted_from_the_start(tiny_steps):
    """An untrained network prefers what followed last time, the more the fresher it is."""
    config = tiny_steps().config.depth
    decoder = DepthDecoder(config)
    ids, hidden = torch.zeros(1, 1, 9, dtype=torch.long), torch.zeros(1, 1, 32)
    nothing = torch.full((1, 1, 2, HINTS), config.vocab)
    unused = torch.zeros(1, 1, config.vocab, dtype=torch.long)
    nowhere = torch.zeros(1, 1, 3, config.bins, dtype=torch.int32)
    memory = Memory(unused, unused, nothing, torch.full((1, 1, 2, EXPECTED), config.vocab), nowhere)
    hinted = nothing.clone()
    hinted[..., 1, :2] = torch.tensor([5, 2])
    # The latest hint is also an input, which is left out here so that only the trust is seen.
    decoder.hinted.zero_()
    _, without = decoder(hidden, ids, memory._replace(hints=nothing), None, range(2))
    _, with_hints = decoder(hidden, ids, memory._replace(hints=hinted), None, range(2))
    gained = (with_hints - without)[0, 0]
    assert gained[5] > gained[2] > 1
    assert gained.count_nonzero() == 2


@torch.no_grad()
def test_what_the_boundary_asks_for_is_raised_from_the_start(tiny_steps):
    config = tiny_steps().config.depth
    decoder = DepthDecoder(config)
    decoder.awaited.zero_()
    ids, hidden, unused = torch.zeros(1, 1, 9, dtype=torch.long), torch.zeros(1, 1, 32), torch.zeros(1, 1, config.vocab, dtype=torch.long)
    nothing, nowhere = torch.full((1, 1, 1, HINTS), config.vocab), torch.zeros(1, 1, 3, config.bins, dtype=torch.int32)
    memory = Memory(unused, unused, nothing, torch.full((1, 1, 1, EXPECTED), config.vocab), nowhere)
    asked = memory._replace(expected=torch.tensor([3, config.vocab, 7, 7, config.vocab])[None, None, None])
    (without,), (raised,) = decoder(hidden, ids, memory, None, range(1)), decoder(hidden, ids, asked, None, range(1))
    gained = (raised - without)[0, 0]
    assert gained[7] > gained[3] > 1
    assert gained.count_nonzero() == 2
