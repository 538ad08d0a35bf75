"""How long something takes, and how fast this machine reads its memory.

On a CPU it is the processor time of this process that counts, which other programs disturb least; on a GPU the clock on the wall.
It knows neither networks nor meshes.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch

READ_BYTES = 1 << 28


def now(device: torch.device) -> float:
    """Seconds; only differences mean something."""
    if device.type == "cpu":
        return time.process_time()
    torch.cuda.synchronize(device)
    return time.perf_counter()


def seconds(run: Callable[[], object], repeats: int, device: torch.device) -> float:
    """Median of several runs, behind one that does not count."""
    run()
    times = []
    for _ in range(repeats):
        began = now(device)
        run()
        times.append(now(device) - began)
    return statistics.median(times)


def bandwidth(repeats: int, device: torch.device) -> float:
    """Bytes that are read in a second, of more than fit any cache: the best run, since it is to be a limit."""
    block = torch.ones(READ_BYTES // 4, device=device)
    return READ_BYTES / min(seconds(block.sum, 1, device) for _ in range(repeats))
