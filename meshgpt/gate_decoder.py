"""The depth decoder of gate tokens: a hidden vector and the gate in, the ids of the next vertex out, coarse to fine.

Each id is a block of the cube, so it is judged by where that block is: on each axis (as a digit), along the gate, on the surface of
the cloud; and vertices of the border by the faces that they would make.

b  rows      t  steps      v  ids of a slot      d  width of the model      e  width of this network      k  candidates      r  references
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from meshgpt.border import STAGES, Border
from meshgpt.conditioners import fourier
from meshgpt.depth import Places, chosen, slot_weights
from meshgpt.gate_geometry import ANGLES, BUCKETS, FIXED, NEARNESS, SCALED, Gate, all_nearness, between, beyond, buckets, local, nearness
from meshgpt.tokenizer.gate_grammar import bins_of_block
from meshgpt.touching import TOUCHED, Probe, touching, weighted
from meshgpt.transformer import SwiGLU

# A vertex of the border is right about every other time; training starts from there.
OFFERED = 1.0
REFERENCES = 8
USES = 4
AROUND = 24
FAN = len(ANGLES) * (len(SCALED) + len(FIXED)) * len(NEARNESS)
FRAME = 27 + 9 + 1 + 9 + 6 + STAGES + FAN
OFFER = 18 + 3 * len(NEARNESS)


@dataclass(frozen=True)
class GateDecoderConfig:
    """`sides` are the blocks on an axis at each level."""

    bins: int
    sides: tuple[int, int, int]
    model: int = 256
    dim: int = 192
    hidden: int = 256
    layers: int = 2
    code: int = 64
    surroundings: int = 64
    offer: int = 48


class Standing(NamedTuple):
    """What a vertex is written from: the vector of its step, the gate, what the border offers, the uses of coarse blocks, and in bins
    where a parallelogram would put it and what else it may be level with."""

    base: Float[Tensor, "b t e"]
    gate: Gate
    offers: Float[Tensor, "b t k w"]
    border: Border
    uses: Int[Tensor, "b t v"]
    guess: Int[Tensor, "b t 3"]
    references: Int[Tensor, "b t r 3"]

    def select(self, rows: Tensor) -> Standing:
        return self._changed(lambda part: chosen(part, rows))

    def copies(self, count: int) -> Standing:
        """Of the only row, to put others in their place."""
        return self._changed(lambda part: part.repeat(count, *[1] * (part.dim() - 1)))

    def put(self, rows: Tensor, other: Standing) -> None:
        """Replace rows, in place."""
        for part, new in zip(self._parts(), other._parts(), strict=True):
            part[rows] = new

    def _parts(self) -> tuple[Tensor, ...]:
        return (self.base, *self.gate, self.offers, *self.border, self.uses, self.guess, self.references)

    def _changed(self, change: Callable[[Tensor], Tensor]) -> Standing:
        gate, border = (type(parts)(*map(change, parts)) for parts in (self.gate, self.border))
        return Standing(change(self.base), gate, change(self.offers), border, *map(change, self[4:]))


class Ready(NamedTuple):
    """What a slot needs that is the same at all steps: the matrices that ask the vector of a slot all questions at once, how many columns
    each question has, and the blocks that the ids stand for."""

    asks: Float[Tensor, "e n"]
    columns: list[int]
    within: Int[Tensor, "v 3"]
    digits: Int[Tensor, "side"]
    probe: Probe


class GateEmbedding(nn.Module):
    """The gate, and what is around it, as one vector."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.enter, self.leave = nn.Linear(FRAME, 128), nn.Linear(128, width)

    def forward(self, features: Float[Tensor, "b t n"]) -> Float[Tensor, "b t w"]:
        return self.leave(functional.silu(self.enter(features)))


def frame_features(border: Border, gate: Gate, field: Float[Tensor, "b g g g"]) -> Float[Tensor, "b t n"]:
    """Place, directions and length of the gate; where the border goes on; and where the surface does."""
    around = border.corners[:, :, 2:]
    there = local(gate, around)
    parts = [
        fourier(2 * gate.middle, 4),
        gate.axes.flatten(2),
        gate.length.log(),
        torch.tanh(there / gate.length[..., None]).flatten(2),
        (there[:, :, 1:] * 4).flatten(2),
        functional.one_hot(border.stage.clamp(max=STAGES - 1), STAGES).float(),
        beyond(gate, field),
    ]
    return torch.cat(parts, -1)


def offer_features(border: Border, gate: Gate, field: Float[Tensor, "b g g g"]) -> Float[Tensor, "b t k n"]:
    """What face each candidate would make."""
    at = border.positions
    there, length = local(gate, at), gate.length[..., None]
    far = there.norm(dim=-1, keepdim=True)
    a, b = border.corners[:, :, None, 0], border.corners[:, :, None, 1]
    turn = functional.normalize(there[..., 1:], dim=-1)
    at_a, at_b = functional.normalize(at - a, dim=-1), functional.normalize(at - b, dim=-1)
    e = gate.axes[:, :, None, 0]
    cosines = torch.stack([(at_a * e).sum(-1), -(at_b * e).sum(-1), (at_a * at_b).sum(-1)], -1)
    high = there[..., 1:].norm(dim=-1, keepdim=True)
    p, n = (((at - border.corners[:, :, None, which]).abs().amax(-1) < 1e-6)[..., None].float() for which in (3, 4))
    over = (border.stage == 0)[:, :, None, None].expand_as(p).float()
    near = all_nearness(field, ((at + a + b) / 3, (at + a) / 2, (at + b) / 2))
    sizes = [torch.tanh(there / length), there * 4, far.clamp(min=1e-3).log(), (far / length).log1p(), (high / length).log1p()]
    return torch.cat([*sizes, turn, cosines, p, n, p * n, over, near], -1)


class GateDecoder(nn.Module):
    def __init__(self, config: GateDecoderConfig) -> None:
        super().__init__()
        self.config = config
        dim, levels = config.dim, len(config.sides)
        sizes = [side**3 for side in config.sides]
        self.base = nn.Linear(config.model, dim)
        self.gate = GateEmbedding(dim)
        self.slot = nn.Parameter(torch.zeros(levels, dim))
        self.codes = nn.ModuleList(nn.Embedding(size, dim) for size in sizes[:-1])
        self.seen_place = nn.Linear(config.surroundings, dim, bias=False)
        self.seen_block = nn.Linear(6 + len(NEARNESS), dim)
        self.offer = nn.Linear(OFFER, config.offer)
        self.offered = nn.Linear(config.offer, dim)
        self.norms = nn.ModuleList(nn.RMSNorm(dim, eps=1e-6) for _ in range(config.layers + 1))
        self.layers = nn.ModuleList(SwiGLU(dim, config.hidden) for _ in range(config.layers))
        self.query = slot_weights(levels, dim, config.code)
        self.answers = nn.ParameterList(torch.randn(size, config.code) * config.code**-0.5 for size in sizes)
        self.bias = nn.ParameterList(torch.zeros(size) for size in sizes)
        self.ask = _zeros(levels, dim, config.offer)
        self.plain = _zeros(levels, config.offer)
        self.apart = _zeros(levels, dim, 3 * (2 * config.bins - 1))
        self.absolute = nn.ParameterList(torch.zeros(dim, 3 * config.bins // bins_of_block(config.sides, level)) for level in range(levels))
        self.aligned = _zeros(levels, dim, 3 * (REFERENCES + 4))
        self.lie = _zeros(levels, dim, 3 * BUCKETS)
        self.support = _zeros(levels, dim, 3 * len(NEARNESS))
        self.use = _zeros(dim, USES)
        self.query_place = nn.Parameter(torch.randn(dim, config.surroundings) * dim**-0.5)
        self.touch = _zeros(levels - 1, dim, TOUCHED)
        self.stop = nn.Linear(dim, 2)

    def stand(
        self,
        hidden: Float[Tensor, "b t d"],
        features: Float[Tensor, "b t n"],
        border: Border,
        gate: Gate,
        uses: Int[Tensor, "b t v"],
        field: Float[Tensor, "b g g g"],
    ) -> Standing:
        """What the ids of a step are written from, whichever they are."""
        return self.stood(hidden, features, border, gate, uses, offer_features(border, gate, field))

    def stood(
        self,
        hidden: Float[Tensor, "b t d"],
        features: Float[Tensor, "b t n"],
        border: Border,
        gate: Gate,
        uses: Int[Tensor, "b t v"],
        offered: Float[Tensor, "b t k o"],
    ) -> Standing:
        """The same, where it is known what the border offers."""
        offers = functional.silu(self.offer(offered))
        base = self.base(hidden) + self.gate(features)
        base = base + self.offered(offers.masked_fill(~border.there[..., None], 0).amax(2))
        return Standing(base, gate, offers, border, uses, _bins(gate.guess, self.config.bins), _references(border, self.config.bins))

    def ready(self, slot: int) -> Ready:
        """Whoever writes step by step makes it once for each slot."""
        asks = [getattr(self, name)[slot] for name in ("query", "absolute", "apart", "aligned", "lie", "support", "ask")]
        asks += [self.touch[slot - 1]] if slot else [self.query_place, self.use]
        side, block = self.config.sides[slot], bins_of_block(self.config.sides, slot)
        digits = _digits(torch.arange(side**3, device=self.slot.device), side)
        offsets = (digits - (side - 1) / 2) * (block / self.config.bins)
        axis = torch.arange(side, device=self.slot.device) * block
        return Ready(torch.cat(asks, 1), [ask.shape[1] for ask in asks], digits * block, axis, Probe.of(offsets))

    def forward(
        self,
        standing: Standing,
        ids: Int[Tensor, "b t seen"],
        places: Places,
        field: Float[Tensor, "b g g g"],
        slot: int,
        ready: Ready | None = None,
    ) -> Float[Tensor, "b t v"]:
        """Logits of a slot, with the ids before it (and more) known; of slot 0 with SKIP and END behind the blocks."""
        gate, border, ready = standing.gate, standing.border, ready or self.ready(slot)
        start = self._start(ids, slot)
        x = self._think(standing.base + self.slot[slot] + self._before(ids, gate, start, places, field, slot))
        query, absolute, apart, aligned, lie, support, ask, *others = (x @ ready.asks).split(ready.columns, -1)
        logits = (query @ self.answers[slot].T).float() + self.bias[slot]
        logits = logits + self._by_digits(absolute.float(), apart.float(), aligned.float(), standing, start, places, ready, slot)
        logits = logits + self._by_gate(lie.float(), support.float(), gate, field, self._blocks(start, ready, slot))
        logits = logits + self._by_offers(ask + self.plain[slot], standing.offers, border, ids, logits.shape[-1], slot)
        if slot:
            return logits + weighted(others[0], self._touching(places, ids, start, ready, slot))
        query_place, use = others
        logits = logits + (query_place @ chosen(places.vectors, places.rows).transpose(1, 2)).float()
        logits = logits + use.float().gather(-1, standing.uses)
        return torch.cat([logits, self.stop(x).float()], -1)

    def _think(self, x: Float[Tensor, "b t e"]) -> Float[Tensor, "b t e"]:
        for norm, layer in zip(self.norms, self.layers, strict=False):
            x = x + layer(norm(x))
        return self.norms[-1](x)

    def _start(self, ids: Int[Tensor, "b t seen"], slot: int) -> Int[Tensor, "b t 3"]:
        """The first corner of the block so far, in bins."""
        start = torch.zeros(*ids.shape[:2], 3, dtype=torch.long, device=ids.device)
        for level in range(slot):
            start = start + _digits(ids[..., level], self.config.sides[level]) * bins_of_block(self.config.sides, level)
        return start

    def _cube(self, bins: Tensor) -> Tensor:
        return (bins + 0.5) / self.config.bins - 0.5

    def _middle(self, start: Int[Tensor, "b t *k 3"], slot: int) -> Float[Tensor, "b t *k 3"]:
        """Of the block of this slot that begins there, in the cube."""
        return self._cube(start + (bins_of_block(self.config.sides, slot) - 1) / 2)

    def _blocks(self, start: Int[Tensor, "b t 3"], ready: Ready, slot: int) -> Float[Tensor, "b t v 3"]:
        """The middles of the blocks that the ids stand for, in the cube."""
        return self._middle(start[:, :, None] + ready.within, slot)

    def _before(self, ids: Tensor, gate: Gate, start: Tensor, places: Places, field: Tensor, slot: int) -> Float[Tensor, "b t e"] | float:
        """What the ids before this slot say."""
        if not slot:
            return 0.0
        known = [ids[..., level].clamp(max=self.config.sides[level] ** 3 - 1) for level in range(slot)]
        seen = sum(self.codes[level](known[level]) for level in range(slot)) + self.seen_place(places.of_ids(known[0][..., None])[:, :, 0])
        middle = self._middle(start, slot - 1)
        there = local(gate, middle)
        block = torch.cat([torch.tanh(there / gate.length), there * 4, nearness(field, middle[:, :, None])[:, :, 0]], -1)
        return seen + self.seen_block(block)

    def _by_digits(
        self, absolute: Tensor, apart: Tensor, aligned: Tensor, standing: Standing, start: Tensor, places: Places, ready: Ready, slot: int
    ) -> Float[Tensor, "b t v"]:
        """Each axis by itself: where blocks are, how far from the guess, level with which corners, and what the cloud is like there."""
        bins, side, block = self.config.bins, self.config.sides[slot], bins_of_block(self.config.sides, slot)
        begin = start[..., None] + ready.digits
        cell = begin // block
        scores = absolute.unflatten(-1, (3, -1)).gather(-1, cell.clamp(max=bins // block - 1))
        far = begin + ((block - 1) // 2 + bins - 1) - standing.guess[..., None]
        scores = scores + apart.unflatten(-1, (3, -1)).gather(-1, far.clamp(0, 2 * bins - 2))
        weights = aligned.unflatten(-1, (3, -1))
        level = standing.references[..., None, :].transpose(2, 4) // block == cell[..., None]
        scores = scores + (level * weights[..., None, :REFERENCES]).sum(-1)
        seen = chosen(places.profile.unflatten(2, (-1, block)).mean(3), places.rows)
        at = cell.clamp(max=seen.shape[2] - 1).transpose(1, 2).flatten(2)
        there = seen.gather(2, at[..., None].expand(-1, -1, -1, 4)).unflatten(2, (-1, side)).transpose(1, 2)
        scores = scores + (there * weights[..., None, REFERENCES:]).sum(-1)
        on_x, on_y, on_z = scores.unbind(2)
        return (on_y[..., :, None, None] + on_z[..., None, :, None] + on_x[..., None, None, :]).flatten(2)

    def _by_gate(self, lie: Tensor, support: Tensor, gate: Gate, field: Tensor, blocks: Float[Tensor, "b t v 3"]) -> Float[Tensor, "b t v"]:
        """Along the gate, across it, and with the surface between."""
        with torch.no_grad():
            where = buckets(gate, blocks).transpose(2, 3)
            near = between(gate, field, blocks)
        return lie.unflatten(-1, (3, -1)).gather(-1, where).sum(2) + torch.einsum("btvn,btn->btv", near, support)

    def _by_offers(self, ask: Tensor, offers: Tensor, border: Border, ids: Tensor, size: int, slot: int) -> Float[Tensor, "b t v"]:
        """Vertices of the border that begin as this one does raise their next ids."""
        fits = border.there
        for level in range(slot):
            fits = fits & (border.candidates[..., level] == ids[:, :, None, level])
        score = OFFERED + (offers @ ask[..., None])[..., 0].float()
        raised = torch.zeros(*ask.shape[:2], size, device=ask.device, dtype=score.dtype)
        return raised.scatter_add(-1, border.candidates[..., slot].clamp(max=size - 1), torch.where(fits, score, 0))

    def _touching(self, places: Places, ids: Tensor, start: Tensor, ready: Ready, slot: int) -> list[Float[Tensor, "b t v"]]:
        """Where would each id put the vertex: on a point of the cloud, on the tangent planes of the points around?"""
        if slot == 1:
            near = places.near_ids(ids[..., 0].clamp(max=self.config.sides[0] ** 3 - 1))
        else:
            near = places.near_positions(self._middle(start, slot - 1), AROUND)
        return touching(near, ready.probe)


def _references(border: Border, bins: int) -> Int[Tensor, "b t r 3"]:
    """Corners around the gate, and where parallelograms would put the next one, in bins."""
    a, b, c, p, n = _bins(border.corners, bins).unbind(2)
    return torch.stack([a, b, c, p, n, a + b - c, a + n - b, b + p - a], 2)


def _bins(positions: Float[Tensor, "*n 3"], bins: int) -> Int[Tensor, "*n 3"]:
    """The nearest ones."""
    return ((positions + 0.5) * bins - 0.5).round().long()


def _digits(ids: Int[Tensor, "*n"], side: int) -> Int[Tensor, "*n 3"]:
    return torch.stack([ids % side, ids // side**2 % side, ids // side % side], -1)


def _zeros(*shape: int) -> nn.Parameter:
    return nn.Parameter(torch.zeros(*shape))
