"""Michelangelo's point encoder (Zhao et al. 2023), as both MeshAnything have it: a shape vector and latents, then a prefix of both.

    points  ->  perceiver  ->  [shape vector] ------------------------------> head ->  prefix 0
                               [latents 1 .. n] -> narrow, widen, latents ->  rest ->  prefix 1 .. n

Points lie in the cube. b  rows of a batch      p  points      n  vectors      d  width      k  width of the prefix
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor, nn

from meshgpt.conditioners import Perceiver, PointCloudConfig
from meshgpt.transformer import Transformer, TransformerConfig

LAYOUT = "michelangelo"


@dataclass(frozen=True)
class ShapeEncoderConfig:
    """The perceiver, whose `out` is the width of the prefix; `narrow` numbers of each latent go on, through `layers` blocks."""

    look: PointCloudConfig = field(
        default_factory=lambda: PointCloudConfig(
            points=8192, vectors=257, dim=768, layers=8, heads=12, frequencies=8, out=1024, layout=LAYOUT
        )
    )
    narrow: int = 64
    layers: int = 16


class ShapeEncoder(nn.Module):
    def __init__(self, config: ShapeEncoderConfig) -> None:
        super().__init__()
        self.config, look = config, config.look
        self.look = Perceiver(look)
        # The mean of the latents' distribution; at their spread nobody looks but the training of the encoder.
        self.narrow = nn.Linear(look.dim, config.narrow)
        self.widen = nn.Linear(config.narrow, look.dim)
        self.latents = Transformer(TransformerConfig(look.dim, config.layers, look.heads, causal=False, layout=LAYOUT, last_norm=False))
        self.head = nn.Linear(look.dim, look.out)
        self.rest = nn.Linear(2 * look.dim, look.out)

    def forward(self, surface: Float[Tensor, "b p 6"]) -> Float[Tensor, "b n d"]:
        """The shape vector and the latents, as the perceiver gives them."""
        return self.look.look(surface)

    def prefix(self, seen: Float[Tensor, "b n d"]) -> Float[Tensor, "b n k"]:
        """What the transformer reads first."""
        decoded = self.latents(self.widen(self.narrow(seen[:, 1:])))
        return torch.cat([self.head(seen[:, :1]), self.rest(torch.cat([seen[:, 1:], decoded], -1))], 1)
