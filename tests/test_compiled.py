"""Loops are compiled once, and said to be."""

from __future__ import annotations

import numpy as np
from numba import njit

from meshgpt.compiled import before_compiling


def test_it_is_said_once_and_only_where_something_is_compiled():
    said: list[str] = []
    with before_compiling(lambda: said.append("compiling")):
        assert not said

        @njit
        def doubled(x):
            return 2 * x

        assert doubled(2) == 4
        assert said == ["compiling"]
        assert doubled(2.5) == 5.0
    assert said == ["compiling"]
    assert doubled(np.float32(2.5)) == 5.0
    assert said == ["compiling"]
