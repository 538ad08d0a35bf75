"""The faster float32 is taken only where it keeps the digits."""

from __future__ import annotations

import pytest
import torch

from meshgpt import precision
from meshgpt.precision import TOLERANCE, fast_float32


def test_products_stay_exact_whichever_way_it_goes():
    fast_float32()
    left, right = torch.randn(2, 200, 200)
    true = left.double() @ right.double()
    assert ((left @ right).double() - true).abs().max() < TOLERANCE * true.abs().max()


@pytest.mark.parametrize(("error", "kept"), [(2e-3, False), (1e-7, True)])
def test_digits_decide(monkeypatch, error, kept):
    matmul = torch.backends.mkldnn.matmul
    before = matmul.fp32_precision
    monkeypatch.setattr(precision, "_error", lambda: error)
    assert fast_float32() is kept
    assert matmul.fp32_precision == ("bf16" if kept else before)
