"""How well positions around a place lie on the points of a cloud that are near to it, and on the planes of these points.

A vertex of an artist's mesh mostly stands where planes meet. It knows points. It does not know ids or networks.

b  rows      t  places      m  points around each      k  offsets
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

# How near is near, in cube units: from under a bin to the size of a coarse cell.
TOUCHES = (0.006, 0.015, 0.04)
# How many points around, and how near their planes: many points show the planes that meet in a corner.
PLANES = ((24, 0.006), (24, 0.02), (64, 0.01))
NEAREST = 8
TOUCHED = 2 * len(TOUCHES) + len(PLANES)


def touching(near: Float[Tensor, "b t m 6"], offsets: Float[Tensor, "k 3"]) -> list[Float[Tensor, "b t k"]]:
    """By TOUCHED measures, from 1 (on a point, on all planes) to 0 (far off), where each offset from a place would be.

    `near` are offsets and normals of points, the nearest first; in cube units.
    """
    with torch.no_grad(), torch.autocast(near.device.type, enabled=False):
        points, normals = near.float().split(3, -1)
        apart = _squared_apart(points[..., :NEAREST, :], offsets)
        beside = {count: _quadric(points[..., :count, :], normals[..., :count, :], offsets) for count in (NEAREST, *dict(PLANES))}
        measures = [torch.exp(squared / (-2 * touch**2)) for touch in TOUCHES for squared in (apart, beside[NEAREST])]
        return measures + [torch.exp(beside[count] / (-2 * touch**2)) for count, touch in PLANES]


def weighted(weights: Float[Tensor, "b t n"], measures: list[Float[Tensor, "b t k"]]) -> Float[Tensor, "b t k"]:
    """The sum of the measures, each with its weight and one more."""
    return sum(weight[..., None] * how for weight, how in zip((weights.float() + 1).unbind(-1), measures, strict=True))


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
