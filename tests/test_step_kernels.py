"""One position more by compiled loops: what the network computes, whoever else is read."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from meshgpt.precision import laid_for_rows
from meshgpt.transformer import RowCache, Transformer, TransformerConfig

BODY = TransformerConfig(dim=60, layers=2, heads=3)


@pytest.fixture
def body() -> Transformer:
    """With weights that are all of some size."""
    torch.manual_seed(0)
    network = Transformer(BODY).eval()
    for weight in network.parameters():
        torch.nn.init.normal_(weight, std=0.3 if weight.dim() > 1 else 1.0)
    return laid_for_rows(network)


def read(body: Transformer, vectors: torch.Tensor, lengths: list[int], reading: list[int]) -> tuple[torch.Tensor, RowCache]:
    """What comes of a position more of some rows, whose earlier positions are noise."""
    cache = RowCache(body.config, len(lengths), 20, vectors)
    generator = torch.Generator().manual_seed(1)
    for part in (cache.keys, cache.values):
        part.copy_(torch.randn(part.shape, generator=generator))
    cache.lengths, cache.reading = [*lengths], reading
    return body(vectors[reading], cache), cache


VECTORS = torch.randn(4, 1, 60, generator=torch.Generator().manual_seed(2))


def test_it_is_what_the_network_computes(body):
    with torch.inference_mode():
        quick, after = read(body, VECTORS, [3, 0, 19, 7], [0, 1, 2])
    assert body._small(VECTORS) == []  # where gradients may be wanted
    slow, wanted = read(body, VECTORS, [3, 0, 19, 7], [0, 1, 2])
    torch.testing.assert_close(quick, slow, atol=2e-6, rtol=2e-5)
    torch.testing.assert_close(after.keys, wanted.keys, atol=2e-6, rtol=2e-5)
    torch.testing.assert_close(after.values, wanted.values, atol=2e-6, rtol=2e-5)
    assert after.lengths == wanted.lengths == [4, 1, 20, 7]
    assert not torch.equal(after.keys[:, 0, :, 3], torch.zeros_like(after.keys[:, 0, :, 3]))


@torch.inference_mode()
def test_a_row_does_not_depend_on_others(body):
    together, _ = read(body, VECTORS, [3, 5, 19, 7], [0, 1, 2, 3])
    for row in range(4):
        (alone,), _ = read(body, VECTORS, [3, 5, 19, 7], [row])
        assert torch.equal(alone, together[row])


@torch.inference_mode()
@pytest.mark.parametrize(
    "change",
    [
        lambda body: body.bfloat16(),
        lambda body: Transformer(replace(BODY, layout="bert")).eval(),
        lambda body: Transformer(BODY).eval(),
    ],
    ids=["bf16", "another layout", "other strides"],
)
def test_other_networks_are_left_to_torch(body, change):
    changed = change(body)
    vectors = VECTORS.to(next(changed.parameters()).dtype)
    assert changed._small(vectors) == []
    assert read(changed, vectors, [3, 5, 19, 7], [0, 2])[0].isfinite().all()
