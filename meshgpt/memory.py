"""What the ids so far say about the next ones: when an id was last used, how often, and what followed it.

A step holds `width` ids, `spell` of them to a vertex. A mesh uses each vertex in about six faces, so most vertices are old ones;
but a step is written by one hidden vector, which cannot hold the fine codes of every vertex that might come back. This memory
looks them up: once the first id of a vertex is chosen, `hints` says how that vertex went on last time.

It knows ids. It does not know meshes or networks.

b  rows      t  steps      w  ids of a step      k  vertices of a step
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Int
from torch import Tensor

AGES = 11
USES = 8


class Memory(NamedTuple):
    """What is known before each step (and, for `hints`, within it).

    ages   0: the id never began a vertex in an earlier step; i: it last did 2^(i-1) .. 2^i - 1 steps ago
    uses   how many vertices of earlier steps the id began, up to USES - 1
    hints  the id that last followed the same beginning of a vertex; `vocab` where there is none
    """

    ages: Int[Tensor, "b t ids"]
    uses: Int[Tensor, "b t ids"]
    hints: Int[Tensor, "b t w"]


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


def _hints(ids: Int[Tensor, "b t w"], spell: int, vocab: int) -> Int[Tensor, "b t w"]:
    rows, steps, width = ids.shape
    vertices = ids.reshape(rows, -1, spell)
    hints = torch.full_like(vertices, vocab)
    key = torch.arange(rows, device=ids.device)[:, None].expand(vertices.shape[:2])
    for level in range(1, spell):
        key = key * vocab + vertices[..., level - 1]
        flat = key.flatten()
        order = torch.argsort(flat, stable=True)
        before, after = order[:-1], order[1:]
        same = flat[before] == flat[after]
        hints.view(-1, spell)[after[same], level] = vertices.reshape(-1, spell)[before[same], level]
        # Number the beginnings afresh, so that the next key stays small.
        key = torch.unique(flat, return_inverse=True)[1].view_as(key)
    padded = torch.full((rows, steps + 1, width), vocab, dtype=ids.dtype, device=ids.device)
    padded[:, :-1] = hints.view(rows, steps, width)
    return padded


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

    def hint(self, opened: Int[Tensor, "b s"]) -> Int[Tensor, "b"]:
        """For the slot after the `opened` ids of the open step: what last followed the same beginning."""
        level = opened.shape[1] % self.spell
        none = torch.full((len(opened),), self.vocab, dtype=torch.long, device=opened.device)
        whole = opened[:, : opened.shape[1] - level].unflatten(1, (-1, self.spell)) if opened.shape[1] >= self.spell else self.vertices[:, :0]
        vertices = torch.cat([self.vertices, whole], 1)
        if not level or not vertices.shape[1]:
            return none
        same = (vertices[:, :, :level] == opened[:, None, opened.shape[1] - level :]).all(-1)
        numbers = torch.arange(1, vertices.shape[1] + 1, device=opened.device)
        latest = (same * numbers).amax(1)
        found = vertices[torch.arange(len(opened), device=opened.device), (latest - 1).clamp(min=0), level]
        return torch.where(latest > 0, found, none)

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
