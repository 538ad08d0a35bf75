"""The depth decoder: one hidden vector of the expensive network in, the ids of its step out, one after another.

    slot        0          1          2               w - 1
    sees        h          h, id 0    h, id 0, id 1   ...         and what the memory and the surroundings say

A causal MLP: what a slot sees is a running sum of linear maps, so that all slots of all steps are plain matrix products.
END is an id of slot 0 only. It knows ids and vectors. It does not know meshes.

b  rows      t  steps      w  slots, s  slots now      d  width of the model      e  width of this network      c  width of an id's code
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor, nn

from meshgpt.boundary import EXPECTED
from meshgpt.memory import AGES, HINTS, USES, Memory, cells_of, shifted
from meshgpt.nearest import nearest_points
from meshgpt.touching import TOUCHED, Probe, touching, weighted
from meshgpt.transformer import SwiGLU

# A hint is right more often than not; training starts from there.
HINT = 4.0
EXPECTATION = 2.0


def chosen(x: Shaped[Tensor, "b *k"], rows: Int[Tensor, "n"]) -> Shaped[Tensor, "n *k"]:
    """Rows of it, without a copy where all its rows are the same one."""
    if len(x) == 1 or x.stride(0) == 0:
        return x[:1].expand(len(rows), *x.shape[1:])
    return x[rows]


class Places(NamedTuple):
    """What the condition says of the ids that have a place in the cube: a vector each, and the points around it (offset, normal);
    and of any place: all points, and the profile of the cloud along each axis. `rows` says whose each row is: rows of one cloud
    share what is large."""

    vectors: Float[Tensor, "c vocab p"]
    near: Float[Tensor, "c vocab m 6"]
    surface: Float[Tensor, "c n 6"]
    profile: Float[Tensor, "c 3 bins 4"]
    rows: Int[Tensor, "b"]

    def of_ids(self, ids: Int[Tensor, "b t k"]) -> Float[Tensor, "b t k p"]:
        return self.vectors[self.rows[:, None, None], ids]

    def near_ids(self, ids: Int[Tensor, "b t"]) -> Float[Tensor, "b t m 6"]:
        return self.near[self.rows[:, None], ids]

    def near_positions(self, positions: Float[Tensor, "b t 3"], count: int | None = None) -> Float[Tensor, "b t m 6"]:
        """The nearest points of any positions in the cube, as they lie around them: as many as each id has, or at most `count`."""
        most = self.near.shape[2]
        count = most if count is None else min(count, most)
        if len(self.surface) > 1:
            return nearest_points(self.surface[self.rows], positions, count)
        return nearest_points(self.surface, positions.reshape(1, -1, 3), count).view(*positions.shape[:2], -1, 6)

    def select(self, rows: Tensor) -> Places:
        return self._replace(rows=self.rows[rows])

    @classmethod
    def gathered(cls, places: Sequence[Places]) -> Places:
        """Rows, one below the other; what is large is not repeated where it is the same."""
        kinds = {id(one.vectors): one for one in places}
        starts = dict(zip(kinds, itertools.accumulate((len(kind.vectors) for kind in kinds.values()), initial=0), strict=False))
        shared = (torch.cat(parts) for parts in zip(*(kind[:-1] for kind in kinds.values()), strict=True))
        return cls(*shared, torch.cat([one.rows + starts[id(one.vectors)] for one in places]))


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
    bins: int = 128

    @property
    def triangles(self) -> bool:
        """A step is a triangle, so that its mesh has a boundary that asks for vertices."""
        return self.width == 3 * self.spell


class DepthDecoder(nn.Module):
    def __init__(self, config: DepthConfig) -> None:
        super().__init__()
        self.config = config
        vertices = config.width // config.spell
        # The last row stands for "no hint".
        self.codes = nn.Embedding(config.vocab + 1, config.code)
        self.base = nn.Linear(config.model, config.dim)
        self.slot = nn.Parameter(torch.zeros(config.width, config.dim))
        self.seen = slot_weights(config.width, config.code, config.dim)
        self.hinted = slot_weights(config.width, config.code, config.dim)
        self.norms = nn.ModuleList(nn.RMSNorm(config.dim, eps=1e-6) for _ in range(config.layers + 1))
        self.layers = nn.ModuleList(SwiGLU(config.dim, config.hidden) for _ in range(config.layers))
        self.query = slot_weights(config.width, config.dim, config.code)
        self.answers = slot_weights(config.spell, config.vocab, config.code)
        self.bias = nn.Parameter(torch.zeros(config.width, config.vocab))
        self.end = nn.Linear(config.dim, 1)
        self.age = slot_weights(vertices, config.dim, AGES)
        self.use = slot_weights(vertices, config.dim, USES)
        if config.triangles:
            self.awaited = slot_weights(config.width, EXPECTED * config.code, config.dim)
            self.confidence = nn.Parameter(torch.zeros(config.width, config.dim, EXPECTED))
        # How far each id moves a vertex, in bins, at each place in it; the tokenizer knows. Vertices are sorted by the sums.
        self.register_buffer("shifts", torch.zeros(config.spell, config.vocab, 3))
        self.axes = nn.Parameter(torch.zeros(config.width, config.dim, 3 * config.bins))
        self.aligned = nn.Parameter(torch.zeros(config.width, config.dim, 3 * (vertices + (4 if config.surroundings else 0))))
        self.trust = nn.Parameter(torch.zeros(config.width, config.dim, HINTS))
        if config.surroundings:
            # What an id of a second slot adds to the place of the first one; the tokenizer knows.
            self.register_buffer("offsets", torch.zeros(config.vocab, 3))
            self.touch = nn.Parameter(torch.zeros(vertices, config.dim, TOUCHED))
            if config.spell > 2:
                self.touch_finely = nn.Parameter(torch.zeros(vertices, config.dim, TOUCHED))
            self.seen_place = slot_weights(vertices, config.surroundings, config.dim)
            self.query_place = slot_weights(vertices, config.dim, config.surroundings)
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

        `ids` holds at least the ids before the last of the slots; `memory.hints` and `memory.expected` what belongs to these slots.
        """
        before = self._before(ids[:, :, : slots[-1]], places, slots)
        x = self.base(hidden)[:, :, None] + self.slot[slots.start : slots.stop] + before
        x = x + _per_slot(self.codes(memory.hints[..., 0]), self.hinted[slots.start : slots.stop])
        if self.config.triangles:
            x = x + _per_slot(self.codes(memory.expected).flatten(3), self.awaited[slots.start : slots.stop])
        for norm, layer in zip(self.norms, self.layers, strict=False):
            x = x + layer(norm(x))
        x = self.norms[-1](x)
        for at, slot in enumerate(slots):
            vertex, level = divmod(slot, self.config.spell)
            logits = (x[:, :, at] @ self.query[slot] @ self.answers[level].T).float() + self.bias[slot]
            if self.config.triangles:
                logits = _raised(logits, memory.expected[:, :, at], (x[:, :, at] @ self.confidence[slot]).float() + EXPECTATION)
            logits = logits + self._along_axes(x[:, :, at], ids, memory, places, slot)
            if level == 0:
                yield self._remembered(logits, x[:, :, at], memory, places, vertex)
                continue
            logits = self._hinted(logits, x[:, :, at], memory.hints[:, :, at], slot)
            if level == 1 and places is not None:
                near = places.near_ids(ids[:, :, slot - 1])
                logits = logits + weighted(x[:, :, at] @ self.touch[vertex], touching(near, Probe.of(self.offsets)))
            if level == 2 and places is not None:
                position = (shifted(ids[:, :, slot - 2 : slot], self.shifts) + 0.5) / self.config.bins - 0.5
                near = places.near_positions(position)
                logits = logits + weighted(x[:, :, at] @ self.touch_finely[vertex], touching(near, Probe.of(self.offsets)))
            yield logits

    def _along_axes(
        self, x: Float[Tensor, "b t e"], ids: Int[Tensor, "b t seen"], memory: Memory, places: Places | None, slot: int
    ) -> Float[Tensor, "b t ids"]:
        """Each id by the bins of the vertex that it would make: what the network thinks of them, whether earlier corners lie in them
        (those of this step, then all), and what the cloud is like there."""
        vertex, level = divmod(slot, self.config.spell)
        whole = ids[:, :, : vertex * self.config.spell]
        scores = (x @ self.axes[slot]).float().unflatten(-1, (3, self.config.bins))
        weights = (x @ self.aligned[slot]).float().unflatten(-1, (3, -1))
        scores = scores + weights[..., :1] * memory.crossed.log1p()
        if vertex:
            scores = scores.scatter_add(-1, cells_of(whole, self.shifts, self.config.bins), weights[..., 1 : vertex + 1])
        if places is not None:
            scores = scores + torch.einsum("btaf,banf->btan", weights[..., -4:], places.profile[places.rows])
        start = shifted(ids[:, :, slot - level : slot], self.shifts)
        cells = (start[..., None] + self.shifts[level].T).round_().clamp_(0, self.config.bins - 1).long()
        return scores.gather(-1, cells).sum(2)

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
        return _raised(logits, hints, (x @ self.trust[slot]).float() + start)

    def _remembered(self, logits: Tensor, x: Tensor, memory: Memory, places: Places | None, vertex: int) -> Float[Tensor, "b t ids"]:
        logits = logits + torch.gather((x @ self.age[vertex]).float(), -1, memory.ages)
        logits = logits + torch.gather((x @ self.use[vertex]).float(), -1, memory.uses)
        if places is not None:
            logits = logits + ((x @ self.query_place[vertex]) @ places.vectors[places.rows].transpose(1, 2)).float()
        return logits if vertex else torch.cat([logits, self.end(x).float()], -1)


def _raised(logits: Float[Tensor, "b t ids"], which: Int[Tensor, "b t k"], by: Float[Tensor, "b t k"]) -> Float[Tensor, "b t ids"]:
    """Logits with some ids raised; an id behind the last one stands for none."""
    ids = logits.shape[-1]
    return logits.scatter_add(-1, which.clamp(max=ids - 1), torch.where(which < ids, by, 0))


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


def slot_weights(slots: int, inward: int, outward: int) -> nn.Parameter:
    """A matrix for each slot, that keeps the size of what it is multiplied with."""
    return nn.Parameter(torch.randn(slots, inward, outward) * inward**-0.5)


def _per_slot(x: Float[Tensor, "b t s i"], weights: Float[Tensor, "s i o"]) -> Float[Tensor, "b t s o"]:
    """Each slot through its own matrix."""
    return torch.einsum("btsi,sio->btso", x, weights.to(x.dtype))
