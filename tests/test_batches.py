"""Which meshes go together: under the budget, hardly padded, each once, and the same for the same seed."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from conftest import VAL

from meshgpt.train.batches import Batches
from meshgpt.train.sources import read_parquet

LENGTHS = np.random.default_rng(0).integers(1, 100, 500)


@pytest.fixture(scope="module")
def shipped() -> np.ndarray:
    """The face counts of the shipped training set."""
    return read_parquet(VAL.with_name("train.parquet")).face_counts


def test_no_batch_is_larger_than_the_budget(shipped):
    for batch in Batches(shipped, 4096).epoch(0):
        assert len(batch) * shipped[batch].max() <= 4096


def test_batches_are_full(shipped):
    """Each of the batches could take no more of its longest mesh, but for the last of a window."""
    batches = Batches(shipped, 4096).epoch(0)
    full = [(len(batch) + 1) * shipped[batch].max() > 4096 * 0.9 for batch in batches]
    assert np.mean(full) > 0.95


@pytest.mark.parametrize("budget", [800, 4096, 16_384])
def test_less_than_a_tenth_is_padding(shipped, budget):
    batches = Batches(shipped, budget)
    for epoch in (0, 1):
        assert batches.padding(epoch) < 0.1
        plan = batches.epoch(epoch)
        padded = sum(len(batch) * shipped[batch].max() for batch in plan)
        assert batches.padding(epoch) == pytest.approx(1 - shipped.sum() / padded)


def test_an_epoch_has_each_mesh_once():
    for epoch in range(3):
        assert sorted(itertools.chain(*Batches(LENGTHS, 300).epoch(epoch))) == list(range(500))


def test_a_mesh_above_the_budget_goes_alone():
    batches = Batches(np.array([5, 900, 7, 800]), 100).epoch(0)
    assert sorted(map(sorted, batches)) == [[0, 2], [1], [3]]


def test_the_plan_is_that_of_seed_and_epoch():
    def plan(seed: int, epoch: int) -> list[list[int]]:
        return Batches(LENGTHS, 300, seed).epoch(epoch)

    assert plan(1, 4) == plan(1, 4)
    plans = [str(plan(seed, epoch)) for seed in (0, 1) for epoch in (0, 1, 2)]
    assert len(set(plans)) == 6
    assert [len(batch) for batch in plan(0, 0)] != [len(batch) for batch in plan(0, 1)], "the order of sizes is mixed too"


def test_long_and_short_batches_are_mixed():
    """Sorted by length they would teach short meshes first."""
    plan = Batches(LENGTHS, 300).epoch(0)
    means = [LENGTHS[batch].mean() for batch in plan]
    assert abs(np.corrcoef(means, range(len(means)))[0, 1]) < 0.5


def test_meshes_change_their_neighbours_from_epoch_to_epoch():
    same = np.full(100, 10)
    first, second = (set(map(frozenset, Batches(same, 50).epoch(epoch))) for epoch in (0, 1))
    assert len(first & second) < 5


@pytest.mark.parametrize("skip", [0, 1, 5, 99, 100, 101, 250])
def test_skipping_is_continuing(skip):
    batches = Batches(LENGTHS, 300)
    whole = list(itertools.islice(batches.endless(), 300))
    assert list(itertools.islice(batches.endless(skip), 300 - skip)) == whole[skip:]
    assert [epoch for epoch, _ in whole] == sorted(epoch for epoch, _ in whole)
    assert len({epoch for epoch, _ in whole}) > 2


@pytest.mark.parametrize("shares", [2, 3, 7])
def test_shares_are_disjoint_and_equal(shares):
    whole = Batches(LENGTHS, 300).epoch(2)
    parts = [Batches(LENGTHS, 300, 0, share, shares).epoch(2) for share in range(shares)]
    assert len({len(part) for part in parts}) == 1
    together = [tuple(batch) for part in parts for batch in part]
    assert len(set(together)) == len(together) == len(whole) - len(whole) % shares
    assert set(together) <= {tuple(batch) for batch in whole}


def test_every_share_has_work_even_where_there_is_little():
    parts = [Batches(np.array([3, 4]), 100, 0, share, 4).epoch(0) for share in range(4)]
    assert parts == [[[0, 1]]] * 4
