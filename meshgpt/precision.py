"""Which arithmetic this machine does fast without losing digits. It knows nothing else.

oneDNN's float32 products run at twice the speed of the default on CPUs with AVX-512; torch only takes that path when it is
allowed to use bfloat16, which some CPUs (with AMX) then really do. So the switch is kept only where the digits survive it.
"""

from __future__ import annotations

import torch

TOLERANCE = 1e-5


def fast_float32() -> bool:
    """Switch float32 products to the faster path where a test product stays exact; says whether it did."""
    matmul = torch.backends.mkldnn.matmul
    before = matmul.fp32_precision
    matmul.fp32_precision = "bf16"
    exact = _error() < TOLERANCE
    if not exact:
        matmul.fp32_precision = before
    if torch.cuda.is_available():
        torch.set_float32_matmul_precision("high")
    return exact


def _error() -> float:
    generator = torch.Generator().manual_seed(0)
    left, right = (torch.randn(64, 64, generator=generator) for _ in range(2))
    true = left.double() @ right.double()
    return float(((left @ right).double() - true).abs().max() / true.abs().max())
