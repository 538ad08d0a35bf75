"""Whose mistake an exception is: the user's, who gets one sentence, or ours, who get the traceback."""

from __future__ import annotations

import linecache
import sys
import traceback


def sentence(error: BaseException) -> str | None:
    """The error in one line where it is about what the user gave: our code raised it in words, or a file could not be used."""
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename} cannot be used ({error.strerror}); check the path and your rights"
    if isinstance(error, ValueError | OSError | ImportError | ArithmeticError | RuntimeError) and _raised_by_us(error):
        return " ".join(str(error).split())
    return None


def _raised_by_us(error: BaseException) -> bool:
    """Whether the innermost frame is ours and stands at a `raise`, not at a call into C that failed; missing modules count."""
    *_, (frame, line) = traceback.walk_tb(error.__traceback__)
    if frame.f_globals.get("__name__", "").split(".")[0] != "meshgpt":
        return False
    said = linecache.getline(frame.f_code.co_filename, line, frame.f_globals)
    return isinstance(error, ImportError) or said.lstrip().startswith("raise ")


def say(text: str) -> None:
    """A sentence for the user, beside what a command prints."""
    print(f"meshgpt: {text}", file=sys.stderr)
