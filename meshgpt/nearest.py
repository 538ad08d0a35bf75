"""The points of a cloud that are nearest to given positions. It knows points only.

b  rows      n  points      k  positions      m  nearest
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


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
