"""The depth decoder: one hidden vector of the expensive network in, the ids of its step out, one after another.

    slot        0          1          2               w - 1
    sees        h          h, id 0    h, id 0, id 1   ...         and what the memory and the surroundings say

A causal MLP: what a slot sees is a running sum of linear maps, so that all slots of all steps are plain matrix products.
END is an id of slot 0 only. It knows ids and vectors. It does not know meshes.

b  rows      t  steps      w  slots, s  slots now      d  width of the model      e  width of this network      c  width of an id's code
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from meshgpt.memory import AGES, HINTS, USES, Memory
from meshgpt.transformer import SwiGLU

# A hint is right more often than not; training starts from there.
HINT = 4.0
# How near is near, in cube units: from under a bin to the size of a coarse cell.
TOUCHES = (0.006, 0.015, 0.04)


class Places(NamedTuple):
    """What the condition says of the ids that have a place in the cube: a vector each, and the points around it (offset, normal)."""

    vectors: Float[Tensor, "b vocab p"]
    near: Float[Tensor, "b vocab m 6"]

    def of_ids(self, ids: Int[Tensor, "b t k"]) -> Float[Tensor, "b t k p"]:
        return self.vectors[torch.arange(len(ids), device=ids.device)[:, None, None], ids]

    def near_ids(self, ids: Int[Tensor, "b t"]) -> Float[Tensor, "b t m 6"]:
        return self.near[torch.arange(len(ids), device=ids.device)[:, None], ids]

    def select(self, rows: Tensor) -> Places:
        return Places(self.vectors[rows], self.near[rows])

    def joined(self, other: Places) -> Places:
        return Places(torch.cat([self.vectors, other.vectors]), torch.cat([self.near, other.near]))


@dataclass(frozen=True)
class DepthConfig:
    """`width` ids a step, `spell` of them to a vertex. `surroundings` is the width of the vectors that the condition gives to ids
    that have a place in the cube (0: they have none); such ids stand in the first slot of each vertex."""

    vocab: int
    width: int
    spell: int
    model: int = 256
    dim: int = 192
    hidden: int = 256
    layers: int = 2
    code: int = 96
    surroundings: int = 0


class DepthDecoder(nn.Module):
    def __init__(self, config: DepthConfig) -> None:
        super().__init__()
        self.config = config
        vertices = config.width // config.spell
        # The last row stands for "no hint".
        self.codes = nn.Embedding(config.vocab + 1, config.code)
        self.base = nn.Linear(config.model, config.dim)
        self.slot = nn.Parameter(torch.zeros(config.width, config.dim))
        self.seen = _weights(config.width, config.code, config.dim)
        self.hinted = _weights(config.width, config.code, config.dim)
        self.norms = nn.ModuleList(nn.RMSNorm(config.dim, eps=1e-6) for _ in range(config.layers + 1))
        self.layers = nn.ModuleList(SwiGLU(config.dim, config.hidden) for _ in range(config.layers))
        self.query = _weights(config.width, config.dim, config.code)
        self.answers = _weights(config.spell, config.vocab, config.code)
        self.bias = nn.Parameter(torch.zeros(config.width, config.vocab))
        self.end = nn.Linear(config.dim, 1)
        self.age = _weights(vertices, config.dim, AGES)
        self.use = _weights(vertices, config.dim, USES)
        self.trust = nn.Parameter(torch.zeros(config.width, config.dim, HINTS))
        if config.surroundings:
            # What an id of a second slot adds to the place of the first one; the tokenizer knows.
            self.register_buffer("offsets", torch.zeros(config.vocab, 3))
            self.touch = nn.Parameter(torch.zeros(vertices, config.dim, 2 * len(TOUCHES)))
            self.seen_place = _weights(vertices, config.surroundings, config.dim)
            self.query_place = _weights(vertices, config.dim, config.surroundings)
        nn.init.normal_(self.codes.weight, std=1.0)

    def forward(
        self,
        hidden: Float[Tensor, "b t d"],
        ids: Int[Tensor, "b t seen"],
        memory: Memory,
        places: Places | None,
        slots: range,
    ) -> Iterator[Float[Tensor, "b t ids"]]:
        """Logits of the given slots, one slot after another: of all ids, and for slot 0 of END behind them.

        `ids` holds at least the ids before the last of the slots; `memory.hints` the hints of these slots.
        """
        before = self._before(ids[:, :, : slots[-1]], places, slots)
        x = self.base(hidden)[:, :, None] + self.slot[slots.start : slots.stop] + before
        x = x + _per_slot(self.codes(memory.hints[..., 0]), self.hinted[slots.start : slots.stop])
        for norm, layer in zip(self.norms, self.layers, strict=False):
            x = x + layer(norm(x))
        x = self.norms[-1](x)
        for at, slot in enumerate(slots):
            vertex, level = divmod(slot, self.config.spell)
            logits = (x[:, :, at] @ self.query[slot] @ self.answers[level].T).float() + self.bias[slot]
            if level == 0:
                yield self._remembered(logits, x[:, :, at], memory, places, vertex)
                continue
            logits = self._hinted(logits, x[:, :, at], memory.hints[:, :, at], slot)
            if level == 1 and places is not None:
                logits = logits + self._touching(x[:, :, at], places.near_ids(ids[:, :, slot - 1]), vertex)
            yield logits

    def _before(self, ids: Int[Tensor, "b t seen"], places: Places | None, slots: range) -> Float[Tensor, "b t s e"]:
        """The running sum of what the earlier slots of the step hold, for each slot now."""
        rows, steps, seen = ids.shape
        parts = _per_slot(self.codes(ids), self.seen[:seen])
        if places is not None and seen:
            starts = ids[:, :, :: self.config.spell]
            parts[:, :, :: self.config.spell] += _per_slot(places.of_ids(starts), self.seen_place[: starts.shape[2]])
        sums = torch.cat([parts.new_zeros(rows, steps, 1, self.config.dim), parts.cumsum(2)], 2)
        return sums[:, :, slots.start : slots.stop]

    def _hinted(self, logits: Tensor, x: Tensor, hints: Int[Tensor, "b t h"], slot: int) -> Float[Tensor, "b t ids"]:
        start = logits.new_tensor([HINT, *[HINT / 2] * (HINTS - 1)])
        trusted = torch.where(hints < self.config.vocab, (x @ self.trust[slot]).float() + start, 0)
        return logits.scatter_add(-1, hints.clamp(max=self.config.vocab - 1), trusted)

    def _remembered(self, logits: Tensor, x: Tensor, memory: Memory, places: Places | None, vertex: int) -> Float[Tensor, "b t ids"]:
        logits = logits + torch.gather((x @ self.age[vertex]).float(), -1, memory.ages)
        logits = logits + torch.gather((x @ self.use[vertex]).float(), -1, memory.uses)
        if places is not None:
            logits = logits + ((x @ self.query_place[vertex]) @ places.vectors.transpose(1, 2)).float()
        return logits if vertex else torch.cat([logits, self.end(x).float()], -1)

    def _touching(self, x: Tensor, near: Float[Tensor, "b t m 6"], vertex: int) -> Float[Tensor, "b t ids"]:
        """Where would each second id put the vertex: on a point of the cloud, on the tangent planes of the points around?"""
        with torch.no_grad(), torch.autocast(x.device.type, enabled=False):
            points, normals = near.float().split(3, -1)
            apart, beside = _squared_apart(points, self.offsets), _quadric(points, normals, self.offsets)
            touching = [torch.exp(squared / (-2 * touch**2)) for touch in TOUCHES for squared in (apart, beside)]
        weights = ((x @ self.touch[vertex]).float() + 1).unbind(-1)
        return sum(weight[..., None] * how for weight, how in zip(weights, touching, strict=True))


def _squared_apart(points: Float[Tensor, "b t m 3"], offsets: Float[Tensor, "ids 3"]) -> Float[Tensor, "b t ids"]:
    """Squared distance of each offset to the nearest of the points."""
    known = torch.cat([-2 * points, (points**2).sum(-1, keepdim=True)], -1)
    asked = torch.cat([offsets, torch.ones_like(offsets[:, :1])], -1)
    return ((known @ asked.T).amin(-2) + (offsets**2).sum(-1)).clamp_(min=0)


def _quadric(
    points: Float[Tensor, "b t m 3"], normals: Float[Tensor, "b t m 3"], offsets: Float[Tensor, "ids 3"]
) -> Float[Tensor, "b t ids"]:
    """Mean squared distance of each offset to the points' tangent planes: the quadric of Garland & Heckbert (1997)."""
    planes = torch.cat([normals, -(normals * points).sum(-1, keepdim=True)], -1)
    quadrics = planes.transpose(-1, -2) @ planes / points.shape[-2]
    asked = torch.cat([offsets, torch.ones_like(offsets[:, :1])], -1)
    return (quadrics.flatten(-2) @ (asked[:, :, None] * asked[:, None]).flatten(1).T).clamp_(min=0)


class StepEmbedding(nn.Module):
    """The ids of a step as one vector: the sum of what stands in its slots."""

    def __init__(self, config: DepthConfig) -> None:
        super().__init__()
        self.config = config
        self.codes = nn.Embedding(config.vocab, config.code)
        self.slots = nn.Linear(config.width * config.code, config.model, bias=False)
        if config.surroundings:
            self.place = nn.Linear(config.width // config.spell * config.surroundings, config.model, bias=False)

    def forward(self, ids: Int[Tensor, "b t w"], places: Places | None) -> Float[Tensor, "b t d"]:
        x = self.slots(self.codes(ids).flatten(2))
        if places is None:
            return x
        return x + self.place(places.of_ids(ids[:, :, :: self.config.spell]).flatten(2))


def _weights(slots: int, inward: int, outward: int) -> nn.Parameter:
    return nn.Parameter(torch.randn(slots, inward, outward) * inward**-0.5)


def _per_slot(x: Float[Tensor, "b t s i"], weights: Float[Tensor, "s i o"]) -> Float[Tensor, "b t s o"]:
    """Each slot through its own matrix."""
    return torch.einsum("btsi,sio->btso", x, weights.to(x.dtype))
