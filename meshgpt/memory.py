"""What the ids so far say about the next ones: when an id was last used, how often, and what followed it.

A step holds `width` ids, `spell` of them to a vertex. A mesh uses each vertex in about six faces, so most vertices are old ones;
but a step is written by one hidden vector, which cannot hold the fine codes of every vertex that might come back. This memory
looks them up: once the first id of a vertex is chosen, `hints` says how vertices that began so went on.

It knows ids. It does not know meshes or networks.

b  rows      t  steps      w  ids of a step      k  vertices of a step      h  hints, the latest first
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Int
from torch import Tensor

AGES = 11
USES = 8
HINTS = 4


class Memory(NamedTuple):
    """What is known before each step (and, for `hints`, within it).

    ages   0: the id never began a vertex in an earlier step; i: it last did 2^(i-1) .. 2^i - 1 steps ago
    uses   how many vertices of earlier steps the id began, up to USES - 1
    hints  the ids that followed the same beginning of a vertex, each another one than the hint before it; `vocab` for none
    """

    ages: Int[Tensor, "b t ids"]
    uses: Int[Tensor, "b t ids"]
    hints: Int[Tensor, "b t w h"]


def remember(ids: Int[Tensor, "b t w"], spell: int, vocab: int) -> Memory:
    """The memory at each of t + 1 steps of whole sequences; the last one is the step that may be END (its hints are empty)."""
    return Memory(*_usage(ids[..., ::spell], vocab), _hints(ids, spell, vocab))


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


class RunningMemory:
    """The same memory, step by step, for generation. Whoever generates makes one and passes it in."""

    def __init__(self, rows: int, spell: int, vocab: int, device: torch.device) -> None:
        self.spell, self.vocab, self.step = spell, vocab, 0
        self.last = torch.zeros(rows, vocab, dtype=torch.long, device=device)
        self.count = torch.zeros(rows, vocab, dtype=torch.long, device=device)
        self.vertices = torch.empty(rows, 0, spell, dtype=torch.long, device=device)

    def before_step(self) -> tuple[Int[Tensor, "b 1 ids"], Int[Tensor, "b 1 ids"]]:
        """Ages and uses of the step that comes."""
        ages = age_bucket(self.step + 1 - self.last, self.last > 0)
        return ages[:, None], self.count.clamp(max=USES - 1)[:, None]

    def hint(self, opened: Int[Tensor, "b s"]) -> Int[Tensor, "b 1 1 h"]:
        """For the slot after the `opened` ids of the open step: what followed the same beginning."""
        level = opened.shape[1] % self.spell
        hints = torch.full((len(opened), HINTS), self.vocab, dtype=torch.long, device=opened.device)
        vertices = torch.cat([self.vertices, opened[:, : opened.shape[1] - level].unflatten(1, (-1, self.spell))], 1)
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
        starts = ids[:, :: self.spell]
        self.last.scatter_(1, starts, self.step)
        self.count.scatter_add_(1, starts, torch.ones_like(starts))
        self.vertices = torch.cat([self.vertices, ids.unflatten(1, (-1, self.spell))], 1)

    def select(self, rows: Tensor) -> None:
        """Keep (or repeat) rows, in the given order."""
        self.last, self.count, self.vertices = self.last[rows], self.count[rows], self.vertices[rows]
