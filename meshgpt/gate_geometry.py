"""How positions lie to the gate that a vertex is placed over: in the frame of the gate, and with the surface in between.

    o  outward, away from the face of the gate, in its plane
    ^
    a --e--> b       m  the normal of that face

It knows positions. It does not know ids or networks.

b  rows      t  steps      k  positions of a step      g  cells of the distance field
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from meshgpt.border import Border
from meshgpt.nearest import look_up

# A gate of nothing counts as this long, in cube units.
SHORTEST = 1 / 256
# Where the surface goes on beyond the gate: angles from straight on, and how far, in gate lengths and in cube units.
ANGLES = torch.linspace(-torch.pi / 2, torch.pi / 2, 7)
SCALED, FIXED = (0.4, 1.0), (0.03, 0.1)
# How near to the surface is near, in cube units.
NEARNESS = (0.012, 0.04)


class Gate(NamedTuple):
    """`axes` are the rows e, o, m; `guess` is where the corner of a parallelogram would be (or what comes nearest to that)."""

    middle: Float[Tensor, "b t 3"]
    axes: Float[Tensor, "b t 3 3"]
    length: Float[Tensor, "b t 1"]
    guess: Float[Tensor, "b t 3"]


def gate_of(border: Border) -> Gate:
    a, b, c, _, _ = border.corners.unbind(2)
    over, first = (border.stage == 0)[..., None], (border.stage <= 2)[..., None] & (border.stage > 0)[..., None]
    along = torch.where(first, a.new_tensor([1.0, 0, 0]), b - a)
    length = (b - a).norm(dim=-1, keepdim=True)
    length = torch.where(first, 0.1, length.clamp(min=SHORTEST))
    e = functional.normalize(along, dim=-1)
    across = torch.where(over, torch.linalg.cross(e, c - a), _least(e))
    flat = across.norm(dim=-1, keepdim=True) < 1e-6
    m = functional.normalize(torch.where(flat, torch.linalg.cross(e, _least(e)), across), dim=-1)
    m = functional.normalize(m - (m * e).sum(-1, keepdim=True) * e, dim=-1)
    middle = torch.where(first, a, (a + b) / 2)
    guess = torch.where(over, a + b - c, middle)
    return Gate(middle, torch.stack([e, torch.linalg.cross(e, m), m], -2), length, guess)


def _least(e: Float[Tensor, "b t 3"]) -> Float[Tensor, "b t 3"]:
    """The axis of the cube that is most across."""
    return functional.one_hot(e.abs().argmin(-1), 3).to(e.dtype)


def local(gate: Gate, positions: Float[Tensor, "b t *k 3"]) -> Float[Tensor, "b t *k 3"]:
    """Along e, o and m from the gate's middle, in cube units."""
    if positions.dim() == 3:
        return (gate.axes @ (positions - gate.middle)[..., None])[..., 0]
    return (positions - gate.middle[:, :, None]) @ gate.axes.transpose(-1, -2)


def nearness(field: Float[Tensor, "b g g g"], positions: Float[Tensor, "b t k 3"]) -> Float[Tensor, "b t k n"]:
    """1 on the surface, 0 far from it, by several measures."""
    squared = look_up(field, positions) ** 2
    return torch.stack([torch.exp(squared / (-2 * near**2)) for near in NEARNESS], -1)


def beyond(gate: Gate, field: Float[Tensor, "b g g g"]) -> Float[Tensor, "b t k"]:
    """How near the surface is in a fan of directions around the gate."""
    angles = ANGLES.to(gate.axes.device)
    ways = angles.cos()[:, None] * gate.axes[:, :, 1:2] + angles.sin()[:, None] * gate.axes[:, :, 2:]
    length = gate.length[..., None]
    fans = [gate.middle[:, :, None] + ways * far for far in (*(part * length for part in SCALED), *FIXED)]
    return nearness(field, torch.cat(fans, 2)).flatten(2)


def between(gate: Gate, field: Float[Tensor, "b g g g"], positions: Float[Tensor, "b t k 3"]) -> Float[Tensor, "b t k n"]:
    """How near the surface is on the way from the gate's middle to positions, and there."""
    start = gate.middle[:, :, None]
    way = positions - start
    return all_nearness(field, [start + 0.35 * way, start + 0.7 * way, positions])


def all_nearness(field: Float[Tensor, "b g g g"], several: Sequence[Float[Tensor, "b t k 3"]]) -> Float[Tensor, "b t k n"]:
    """That of several positions beside each other: one look-up costs less than several."""
    near = nearness(field, torch.cat([*several], 2)).unflatten(2, (len(several), -1))
    return near.transpose(2, 3).flatten(3)


# Steps of an eighth of the gate's length, up to four of it.
BUCKETS = 65


def buckets(gate: Gate, positions: Float[Tensor, "b t k 3"]) -> Int[Tensor, "b t k 3"]:
    """Where positions are along e, o and m, in eighths of the gate's length."""
    return (local(gate, positions) / gate.length[..., None] * 8).round().clamp(-(BUCKETS // 2), BUCKETS // 2).long() + BUCKETS // 2
