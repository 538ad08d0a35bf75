"""Ctrl-C that comes while a loop's results become Python's; where it is answered at once, the process dies."""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import numpy as np
import pytest
from numba.core import serialize

from meshgpt.cli import main
from meshgpt.cloud import Cloud
from meshgpt.compiled import compiled
from meshgpt.generate import Sampling
from meshgpt.interrupts import between_loops, ctrl_c_between_loops
from meshgpt.model import MeshGPT, Stopped
from meshgpt.tokenizer import GatesTokenizer


@compiled
def two(count: int) -> tuple[np.ndarray, np.ndarray]:
    return np.ones(count), np.zeros(count)


@contextmanager
def ctrl_c_in_results(after: int = 0) -> Iterator[None]:
    """In the block, Ctrl-C while numba looks up the class of an array, once, after so many of them."""
    left = after

    def press(frame: FrameType, event: str, argument: Any) -> None:
        nonlocal left
        if event == "call" and frame.f_code is serialize._numba_unpickle.__code__:
            left -= 1
            if left < 0:
                sys.setprofile(None)
                signal.raise_signal(signal.SIGINT)

    sys.setprofile(press)
    try:
        yield
    finally:
        sys.setprofile(None)


def test_the_result_is_there_and_then_comes_ctrl_c():
    found = []
    with pytest.raises(KeyboardInterrupt), ctrl_c_between_loops(), ctrl_c_in_results():
        found += two(1)
        time.sleep(60)
    assert found == [1, 0]


def test_elsewhere_ctrl_c_comes_at_once():
    with pytest.raises(KeyboardInterrupt), ctrl_c_between_loops():
        signal.raise_signal(signal.SIGINT)
        pytest.fail("Ctrl-C did not come")


def test_another_answer_is_given_later_too():
    answered = threading.Event()
    before = signal.signal(signal.SIGINT, between_loops(lambda *words: answered.set()))
    try:
        with ctrl_c_in_results(), ctrl_c_between_loops():
            two(1)
            assert not answered.is_set()
            assert answered.wait(60)
    finally:
        signal.signal(signal.SIGINT, before)


def test_afterwards_all_is_as_it_was():
    before = signal.getsignal(signal.SIGINT)
    with ctrl_c_between_loops():
        assert signal.getsignal(signal.SIGINT) is not before
    assert signal.getsignal(signal.SIGINT) is before
    elsewhere = threading.Thread(target=ctrl_c_between_loops().__enter__)  # where no signal can be set
    elsewhere.start()
    elsewhere.join()
    assert signal.getsignal(signal.SIGINT) is before


def test_what_is_there_of_a_mesh_is_kept(endless_gates, surface):
    points = surface(1, 128)[0].double().numpy()
    model = MeshGPT(GatesTokenizer(16), endless_gates)
    with pytest.raises(Stopped) as stopped, ctrl_c_in_results(after=100):
        model.samples(Cloud(points[:, :3], points[:, 3:]), sampling=Sampling(tries=1, max_faces=3000, bounds="none", tidy="none"))
    ((_, sample),) = stopped.value.samples
    assert len(sample.mesh.faces) and not sample.ended


def test_a_command_ends_as_ctrl_c_ends_it(tmp_path, monkeypatch, capsys):
    np.save(tmp_path / "box.npy", np.random.default_rng(0).normal(size=(500, 3)))

    def pressed(*words: object) -> None:
        with ctrl_c_in_results():
            two(1)
        time.sleep(60)

    monkeypatch.setattr(MeshGPT, "look", pressed)
    assert main(["sample", "--cond", str(tmp_path / "box.npy"), "--device", "cpu"]) == 130
    assert "stopped by Ctrl-C" in capsys.readouterr().err
