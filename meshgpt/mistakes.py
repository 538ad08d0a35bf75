"""Whose mistake an exception is: the user's, who gets one sentence, or ours, who get the traceback."""

from __future__ import annotations

import dis
import sys


def sentence(error: BaseException) -> str | None:
    """The error in one line where it is about what the user gave: our code raised it in words, or a file could not be used."""
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename} cannot be used ({error.strerror}); check the path and your rights"
    if isinstance(error, ValueError | OSError | ImportError | ArithmeticError | RuntimeError) and _raised_by_us(error):
        return " ".join(str(error).split())
    return None


def _raised_by_us(error: BaseException) -> bool:
    """Whether the innermost frame is ours and stands at a `raise`, not at a call into C that failed; missing modules count."""
    at = error.__traceback__
    while at is not None and at.tb_next is not None:
        at = at.tb_next
    if at is None or at.tb_frame.f_globals.get("__name__", "").split(".")[0] != "meshgpt":
        return False
    return isinstance(error, ImportError) or dis.opname[at.tb_frame.f_code.co_code[at.tb_lasti]] == "RAISE_VARARGS"


def say(text: str) -> None:
    """A sentence for the user, beside what a command prints."""
    print(f"meshgpt: {text}", file=sys.stderr)
