"""Lengths by hand, and round trips through tokenizers that keep, turn, lose or refuse faces."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from meshgpt.mesh import canonical
from meshgpt.protocols import METRICS
from meshgpt.tokenizer import CoordsTokenizer
from meshgpt.tokenizer_metrics import (
    RoundTrip,
    bits_per_face,
    bits_per_face_bound,
    compression_ratio,
    round_trip,
    tokenizer_scores,
    tokens_per_face,
)


class Turning(CoordsTokenizer):
    """Shows every second face from behind."""

    def decode(self, ids: np.ndarray, context: Any = None) -> np.ndarray:
        corners = super().decode(ids)
        corners[1::2] = corners[1::2, ::-1]
        return corners


class Losing(CoordsTokenizer):
    """Drops the last face."""

    def decode(self, ids: np.ndarray, context: Any = None) -> np.ndarray:
        return super().decode(ids)[:-1]


class Choosy(CoordsTokenizer):
    """Refuses meshes of more than a hundred faces."""

    def encode(self, corners: np.ndarray) -> np.ndarray:
        if len(corners) > 100:
            raise RuntimeError("too many faces")
        return super().encode(corners)


def test_lengths_by_hand():
    assert tokens_per_face(36, 8) == 4.5
    assert compression_ratio(36, 8) == 0.5
    assert bits_per_face_bound(36, 8, 128) == 4.5 * 7
    assert bits_per_face(8 * math.log(2), 4) == pytest.approx(2)


def test_plain_coordinates_have_nine_tokens_and_come_back(real):
    found = tokenizer_scores(CoordsTokenizer(), real)
    assert found == (9, 1, 63, 1, 1, len(real), 0)
    assert set(found._fields[:5]) == {name for name, metric in METRICS.items() if metric.of == "tokenizer"}


def test_orientation_is_told_from_loss(real):
    meshes = [corners for corners in real[:20] if len(corners) > 1]
    turned, lost = tokenizer_scores(Turning(), meshes), tokenizer_scores(Losing(), meshes)
    assert (turned.exact_oriented, turned.exact_unoriented) == (0, 1)
    assert (lost.exact_oriented, lost.exact_unoriented) == (0, 0)


def test_faces_in_another_order_are_the_same_mesh(real):
    class Shuffling(CoordsTokenizer):
        def decode(self, ids: np.ndarray, context: Any = None) -> np.ndarray:
            return np.roll(super().decode(ids)[::-1], 1, axis=1)

    assert round_trip(Shuffling(), real[3])[2:] == (True, True, "")


def test_a_moved_vertex_is_a_loss(real):
    class Moving(CoordsTokenizer):
        def decode(self, ids: np.ndarray, context: Any = None) -> np.ndarray:
            corners = super().decode(ids)
            return np.where(corners == corners[0, 0], corners + 1, corners)

    assert round_trip(Moving(), real[3])[2:] == (False, False, "")


def test_what_a_tokenizer_refuses_counts_against_it(real):
    meshes = real[:20]
    refused = sum(len(corners) > 100 for corners in meshes)
    found = tokenizer_scores(Choosy(), meshes)
    assert 0 < refused == found.failures < 20
    assert found.exact_oriented == found.exact_unoriented == pytest.approx(1 - refused / 20)
    assert found.tokens_per_face == 9  # of those that it wrote
    large = next(corners for corners in meshes if len(corners) > 100)
    assert round_trip(Choosy(), large) == RoundTrip(len(large), 0, False, False, "too many faces")


def test_nothing_to_measure_is_an_error():
    with pytest.raises(ValueError, match="of 0 meshes none with faces could be written"):
        tokenizer_scores(CoordsTokenizer(), [])
    with pytest.raises(ValueError, match="of 1 meshes"):
        tokenizer_scores(CoordsTokenizer(), [canonical(np.zeros((0, 3, 3), np.int64))])
