"""How well positions around a place lie on the points of a cloud that are near to it, and on the planes of these points.

A vertex of an artist's mesh mostly stands where planes meet. It knows points. It does not know ids or networks.

b  rows      t  places      m  points around each      k  offsets
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

# How near is near, in cube units: from under a bin to the size of a coarse cell.
TOUCHES = (0.006, 0.015, 0.04)
# How many points around, and how near their planes: many points show the planes that meet in a corner.
PLANES = ((24, 0.006), (24, 0.02), (64, 0.01))
NEAREST = 8
TOUCHED = 2 * len(TOUCHES) + len(PLANES)


class Probe(NamedTuple):
    """Offsets from a place as what follows wants them: x y z 1, their squared lengths, and the products of any two of x y z 1."""

    points: Float[Tensor, "4 k"]
    squared: Float[Tensor, "k"]
    products: Float[Tensor, "16 k"]

    @classmethod
    def of(cls, offsets: Float[Tensor, "k 3"]) -> Probe:
        points = torch.cat([offsets, torch.ones_like(offsets[:, :1])], -1)
        return cls(points.T, (offsets**2).sum(-1), (points[:, :, None] * points[:, None]).flatten(1).T)


def touching(near: Float[Tensor, "b t m 6"], probe: Probe) -> list[Float[Tensor, "b t k"]]:
    """By TOUCHED measures, from 1 (on a point, on all planes) to 0 (far off), where each offset from a place would be.

    `near` are offsets and normals of points, the nearest first; in cube units.
    """
    with torch.no_grad(), torch.autocast(near.device.type, enabled=False):
        points, normals = near.float().split(3, -1)
        apart = _squared_apart(points[..., :NEAREST, :], probe)
        beside = {count: _quadric(points[..., :count, :], normals[..., :count, :], probe) for count in (NEAREST, *dict(PLANES))}
        measures = [torch.exp(squared / (-2 * touch**2)) for touch in TOUCHES for squared in (apart, beside[NEAREST])]
        return measures + [torch.exp(beside[count] / (-2 * touch**2)) for count, touch in PLANES]


def weighted(weights: Float[Tensor, "b t n"], measures: list[Float[Tensor, "b t k"]]) -> Float[Tensor, "b t k"]:
    """The sum of the measures, each with its weight and one more."""
    return sum(weight[..., None] * how for weight, how in zip((weights.float() + 1).unbind(-1), measures, strict=True))


def _squared_apart(points: Float[Tensor, "b t m 3"], probe: Probe) -> Float[Tensor, "b t ids"]:
    """Squared distance of each offset to the nearest of the points."""
    known = torch.cat([-2 * points, (points**2).sum(-1, keepdim=True)], -1)
    return ((known @ probe.points).amin(-2) + probe.squared).clamp_(min=0)


def _quadric(points: Float[Tensor, "b t m 3"], normals: Float[Tensor, "b t m 3"], probe: Probe) -> Float[Tensor, "b t ids"]:
    """Mean squared distance of each offset to the points' tangent planes: the quadric of Garland & Heckbert (1997)."""
    planes = torch.cat([normals, -(normals * points).sum(-1, keepdim=True)], -1)
    quadrics = planes.transpose(-1, -2) @ planes / points.shape[-2]
    return (quadrics.flatten(-2) @ probe.products).clamp_(min=0)
