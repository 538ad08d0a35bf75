"""The face decoder: the code vectors of each face's corners, which may be wrong, plus the shape, to corners.

Trained with its encoder it is the VQ-VAE's decoder. Fine-tuned alone, on codes drawn with noise and with the shape in sight,
it is the noise-resistant decoder of MeshAnything (section 4.2).

b  rows      f  faces      c  width of a code vector      d  width of the network
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from meshgpt.conditioners import Condition, PointCloud, PointCloudConfig, fourier
from meshgpt.transformer import Transformer, TransformerConfig

FREQUENCIES = 7


@dataclass(frozen=True)
class DecoderConfig:
    """`shape` describes the point cloud encoder of the noise-resistant decoder; without it the decoder sees codes only."""

    bins: int = 128
    code_width: int = 4
    dim: int = 192
    layers: int = 4
    heads: int = 3
    shape: PointCloudConfig | None = None


class FaceDecoder(nn.Module):
    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.config = config
        # A code vector is first of all a position; the network corrects it and says how sure it is.
        self.position = nn.Linear(config.code_width, 3)
        self.embed = nn.Linear(3 * (3 * (1 + 2 * FREQUENCIES) + config.code_width), config.dim)
        self.body = Transformer(TransformerConfig(config.dim, config.layers, config.heads, causal=False))
        self.shift = nn.Linear(config.dim, 9)
        self.classify = nn.Linear(config.dim, 9 * config.bins)
        self.sharpness = nn.Parameter(torch.ones(()))
        self.shape = PointCloud(config.shape) if config.shape else None
        self._start_as_positions()

    def _start_as_positions(self) -> None:
        nn.init.zeros_(self.position.bias)
        self.position.weight.data = torch.eye(3, self.config.code_width)
        for layer in (self.shift, self.classify):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(
        self, codes: Float[Tensor, "b f 3 c"], keep: Bool[Tensor, "b f"], shape: Condition | None = None
    ) -> Float[Tensor, "b f 3 3 bins"]:
        """Logits of the bins of each coordinate."""
        position = self.position(codes)
        features = torch.cat([fourier(position, FREQUENCIES).flatten(2), codes.flatten(2)], -1)
        hidden = self._run(self.embed(features), keep, shape)
        cell = (position.flatten(2) + self.shift(hidden)).float() * (self.config.bins / 2) + (self.config.bins - 1) / 2
        grid = torch.arange(self.config.bins, device=codes.device, dtype=torch.float32)
        ordinal = -self.sharpness.exp() * (cell[..., None] - grid) ** 2
        return (ordinal + self.classify(hidden).unflatten(-1, (9, -1))).unflatten(2, (3, 3))

    def _run(self, x: Float[Tensor, "b f d"], keep: Bool[Tensor, "b f"], shape: Condition | None) -> Float[Tensor, "b f d"]:
        if shape is None:
            return self.body(x, keep=keep)
        together = torch.cat([shape.vectors.to(x.dtype), x], 1)
        return self.body(together, keep=torch.cat([shape.keep, keep], 1))[:, shape.vectors.shape[1] :]

    def condition(self, surface: Float[Tensor, "b p 6"] | None, drop: Bool[Tensor, "b"] | None = None, rows: int = 1) -> Condition | None:
        """The shape as the decoder wants it; None for a decoder that does not look at it, the learned nothing without points."""
        if self.shape is None:
            return None
        if surface is None:
            vectors = self.shape.nothing[None].expand(rows, -1, -1)
            return Condition(vectors, torch.ones(vectors.shape[:2], dtype=torch.bool, device=vectors.device))
        return self.shape(surface, drop)
