"""The memory of used ids: what it says of whole sequences, step by step, and in plain Python is the same."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from meshgpt.memory import AGES, HINTS, USES, Memory, RunningMemory, remember


def remember_in_words(ids: list[list[int]], spell: int, vocab: int) -> tuple[list, list, list]:
    """Ages, uses and hints of one sequence, one step and one id at a time."""
    ages, uses, hints = [], [], []
    begun: list[tuple[int, int]] = []  # which id began a vertex, in which step
    vertices: list[list[int]] = []
    for now in range(len(ids) + 1):
        last = dict(begun)
        age = [0 if id not in last else min(AGES - 1, 1 + int(math.log2(now - last[id]))) for id in range(vocab)]
        ages.append(age)
        uses.append([min(USES - 1, sum(id == other for other, _ in begun)) for id in range(vocab)])
        hints.append([[vocab] * HINTS for _ in ids[0]])
        if now == len(ids):
            break
        for slot, id in enumerate(ids[now]):
            opened = ids[now][slot - slot % spell : slot]
            if opened:
                went_on = [vertex[len(opened)] for vertex in reversed(vertices) if vertex[: len(opened)] == opened]
                hints[-1][slot] = ([id for id, _ in itertools.groupby(went_on)] + [vocab] * HINTS)[:HINTS]
            if slot % spell == spell - 1:
                vertices.append([*opened, id])
        begun += [(id, now) for id in ids[now][::spell]]
    return ages, uses, hints


SHAPES = [(1, 3, 4), (2, 6, 3), (3, 9, 3), (3, 9, 40), (4, 4, 2), (2, 8, 5)]  # spell, width, vocab


def random_ids(width: int, vocab: int, rows: int = 3, steps: int = 25) -> torch.Tensor:
    return torch.randint(vocab, (rows, steps, width), generator=torch.Generator().manual_seed(width * vocab))


@pytest.mark.parametrize(("spell", "width", "vocab"), SHAPES)
def test_memory_is_what_its_words_say(spell, width, vocab):
    ids = random_ids(width, vocab)
    memory = remember(ids, spell, vocab)
    for row in range(len(ids)):
        ages, uses, hints = remember_in_words(ids[row].tolist(), spell, vocab)
        assert memory.ages[row].tolist() == ages
        assert memory.uses[row].tolist() == uses
        assert memory.hints[row].tolist() == hints


def test_long_ago_is_one_age():
    """An id of step 0, and one of every step, over a thousand steps."""
    ids = torch.full((1, 1100, 3), 2)
    ids[0, 0, 0], ids[0, :, 1] = 0, 1
    ages, uses, _ = remember(ids, 1, 4)
    expected = [0] + [min(AGES - 1, 1 + int(math.log2(age))) for age in range(1, 1101)]
    assert ages[0, :, 0].tolist() == expected
    assert ages[0, 1:, 1].unique().tolist() == [1]
    assert ages[0, :, 3].unique().tolist() == [0]
    assert uses[0, :10, 1].tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 7, 7]
    assert ages.max() == AGES - 1


@pytest.mark.parametrize(("spell", "width", "vocab"), SHAPES)
def test_running_memory_is_the_memory_of_whole_sequences(spell, width, vocab):
    ids = random_ids(width, vocab)
    memory = remember(ids, spell, vocab)
    running = RunningMemory(len(ids), spell, vocab, ids.device)
    for step in range(ids.shape[1] + 1):
        ages, uses = running.before_step()
        torch.testing.assert_close(ages[:, 0], memory.ages[:, step])
        torch.testing.assert_close(uses[:, 0], memory.uses[:, step])
        if step < ids.shape[1]:
            for slot in range(width):
                torch.testing.assert_close(running.hint(ids[:, step, :slot])[:, 0, 0], memory.hints[:, step, slot])
            running.advance(ids[:, step])


def test_rows_can_be_chosen_and_repeated():
    ids, rows = random_ids(9, 3), torch.tensor([2, 0, 0])
    chosen, whole = RunningMemory(3, 3, 3, ids.device), remember(ids[rows], 3, 3)
    for step in range(10):
        chosen.advance(ids[:, step])
    chosen.select(rows)
    ages, uses = chosen.before_step()
    hints = torch.cat([chosen.hint(ids[rows, 10, :slot]) for slot in range(9)], 2)[:, 0]
    torch.testing.assert_close(Memory(ages[:, 0], uses[:, 0], hints), Memory(*(part[:, 10] for part in whole)))


def test_what_comes_later_is_not_remembered():
    ids = random_ids(9, 3)
    changed = ids.clone()
    changed[:, 12:] = random_ids(9, 3, steps=26)[:, 13:]
    for one, two in zip(remember(ids, 3, 3), remember(changed, 3, 3), strict=True):
        torch.testing.assert_close(one[:, :12], two[:, :12])


def test_nothing_is_remembered_of_nothing():
    memory = remember(torch.zeros(2, 0, 9, dtype=torch.long), 3, 5)
    assert memory.ages.shape == memory.uses.shape == (2, 1, 5)
    assert not memory.ages.any()
    assert not memory.uses.any()
    assert (memory.hints == 5).all()
