"""The transformer: its cache changes nothing, padding changes nothing, and nobody sees what comes later."""

from __future__ import annotations

import pytest
import torch

from meshgpt.transformer import KVCache, Transformer, TransformerConfig, rotary, rotate

EXACT = {"rtol": 1e-5, "atol": 1e-5}


def vectors(rows: int = 2, steps: int = 9, seed: int = 1) -> torch.Tensor:
    return torch.randn(rows, steps, 32, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(params=[True, False], ids=["causal", "seeing all"])
def either(request) -> Transformer:
    torch.manual_seed(0)
    return Transformer(TransformerConfig(dim=32, layers=2, heads=2, causal=request.param)).eval()


@pytest.mark.parametrize("cuts", [[5, 6, 7, 8, 9], [1, 2, 9], [4, 9], [9], range(1, 10)])
def test_cache_changes_nothing(tiny, cuts):
    x, cache, start, parts = vectors(), None, 0, []
    cache = KVCache(tiny.config, 2, 12, like=x)
    for end in cuts:
        parts.append(tiny(x[:, start:end], cache))
        start = end
    assert cache.length == 9
    torch.testing.assert_close(torch.cat(parts, 1), tiny(x), **EXACT)


def test_the_cache_says_when_it_is_full(tiny):
    x = vectors()
    cache = KVCache(tiny.config, 2, 9, like=x)
    tiny(x[:, :8], cache)
    with pytest.raises(ValueError, match=r"^10 positions do not fit a cache made for 9; make it larger$"):
        tiny(x[:, :2], cache)
    assert cache.length == 8
    torch.testing.assert_close(tiny(x[:, 8:], cache), tiny(x)[:, 8:], **EXACT)


def test_rows_of_the_cache_can_be_chosen_and_repeated(tiny):
    x, rows = vectors(3), torch.tensor([2, 0, 0, 1])
    cache = KVCache(tiny.config, 3, 9, like=x)
    tiny(x[:, :6], cache)
    cache.select(rows)
    torch.testing.assert_close(tiny(x[rows, 6:], cache), tiny(x)[rows, 6:], **EXACT)


def padded(x: torch.Tensor, at: int, junk: float = 100.0) -> tuple[torch.Tensor, torch.Tensor]:
    """Three positions of junk at `at`, and what to keep."""
    pad = junk * torch.randn(len(x), 3, x.shape[2], generator=torch.Generator().manual_seed(2))
    keep = torch.ones(len(x), x.shape[1] + 3, dtype=torch.bool)
    keep[:, at : at + 3] = False
    return torch.cat([x[:, :at], pad, x[:, at:]], 1), keep


@pytest.mark.parametrize("at", [0, 4, 9])
def test_padding_changes_nothing(either, at):
    x = vectors()
    longer, keep = padded(x, at)
    torch.testing.assert_close(either(longer, keep=keep)[keep], either(x).flatten(0, 1), **EXACT)


def test_rows_may_be_padded_differently(either):
    rows = [vectors(1, steps, seed=steps) for steps in (4, 9, 6)]
    x, keep = torch.randn(3, 9, 32), torch.zeros(3, 9, dtype=torch.bool)
    for number, (row, at) in enumerate(zip(rows, (5, 0, 1), strict=True)):
        x[number, at : at + row.shape[1]] = row[0]
        keep[number, at : at + row.shape[1]] = True
    out = either(x, keep=keep)
    for number, row in enumerate(rows):
        torch.testing.assert_close(out[number, keep[number]], either(row)[0], **EXACT)


@pytest.mark.parametrize("at", [0, 4])
def test_padding_changes_nothing_with_a_cache(tiny, at):
    x = vectors()
    longer, keep = padded(x, at)
    cache = KVCache(tiny.config, 2, 12, like=x)
    first = tiny(longer[:, :8], cache, keep[:, :8])
    parts = [first, *(tiny(longer[:, i : i + 1], cache, keep[:, : i + 1]) for i in range(8, 12))]
    torch.testing.assert_close(torch.cat(parts, 1)[keep], tiny(x).flatten(0, 1), **EXACT)


@pytest.mark.parametrize("at", [0, 4, 9])
def test_gradients_of_padded_rows_are_finite_and_do_not_reach_the_padding(either, at):
    longer, keep = padded(vectors(), at)
    keep[1] = False  # nothing at all is left of this row
    longer.requires_grad_()
    either(longer, keep=keep)[keep].square().sum().backward()
    assert all(torch.isfinite(weight.grad).all() for weight in either.parameters())
    assert torch.isfinite(longer.grad).all()
    assert not longer.grad[~keep].any()
    assert longer.grad[keep].any(-1).all()


def test_nobody_sees_what_comes_later(tiny):
    x = vectors()
    changed = x.clone()
    changed[:, 5] += 1
    before, after = tiny(x), tiny(changed)
    torch.testing.assert_close(after[:, :5], before[:, :5], rtol=0, atol=0)
    assert ((after[:, 5:] - before[:, 5:]).abs().amax(-1) > 1e-4).all()


def test_without_causality_everybody_sees_everything():
    torch.manual_seed(0)
    network = Transformer(TransformerConfig(dim=32, layers=1, heads=2, causal=False))
    x = vectors()
    changed = x.clone()
    changed[:, 8] += 1
    assert ((network(changed) - network(x)).abs().amax(-1) > 1e-5).all()


def test_order_matters(either):
    x = vectors()
    assert (either(x.flip(1)).flip(1) - either(x)).abs().max() > 1e-2


def test_rows_do_not_see_each_other(either):
    x = vectors(3)
    torch.testing.assert_close(either(x[1:2]), either(x)[1:2], **EXACT)


def test_rotary_positions_are_relative():
    """How much two positions like each other depends on their distance alone, and does depend on it."""
    query, key = torch.randn(2, 1, 1, 1, 16)

    def liking(here: float, there: float) -> torch.Tensor:
        turns = [rotary(torch.tensor([float(at)]), 16) for at in (here, there)]
        return (rotate(query, turns[0]) * rotate(key, turns[1])).sum()

    for shift in (1, 10, 500):
        torch.testing.assert_close(liking(3 + shift, 7 + shift), liking(3, 7), rtol=1e-3, atol=1e-3)
    assert abs(liking(3, 7) - liking(3, 8)) > 0.01
    torch.testing.assert_close(liking(5, 5), (query * key).sum())


def test_a_width_that_does_not_split_is_refused():
    with pytest.raises(ValueError, match=r"^a width of 36 does not split into 4 heads of even width$"):
        Transformer(TransformerConfig(dim=36, layers=1, heads=4))
