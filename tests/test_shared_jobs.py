"""Processes that share jobs: each job is done once, whoever does it, and an end is an end for all."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import time
from collections.abc import Iterable

import pytest

from meshgpt.mistakes import sentence
from meshgpt.shared_jobs import helped, processors


def squares(jobs: Iterable[int]) -> list[int]:
    return [number**2 for number in jobs]


def stays(jobs: Iterable[int]) -> str:
    """Until it is interrupted."""
    try:
        for _ in jobs:
            time.sleep(60)
    except KeyboardInterrupt:
        return "interrupted"
    return "through"


def writes(jobs: Iterable[str]) -> None:
    """A byte into a file for each job."""
    for path in jobs:
        with open(path, "ab") as file:
            file.write(b".")
        time.sleep(0.05)


def dies(jobs: Iterable[int]) -> None:
    os._exit(7)


@pytest.mark.parametrize("count", [0, 2])
def test_each_job_is_done_once(count):
    found: list[list[int]] = []
    with helped(squares, range(100), count, found) as left:
        found.append(squares(left))
    assert len(found) == count + 1
    assert sorted(itertools.chain(*found)) == [number**2 for number in range(100)]


def test_helpers_do_what_the_block_leaves():
    found: list[list[int]] = []
    with helped(squares, range(3), 1, found):
        pass
    assert found == [[0, 1, 4]]


def test_after_an_error_nobody_begins_anything_new():
    found: list[list[int]] = []

    def fail() -> None:
        with helped(squares, range(10**9), 1, found):
            raise ValueError("enough")

    with pytest.raises(ValueError, match="enough"):
        fail()
    assert len(found) == 1
    assert len(found[0]) < 10**8


def test_a_process_that_dies_is_told_of():
    with pytest.raises(ChildProcessError, match=r"exit code 7\); use --processes 1") as caught, helped(dies, [1, 2], 1, []):
        pass
    assert sentence(caught.value).startswith("a process that shared the work ended")


INTERRUPTED = """
import os, signal, sys, threading, time
sys.path.insert(0, {folder!r})
from test_shared_jobs import helped, stays
if __name__ == "__main__":
    found = []
    try:
        with helped(stays, [1, 2, 3], 2, found) as left:
            while left.taken.value < {begun}:
                time.sleep(0.05)
            {how}
            time.sleep(60)
    except KeyboardInterrupt:
        print(found)
"""


ONE, ALL = "os.kill(os.getpid(), signal.SIGINT)", "os.killpg(0, signal.SIGINT)"


@pytest.mark.parametrize(
    ("begun", "how", "ends"),
    [(2, ONE, "interrupted"), (2, ALL, "interrupted"), (0, ONE, "through"), (0, ALL, "through")],
    ids=["one", "all", "one-early", "all-early"],
)
def test_ctrl_c_reaches_everybody(tmp_path, begun, how, ends):
    """Also where the terminal tells all of them at once, and those that have not begun yet."""
    program = tmp_path / "program.py"
    program.write_text(INTERRUPTED.format(folder=os.path.dirname(__file__), begun=begun, how=how))
    done = subprocess.run([sys.executable, program], capture_output=True, text=True, timeout=100, start_new_session=True)
    assert done.stdout == f"['{ends}', '{ends}']\n", done.stderr
    assert done.returncode == 0


KILLED = """
import os, signal, sys, time
sys.path.insert(0, {folder!r})
from test_shared_jobs import helped, writes
if __name__ == "__main__":
    with helped(writes, [{path!r}] * 2_000, 1, []):
        while not os.path.exists({path!r}):
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGKILL)
"""


def test_helpers_of_a_process_that_was_killed_begin_nothing_new(tmp_path):
    program, path = tmp_path / "program.py", tmp_path / "written"
    program.write_text(KILLED.format(folder=os.path.dirname(__file__), path=str(path)))
    subprocess.run([sys.executable, program], capture_output=True, timeout=100)
    time.sleep(0.5)
    size = path.stat().st_size
    time.sleep(0.5)
    assert 0 < size == path.stat().st_size


def test_there_is_a_processor():
    assert 1 <= processors() <= (os.cpu_count() or 1)
