"""The points of a cloud that are nearest to given positions, and how far positions are from it. It knows points only.

b  rows      n  points      k  positions      m  nearest      g  cells of an axis
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional


def nearest_points(surface: Float[Tensor, "b n 6"], positions: Float[Tensor, "*b k 3"], count: int) -> Float[Tensor, "b k m 6"]:
    """As they lie around the positions (offset and normal), nearest first; at full precision, since far points differ by little.

    `positions` are each row's own, or the same for all rows; at most `count` points come back, fewer where there are fewer.
    """
    points = surface[..., :3]
    with torch.autocast(surface.device.type, enabled=False):
        squared = (positions**2).sum(-1)[..., None] + (points**2).sum(-1)[:, None, :] - 2 * positions @ points.transpose(1, 2)
    index = squared.topk(min(count, points.shape[1]), dim=-1, largest=False).indices
    near = surface[torch.arange(len(surface), device=surface.device)[:, None, None], index]
    return torch.cat([near[..., :3] - positions[..., None, :], near[..., 3:]], -1)


def distance_field(surface: Float[Tensor, "b n 6"], side: int) -> Float[Tensor, "b g g g"]:
    """How far the middles of `side` cells an axis (z, y, x) are from the points, in cube units.

    Of the points in a cell only the one nearest to its middle counts, so that it takes a pass along each axis
    (Felzenszwalb & Huttenlocher 2012); the error is below a cell's diagonal, and small near the points.
    """
    with torch.no_grad(), torch.autocast(surface.device.type, enabled=False):
        at = (surface[..., :3].float() + 0.5) * side - 0.5
        cells = at.round().clamp(0, side - 1)
        index = (cells * cells.new_tensor([1, side, side * side])).sum(-1).long()
        far = surface.new_full((len(surface), side**3), float(8 * side * side), dtype=torch.float32)
        squared = far.scatter_reduce(1, index, ((at - cells) ** 2).sum(-1), "amin").view(-1, side, side, side)
        steps = torch.arange(side, device=surface.device, dtype=torch.float32)
        apart = (steps[:, None] - steps) ** 2
        for axis in (1, 2, 3):
            squared = (squared.movedim(axis, -1)[..., None, :] + apart).amin(-1).movedim(-1, axis)
        return squared.sqrt() / side


def look_up(field: Float[Tensor, "b g g g"], positions: Float[Tensor, "b *k 3"]) -> Float[Tensor, "b *k"]:
    """The field at positions in the cube, between the middles of its cells; outside of the cube as on its border."""
    if field.stride(0) == 0:  # rows of one cloud share it
        field, positions_of_rows = field[:1], positions.reshape(1, -1, 3)
    else:
        positions_of_rows = positions.flatten(1, -2)
    flat = 2 * positions_of_rows[:, :, None, None]
    found = functional.grid_sample(field[:, None], flat, padding_mode="border", align_corners=False)
    return found.view(positions.shape[:-1])
