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
from jaxtyping import Bool, Float, Int
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


class Slot(NamedTuple):
    """The weights of a slot, as the loops take them: inputs x outputs. `ends` are where the columns of each question end."""

    side: int
    block: int
    own: Float[np.ndarray, "e"]
    asks: Float[np.ndarray, "e q"]
    ends: Int[np.ndarray, "k"]
    answers: Float[np.ndarray, "c v"]
    bias: Float[np.ndarray, "v"]
    plain: Float[np.ndarray, "o"]
    offsets: Float[np.ndarray, "v 3"]

    @classmethod
    def of(cls, decoder: GateDecoder, slot: int) -> Slot:
        ready, sides = decoder.ready(slot), decoder.config.sides
        parts = (decoder.slot[slot], ready.asks), (decoder.answers[slot].T, decoder.bias[slot], decoder.plain[slot])
        offsets = _array(ready.probe.points.T[:, :3])
        own, other = (map(_array, some) for some in parts)
        return cls(sides[slot], bins_of_block(sides, slot), *own, np.cumsum(ready.columns), *other, offsets)


class Decoder(NamedTuple):
    """What all slots share."""

    bins: int
    sides: Int[np.ndarray, "levels"]
    blocks: Int[np.ndarray, "levels"]
    codes: tuple[Float[np.ndarray, "_v e"], ...]
    seen_place: Float[np.ndarray, "p e"]
    seen_block: Float[np.ndarray, "k e"]
    seen_block_bias: Float[np.ndarray, "e"]
    norms: Float[np.ndarray, "layers1 e"]
    ups: Float[np.ndarray, "layers e 2m"]
    downs: Float[np.ndarray, "layers m e"]
    stop: Float[np.ndarray, "e 2"]
    stop_bias: Float[np.ndarray, "2"]
    near: Float[np.ndarray, "m"] = NEAR
    touches: Float[np.ndarray, "t"] = TOUCHING
    counts: Int[np.ndarray, "l"] = COUNTS
    plane_touches: Float[np.ndarray, "l"] = PLANES_NEAR
    nearest: int = NEAREST
    around: int = AROUND
    offered: float = OFFERED
    epsilon: float = EPSILON

    @classmethod
    def of(cls, decoder: GateDecoder) -> Decoder:
        config = decoder.config
        blocks = np.array([bins_of_block(config.sides, level) for level in range(len(config.sides))])
        codes = tuple(_array(part.weight) for part in decoder.codes)
        place, block, stop = decoder.seen_place, decoder.seen_block, decoder.stop
        seen = place.weight.T, block.weight.T, block.bias
        norms = torch.stack([part.weight for part in decoder.norms])
        layers = (torch.stack([getattr(part, name).weight.T for part in decoder.layers]) for name in ("up", "down"))
        weights = map(_array, (*seen, norms, *layers, stop.weight.T, stop.bias))
        return cls(config.bins, np.array(config.sides), blocks, codes, *weights)


class Stand(NamedTuple):
    """A `Standing` of all rows as it is in memory, so that what is put there is there."""

    base: Float[np.ndarray, "r e"]
    middles: Float[np.ndarray, "r 3"]
    axes: Float[np.ndarray, "r 3 3"]
    lengths: Float[np.ndarray, "r"]
    guess: Int[np.ndarray, "r 3"]
    references: Int[np.ndarray, "r refs 3"]
    offers: Float[np.ndarray, "r k w"]
    candidates: Int[np.ndarray, "r k 3"]
    there: Bool[np.ndarray, "r k"]
    uses: Int[np.ndarray, "r v"]

    @classmethod
    def of(cls, standing: Standing) -> Stand:
        own = standing.guess, standing.references, standing.offers, standing.border.candidates, standing.border.there, standing.uses
        return cls(standing.base[:, 0].numpy(), *_gate(standing.gate), *(part[:, 0].numpy() for part in own))


class Clouds(NamedTuple):
    """What each row sees."""

    fields: Float[np.ndarray, "r g g g"]
    vectors: Float[np.ndarray, "r v p"]
    near: Float[np.ndarray, "r v m 6"]
    surface: Float[np.ndarray, "r p 6"]
    profile: Float[np.ndarray, "r 3 bins 4"]

    @classmethod
    def room(cls, rows: int, places: Places, field: Float[Tensor, "1 g g g"]) -> Clouds:
        """For so many rows like this one."""
        parts = field, places.vectors, places.near, places.surface, places.profile
        return cls(*(np.empty((rows, *part.shape[1:]), np.float32) for part in parts))

    def put(self, row: int, places: Places, field: Float[Tensor, "1 g g g"]) -> None:
        self.fields[row] = field[0].numpy()
        for part, new in zip(self[1:], places[:-1], strict=True):
            part[row] = new[int(places.rows[0])].numpy()


class GateLoops:
    """A decoder, as the loops take it."""

    def __init__(self, decoder: GateDecoder) -> None:
        self.decoder, self.shared = decoder, Decoder.of(decoder)
        self.slots = [Slot.of(decoder, slot) for slot in range(len(decoder.config.sides))]

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

    def logits(self, standing: Stand, clouds: Clouds, rows: Int[Tensor, "n"], opened: Int[Tensor, "n s"]) -> Float[Tensor, "n ids"]:
        """Of the slot after the `opened` ids, with SKIP and END behind those of slot 0."""
        from meshgpt.gate_slot_kernels import slot_logits

        return torch.from_numpy(slot_logits(standing, clouds, self.shared, self.slots[opened.shape[1]], rows.numpy(), opened.numpy()))


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
