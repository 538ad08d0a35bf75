"""Gates by compiled loops, for whoever writes step by step on a CPU: what the network computes, several times faster.

    enter      what the transformer reads of a step
    leave      what the ids of the next one are written from
    logits     of a slot

n  rows that are asked about      r  rows that are written      s  ids so far      k  features
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from meshgpt.border import STAGES
from meshgpt.depth import Places
from meshgpt.gate_decoder import AROUND, OFFERED, GateDecoder, GateEmbedding, Standing
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


class Embedding(NamedTuple):
    """A `GateEmbedding`."""

    enter: Float[np.ndarray, "k e"]
    enter_bias: Float[np.ndarray, "e"]
    leave: Float[np.ndarray, "e d"]
    leave_bias: Float[np.ndarray, "d"]

    @classmethod
    def of(cls, embedding: GateEmbedding) -> Embedding:
        return cls(*_linear(embedding.enter), *_linear(embedding.leave))


class Reader(NamedTuple):
    """What reads steps: into the transformer, and from it into what the next ids are written from."""

    embed: Embedding
    codes: tuple[Float[np.ndarray, "_v d"], ...]
    place: Float[np.ndarray, "p d"]
    skip: int
    skipped: Float[np.ndarray, "d"]
    base: Float[np.ndarray, "d e"]
    base_bias: Float[np.ndarray, "e"]
    gate: Embedding
    offer: Float[np.ndarray, "k w"]
    offer_bias: Float[np.ndarray, "w"]
    offered: Float[np.ndarray, "w e"]
    offered_bias: Float[np.ndarray, "e"]
    turns: Float[np.ndarray, "a 2"] = TURNS
    scaled: Float[np.ndarray, "s"] = np.array(SCALED, np.float32)
    fixed: Float[np.ndarray, "s2"] = np.array(FIXED, np.float32)
    shortest: float = SHORTEST
    frequencies: int = FREQUENCIES
    stages: int = STAGES

    @classmethod
    def of(cls, network: Any) -> Reader:
        """Of a `GateModel`."""
        decoder, codes = network.decoder, tuple(_array(level.weight) for level in network.embed)
        skips = network.tokenizer.skip, _array(network.skipped)
        steps = Embedding.of(network.embed_gate), codes, _array(network.embed_place.weight.T), *skips
        offers = *_linear(decoder.offer), *_linear(decoder.offered)
        return cls(*steps, *_linear(decoder.base), Embedding.of(decoder.gate), *offers)


class GateLoops:
    """A network of gates, as the loops take it."""

    def __init__(self, network: Any) -> None:
        decoder = network.decoder
        self.reader, self.shared = Reader.of(network), Decoder.of(decoder)
        self.slots = [Slot.of(decoder, slot) for slot in range(len(decoder.config.sides))]

    @staticmethod
    def fit(decoder: GateDecoder) -> bool:
        """Whether the loops can do it: on CPUs, in float32, where no gradients are wanted."""
        return decoder.slot.device.type == "cpu" and decoder.slot.dtype == torch.float32 and not torch.is_grad_enabled()

    def enter(
        self, standing: Stand, clouds: Clouds, rows: Int[np.ndarray, "n"], ids: Int[np.ndarray, "n 3"], frames: Int[np.ndarray, "n 6"]
    ) -> tuple[Float[Tensor, "n 1 d"], Float[np.ndarray, "n k"]]:
        """What the transformer reads of a step of each row, and the features of the gate that comes next, which stands from now on."""
        from meshgpt.gate_stand_kernels import enter

        vectors, features = enter(standing, clouds, self.reader, self.shared, rows, ids, frames)
        return torch.from_numpy(vectors)[:, None], features

    def leave(
        self,
        standing: Stand,
        clouds: Clouds,
        rows: Int[np.ndarray, "n"],
        frames: Int[np.ndarray, "n 6"],
        found: Int[np.ndarray, "n k"],
        hidden: Float[Tensor, "n 1 d"],
        features: Float[np.ndarray, "n f"],
    ) -> None:
        """`GateDecoder.stand`, where it stands from now on."""
        from meshgpt.gate_stand_kernels import leave

        vectors = hidden[:, 0].float().contiguous().numpy()
        leave(standing, clouds, self.reader, self.shared, rows, frames, found, vectors, features)

    def logits(self, standing: Stand, clouds: Clouds, rows: Int[Tensor, "n"], opened: Int[Tensor, "n s"]) -> Float[Tensor, "n ids"]:
        """Of the slot after the `opened` ids, with SKIP and END behind those of slot 0."""
        from meshgpt.gate_slot_kernels import slot_logits

        return torch.from_numpy(slot_logits(standing, clouds, self.shared, self.slots[opened.shape[1]], rows.numpy(), opened.numpy()))


def _linear(layer: nn.Linear) -> tuple[Float[np.ndarray, "i o"], Float[np.ndarray, "o"]]:
    return _array(layer.weight.T), _array(layer.bias)


def _array(weights: Tensor) -> Float[np.ndarray, "*n"]:
    return np.ascontiguousarray(weights.detach().numpy())


def _gate(gate: Gate) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Middles, axes and lengths."""
    return gate.middle[:, 0].numpy(), gate.axes[:, 0].numpy(), gate.length[:, 0, 0].numpy()
