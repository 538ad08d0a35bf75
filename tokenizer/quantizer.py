"""Residual quantization of vectors: the library's learned codebook, and codes drawn with noise.

It knows vectors. It does not know meshes or faces.

n  vectors      c  width of a code vector      levels  codes of a vector, coarse to fine
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn


class Quantizer(nn.Module):
    """One codebook, used at every level (Lee et al. 2022, RQ-VAE); moving averages train it, unused codes are replaced."""

    def __init__(self, width: int, levels: int, codes: int) -> None:
        # Where it is needed: it brings a symbolic compiler along, a third of the time that a model without codes takes to start.
        from vector_quantize_pytorch import ResidualVQ

        super().__init__()
        self.levels, self.codes = levels, codes
        self.residual = ResidualVQ(
            dim=width,
            num_quantizers=levels,
            codebook_size=codes,
            shared_codebook=True,
            kmeans_init=True,
            kmeans_iters=10,
            decay=0.98,
            threshold_ema_dead_code=1,
            commitment_weight=10.0,
        )
        # Mean squared distance of a residual to its code, per level: the unit in which noise is measured.
        self.register_buffer("spread", torch.ones(levels))

    @property
    def codebook(self) -> Float[Tensor, "codes c"]:
        return self.residual.codebooks[0]

    def forward(self, vectors: Float[Tensor, "n c"]) -> tuple[Float[Tensor, "n c"], Int[Tensor, "n levels"], Float[Tensor, ""]]:
        """Quantized vectors (gradients pass straight through), their ids, and the commitment loss."""
        quantized, ids, loss = self.residual(vectors[None])
        return quantized[0], ids[0], loss.sum()

    def nearest(self, vectors: Float[Tensor, "n c"]) -> Int[Tensor, "n levels"]:
        """The ids of vectors, level by level."""
        return self._ids(vectors, noise=0.0, rng=None)

    def noisy(self, vectors: Float[Tensor, "n c"], noise: float, rng: torch.Generator | None = None) -> Int[Tensor, "n levels"]:
        """Ids drawn with probability softmax(-distance^2 / (noise x spread)): MeshAnything's noise level (its section 4.2)."""
        return self._ids(vectors, noise, rng)

    def _ids(self, vectors: Tensor, noise: float, rng: torch.Generator | None) -> Tensor:
        residual, ids = vectors.float(), []
        for level in range(self.levels):
            squared = self._squared_distances(residual)
            if noise > 0:
                uniform = torch.rand(squared.shape, generator=rng, device=squared.device)
                gumbel = -torch.log(-torch.log(uniform.clamp(1e-9, 1 - 1e-7)))
                squared = squared / (noise * self.spread[level]) - gumbel
            ids.append(squared.argmin(-1))
            residual = residual - self.codebook[ids[-1]]
        return torch.stack(ids, -1)

    def _squared_distances(self, vectors: Float[Tensor, "n c"]) -> Float[Tensor, "n codes"]:
        codebook = self.codebook
        return (vectors**2).sum(-1, keepdim=True) - 2 * vectors @ codebook.T + (codebook**2).sum(-1)

    def vectors(self, ids: Int[Tensor, "*n levels"]) -> Float[Tensor, "*n c"]:
        """The sum of the codes."""
        return self.codebook[ids].sum(-2)

    @torch.no_grad()
    def measure_spread(self, vectors: Float[Tensor, "n c"]) -> None:
        """Set the unit of noise from a sample of vectors."""
        residual = vectors.float()
        for level in range(self.levels):
            nearest = self._squared_distances(residual).argmin(-1)
            residual = residual - self.codebook[nearest]
            self.spread[level] = (residual**2).sum(-1).mean().clamp(min=1e-12)


def perplexity(ids: Int[Tensor, "n"], codes: int) -> float:
    """exp of the entropy of how often each code is used: the number of codes in effective use."""
    share = torch.bincount(ids.flatten(), minlength=codes).double() / max(ids.numel(), 1)
    return float(torch.exp(-(share[share > 0] * share[share > 0].log()).sum()))
