"""Processes that share a list of jobs: each takes the next one that nobody has taken yet.

It does not know what jobs are.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any, Generic, TypeVar

from meshgpt.interrupts import between_loops

Job = TypeVar("Job")
Found = TypeVar("Found")


def processors() -> int:
    """How many this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Jobs(Generic[Job]):
    """The jobs that are left, each for whoever asks first. A helper whose parent was killed asks for no more."""

    def __init__(self, jobs: Sequence[Job], taken: Any) -> None:
        self.jobs, self.taken = jobs, taken

    def __iter__(self) -> Iterator[Job]:
        parent = multiprocessing.parent_process()
        while parent is None or parent.is_alive():
            with self.taken.get_lock():
                at = self.taken.value
                self.taken.value += 1
            if at >= len(self.jobs):
                return
            yield self.jobs[at]

    def close(self) -> None:
        """Nobody takes any more."""
        with self.taken.get_lock():
            self.taken.value = len(self.jobs)


@contextmanager
def helped(work: Callable[[Jobs[Job]], Found], jobs: Sequence[Job], count: int, found: list[Found]) -> Iterator[Jobs[Job]]:
    """So many processes more do `work`, a function that is found by its name there, with the jobs that are left, which the block takes
    from as well; at its end, when all are through, `found` holds what they did.

    Ctrl-C, wherever it was pressed, reaches each of them once. ChildProcessError where one died.
    """
    helpers = _Helpers(work, jobs, count)
    try:
        try:
            yield helpers.jobs
            helpers.wait(found)
        except KeyboardInterrupt:
            helpers.interrupt()
            raise
    finally:
        helpers.jobs.close()
        helpers.wait(found)


class _Helpers(Generic[Job, Found]):
    def __init__(self, work: Callable[[Jobs[Job]], Found], jobs: Sequence[Job], count: int) -> None:
        context = multiprocessing.get_context("spawn")
        self.jobs = Jobs(jobs, context.Value("q", 0))
        self.open: list[tuple[BaseProcess, Connection]] = []
        # Helpers inherit that Ctrl-C waits, until they can answer it: one that is still importing would die of it.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            for _ in range(count):
                ours, theirs = context.Pipe(duplex=False)
                process = context.Process(target=_help, args=(work, self.jobs, theirs), daemon=True)
                process.start()
                theirs.close()
                self.open.append((process, ours))
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def wait(self, found: list[Found]) -> None:
        while self.open:
            process, connection = self.open[0]
            try:
                found.append(connection.recv())
            except EOFError:
                process.join()
                self.open.pop(0)
                raise ChildProcessError(
                    f"a process that shared the work ended before its meshes were there (exit code {process.exitcode}); "
                    "use --processes 1, which needs less memory"
                ) from None
            process.join()
            self.open.pop(0)

    def interrupt(self) -> None:
        self.jobs.close()
        for process, _ in self.open:
            if process.is_alive():
                os.kill(process.pid, signal.SIGINT)


def _help(work: Callable[[Jobs[Job]], Found], jobs: Jobs[Job], connection: Connection) -> None:
    signal.signal(signal.SIGINT, between_loops(_interrupt_once))
    try:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    except KeyboardInterrupt:
        jobs.close()
    connection.send(work(jobs))


def _interrupt_once(number: int, frame: Any) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    raise KeyboardInterrupt
