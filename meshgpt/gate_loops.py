"""The gate decoder by compiled loops, for whoever writes step by step on a CPU: the same numbers, several times faster.

    frames     where the next vertex is placed upon, as features
    stand      what its ids are written from
    logits     of a slot

n  rows that are asked about      s  ids so far      k  features
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from meshgpt.border import STAGES, Border
from meshgpt.depth import Places
from meshgpt.gate_decoder import AROUND, FRAME, OFFER, OFFERED, GateDecoder, Standing
from meshgpt.gate_geometry import ANGLES, FIXED, NEARNESS, SCALED, SHORTEST, Gate
from meshgpt.tokenizer.gate_grammar import bins_of_block
from meshgpt.touching import NEAREST, PLANES, TOUCHES
from meshgpt.transformer import EPSILON

NEAR, TOUCHING = np.array(NEARNESS, np.float32), np.array(TOUCHES, np.float32)
COUNTS, PLANES_NEAR = np.array([count for count, _ in PLANES]), np.array([near for _, near in PLANES], np.float32)
TURNS = torch.stack([ANGLES.cos(), ANGLES.sin()], 1).numpy()
FREQUENCIES = 4


class _Slot(NamedTuple):
    """The weights of a slot, as the loops take them: inputs x outputs. `ends` are where the columns of each question end."""

    side: int
    block: int
    own: Float[np.ndarray, "e"]
    asks: Float[np.ndarray, "e q"]
    ends: list[int]
    answers: Float[np.ndarray, "c v"]
    bias: Float[np.ndarray, "v"]
    plain: Float[np.ndarray, "o"]
    offsets: Float[np.ndarray, "v 3"]

    @classmethod
    def of(cls, decoder: GateDecoder, slot: int) -> _Slot:
        ready, sides = decoder.ready(slot), decoder.config.sides
        parts = (decoder.slot[slot], ready.asks), (decoder.answers[slot].T, decoder.bias[slot], decoder.plain[slot])
        ends = np.cumsum(ready.columns)[:-1].tolist()
        offsets = _array(ready.probe.points.T[:, :3])
        return cls(sides[slot], bins_of_block(sides, slot), *map(_array, parts[0]), ends, *map(_array, parts[1]), offsets)


class GateLoops:
    """A decoder, as the loops take it."""

    def __init__(self, decoder: GateDecoder) -> None:
        config = decoder.config
        self.decoder, self.bins, self.sides = decoder, config.bins, np.array(config.sides)
        self.blocks = np.array([bins_of_block(config.sides, level) for level in range(len(config.sides))])
        self.slots = [_Slot.of(decoder, slot) for slot in range(len(config.sides))]
        self.norms = _array(torch.stack([part.weight for part in decoder.norms]))
        self.layers = tuple(_array(torch.stack([getattr(part, name).weight.T for part in decoder.layers])) for name in ("up", "down"))
        self.codes = [_array(part.weight) for part in decoder.codes]
        linear = decoder.seen_place, decoder.seen_block, decoder.stop
        self.seen_place, self.seen_block, self.stop = (_array(part.weight.T) for part in linear)

    @staticmethod
    def fit(decoder: GateDecoder) -> bool:
        """Whether the loops can do it: on CPUs, in float32, where no gradients are wanted."""
        return decoder.slot.device.type == "cpu" and decoder.slot.dtype == torch.float32 and not torch.is_grad_enabled()

    def frames(self, border: Border, field: Float[Tensor, "n g g g"]) -> tuple[Gate, Float[Tensor, "n 1 k"]]:
        """The gates, and `gate_decoder.frame_features`."""
        from meshgpt.gate_geometry_kernels import frames_of, gates_of

        count = len(border.stage)
        corners, stages = border.corners[:, 0].numpy(), border.stage[:, 0].numpy()
        middles, axes, lengths, guesses = (np.empty((count, *shape), np.float32) for shape in ((3,), (3, 3), (), (3,)))
        gates_of(corners, stages, SHORTEST, middles, axes, lengths, guesses)
        features = np.empty((count, FRAME), np.float32)
        fan = TURNS, np.array(SCALED, np.float32), np.array(FIXED, np.float32)
        frames_of(corners, stages, middles, axes, lengths, *_fields(field), NEAR, *fan, FREQUENCIES, STAGES, features)
        gate = Gate(*(torch.from_numpy(part)[:, None] for part in (middles, axes, lengths[:, None], guesses)))
        return gate, torch.from_numpy(features)[:, None]

    def stand(
        self,
        hidden: Float[Tensor, "n 1 d"],
        features: Float[Tensor, "n 1 k"],
        border: Border,
        gate: Gate,
        uses: Int[Tensor, "n 1 v"],
        field: Float[Tensor, "n g g g"],
    ) -> Standing:
        """`GateDecoder.stand`."""
        from meshgpt.gate_geometry_kernels import offers_of

        corners, stages, positions = border.corners[:, 0].numpy(), border.stage[:, 0].numpy(), border.positions[:, 0].numpy()
        offers = np.empty((*positions.shape[:2], OFFER), np.float32)
        offers_of(corners, stages, positions, *_gate(gate), *_fields(field), NEAR, offers)
        return self.decoder.stood(hidden, features, border, gate, uses, torch.from_numpy(offers)[:, None])

    def logits(
        self, standing: Standing, rows: Int[Tensor, "n"], opened: Int[Tensor, "n s"], places: Places, field: Float[Tensor, "n g g g"]
    ) -> Float[Tensor, "n ids"]:
        """Of the slot after the `opened` ids, with SKIP and END behind those of slot 0; `rows` of what stands; `places` and `field` are
        what the asked rows see."""
        ids, which, of_slot = opened.numpy(), rows.numpy(), self.slots[opened.shape[1]]
        starts = self._starts(ids)
        x = self._thought(standing, which, ids, starts, places, field)
        query, *asked = np.split(_product(x, of_slot.asks), of_slot.ends, axis=1)
        logits = _product(np.ascontiguousarray(query), of_slot.answers) + of_slot.bias
        self._add_geometry(logits, asked, standing, which, ids, starts, places, field)
        if ids.shape[1]:
            self._add_touching(logits, asked[-1], ids, starts, places)
            return torch.from_numpy(logits)
        query_place, use = asked[-2:]
        self._add_places(logits, query_place, use, standing.uses[:, 0].numpy()[which], places)
        return torch.from_numpy(np.concatenate([logits, _product(x, self.stop) + self.decoder.stop.bias.numpy()], 1))

    def _starts(self, ids: Int[np.ndarray, "n s"]) -> Int[np.ndarray, "n 3"]:
        from meshgpt.gate_decoder_kernels import first_bins

        return first_bins(ids, self.sides, self.blocks)

    def _thought(
        self,
        standing: Standing,
        which: Int[np.ndarray, "n"],
        ids: Int[np.ndarray, "n s"],
        starts: Int[np.ndarray, "n 3"],
        places: Places,
        field: Tensor,
    ) -> Float[np.ndarray, "n e"]:
        """The vector of the slot."""
        from meshgpt.gate_decoder_kernels import block_features, think

        slot = ids.shape[1]
        x = standing.base[:, 0].numpy()[which] + self.slots[slot].own
        for level in range(slot):
            x += self.codes[level][np.minimum(ids[:, level], self.sides[level] ** 3 - 1)]
        if slot:
            seen = places.vectors.numpy()[places.rows.numpy(), np.minimum(ids[:, 0], self.sides[0] ** 3 - 1)]
            block = block_features(starts, self.blocks[slot - 1], self.bins, which, *_gate(standing.gate), *_fields(field), NEAR)
            x += _product(seen, self.seen_place) + _product(block, self.seen_block) + self.decoder.seen_block.bias.numpy()
        think(x, self.norms, *self.layers, EPSILON)
        return x

    def _add_geometry(
        self,
        logits: Float[np.ndarray, "n v"],
        asked: list[Float[np.ndarray, "n _q"]],
        standing: Standing,
        which: Int[np.ndarray, "n"],
        ids: Int[np.ndarray, "n s"],
        starts: Int[np.ndarray, "n 3"],
        places: Places,
        field: Tensor,
    ) -> None:
        """By digits, by the gate, and by what the border offers."""
        from meshgpt.gate_decoder_kernels import add_digits, add_gate, add_offers

        of_slot, border = self.slots[ids.shape[1]], standing.border
        absolute, apart, aligned, lie, support, ask, *_ = asked
        guess, references, offers = (part[:, 0].numpy() for part in (standing.guess, standing.references, standing.offers))
        candidates, there = border.candidates[:, 0].numpy(), border.there[:, 0].numpy()
        (middles, axes, lengths), (fields, field_of) = _gate(standing.gate), _fields(field)
        profiles, cloud_of = places.profile.numpy(), places.rows.numpy()
        size = of_slot.side, of_slot.block
        for row, at in enumerate(which):
            to, start, seen = logits[row], starts[row], fields[field_of[row]]
            add_digits(to, absolute[row], apart[row], aligned[row], start, guess[at], references[at], profiles[cloud_of[row]], *size)
            add_gate(to, lie[row], support[row], start, middles[at], axes[at], lengths[at], seen, NEAR, *size, self.bins)
            add_offers(to, ask[row], of_slot.plain, offers[at], candidates[at], there[at], ids[row], OFFERED)

    def _add_touching(
        self,
        logits: Float[np.ndarray, "n v"],
        touch: Float[np.ndarray, "n q"],
        ids: Int[np.ndarray, "n s"],
        starts: Int[np.ndarray, "n 3"],
        places: Places,
    ) -> None:
        """Where would each id put the vertex: on a point of the cloud, on the tangent planes of the points around?"""
        from meshgpt.gate_decoder_kernels import add_touching, middle_of, nearest

        slot, cloud_of, near, surface = ids.shape[1], places.rows.numpy(), places.near.numpy(), places.surface.numpy()
        for row, cloud in enumerate(cloud_of):
            if slot == 1:
                around = near[cloud, min(ids[row, 0], self.sides[0] ** 3 - 1)]
            else:
                around = nearest(surface[cloud], middle_of(starts[row], self.blocks[slot - 1], self.bins), AROUND)
            add_touching(logits[row], touch[row], around, self.slots[slot].offsets, NEAREST, TOUCHING, COUNTS, PLANES_NEAR)

    def _add_places(
        self,
        logits: Float[np.ndarray, "n v"],
        query: Float[np.ndarray, "n p"],
        use: Float[np.ndarray, "n u"],
        uses: Int[np.ndarray, "n v"],
        places: Places,
    ) -> None:
        """What the surroundings of the blocks answer, and how often they were used."""
        from meshgpt.gate_decoder_kernels import add_places

        vectors = places.vectors.numpy()
        for row, cloud in enumerate(places.rows.numpy()):
            add_places(logits[row], query[row], vectors[cloud])
            logits[row] += use[row][uses[row]]


def _array(weights: Tensor) -> Float[np.ndarray, "*n"]:
    return np.ascontiguousarray(weights.detach().numpy())


def _gate(gate: Gate) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Middles, axes and lengths."""
    return gate.middle[:, 0].numpy(), gate.axes[:, 0].numpy(), gate.length[:, 0, 0].numpy()


def _fields(field: Float[Tensor, "n g g g"]) -> tuple[Float[np.ndarray, "f g g g"], Int[np.ndarray, "n"]]:
    """The different ones, and whose each row is: rows of one cloud share it."""
    if field.stride(0) == 0 or len(field) == 1:
        return field[:1].numpy(), np.zeros(len(field), np.int64)
    return field.numpy(), np.arange(len(field))


def _product(rows: Float[np.ndarray, "n i"], weights: Float[np.ndarray, "i o"]) -> Float[np.ndarray, "n o"]:
    from meshgpt.step_kernels import times

    product = np.empty((len(rows), weights.shape[1]), np.float32)
    times(rows, weights, product)
    return product
