"""Residual quantization: our search is the library's, noise does what MeshAnything's formula says, codes in use are counted."""

from __future__ import annotations

import math

import pytest
import torch

from meshgpt.tokenizer.quantizer import Quantizer, perplexity


def vectors(count: int = 300, seed: int = 1) -> torch.Tensor:
    return torch.randn(count, 4, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def quantizer() -> Quantizer:
    """After three batches: the codebook is that of the first one, moved a little."""
    torch.manual_seed(0)
    made = Quantizer(width=4, levels=3, codes=16)
    for seed in range(3):
        made(vectors(seed=seed))
    made.measure_spread(vectors())
    return made.eval()


def test_nearest_is_what_the_library_picks(quantizer):
    quantized, ids, _ = quantizer(vectors())
    torch.testing.assert_close(quantizer.nearest(vectors()), ids)
    torch.testing.assert_close(quantizer.vectors(ids), quantized)
    assert len({tuple(row) for row in ids.tolist()}) > 100


def test_nearest_is_the_search_in_words(quantizer):
    for vector, found in zip(vectors(20), quantizer.nearest(vectors(20)).tolist(), strict=True):
        residual = vector
        for id in found:
            apart = (quantizer.codebook - residual).square().sum(-1)
            assert apart[id] <= apart.min() + 1e-6
            residual = residual - quantizer.codebook[id]


def test_levels_share_one_codebook(quantizer):
    assert all(torch.equal(book, quantizer.codebook) for book in quantizer.residual.codebooks)
    quantizer.codebook[3] += 1
    assert all(torch.equal(book, quantizer.codebook) for book in quantizer.residual.codebooks)


def test_each_level_brings_the_sum_nearer(quantizer):
    ids = quantizer.nearest(vectors())
    left = [(vectors() - quantizer.vectors(ids[:, :levels])).square().sum(-1).mean() for levels in (1, 2, 3)]
    assert left[0] > left[1] > left[2]


def test_spread_is_what_is_left_after_each_level(quantizer):
    ids = quantizer.nearest(vectors())
    for level in range(3):
        left = (vectors() - quantizer.vectors(ids[:, : level + 1])).square().sum(-1).mean()
        torch.testing.assert_close(quantizer.spread[level], left)


def test_vectors_of_one_code_have_a_spread_above_zero():
    quantizer = Quantizer(4, 2, 8)
    with torch.no_grad():
        quantizer.residual.layers[0]._codebook.embed.zero_()
    quantizer.measure_spread(torch.zeros(5, 4))
    assert (quantizer.spread > 0).all()


def test_gradients_pass_straight_through(quantizer):
    x = vectors().requires_grad_()
    quantized, _, loss = quantizer.train()(x)
    assert loss.shape == ()
    quantized.sum().backward()
    assert x.grad is not None
    assert (x.grad.abs().sum(-1) > 0).all()


def test_noise_0_is_the_nearest(quantizer):
    torch.testing.assert_close(quantizer.noisy(vectors(), 0.0), quantizer.nearest(vectors()))


def test_more_noise_changes_more(quantizer):
    nearest = quantizer.nearest(vectors(3000))
    changed, apart = [], []
    for noise in (0.01, 0.1, 0.5, 1.0, 5.0):
        ids = quantizer.noisy(vectors(3000), noise, torch.Generator().manual_seed(0))
        changed.append(float((ids != nearest).float().mean()))
        apart.append(float((quantizer.vectors(ids) - vectors(3000)).square().sum(-1).mean()))
    assert changed == sorted(changed)
    assert apart == sorted(apart)
    assert changed[0] < 0.1 < 0.5 < changed[-1] < 1


@pytest.mark.parametrize("noise", [0.3, 1.0, 3.0])
def test_noise_draws_by_its_formula(quantizer, noise):
    """softmax(-distance^2 / (noise x spread)), seen in 40,000 draws of one vector."""
    vector, count = vectors(1), 40_000
    ids = quantizer.noisy(vector.expand(count, -1), noise, torch.Generator().manual_seed(0))[:, 0]
    found = torch.bincount(ids, minlength=16) / count
    wanted = (-(quantizer.codebook - vector).square().sum(-1) / (noise * quantizer.spread[0])).softmax(-1)
    assert ((found - wanted).abs() < 5 * (wanted * (1 - wanted) / count).sqrt() + 1e-4).all()


def test_noise_is_the_generators(quantizer):
    one, two, other = (quantizer.noisy(vectors(), 1.0, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    torch.testing.assert_close(one, two)
    assert (one != other).any()


@pytest.mark.parametrize(
    ("ids", "codes", "expected"),
    [
        ([3, 3, 3], 8, 1),
        ([0, 1, 2, 3], 4, 4),
        ([0, 1, 2, 3], 100, 4),
        ([5, 5, 6, 6], 8, 2),
        ([0, 0, 0, 1], 2, math.exp(-0.75 * math.log(0.75) - 0.25 * math.log(0.25))),
        ([], 4, 1),
    ],
)
def test_perplexity_counts_codes_in_effective_use(ids, codes, expected):
    assert perplexity(torch.tensor(ids, dtype=torch.long), codes) == pytest.approx(expected)
