"""Loops that numpy cannot express, compiled by numba when they are first used, and kept on disk.

Import it in files of such loops alone, and these where they are needed: numba takes a second to load.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from numba import njit

# Nothing calls them as C functions, and what would let others do so takes a tenth of the time to compile.
CALLED = {"no_cfunc_wrapper": True}


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function as machine code. The shape checks that tests wrap around functions are taken off: numba cannot read them."""
    return njit(cache=True, **CALLED)(inspect.unwrap(function))


def compiled_for(signature: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """As machine code for these types alone, into which others are turned: what is called in many ways is compiled once."""
    return lambda function: njit(signature, cache=True, **CALLED)(inspect.unwrap(function))


def compiled_loosely(function: Callable[..., Any]) -> Callable[..., Any]:
    """The same, with sums in the order that is fastest."""
    return njit(cache=True, fastmath=True, **CALLED)(inspect.unwrap(function))


def compiled_in_order(function: Callable[..., Any]) -> Callable[..., Any]:
    """The same, with sums in the order in which they are written, where a product and a sum are one operation."""
    return njit(cache=True, fastmath={"contract"}, **CALLED)(inspect.unwrap(function))


@contextmanager
def before_compiling(call: Callable[[], None]) -> Iterator[None]:
    """`call` is called before the next loop is compiled in the block, once; never, where all that are needed are on disk."""
    from numba.core import event

    class First(event.Listener):
        def on_start(self, event: Any) -> None:
            nonlocal waiting
            if waiting:
                waiting = False
                call()

        def on_end(self, event: Any) -> None:
            pass

    waiting = True
    with event.install_listener("numba:compile", First()):
        yield
