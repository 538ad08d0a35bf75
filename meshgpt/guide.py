"""Following the surface while a mesh is written: ids that would lead away from the cloud become less likely.

    corner a    not below the first corner of the last face: a mesh is written from the ground up
    corner b    not below a; the edge a b stays near the cloud
    corner c    not below a; the edges and the inside of a b c stay near the cloud

A face of a mesh lies on its surface, and so do its edges. Where the partly written face would leave the surface, by how far, can be
computed for every possible next id; the guide takes `strength` nats off for each hundredth of the cube. It is the condition
once more, said without a network. It knows ids that add up to positions, and points. It does not know networks.

b  rows      s  ids of the open face so far      k  points that are asked about
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

RESOLUTION = 64
REACH = 0.6
UNIT = 0.01
# Where an edge, and the inside of a face, is asked about: shares of the corners written so far and of the new one.
ON_EDGE = ((0.5, 0.5), (0.25, 0.75), (0.75, 0.25))
ON_FACE = (
    (0.5, 0.0, 0.5),
    (0.0, 0.5, 0.5),
    (1 / 3, 1 / 3, 1 / 3),
    (0.25, 0.0, 0.75),
    (0.75, 0.0, 0.25),
    (0.0, 0.25, 0.75),
    (0.0, 0.75, 0.25),
)


@dataclass(frozen=True)
class Spelling:
    """How ids make positions: the sum of `offsets` of the `spell` ids of a vertex, plus `origin`; cube units.

    `blur` is how far, typically, the ids that are still to come move the vertex after each level.
    """

    origin: Float[Tensor, "3"]
    offsets: Float[Tensor, "vocab 3"]
    blur: tuple[float, ...]


class SurfaceGuide:
    def __init__(self, positions: Float[np.ndarray, "n 3"], spelling: Spelling, strength: float) -> None:
        """`positions` of the cloud, in the cube."""
        self.spelling, self.strength = spelling, strength
        device = spelling.offsets.device
        # What neither the cloud nor the field can tell apart is free.
        self.slack = spacing(positions) + REACH / (RESOLUTION - 1)
        self.field = torch.from_numpy(distance_field(positions)).float().to(device)[None, None]

    def bias(self, opened: Int[Tensor, "b s"], last: Int[Tensor, "b w"] | None) -> Float[Tensor, "b vocab"]:
        """What to add to the logits of the slot after the `opened` ids; `last` is the face before, if there is one."""
        spell = len(self.spelling.blur)
        vertex, level = divmod(opened.shape[1], spell)
        corners = [self._position(opened[:, at * spell : (at + 1) * spell]) for at in range(vertex)]
        ground = corners[:1] or ([] if last is None else [self._position(last[:, :spell])])
        candidates = self._position(opened[:, vertex * spell :])[:, None] + self.spelling.offsets
        asked = [candidates]
        for shares in ((), ON_EDGE, ON_FACE)[vertex]:
            fixed = sum(share * corner for share, corner in zip(shares, corners, strict=False))
            asked.append(fixed[:, None] + shares[-1] * candidates)
        apart = self.distance(torch.stack(asked, 1))
        off = (apart - self.spelling.blur[level] - self.slack).clamp(min=0).amax(1)
        for lowest in ground:
            off = off + (lowest[:, None, 1] - candidates[..., 1] - self.spelling.blur[level]).clamp(min=0)
        return -self.strength / UNIT * off

    def _position(self, ids: Int[Tensor, "b l"]) -> Float[Tensor, "b 3"]:
        return self.spelling.origin + self.spelling.offsets[ids].sum(1)

    def distance(self, points: Float[Tensor, "b m k 3"]) -> Float[Tensor, "b m k"]:
        """Distance to the cloud, from the field."""
        grid = (points / REACH).flip(-1).reshape(1, 1, 1, -1, 3)
        found = functional.grid_sample(self.field, grid, mode="bilinear", padding_mode="border", align_corners=True)
        return found.view(points.shape[:-1])


def distance_field(positions: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, "r r r"]:
    """Distances to the nearest point on a grid over [-REACH, REACH]^3, x first."""
    from scipy.spatial import KDTree

    axis = np.linspace(-REACH, REACH, RESOLUTION)
    grid = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), -1)
    return KDTree(positions).query(grid.reshape(-1, 3))[0].reshape(grid.shape[:3])


def spacing(positions: Float[np.ndarray, "n 3"]) -> float:
    """How far apart neighbouring points are, typically."""
    from scipy.spatial import KDTree

    return float(np.median(KDTree(positions).query(positions, k=2)[0][:, 1]))
