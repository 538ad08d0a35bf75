"""Training samples: pure functions of seed, epoch and index, whichever process makes them."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from meshgpt.mesh import Mesh, canonical, corners_of
from meshgpt.tokenizer import CoordsTokenizer
from meshgpt.train.augment import Augmentation, Degradation
from meshgpt.train.batches import Batches
from meshgpt.train.data import Batch, Recipe, Samples, loader
from meshgpt.train.sources import MeshSet

ROOT = Path(__file__).resolve().parents[1]
RECIPE = Recipe(points=64, tokenizer=CoordsTokenizer(), augmentation=Augmentation(), degradation=Degradation(), seed=3)
PLAIN = Recipe(points=64, seed=3)


@pytest.fixture(scope="module")
def few(val) -> MeshSet:
    return val.at_most(120).subset(range(12))


def assert_same(one: Batch, two: Batch) -> None:
    torch.testing.assert_close(one._asdict(), two._asdict(), rtol=0, atol=0)


def test_a_sample_is_that_of_seed_epoch_and_index(few):
    assert_same(Samples(few, RECIPE)[2, [4, 7]], Samples(few, RECIPE)[2, [4, 7]])
    first = Samples(few, RECIPE)[2, [4, 7]]
    for other in (
        Samples(few, RECIPE)[3, [4, 7]],
        Samples(few, RECIPE)[2, [5, 7]],
        Samples(few, replace(RECIPE, seed=4))[2, [4, 7]],
    ):
        assert not torch.equal(first.surface[0], other.surface[0])
        assert first.seed != other.seed


def test_a_sample_does_not_depend_on_its_batch(few):
    together, alone = Samples(few, RECIPE)[2, [4, 7]], Samples(few, RECIPE)[2, [7]]
    length = int(alone.lengths[0])
    torch.testing.assert_close(together.surface[1:], alone.surface)
    torch.testing.assert_close(together.ids[1, :length], alone.ids[0])
    torch.testing.assert_close(together.faces.corners[1, :length], alone.faces.corners[0])


def test_corners_are_those_of_the_mesh_and_the_cloud_is_on_it(few):
    batch = Samples(few, PLAIN)[0, [0, 5, 9]]
    assert batch.ids is None
    for row, index in enumerate((0, 5, 9)):
        keep = batch.faces.keep[row]
        np.testing.assert_array_equal(batch.faces.corners[row, keep], corners_of(few.mesh(index)))
        np.testing.assert_array_equal(batch.faces.vertices[batch.faces.vertex[row, keep]], batch.faces.corners[row, keep])
        points = batch.surface[row, :, :3].numpy()
        low, high = few.mesh(index).vertices.min(0), few.mesh(index).vertices.max(0)
        assert ((points >= low - 1e-5) & (points <= high + 1e-5)).all()


def test_ids_are_the_tokenizers(few):
    batch = Samples(few, RECIPE)[1, [0, 5, 9]]
    for row, length in enumerate(batch.lengths.tolist()):
        assert length == batch.faces.keep[row].sum()
        corners = batch.faces.corners[row, :length].numpy()
        np.testing.assert_array_equal(batch.ids[row, :length], CoordsTokenizer().encode(corners))
        np.testing.assert_array_equal(corners, canonical(corners))
    assert batch.surface.dtype == torch.float32
    assert batch.surface.shape == (3, 64, 6)


def test_without_points_there_is_no_cloud(few):
    batch = Samples(few, Recipe())[0, [1]]
    assert batch.surface is None
    assert batch.to("cpu").faces.keep.all()


def test_a_mesh_that_vanishes_when_stretched_is_shown_as_it_is(few, monkeypatch):
    def pressed(mesh: Mesh, *_: object) -> Mesh:
        return Mesh(mesh.vertices * 1e-6 + 0.001, mesh.faces)

    monkeypatch.setattr("meshgpt.train.data.augment", pressed)
    assert_same(Samples(few, replace(PLAIN, augmentation=Augmentation()))[0, [3]], Samples(few, PLAIN)[0, [3]])


def batches(few: MeshSet) -> Batches:
    return Batches(few.face_counts, 200, seed=1)


def taken(few: MeshSet, skip: int, workers: int, count: int) -> list[Batch]:
    return list(itertools.islice(loader(few, RECIPE, batches(few), skip, workers), count))


def test_another_process_makes_the_same_batches(few):
    for one, two in zip(taken(few, 0, 0, 10), taken(few, 0, 1, 10), strict=True):
        assert_same(one, two)


def test_skipped_batches_are_the_ones_that_are_not_made(few):
    whole = taken(few, 0, 0, 14)
    for one, two in zip(whole[9:], taken(few, 9, 0, 5), strict=True):
        assert_same(one, two)
    assert len(batches(few).epoch(0)) < 14, "more than an epoch"


def test_an_epoch_shows_every_mesh_once_and_the_next_one_otherwise(few):
    count = len(batches(few).epoch(0))
    made = taken(few, 0, 0, 2 * count)
    assert sum(len(batch.lengths) for batch in made[:count]) == len(few)
    clouds = {row.numpy().tobytes() for batch in made for row in batch.surface}
    assert len(clouds) == sum(len(batch.lengths) for batch in made)


TOLD_TO_STOP = """
import os, signal, sys
from meshgpt.train.batches import Batches
from meshgpt.train.data import Recipe, loader
from meshgpt.train.sources import read_parquet

few = read_parquet(sys.argv[1]).at_most(120).subset(range(12))
made = loader(few, Recipe(points=64), Batches(few.face_counts, 200, seed=1), workers=1)
next(made)
for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, lambda *words: print("told"))
    os.killpg(0, number)
print(len([next(made) for _ in range(12)]))
"""


@pytest.mark.skipif(not hasattr(os, "killpg"), reason="this system has no groups of processes")
def test_signals_to_all_processes_of_a_training_leave_those_that_make_batches():
    words = [sys.executable, "-c", TOLD_TO_STOP, str(ROOT / "data/artist-kits/val.parquet")]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120, start_new_session=True, cwd=ROOT)
    assert (done.returncode, done.stdout.split()) == (0, ["told", "told", "12"]), done.stderr
