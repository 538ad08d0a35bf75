"""Meshes to retrieve from: which of them lies nearest to a cloud. It knows meshes and points, and nothing of where they come from.

n  points
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float

from meshgpt.mesh import Mesh, sample_surface

COARSE_POINTS, FINE_POINTS, CANDIDATES = 256, 4_096, 16


class Gallery:
    """The nearest by chamfer distance (mean there plus mean back), coarse search first; meshes lie in the cube."""

    def __init__(self, meshes: Sequence[Mesh], ids: Sequence[str]) -> None:
        if not len(meshes) or len(meshes) != len(ids):
            raise ValueError(f"{len(ids)} ids came with {len(meshes)} meshes; pass at least one mesh, and one id for each")
        self.meshes, self.ids = meshes, ids
        clouds = [sample_surface(mesh, COARSE_POINTS, np.random.default_rng(i))[:, :3] for i, mesh in enumerate(meshes)]
        self.clouds = torch.from_numpy(np.stack(clouds)).float()

    def nearest(self, positions: Float[np.ndarray, "n 3"]) -> tuple[str, Mesh]:
        """The id and the mesh of the nearest; `positions` lie in the cube."""
        asked = torch.from_numpy(positions[:: max(1, len(positions) // COARSE_POINTS)][:COARSE_POINTS]).float()
        distances = torch.cat([_chamfer(asked[None], part) for part in self.clouds.split(256)])
        candidates = distances.topk(min(CANDIDATES, len(self.meshes)), largest=False).indices.tolist()
        fine = torch.from_numpy(positions[:FINE_POINTS]).float()[None]
        scores = [float(_chamfer(fine, self._fine(index))[0]) for index in candidates]
        best = candidates[int(np.argmin(scores))]
        return self.ids[best], self.meshes[best]

    def _fine(self, index: int) -> torch.Tensor:
        return torch.from_numpy(sample_surface(self.meshes[index], FINE_POINTS, np.random.default_rng(index))[:, :3]).float()[None]


def _chamfer(one: torch.Tensor, many: torch.Tensor) -> torch.Tensor:
    apart = torch.cdist(one.expand(len(many), -1, -1), many)
    return apart.amin(1).mean(1) + apart.amin(2).mean(1)
