"""The loops that a run on a fresh machine needs last, compiled by a process beside it: one waits half as long for the first mesh.

A run compiles its loops in the order in which it needs them, and this begins at the other end; what they share are numba's files. It knows
models and meshes.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np

from meshgpt.cloud import Cloud
from meshgpt.mesh import Mesh, sample_surface
from meshgpt.shared_jobs import processors

POINTS, QUIET = 512, subprocess.DEVNULL


@contextmanager
def compiling_ahead(begun: Callable[[], None], beside: bool) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Calls `begun` before the first loop is compiled in the block, if one is; and starts the process then, if `beside`, where there is a
    core for it. It is gone when the block is left; what is yielded has it while it is there."""
    from meshgpt.compiled import before_compiling

    started: list[subprocess.Popen[bytes]] = []

    def start() -> None:
        begun()
        if beside and processors() > 1:
            started.append(subprocess.Popen([sys.executable, "-m", "meshgpt.compile_ahead"], stdin=QUIET, stdout=QUIET, stderr=QUIET))

    try:
        with before_compiling(start):
            yield started
    finally:
        for process in started:
            process.kill()
            process.wait()


def compile_ahead() -> None:
    """All loops that the model that ships needs for a mesh, the last ones first."""
    import torch

    from meshgpt.model import MeshGPT
    from meshgpt.tidy import tidied

    mesh = _box()
    surface = sample_surface(mesh, POINTS, np.random.default_rng(0)).astype(np.float32)
    cloud = Cloud(surface[:, :3].astype(np.float64), surface[:, 3:].astype(np.float64))
    tidied(mesh, surface)
    model = MeshGPT.from_pretrained(device="cpu")
    seen = model.look(cloud).seen
    with torch.inference_mode():
        model.network.writing(seen, 1).take(torch.zeros(1, model.tokenizer.width, dtype=torch.long))
    model.samples(cloud)


def _box() -> Mesh:
    corners = np.array([[x, y, z] for x in (-0.5, 0.5) for y in (-0.3, 0.3) for z in (-0.4, 0.4)])
    quads = [[0, 1, 3, 2], [4, 6, 7, 5], [0, 4, 5, 1], [2, 3, 7, 6], [0, 2, 6, 4], [1, 5, 7, 3]]
    return Mesh(corners, np.array([face for a, b, c, d in quads for face in ([a, b, c], [a, c, d])]))


if __name__ == "__main__":
    compile_ahead()
