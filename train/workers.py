"""How a process that makes batches begins: it has one thread, and signals are for the training process.

That one ends its run after the step that it is at, and still wants the batches that are on their way.
"""

from __future__ import annotations

import os
import signal

import torch


def begin_worker(worker: int) -> None:
    """A group of its own, so that what is sent to that of the training (by Ctrl-C, `timeout` or a queue of jobs) does not reach it."""
    if hasattr(os, "setpgid"):
        os.setpgid(0, 0)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)
