"""The memory of used ids: what it says of whole sequences, step by step, and in plain Python is the same."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from meshgpt.boundary import EXPECTED, Boundary
from meshgpt.memory import AGES, HINTS, USES, Memory, RunningMemory, remember, vertices_of
from meshgpt.tokenizer import CoordsTokenizer


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


def random_shifts(spell: int, vocab: int) -> torch.Tensor:
    return 5 * torch.randn(spell, vocab, 3, generator=torch.Generator().manual_seed(spell * vocab))


def random_ids(width: int, vocab: int, rows: int = 3, steps: int = 25) -> torch.Tensor:
    return torch.randint(vocab, (rows, steps, width), generator=torch.Generator().manual_seed(width * vocab))


@pytest.mark.parametrize(("spell", "width", "vocab"), SHAPES)
def test_memory_is_what_its_words_say(spell, width, vocab):
    ids = random_ids(width, vocab)
    memory = remember(ids, random_shifts(spell, vocab), 16)
    for row in range(len(ids)):
        ages, uses, hints = remember_in_words(ids[row].tolist(), spell, vocab)
        assert memory.ages[row].tolist() == ages
        assert memory.uses[row].tolist() == uses
        assert memory.hints[row].tolist() == hints


def test_long_ago_is_one_age():
    """An id of step 0, and one of every step, over a thousand steps."""
    ids = torch.full((1, 1100, 3), 2)
    ids[0, 0, 0], ids[0, :, 1] = 0, 1
    ages, uses, *_ = remember(ids, random_shifts(1, 4), 16)
    expected = [0] + [min(AGES - 1, 1 + int(math.log2(age))) for age in range(1, 1101)]
    assert ages[0, :, 0].tolist() == expected
    assert ages[0, 1:, 1].unique().tolist() == [1]
    assert ages[0, :, 3].unique().tolist() == [0]
    assert uses[0, :10, 1].tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 7, 7]
    assert ages.max() == AGES - 1


@pytest.mark.parametrize(("spell", "width", "vocab"), SHAPES)
def test_running_memory_is_the_memory_of_whole_sequences(spell, width, vocab):
    ids = random_ids(width, vocab)
    memory = remember(ids, random_shifts(spell, vocab), 16)
    running = RunningMemory(len(ids), width, random_shifts(spell, vocab), 16, ids.device)
    for step in range(ids.shape[1] + 1):
        if step < ids.shape[1]:
            for slot in range(width):
                now = running.within_step(ids[:, step, :slot])
                for name in ("ages", "uses", "crossed"):
                    torch.testing.assert_close(getattr(now, name)[:, 0], getattr(memory, name)[:, step])
                torch.testing.assert_close(now.hints[:, 0, 0], memory.hints[:, step, slot])
                torch.testing.assert_close(now.expected[:, 0, 0], memory.expected[:, step, slot])
            running.advance(ids[:, step])


def test_rows_can_be_chosen_and_repeated():
    ids, rows = random_ids(9, 3), torch.tensor([2, 0, 0])
    shifts = random_shifts(3, 3)
    chosen, whole = RunningMemory(3, 9, shifts, 16, ids.device), remember(ids[rows], shifts, 16)
    for step in range(10):
        chosen.advance(ids[:, step])
    chosen.select(rows)
    slots = [chosen.within_step(ids[rows, 10, :slot]) for slot in range(9)]
    hints, expected = (torch.cat([getattr(slot, name) for slot in slots], 2) for name in ("hints", "expected"))
    now = slots[-1]._replace(hints=hints, expected=expected)
    torch.testing.assert_close(Memory(*(part[:, 0] for part in now)), Memory(*(part[:, 10] for part in whole)))


def test_what_comes_later_is_not_remembered():
    ids = random_ids(9, 3)
    changed = ids.clone()
    changed[:, 12:] = random_ids(9, 3, steps=26)[:, 13:]
    for one, two in zip(remember(ids, random_shifts(3, 3), 16), remember(changed, random_shifts(3, 3), 16), strict=True):
        torch.testing.assert_close(one[:, :12], two[:, :12])


def test_nothing_is_remembered_of_nothing():
    memory = remember(torch.zeros(2, 0, 9, dtype=torch.long), random_shifts(3, 5), 16)
    assert memory.ages.shape == memory.uses.shape == (2, 1, 5)
    assert not memory.ages.any()
    assert not memory.uses.any()
    assert (memory.hints == 5).all()
    assert (memory.expected == 5).all()
    assert not memory.crossed.any()


@pytest.mark.parametrize(("spell", "width", "vocab"), [shape for shape in SHAPES if shape[1] == 3 * shape[0]])
def test_expected_is_what_the_boundary_asks_for(spell, width, vocab):
    """Of what begins like the open vertex, the next id; of anything else, nothing."""
    ids, shifts = random_ids(width, vocab, rows=1), random_shifts(spell, vocab)
    expected = remember(ids, shifts, 16).expected[0].reshape(-1, 3, spell, EXPECTED)
    boundary = Boundary()
    for step, (a, b, c) in enumerate(vertices_of(ids[0], shifts)):
        for place, asked in enumerate((boundary.firsts(), boundary.seconds(a), boundary.thirds(a, b))):
            actual = (a, b, c)[place][1:]
            for level in range(spell):
                wanted = [vertex[1 + level] if vertex and vertex[1 : 1 + level] == actual[:level] else vocab for vertex in asked]
                assert expected[step, place, level].tolist() == wanted
        boundary.add(a, b, c)
    assert expected[-1, 0, 0].tolist() == [vertex[1] if vertex else vocab for vertex in boundary.firsts()]


def test_vertices_sort_like_canonical_ones():
    """Ids that are coordinates: y first, then z, then x; coarse to fine sums sort the same way."""
    tokenizer = CoordsTokenizer(16)
    cells = torch.randint(16, (50, 3), generator=torch.Generator().manual_seed(0))
    spelled = torch.from_numpy(tokenizer.encode(cells.view(-1, 1, 3).expand(-1, 3, -1).numpy()))[:, :3]
    ours = [vertex for (vertex,) in vertices_of(spelled, tokenizer.shifts)]
    order = sorted(range(50), key=lambda at: ours[at])
    assert order == sorted(range(50), key=lambda at: (cells[at, 1], cells[at, 2], cells[at, 0]))
