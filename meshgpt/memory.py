"""What the ids so far say about the next ones: when an id was last used, how often, and what followed it.

A step holds `width` ids, `spell` of them to a vertex. A mesh uses each vertex in about six faces, so most vertices are old ones;
but a step is written by one hidden vector, which cannot hold the fine codes of every vertex that might come back. This memory
looks them up: once the first id of a vertex is chosen, `hints` says how vertices that began so went on. Where a step is a
triangle, `expected` says which vertices the boundary of the mesh so far asks for.

It knows ids, and how they sort. It does not know networks.

b  rows      t  steps      w  ids of a step      k  vertices of a step      h  hints, the latest first      e  expected
"""

from __future__ import annotations

from copy import deepcopy
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from meshgpt.boundary import EXPECTED, Boundary, Expected, Vertex

AGES = 11
USES = 8
HINTS = 4


class Memory(NamedTuple):
    """What is known before each step (and, for `hints`, within it).

    ages   0: the id never began a vertex in an earlier step; i: it last did 2^(i-1) .. 2^i - 1 steps ago
    uses   how many vertices of earlier steps the id began, up to USES - 1
    hints  the ids that followed the same beginning of a vertex, each another one than the hint before it; `vocab` for none
    expected   the ids of the vertices that the boundary asks for, as far as they begin like the open vertex; `vocab` for none
    crossed    how many corners of earlier steps lie in each bin of each axis
    """

    ages: Int[Tensor, "b t ids"]
    uses: Int[Tensor, "b t ids"]
    hints: Int[Tensor, "b t w h"]
    expected: Int[Tensor, "b t w e"]
    crossed: Int[Tensor, "b t 3 bins"]


def remember(ids: Int[Tensor, "b t w"], shifts: Float[Tensor, "spell vocab 3"], bins: int) -> Memory:
    """The memory at each of t + 1 steps of whole sequences; the last one is the step that may be END (its hints are empty).

    `shifts` says how far (x, y, z, in bins) each id moves a vertex, at each place in it; the sums sort the vertices.
    """
    spell, vocab, _ = shifts.shape
    return Memory(*_usage(ids[..., ::spell], vocab), _hints(ids, spell, vocab), _expected(ids, shifts), _crossed(ids, shifts, bins))


def _usage(starts: Int[Tensor, "b t k"], vocab: int) -> tuple[Tensor, Tensor]:
    rows, steps, _ = starts.shape
    now = torch.arange(1, steps + 2, dtype=torch.int32, device=starts.device)
    last = torch.zeros(rows, steps + 1, vocab, dtype=torch.int32, device=starts.device)
    last[:, 1:].scatter_(2, starts, now[:-1, None].expand_as(starts))
    uses = torch.zeros_like(last)
    uses[:, 1:].scatter_add_(2, starts, torch.ones_like(starts, dtype=torch.int32))
    last = last.cummax(1).values
    return age_bucket(now[:, None] - last, last > 0), uses.cumsum(1, dtype=torch.int32).clamp_(max=USES - 1).long()


def age_bucket(age: Int[Tensor, "*n"], known: Tensor) -> Int[Tensor, "*n"]:
    """1 + floor(log2(age)) up to AGES - 1, and 0 where nothing is known."""
    bounds = 2 ** torch.arange(1, AGES - 1, device=age.device, dtype=age.dtype)
    return torch.where(known, torch.bucketize(age, bounds, right=True) + 1, 0)


def _hints(ids: Int[Tensor, "b t w"], spell: int, vocab: int) -> Int[Tensor, "b t1 w h"]:
    rows, steps, width = ids.shape
    vertices = ids.reshape(-1, spell)
    hints = torch.full((len(vertices), spell, HINTS), vocab, dtype=ids.dtype, device=ids.device)
    key = torch.arange(rows, device=ids.device).repeat_interleave(len(vertices) // rows)
    for level in range(1, spell):
        # Beginnings are numbered afresh at each level, so that the keys stay small.
        key = torch.unique(key * vocab + vertices[:, level - 1], return_inverse=True)[1]
        hints[:, level] = _latest(key, vertices[:, level], vocab)
    padded = torch.full((rows, steps + 1, width, HINTS), vocab, dtype=ids.dtype, device=ids.device)
    padded[:, :-1] = hints.view(rows, steps, width, HINTS)
    return padded


def _latest(key: Int[Tensor, "n"], id: Int[Tensor, "n"], none: int) -> Int[Tensor, "n h"]:
    """For each place in a sequence the latest ids at earlier places with the same key, without immediate repeats."""
    count = len(key)
    order = torch.argsort(key, stable=True)
    keys, ids = key[order], id[order]
    # Index `count` stands for "none"; everything it is asked for, it answers with itself.
    before = torch.arange(-1, count - 1, device=key.device)
    same_key = torch.zeros(count, dtype=torch.bool, device=key.device)
    same_key[1:] = keys[1:] == keys[:-1]
    same_run = same_key.clone()
    same_run[1:] &= ids[1:] == ids[:-1]
    run_start = torch.where(same_run, 0, torch.arange(count, device=key.device)).cummax(0).values
    other = torch.where(same_key[run_start], run_start - 1, count)
    other = torch.cat([other, other.new_tensor([count])])
    ids = torch.cat([ids, ids.new_tensor([none])])
    at = torch.where(same_key, before, count)
    found = torch.empty(count, HINTS, dtype=id.dtype, device=id.device)
    for rank in range(HINTS):
        found[order, rank] = ids[at]
        at = other[at]
    return found


def shifted(spelled: Int[Tensor, "*n begun"], shifts: Float[Tensor, "spell vocab 3"]) -> Float[Tensor, "*n 3"]:
    """Where vertices (or, with fewer ids than they have, their beginnings) are, in bins."""
    return sum((shifts[at][spelled[..., at]] for at in range(spelled.shape[-1])), shifts.new_zeros(3).expand(*spelled.shape[:-1], 3))


def _crossed(ids: Int[Tensor, "b t w"], shifts: Float[Tensor, "spell vocab 3"], bins: int) -> Int[Tensor, "b t1 3 bins"]:
    rows, steps, _ = ids.shape
    counts = torch.zeros(rows, steps + 1, 3, bins, dtype=torch.int32, device=ids.device)
    cells = cells_of(ids, shifts, bins)
    counts[:, 1:].scatter_add_(3, cells, torch.ones_like(cells, dtype=torch.int32))
    return counts.cumsum(1, dtype=torch.int32)


def cells_of(ids: Int[Tensor, "*n w"], shifts: Float[Tensor, "spell vocab 3"], bins: int) -> Int[Tensor, "*n 3 k"]:
    """The bins of each vertex of each step on each axis."""
    spell = len(shifts)
    spelled = ids.reshape(*ids.shape[:-1], ids.shape[-1] // spell, spell)
    return shifted(spelled, shifts).round().long().clamp(0, bins - 1).transpose(-1, -2)


# More than the bins of an axis, and enough for sums a little below the first bin.
REACH = 1 << 16


def vertices_of(ids: Int[Tensor, "n w"], shifts: Float[Tensor, "spell vocab 3"]) -> list[list[Vertex]]:
    """The vertices of each step as tuples that sort by (y, z, x): their rank, then their ids."""
    spelled = ids.reshape(len(ids), ids.shape[1] // len(shifts), len(shifts))
    bins = shifted(spelled, shifts).round().long() + REACH // 2
    rank = (bins[..., 1] * REACH + bins[..., 2]) * REACH + bins[..., 0]
    return [[tuple(vertex) for vertex in step] for step in torch.cat([rank[..., None], spelled], -1).tolist()]


def _expected(ids: Int[Tensor, "b t w"], shifts: Float[Tensor, "spell vocab 3"]) -> Int[Tensor, "b t1 w e"]:
    rows, steps, width = ids.shape
    spell, vocab, _ = shifts.shape
    expected = torch.full((rows, steps + 1, width, EXPECTED), vocab, dtype=ids.dtype, device=ids.device)
    if width == 3 * spell:
        shifts, on_cpu = shifts.cpu(), ids.cpu()
        for row in range(rows):
            expected[row] = torch.from_numpy(_expected_of_row(on_cpu[row], shifts)).to(ids.device)
    return expected


def _expected_of_row(ids: Int[Tensor, "t w"], shifts: Float[Tensor, "spell vocab 3"]) -> Int[np.ndarray, "t1 w e"]:
    spell, vocab, _ = shifts.shape
    boundary, none = Boundary(), (-1,) + (vocab,) * spell
    found: list[Expected] = []
    for a, b, c in vertices_of(ids, shifts):
        found += [boundary.firsts(), boundary.seconds(a), boundary.thirds(a, b)]
        boundary.add(a, b, c)
    found += [boundary.firsts(), (None,) * EXPECTED, (None,) * EXPECTED]
    spelled = np.array([[vertex or none for vertex in vertices] for vertices in found])[..., 1:]
    opened = np.full((len(found), 1, spell), -1)
    opened[: 3 * len(ids), 0] = ids.numpy().reshape(-1, spell)
    alike = np.ones(spelled.shape[:2], dtype=bool)
    out = np.empty((len(found), spell, EXPECTED), dtype=np.int64)
    for level in range(spell):
        out[:, level] = np.where(alike, spelled[..., level], vocab)
        alike &= spelled[..., level] == opened[..., level]
    return out.reshape(-1, 3 * spell, EXPECTED)


class RunningMemory:
    """The same memory, step by step, for generation. Whoever generates makes one and passes it in."""

    def __init__(self, rows: int, width: int, shifts: Float[Tensor, "spell vocab 3"], bins: int, device: torch.device) -> None:
        self.width, self.shifts, self.step = width, shifts.cpu(), 0
        self.spell, self.vocab, _ = spell, vocab, _ = shifts.shape
        self.last = torch.zeros(rows, vocab, dtype=torch.long, device=device)
        self.count = torch.zeros(rows, vocab, dtype=torch.long, device=device)
        self.vertices = torch.empty(rows, 0, spell, dtype=torch.long, device=device)
        self.crossed = torch.zeros(rows, 3, bins, dtype=torch.int32, device=device)
        self.boundaries = [Boundary() for _ in range(rows)]
        self._asked: dict[tuple[int, tuple[int, ...]], Expected] = {}
        self._usage: tuple[Tensor, Tensor] | None = None

    @property
    def usage(self) -> tuple[Int[Tensor, "b 1 ids"], Int[Tensor, "b 1 ids"]]:
        """Ages and uses before the open step."""
        if self._usage is None:
            ages = age_bucket(self.step + 1 - self.last, self.last > 0)
            self._usage = ages[:, None], self.count.clamp(max=USES - 1)[:, None]
        return self._usage

    def within_step(self, opened: Int[Tensor, "o s"], rows: Int[Tensor, "o"] | None = None) -> Memory:
        """The memory for the slot after the `opened` ids of the open step; slots are asked for one after another.

        `rows` says which row each of them goes on with, where there are several ways to write a step; else they are the rows.
        """
        rows = torch.arange(len(opened), device=opened.device) if rows is None else rows
        ages, uses = self.usage
        return Memory(ages[rows], uses[rows], self._hint(opened, rows), self._expect(opened, rows), self.crossed[rows, None])

    def _expect(self, opened: Int[Tensor, "o s"], rows: Int[Tensor, "o"]) -> Int[Tensor, "o 1 1 e"]:
        if self.width != 3 * self.spell:
            return torch.full((len(opened), 1, 1, EXPECTED), self.vocab, device=opened.device)
        level = opened.shape[1] % self.spell
        keys = [(row, tuple(ids[: len(ids) - level])) for row, ids in zip(rows.tolist(), opened.tolist(), strict=True)]
        self._ask([key for key in dict.fromkeys(keys) if key not in self._asked], opened.shape[1] - level)
        begun = opened[:, opened.shape[1] - level :].tolist()
        ids = [
            [vertex[1 + level] if vertex and list(vertex[1 : 1 + level]) == start else self.vocab for vertex in self._asked[key]]
            for key, start in zip(keys, begun, strict=True)
        ]
        return torch.tensor(ids, device=opened.device)[:, None, None]

    def _ask(self, keys: list[tuple[int, tuple[int, ...]]], written: int) -> None:
        """What the boundaries ask for behind the vertices (`written` ids) of open faces."""
        if keys:
            before = vertices_of(torch.tensor([ids for _, ids in keys], dtype=torch.long).view(len(keys), written), self.shifts)
            for key, vertices in zip(keys, before, strict=True):
                boundary = self.boundaries[key[0]]
                self._asked[key] = (boundary.firsts, boundary.seconds, boundary.thirds)[len(vertices)](*vertices)

    def _hint(self, opened: Int[Tensor, "o s"], rows: Int[Tensor, "o"]) -> Int[Tensor, "o 1 1 h"]:
        level = opened.shape[1] % self.spell
        hints = torch.full((len(opened), HINTS), self.vocab, dtype=torch.long, device=opened.device)
        vertices = torch.cat([self.vertices[rows], opened[:, : opened.shape[1] - level].unflatten(1, (-1, self.spell))], 1)
        if level and vertices.shape[1]:
            same = fits = (vertices[:, :, :level] == opened[:, None, opened.shape[1] - level :]).all(-1)
            numbers = torch.arange(1, vertices.shape[1] + 1, device=opened.device)
            for rank in range(HINTS):
                latest = (fits * numbers).amax(1, keepdim=True)
                id = vertices[:, :, level].gather(1, (latest - 1).clamp(min=0))
                hints[:, rank] = torch.where(latest > 0, id, self.vocab)[:, 0]
                fits = same & (numbers < latest) & (vertices[:, :, level] != id)
        return hints[:, None, None]

    def advance(self, ids: Int[Tensor, "b w"]) -> None:
        """Take in a whole step."""
        self.step += 1
        self._usage, self._asked = None, {}
        starts = ids[:, :: self.spell]
        self.last.scatter_(1, starts, self.step)
        self.count.scatter_add_(1, starts, torch.ones_like(starts))
        self.vertices = torch.cat([self.vertices, ids.unflatten(1, (-1, self.spell))], 1)
        cells = cells_of(ids, self.shifts.to(ids.device), self.crossed.shape[2])
        self.crossed = self.crossed.scatter_add(2, cells, torch.ones_like(cells, dtype=torch.int32))
        if self.width == 3 * self.spell:
            for boundary, face in zip(self.boundaries, vertices_of(ids.cpu(), self.shifts), strict=True):
                boundary.add(*face)

    def select(self, rows: Tensor) -> None:
        """Keep (or repeat) rows, in the given order."""
        self.last, self.count, self.vertices = self.last[rows], self.count[rows], self.vertices[rows]
        self.crossed, self._usage = self.crossed[rows], None
        self.boundaries, self._asked = [deepcopy(self.boundaries[row]) for row in rows.tolist()], {}
