"""What an eye knows of a shape, in the cube of a grid: points with normals, free space, and the planes that may mirror the shape.

It knows points and cells. It does not know networks.

n  points      c  cells along an axis      d  eights of cells      k, e  numbers
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Shaped

from meshgpt.surface_grid import SIDES, centres, crowds
from meshgpt.symmetry import Mirror, mirrors_of
from meshgpt.viewpoint import Sight, facing

# The grid is larger than what was seen: a shape may reach beyond it.
SEEN = 0.8
# What is seen of a scan, from its first to its last points but for so many: some fly.
FLYING = 0.003
# Depths are told in units of so many cells, finely and coarsely.
FINE, COARSE = 2.0, 12.0
# Numbers of each cell: of the points and their three images, of depths, of two mirrors, of its place.
INPUTS = 4 * 2 * SIDES + 3 + 4 + 3


# Quarter turns about y, mirrored and not: a shape has no front for the network.
TURNS = [
    np.array([[cos, 0.0, sin], [0.0, 1.0, 0.0], [-sin, 0.0, cos]]) @ np.diag([mirrored, 1.0, 1.0])
    for cos, sin in ((1.0, 0.0), (0.0, 1.0), (-1.0, 0.0), (0.0, -1.0))
    for mirrored in (1.0, -1.0)
]


class Frame(NamedTuple):
    """The cube of the grid in the cloud's frame."""

    centre: Float[np.ndarray, "3"]
    scale: float

    @classmethod
    def of(cls, positions: Float[np.ndarray, "n 3"]) -> Frame:
        low, high = np.quantile(positions, [FLYING, 1 - FLYING], axis=0)
        return cls((low + high) / 2, float((high - low).max()) / SEEN)

    def apply(self, positions: Float[np.ndarray, "*n 3"]) -> Float[np.ndarray, "*n 3"]:
        return (positions - self.centre) / self.scale

    def undo(self, positions: Float[np.ndarray, "*n 3"]) -> Float[np.ndarray, "*n 3"]:
        return positions * self.scale + self.centre


@dataclass(frozen=True, eq=False)
class Scene:
    """What was seen, in the cube of the grid: points with normals, the eye, and the planes that may mirror the shape."""

    points: Float[np.ndarray, "n 6"]
    eye: Float[np.ndarray, "3"]
    mirrors: tuple[Mirror, Mirror]

    @classmethod
    def of(cls, positions: Float[np.ndarray, "n 3"], eye: Float[np.ndarray, "3"], tried: int = 700) -> Scene:
        cloud, sight = facing(positions, eye), Sight(positions, eye)
        return cls(np.concatenate([positions, cloud.normals], 1), eye, mirrors_of(cloud, sight, tried))

    @property
    def sight(self) -> Sight:
        return Sight(self.points[:, :3], self.eye)

    def turned(self, way: Float[np.ndarray, "3 3"]) -> Scene:
        """After a quarter turn about y, or mirrored."""
        mirrors = []
        for mirror in self.mirrors:
            across = way[:, mirror.axis]
            axis = int(np.abs(across).argmax())
            mirrors.append(Mirror(axis, mirror.place * float(across[axis]), mirror.matched, mirror.free))
        points = np.concatenate([self.points[:, :3] @ way.T, self.points[:, 3:] @ way.T], 1)
        first, second = sorted(mirrors, key=lambda mirror: mirror.axis)
        return Scene(points, way @ self.eye, (first, second))

    def images(self, sight: Sight) -> list[Float[np.ndarray, "_n 6"]]:
        """The points mirrored by the one plane, by the other, and by both, as far as they do not fall into free space."""
        first, second = self.mirrors
        images = [first.image(self.points), second.image(self.points), second.image(first.image(self.points))]
        return [image[sight.behind(image[:, :3]) > -sight.grain] for image in images]

    def grid(self, cells: int) -> Float[np.ndarray, "d d d k"]:
        """All of it as the network is shown it."""
        sight = self.sight
        clouds = [self.points, *self.images(sight)]
        behind = sight.behind(centres(cells)).reshape(1, cells, cells, cells) * cells
        depths = (behind / FINE).clip(-1, 1), (behind / COARSE).clip(-1, 1), behind == -np.inf
        worth = [number for mirror in self.mirrors for number in (mirror.matched, mirror.free)]
        grid = np.empty((INPUTS, cells, cells, cells), dtype=np.float32)
        np.concatenate([*(crowds(cloud, cells) for cloud in clouds), *depths], out=grid[: -len(worth) - 3], casting="unsafe")
        grid[-len(worth) - 3 : -3] = np.array(worth)[:, None, None, None]
        grid[-3:] = centres(cells).T.reshape(3, cells, cells, cells)
        return in_eights(grid)


def in_eights(grid: Shaped[np.ndarray, "k c c c"]) -> Shaped[np.ndarray, "d d d e"]:
    """The numbers of 2 x 2 x 2 cells behind each other."""
    k, c = grid.shape[:2]
    halves = grid.reshape(k, c // 2, 2, c // 2, 2, c // 2, 2)
    return np.ascontiguousarray(halves.transpose(1, 3, 5, 2, 4, 6, 0)).reshape(c // 2, c // 2, c // 2, 8 * k)


def out_of_eights(grid: Shaped[np.ndarray, "d d d e"]) -> Shaped[np.ndarray, "k c c c"]:
    """And back."""
    d, k = len(grid), grid.shape[-1] // 8
    halves = grid.reshape(d, d, d, 2, 2, 2, k)
    return halves.transpose(6, 0, 3, 1, 4, 2, 5).reshape(k, 2 * d, 2 * d, 2 * d)
