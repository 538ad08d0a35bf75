"""Ctrl-C that spares the calls of compiled loops.

Python answers signals between any two of its instructions, and numba has it run a few of them to look up the class of an array that a loop
returns, and does not look whether that went well: a KeyboardInterrupt there ends the process, or comes out as a SystemError.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

LATER = 0.01  # seconds; a look-up takes a millionth


@contextmanager
def ctrl_c_between_loops() -> Iterator[None]:
    """KeyboardInterrupt is raised in the block where it does no harm. Nothing changes in other threads than the main one, or where someone
    else answers Ctrl-C already."""
    usual = signal.default_int_handler
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGINT) is not usual:
        yield
        return
    signal.signal(signal.SIGINT, between_loops(usual))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, usual)


def between_loops(answer: Callable[[int, FrameType | None], Any]) -> Callable[[int, FrameType | None], None]:
    """The same answer to a signal, later where it comes while a loop's result is turned into Python's."""

    def answer_in_time(number: int, frame: FrameType | None) -> None:
        if _in_result(frame):
            threading.Timer(LATER, signal.pthread_kill, [threading.main_thread().ident, number]).start()
        else:
            answer(number, frame)

    return answer_in_time


def _in_result(frame: FrameType | None) -> bool:
    while frame is not None and frame.f_globals.get("__name__") != "numba.core.serialize":
        frame = frame.f_back
    return frame is not None
