"""A network that completes surfaces: a U-Net on a grid, from what an eye knows of a shape to the sheets of all of it.

Cells are taken in eights (2 x 2 x 2), so that a fine grid costs what a coarse one does. It knows sheets in cells. It does not know points.

b  shapes      k  channels      d  eights of cells along an axis
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from meshgpt.surface_grid import SIDES

EIGHT = 8  # cells
NUMBERS = 7  # of a sheet: whether it is there, its middle, its normal


@dataclass(frozen=True)
class CompletionConfig:
    """`cells` along an axis, `inputs` numbers in each; `widths` of the network at half of the cells, a quarter, and so on."""

    cells: int = 32
    inputs: int = 58
    widths: tuple[int, ...] | list[int] = (24, 48, 96)


class Guess(NamedTuple):
    """Of each cell and side: how likely there is a sheet (logits), where its middle is in the cell, and its normal (of any length)."""

    there: Float[Tensor, "b d d d e"]
    middle: Float[Tensor, "b d d d 3 e"]
    normal: Float[Tensor, "b d d d 3 e"]


class _Block(nn.Module):
    """Two convolutions beside a straight way (He et al. 2016)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.inner = nn.Sequential(
            nn.BatchNorm3d(width),
            nn.SiLU(),
            nn.Conv3d(width, width, 3, padding=1, bias=False),
            nn.BatchNorm3d(width),
            nn.SiLU(),
            nn.Conv3d(width, width, 3, padding=1, bias=False),
        )

    def forward(self, x: Float[Tensor, "b k d d d"]) -> Float[Tensor, "b k d d d"]:
        return x + self.inner(x)


class CompletionNetwork(nn.Module):
    """A U-Net (Çiçek et al. 2016). All numbers of eight cells stand behind each other, and those of e = 8 cells x sides."""

    def __init__(self, config: CompletionConfig) -> None:
        super().__init__()
        self.config = config
        widths = list(config.widths)
        self.stem = nn.Linear(8 * config.inputs, widths[0])
        # The widest level costs most, and has its convolutions on the way up.
        self.down = nn.ModuleList([nn.Identity(), *(_Block(width) for width in widths[1:])])
        self.narrow = nn.ModuleList(nn.Conv3d(a, b, 2, stride=2) for a, b in pairwise(widths))
        self.widen = nn.ModuleList(nn.ConvTranspose3d(b, a, 2, stride=2) for a, b in pairwise(widths))
        self.up = nn.ModuleList(_Block(width) for width in widths[:-1])
        self.norm = nn.BatchNorm3d(widths[0])
        self.head = nn.Linear(widths[0], NUMBERS * EIGHT * SIDES)
        with torch.no_grad():
            self.head.bias[: EIGHT * SIDES] = -4.0  # most cells are empty
        self.to(memory_format=torch.channels_last_3d)

    def forward(self, grid: Float[Tensor, "b d d d k"]) -> Guess:
        x = self.stem(grid).permute(0, 4, 1, 2, 3)
        passed = []
        for depth, block in enumerate(self.down):
            x = block(x)
            if depth < len(self.narrow):
                passed.append(x)
                x = self.narrow[depth](x)
        for depth in reversed(range(len(self.up))):
            x = self.up[depth](passed[depth] + self.widen[depth](x))
        out = self.head(functional.silu(self.norm(x)).permute(0, 2, 3, 4, 1)).unflatten(-1, (NUMBERS, EIGHT * SIDES))
        return Guess(out[..., 0, :], out[..., 1:4, :], out[..., 4:7, :])
