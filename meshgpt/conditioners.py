"""What a model is told about the shape it shall build: points in, vectors out.

`prepare` is numpy and runs in data workers; `forward` is torch and runs on the device. Points lie in the cube, y up.

b  rows of a batch      p  points      n  vectors      d  width
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional

from meshgpt.nearest import nearest_points
from meshgpt.transformer import LAYOUTS, Transformer, TransformerConfig, mlp_of, norm_of


class Condition(NamedTuple):
    """Prefix vectors and which of them are real. Padding (`keep` false) must not change any output."""

    vectors: Float[Tensor, "b n d"]
    keep: Bool[Tensor, "b n"]


@dataclass(frozen=True)
class PointCloudConfig:
    """`vectors` perceiver vectors of width `dim` from `points` points, given out with width `out`.

    With the `layout` michelangelo it is that encoder's first half (see `shape_encoder.py`, which gives the vectors out itself).
    """

    points: int = 1024
    vectors: int = 32
    dim: int = 192
    layers: int = 2
    heads: int = 3
    frequencies: int = 6
    out: int = 256
    layout: str = "meshgpt"


def fourier(x: Float[Tensor, "*n c"], frequencies: int, lowest: float = torch.pi) -> Float[Tensor, "*n k"]:
    """x and sines and cosines of pi 2^i x, i < frequencies (Mildenhall et al. 2020, eq. 4); or with another one for pi."""
    angles = x[..., None] * (lowest * 2.0 ** torch.arange(frequencies, device=x.device))
    return torch.cat([x, angles.sin().flatten(-2), angles.cos().flatten(-2)], -1)


def pick_points(surface: Float[np.ndarray, "n 6"], count: int, rng: np.random.Generator) -> Float[np.ndarray, "p 6"]:
    """`count` of the points, each once while there are enough."""
    return surface[rng.choice(len(surface), count, replace=len(surface) < count)].astype(np.float32)


class Perceiver(nn.Module):
    """A perceiver (Jaegle et al. 2021): learned queries look at all points, then at each other.

    A normal of zeros means that the normal is not known.
    """

    def __init__(self, config: PointCloudConfig) -> None:
        super().__init__()
        self.config = config
        dim, layout = config.dim, LAYOUTS[config.layout]
        self.embed = nn.Linear(3 * (1 + 2 * config.frequencies) + 3, dim)
        self.point_norm = norm_of(layout, dim)
        self.queries = nn.Parameter(torch.randn(config.vectors, dim) * 0.5)
        self.project_query = nn.Linear(dim, dim, bias=False)
        self.project_points = nn.Linear(dim, 2 * dim, bias=False)
        # Michelangelo norms its queries, mixes what the heads saw, and has no pi in its features.
        foreign = config.layout == "michelangelo"
        self.query_norm = norm_of(layout, dim) if foreign else nn.Identity()
        self.mix = nn.Linear(dim, dim) if foreign else nn.Identity()
        self.lowest = 1.0 if foreign else torch.pi
        self.mlp_norm = norm_of(layout, dim)
        self.mlp = mlp_of(layout, dim, 4 * dim if foreign else 2 * dim)
        self.body = Transformer(TransformerConfig(dim, config.layers, config.heads, causal=False, layout=config.layout))

    def look(self, surface: Float[Tensor, "b p 6"]) -> Float[Tensor, "b n d"]:
        features = torch.cat([fourier(2 * surface[..., :3], self.config.frequencies, self.lowest), surface[..., 3:]], -1)
        keys, values = self._heads(self.project_points(self.point_norm(self.embed(features)))).chunk(2, -1)
        queries = self._heads(self.project_query(self.query_norm(self.queries))[None].expand(len(surface), -1, -1))
        seen = functional.scaled_dot_product_attention(queries, keys, values).transpose(1, 2).flatten(2)
        vectors = self.queries + self.mix(seen)
        return self.body(vectors + self.mlp(self.mlp_norm(vectors)))

    def _heads(self, x: Float[Tensor, "b t c"]) -> Float[Tensor, "b h t e"]:
        return x.unflatten(-1, (self.config.heads, -1)).transpose(1, 2)


class PointCloud(Perceiver):
    """The prefix of our own models, and the learned nothing that stands for no cloud."""

    def __init__(self, config: PointCloudConfig) -> None:
        super().__init__(config)
        self.out = nn.Linear(config.dim, config.out, bias=False)
        self.nothing = nn.Parameter(torch.randn(config.vectors, config.out) * 0.02)

    def prepare(self, surface: Float[np.ndarray, "n 6"], rng: np.random.Generator) -> Float[np.ndarray, "p 6"]:
        return pick_points(surface, self.config.points, rng)

    def forward(self, surface: Float[Tensor, "b p 6"], drop: Bool[Tensor, "b"] | None = None) -> Condition:
        """Rows in `drop` get the learned nothing, for classifier-free guidance."""
        vectors = self.out(self.look(surface))
        if drop is not None:
            vectors = torch.where(drop[:, None, None], self.nothing.to(vectors.dtype), vectors)
        return Condition(vectors, torch.ones(vectors.shape[:2], dtype=torch.bool, device=vectors.device))


@dataclass(frozen=True)
class SurroundingsConfig:
    """The `nearest` points of each place, summed up in `out` numbers; offsets are seen in units of `reach`. `around` points are
    given out as they are."""

    nearest: int = 8
    around: int = 64
    dim: int = 64
    out: int = 64
    reach: float = 0.1


# Where a cloud that is not shown has its points: nowhere near any place.
FAR_AWAY = 10.0


class Surroundings(nn.Module):
    """What the cloud is like around each of a list of places: a small PointNet (Qi et al. 2017) over the nearest points.

    Some ids stand for a place in the cube (the coarse code of a vertex, a block). This gives each such id a vector that depends
    on the condition, so that the network can point at where the surface is instead of remembering it in a few prefix vectors.
    """

    def __init__(self, config: SurroundingsConfig) -> None:
        super().__init__()
        self.config = config
        self.point = nn.Sequential(nn.Linear(7, config.dim), nn.SiLU(), nn.Linear(config.dim, config.dim))
        self.mix = nn.Sequential(nn.Linear(2 * config.dim, config.dim), nn.SiLU(), nn.Linear(config.dim, config.out))
        self.nothing = nn.Parameter(torch.zeros(config.out))

    def forward(
        self, surface: Float[Tensor, "b p 6"], places: Float[Tensor, "k 3"], drop: Bool[Tensor, "b"] | None = None
    ) -> tuple[Float[Tensor, "b k c"], Float[Tensor, "b k m 6"]]:
        """The vector of each place, and its nearest points as they lie around it (offset and normal, nearest first)."""
        with torch.no_grad():
            near = nearest_points(surface, places, self.config.around)
            few = near[:, :, : self.config.nearest]
            offset = few[..., :3] / self.config.reach
            far = offset.norm(dim=-1, keepdim=True)
            features = torch.cat([offset / far.clamp(min=1), far.clamp(max=8).log1p(), few[..., 3:]], -1)
        seen = self.point(features)
        vectors = self.mix(torch.cat([seen[:, :, 0], seen.amax(2)], -1))
        if drop is not None:
            vectors = torch.where(drop[:, None, None], self.nothing.to(vectors.dtype), vectors)
            near = torch.where(drop[:, None, None, None], FAR_AWAY, near)
        return vectors, near


# Normals within a few degrees of an axis count nearly whole, others hardly.
ACROSS = 8


def profile(surface: Float[Tensor, "b p 6"], bins: int, drop: Bool[Tensor, "b"] | None = None) -> Float[Tensor, "b 3 bins 4"]:
    """What the cloud looks like along each axis: how many points are in each bin, how many on planes across the axis (both as
    log(1 + n)), and how near the bin is to the first and to the last point. Rows in `drop` see zeros."""
    with torch.no_grad(), torch.autocast(surface.device.type, enabled=False):
        at = ((surface[..., :3].float() + 0.5) * bins).clamp(0, bins - 1).transpose(1, 2)
        cells = at.long()
        empty = surface.new_zeros(len(surface), 3, bins, dtype=torch.float32)
        points = empty.scatter_add(2, cells, torch.ones_like(at)).log1p()
        planes = empty.scatter_add(2, cells, surface[..., 3:].float().transpose(1, 2).abs() ** ACROSS).log1p()
        grid = torch.arange(bins, device=surface.device) + 0.5
        first, last = (torch.exp(-((grid - end[..., None]) ** 2) / 2) for end in (at.amin(2), at.amax(2)))
        seen = torch.stack([points, planes, first, last], -1)
        return seen if drop is None else torch.where(drop[:, None, None, None], 0, seen)
