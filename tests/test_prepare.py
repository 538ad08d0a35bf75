"""What `prepare` keeps and leaves out, that its shards are the same however they are made, and that nothing half-made stays."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from meshgpt.mesh import Fit, Mesh, corners_of, mesh_of
from meshgpt.train import shards
from meshgpt.train.prepare import REASONS, Cleaned, PrepareOptions, PrepareReport, Skipped, clean, prepare, prepare_entries
from meshgpt.train.sources import Entry, entries, read_parquet

ROOT = Path(__file__).resolve().parents[1]
KITS = ROOT / "data" / "artist-kits"
VAL = KITS / "val.parquet"
HERE = PrepareOptions(workers=0)


@pytest.fixture(scope="module")
def val():
    return read_parquet(VAL)


def sphere(rings: int = 6, segments: int = 8) -> Mesh:
    """A closed shape with 2 * segments * (rings - 1) faces; symmetric about its centre."""
    angles = [(np.pi * r / rings, 2 * np.pi * s / segments) for r in range(1, rings) for s in range(segments)]
    ring = [(np.sin(a) * np.cos(b), np.cos(a), np.sin(a) * np.sin(b)) for a, b in angles]
    vertices = np.array([(0, 1, 0), *ring, (0, -1, 0)], dtype=np.float64)
    faces = []
    for s in range(segments):
        t = (s + 1) % segments
        faces += [(0, 1 + t, 1 + s), (len(vertices) - 1, len(vertices) - 1 - segments + s, len(vertices) - 1 - segments + t)]
        for r in range(rings - 2):
            a, b = 1 + r * segments, 1 + (r + 1) * segments
            faces += [(a + s, a + t, b + s), (a + t, b + t, b + s)]
    return Mesh(vertices, np.array(faces))


def soup(mesh: Mesh, seed: int = 0) -> Mesh:
    """The same shape as exporters write it: every face with vertices of its own, faces and corners in any order."""
    rng = np.random.default_rng(seed)
    faces = mesh.faces[rng.permutation(len(mesh.faces))]
    faces = np.stack([np.roll(face, rng.integers(3)) for face in faces])
    return Mesh(mesh.vertices[faces].reshape(-1, 3), np.arange(3 * len(faces)).reshape(-1, 3))


def volume(mesh: Mesh) -> float:
    """Negative when the faces look inwards."""
    return float(np.linalg.det(mesh.triangles()).sum() / 6)


def run(meshes: dict[str, Mesh | str], out: Path, options: PrepareOptions = HERE) -> PrepareReport:
    return prepare_entries([Entry(name, mesh) for name, mesh in meshes.items()], out, options)


def reasons(report: PrepareReport) -> dict[str, str]:
    return {problem.id: problem.reason for problem in report.problems}


# What is written


def test_the_law_welding_loses_nothing_at_any_bins(val, tmp_path):
    """The corners of a written mesh are those of the mesh as found, for every number of bins and not only for the default."""
    found = {val.ids[index]: soup(val.mesh(index)) for index in range(0, len(val), 9)}
    assert run(found, tmp_path / "out").kept == len(found)
    for entry in entries(tmp_path / "out"):
        mesh, raw = entry.read(), found[entry.id]
        unwelded = Mesh(Fit.of(raw.vertices).apply(raw.vertices).astype(np.float32), raw.faces)
        assert len(mesh.vertices) < len(raw.vertices)
        for bins in (16, 128, 1024):
            np.testing.assert_array_equal(corners_of(mesh, bins), corners_of(unwelded, bins))


def test_vertices_are_floats_in_the_cube_and_in_order(val, tmp_path):
    run({"a": Mesh(val.mesh(3).vertices * 70 + 5, val.mesh(3).faces)}, tmp_path / "out")
    (row,) = pq.read_table(tmp_path / "out" / "part-00000.parquet").to_pylist()
    vertices, faces = np.array(row["vertices"], np.float32), np.array(row["faces"])
    assert (row["n_vertices"], row["n_faces"]) == (len(vertices), len(faces))
    np.testing.assert_allclose(np.ptp(vertices, axis=0).max(), 0.95, rtol=1e-6)
    np.testing.assert_array_equal(np.lexsort(vertices.T[[0, 2, 1]]), np.arange(len(vertices)))
    assert len(np.unique(vertices, axis=0)) == len(vertices) == len(np.unique(faces))
    np.testing.assert_array_equal(faces.argmin(1), 0)
    np.testing.assert_array_equal(np.lexsort(faces.T[::-1]), np.arange(len(faces)))
    assert np.abs(vertices * 128 - np.round(vertices * 128)).max() > 0.1, "these are bins, not the artist's floats"


def test_orientation_stays(tmp_path):
    outwards, inwards = sphere(), sphere(7)
    inwards = Mesh(inwards.vertices, inwards.faces[:, ::-1])
    assert volume(outwards) > 0 > volume(inwards)
    run({"out": soup(outwards), "in": soup(inwards)}, tmp_path / "out")
    first, second = (entry.read() for entry in entries(tmp_path / "out"))
    assert volume(first) > 0 > volume(second)


def test_degenerate_and_repeated_faces_and_idle_vertices_go(tmp_path):
    mesh = sphere()
    far = np.append(mesh.vertices, [[np.nan, 0, 0], [1e6, 0, 0], [1e6, 0, 0]], axis=0)
    spike = len(far) - 1
    faces = np.concatenate([mesh.faces, mesh.faces[:5, [1, 2, 0]], [[3, 3, 4], [5, 5, 5], [0, spike - 1, spike]]])
    run({"messy": Mesh(far, faces), "clean": sphere(7)}, tmp_path / "out")
    written = next(entries(tmp_path / "out")).read()
    assert (len(written.vertices), len(written.faces)) == (len(mesh.vertices), len(mesh.faces))
    np.testing.assert_allclose(np.ptp(written.vertices, axis=0).max(), 0.95, rtol=1e-6)


def test_z_up_becomes_y_up(tmp_path):
    tall = Mesh(sphere().vertices * [1, 1, 3], sphere().faces)
    run({"tall": tall}, tmp_path / "out", replace(HERE, up="z"))
    extent = np.ptp(next(entries(tmp_path / "out")).read().vertices, axis=0)
    assert extent.argmax() == 1


def test_licences_and_words_are_passed_on(tmp_path):
    prepare(VAL, tmp_path / "out", HERE)
    rows, source = (pq.read_table(place).to_pylist() for place in (tmp_path / "out" / "part-00000.parquet", VAL))
    assert {"licence", "licence_evidence", "author", "source_repo", "source_path", "commit", "words", "pack"} <= set(rows[0])
    for name in ("id", "words", "pack", "licence", "licence_evidence", "author", "source_repo", "source_path", "commit"):
        assert [row[name] for row in rows] == [row[name] for row in source]
    assert {row["category"] for row in rows} == {None}


def test_the_synset_of_a_model_is_written(tmp_path):
    """As of a ShapeNetCore tree; and words and licence of an Objaverse one come the same way."""
    model = tmp_path / "03001627" / "1a8bbf2994788e2743e99e0cae970928" / "models" / "model_normalized.obj"
    model.parent.mkdir(parents=True)
    write_obj(model, sphere())
    (tmp_path / "taxonomy.json").write_text('[{"synsetId": "03001627", "name": "chair"}]')
    prepare(tmp_path, tmp_path / "out", HERE)
    (row,) = pq.read_table(tmp_path / "out" / "part-00000.parquet").to_pylist()
    assert (row["id"], row["category"], row["words"]) == ("03001627/1a8bbf2994788e2743e99e0cae970928", "03001627", "chair")


def test_preparing_twice_changes_nothing(tmp_path):
    first = prepare(VAL, tmp_path / "once", HERE)
    second = prepare(tmp_path / "once", tmp_path / "twice", HERE)
    assert (first.kept, first.faces) == (second.kept, second.faces) == (188, second.faces)
    once, twice = read_parquet(tmp_path / "once"), read_parquet(tmp_path / "twice")
    np.testing.assert_array_equal(once.faces, twice.faces)
    np.testing.assert_allclose(once.vertices, twice.vertices, atol=1e-6)


def test_the_datasets_library_reads_the_shards(tmp_path):
    datasets = pytest.importorskip("datasets")
    report = prepare(VAL, tmp_path / "out", replace(HERE, shard_megabytes=0.05))
    files = [str(tmp_path / "out" / name) for name in report.shards]
    rows = datasets.load_dataset("parquet", data_files=files, split="train", cache_dir=str(tmp_path / "cache"))
    assert len(rows) == 188
    meshes = read_parquet(tmp_path / "out")
    assert rows["id"][:] == list(meshes.ids)
    np.testing.assert_array_equal(rows[50]["faces"], meshes.mesh(50).faces)
    np.testing.assert_allclose(rows[50]["vertices"], meshes.mesh(50).vertices, atol=1e-6)
    streamed = datasets.load_dataset("parquet", data_files=files, split="train", streaming=True)
    assert next(iter(streamed))["id"] == meshes.ids[0]


# What is left out


def thin(mesh: Mesh, thickness: float) -> Mesh:
    """Pressed flat along a direction that is no axis."""
    turn = np.linalg.qr(np.random.default_rng(1).normal(size=(3, 3)))[0]
    return Mesh((mesh.vertices * [1, thickness, 1]) @ turn, mesh.faces)


def dots(mesh: Mesh, copies: int) -> Mesh:
    """Far apart and so small that each copy falls into one bin."""
    places = np.arange(copies)[:, None, None] * np.array([100.0, 50, 25])
    vertices = (mesh.vertices[None] * 0.01 + places).reshape(-1, 3)
    return Mesh(vertices, (mesh.faces[None] + np.arange(copies)[:, None, None] * len(mesh.vertices)).reshape(-1, 3))


def with_a_corner_at(mesh: Mesh, value: float) -> Mesh:
    return Mesh(np.where(mesh.vertices == 1, value, mesh.vertices), mesh.faces)


def noise(faces: int) -> Mesh:
    rng = np.random.default_rng(0)
    return Mesh(rng.random((9, 3)), rng.integers(9, size=(faces, 3)))


BAD = {
    "too large": (noise(5000), "5,000 faces are more than the 4,000 that are read"),
    "unreadable": (Mesh(sphere().vertices, sphere().faces + 40), "the faces name vertices 40 to 81 of 42"),
    "not finite": (with_a_corner_at(sphere(), np.nan), "a face has a corner at NaN or infinity"),
    "no extent": (Mesh(sphere().vertices * 0 + 3, sphere().faces), "all faces have two corners at the same place"),
    "too many faces": (sphere(26, 16), "800 faces are more than 500"),
    "too few faces": (dots(sphere(), 6), "0 faces at 128 bins are fewer than 12"),
    "flat": (thin(sphere(), 0.003), "the shape is thinner than one of 128 bins"),
}


@pytest.mark.parametrize("reason", BAD)
def test_a_bad_mesh_is_left_out_with_its_reason(reason, tmp_path):
    mesh, sentence = BAD[reason]
    options = replace(HERE, max_faces=500, max_faces_read=4000)
    report = run({"first": sphere(), "bad": mesh, "last": sphere(7)}, tmp_path / "out", options)
    assert report.problems == [Skipped("bad", reason, sentence)]
    assert (report.kept, report.skipped) == (2, {reason: 1})
    assert read_parquet(tmp_path / "out").ids == ("first", "last")


def test_other_ways_to_have_no_extent_or_no_end(tmp_path):
    ways = {
        "empty": Mesh(np.zeros((0, 3)), np.zeros((0, 3), np.int64)),
        "faceless": Mesh(sphere().vertices, np.zeros((0, 3), np.int64)),
        "infinite": with_a_corner_at(sphere(), np.inf),
        "enormous": Mesh(sphere().vertices * 1.7e308, sphere().faces),
        "good": sphere(),
    }
    expected = {"empty": "no extent", "faceless": "no extent", "infinite": "not finite", "enormous": "not finite"}
    assert reasons(run(ways, tmp_path / "out")) == expected


def test_face_limits_are_kept_to_the_face(tmp_path):
    eighty = sphere()
    assert len(eighty.faces) == 80
    assert run({"a": eighty}, tmp_path / "most", replace(HERE, max_faces=80)).kept == 1
    assert run({"a": eighty}, tmp_path / "least", replace(HERE, min_faces=80)).kept == 1
    for limits in ({"max_faces": 79}, {"min_faces": 81}):
        assert isinstance(clean(Entry("a", eighty), replace(HERE, **limits)), Skipped)
    doubled = Mesh(eighty.vertices, np.concatenate([eighty.faces] * 11))  # 880 faces come, 80 are left
    assert isinstance(clean(Entry("a", doubled), HERE), Cleaned)


def test_a_plate_is_thick_enough_when_a_bin_can_see_it():
    for thickness, fits in ((0.02, True), (0.006, False)):
        assert isinstance(clean(Entry("plate", thin(sphere(), thickness)), HERE), Cleaned) == fits


def test_the_same_shape_comes_once_whatever_its_frame_and_order(val, tmp_path):
    shapes = {"round": sphere(), "kit": val.mesh(11)}
    again = {f"{name} again": Mesh(soup(mesh).vertices * 0.013 + [4, 5, -6.7], soup(mesh).faces) for name, mesh in shapes.items()}
    flipped = {"inside out": Mesh(sphere().vertices, sphere().faces[:, ::-1])}
    report = run(shapes | again | flipped, tmp_path / "out")
    assert reasons(report) == {"round again": "duplicate", "kit again": "duplicate"}
    assert report.kept == 3, "a shape seen from inside is another shape"


def test_rounding_does_not_tell_copies_of_a_symmetric_shape_apart():
    """Its middle lies on a border between bins, where the last bit of a float decides."""
    rng = np.random.default_rng(0)
    places = [(sphere().vertices + rng.uniform(-1, 1, 3)) * rng.uniform(0.01, 90) for _ in range(30)]
    found = {clean(Entry("a", Mesh(vertices.astype(np.float32), sphere().faces)), HERE).digest for vertices in places}
    assert len(found) == 1


def test_shapes_of_other_sets_are_left_out(val, tmp_path):
    run({val.ids[i]: soup(val.mesh(i)) for i in range(10)}, tmp_path / "apart")
    report = prepare(VAL, tmp_path / "out", replace(HERE, exclude=(tmp_path / "apart",)))
    assert report.skipped == {"excluded": 10}
    assert {problem.id for problem in report.problems} == set(val.ids[:10])
    assert report.kept == 178


class Dies(Entry):
    """A mesh whose reader takes the process with it, as native code does on some files."""

    def read(self) -> Mesh:
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError


class Hungry(Entry):
    """A mesh that says it is small and then wants all memory, as a sparse accessor of a .glb can."""

    def read(self) -> Mesh:
        np.empty((1 << 28, 3))  # 6 GB, of which none is touched
        return sphere()


class Strange(Entry):
    def read(self) -> Mesh:
        raise KeyError("bufferViews")


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux limits the memory of a process")
def test_no_file_stops_the_others_not_even_by_killing_the_worker(val, tmp_path):
    found = [Entry(val.ids[i], val.mesh(i)) for i in range(12)]
    found[3:3] = [Dies("deadly", ""), Hungry("hungry", ""), Strange("strange", "")]
    report = prepare_entries(found, tmp_path / "out", PrepareOptions(workers=2, worker_gigabytes=4.0))
    assert report.problems == [
        Skipped("deadly", "unreadable", "reading it killed the process, perhaps for lack of memory"),
        Skipped("hungry", "too large", "it needs more than the 4 GB of memory of a worker"),
        Skipped("strange", "unreadable", "'bufferViews'"),
    ]
    assert read_parquet(tmp_path / "out").ids == val.ids[:12]


def test_a_huge_file_is_not_even_opened(tmp_path):
    (tmp_path / "in").mkdir()
    write_obj(tmp_path / "in" / "good.obj", sphere())
    with open(tmp_path / "in" / "huge.obj", "wb") as file:
        file.truncate(3 << 30)  # a hole: 3 GB in name only
    report = prepare(tmp_path / "in", tmp_path / "out", HERE)
    assert report.problems == [Skipped("huge.obj", "too large", "3072 MB are more than the 2048 that are opened")]


def write_obj(path: Path, mesh: Mesh) -> None:
    lines = [f"v {x} {y} {z}" for x, y, z in mesh.vertices] + [f"f {a} {b} {c}" for a, b, c in mesh.faces + 1]
    path.write_text("\n".join(lines) + "\n")


@pytest.fixture
def folder(tmp_path, val):
    """Good files, and in the midst of them broken ones of every format."""
    place = tmp_path / "meshes"
    place.mkdir()
    for index in range(6):
        write_obj(place / f"{index}.obj", val.mesh(index))
    for suffix in ("dae", "glb", "gltf", "obj", "off", "ply", "stl"):
        (place / f"2-broken.{suffix}").write_bytes(b"\x00\xffnothing of the kind\n" * 9)
    (place / "2-gone.obj").symlink_to(place / "nowhere.obj")
    (place / "2-void.glb").touch()
    return place


def test_broken_files_of_every_format_are_named(folder, tmp_path):
    report = prepare(folder, tmp_path / "out", HERE)
    assert read_parquet(tmp_path / "out").ids == tuple(f"{index}.obj" for index in range(6))
    broken = {f"2-broken.{suffix}" for suffix in ("dae", "glb", "gltf", "obj", "off", "ply", "stl")} | {"2-gone.obj", "2-void.glb"}
    assert {problem.id for problem in report.problems} == broken
    assert set(report.skipped) <= {"unreadable", "no extent"}
    listed = json.loads((tmp_path / "out" / "report.json").read_text())
    assert {(problem["id"], problem["reason"]) for problem in listed["problems"]} == set(reasons(report).items())
    assert all(problem["detail"] and "\n" not in problem["detail"] for problem in listed["problems"])


# However it is made


def content(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(out.iterdir())}


def test_workers_change_nothing(folder, tmp_path):
    prepare(folder, tmp_path / "0", HERE)
    prepare(folder, tmp_path / "2", replace(HERE, workers=2))
    assert content(tmp_path / "0") == content(tmp_path / "2")


def test_many_meshes_keep_their_order_in_workers(val, tmp_path):
    prepare(VAL, tmp_path / "out", replace(HERE, workers=2))
    assert read_parquet(tmp_path / "out").ids == val.ids


def test_shards_and_row_groups_have_moderate_sizes(val, tmp_path, monkeypatch):
    monkeypatch.setattr(shards, "ROW_GROUP_ROWS", 20)
    report = prepare(VAL, tmp_path / "out", replace(HERE, shard_megabytes=0.08))
    assert report.shards == [f"part-{number:05d}.parquet" for number in range(len(report.shards))]
    files = [pq.ParquetFile(tmp_path / "out" / name) for name in report.shards]
    assert 3 <= len(files) <= 8
    assert all(file.metadata.row_group(group).num_rows <= 20 for file in files for group in range(file.num_row_groups))
    assert files[0].num_row_groups > 1
    assert report.bytes == sum((tmp_path / "out" / name).stat().st_size for name in report.shards)
    assert read_parquet(tmp_path / "out").ids == val.ids


def test_large_meshes_close_a_row_group_early(tmp_path, monkeypatch):
    monkeypatch.setattr(shards, "ROW_GROUP_BYTES", 2000)
    run({str(rings): sphere(rings) for rings in range(6, 12)}, tmp_path / "out")
    assert pq.ParquetFile(tmp_path / "out" / "part-00000.parquet").num_row_groups >= 3


def test_only_a_few_meshes_are_in_flight(tmp_path):
    """However many there are: a source is not asked for the next mesh before there is room for it."""
    taken, most = 0, 0

    def endless() -> Iterator[Entry]:
        nonlocal taken
        for number in range(60):
            taken += 1
            yield Entry(str(number), sphere(6, 8 + number))

    from meshgpt.train.prepare import cleaned

    for done, _ in enumerate(cleaned(endless(), PrepareOptions(workers=1))):
        most = max(most, taken - done)
    assert taken == 60
    assert most <= 6


# The report


def test_the_report_counts_everything(tmp_path, capsys):
    found = {"good": sphere(), "again": sphere(), "bad": "the sentence of the source"} | {reason: mesh for reason, (mesh, _) in BAD.items()}
    options = replace(HERE, max_faces=500, max_faces_read=4000)
    report = run(found, tmp_path / "out", options)
    saved = json.loads((tmp_path / "out" / "report.json").read_text())
    assert (saved["kept"], saved["faces"], saved["shards"]) == (1, 80, ["part-00000.parquet"])
    assert saved["skipped"] == report.skipped == {**dict.fromkeys(BAD, 1), "duplicate": 1, "unreadable": 2}
    assert saved["options"]["max_faces"] == 500
    assert {"id": "bad", "reason": "unreadable", "detail": "the sentence of the source"} in saved["problems"]
    printed = capsys.readouterr().out
    assert re.search(r"kept *│ *1 ", printed) and re.search(r"unreadable *│ *2 ", printed) and re.search(r"flat *│ *1 ", printed)
    assert set(report.skipped) <= set(REASONS)


def test_a_million_skipped_meshes_do_not_fill_the_report(monkeypatch, tmp_path):
    monkeypatch.setattr("meshgpt.train.prepare.LISTED", 3)
    report = run({"good": sphere()} | {str(number): "broken" for number in range(9)}, tmp_path / "out")
    assert (report.skipped, len(report.problems)) == ({"unreadable": 9}, 3)


# Nothing half-made, nothing lost


def test_a_folder_that_is_not_empty_is_refused(tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    assert run({"a": sphere()}, out).kept == 1, "an empty folder is free"
    with pytest.raises(FileExistsError, match=r"out is not empty; name a new folder, or ask with overwrite for this one to be replaced"):
        run({"b": sphere(7)}, out)
    assert read_parquet(out).ids == ("a",)
    run({"b": sphere(7)}, out, replace(HERE, overwrite=True))
    assert read_parquet(out).ids == ("b",)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out"]


def test_overwriting_never_takes_what_prepare_did_not_write(tmp_path):
    run({"a": sphere()}, tmp_path / "out")
    (tmp_path / "out" / "thesis.tex").write_text("years of work")
    with pytest.raises(
        FileExistsError, match=r"out holds thesis.tex, which no earlier run wrote, so it is not replaced; name a new folder"
    ):
        run({"b": sphere(7)}, tmp_path / "out", replace(HERE, overwrite=True))
    with pytest.raises(FileExistsError, match=r"thesis.tex is a file; name a new folder for the shards"):
        run({"b": sphere(7)}, tmp_path / "out" / "thesis.tex", replace(HERE, overwrite=True))


def test_the_source_is_never_replaced(tmp_path):
    run({"a": sphere()}, tmp_path / "sets" / "mine")
    for out in (tmp_path / "sets" / "mine", tmp_path / "sets"):
        with pytest.raises(ValueError, match=r"is or holds the source .*, which writing would replace; name another folder"):
            prepare(tmp_path / "sets" / "mine", out, replace(HERE, overwrite=True))
    assert read_parquet(tmp_path / "sets" / "mine").ids == ("a",)


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("end", [KeyboardInterrupt, OSError("the disk is gone")])
def test_after_a_failure_nothing_is_left_and_nothing_lost(end, workers, tmp_path, monkeypatch):
    monkeypatch.setattr(shards, "ROW_GROUP_ROWS", 1)
    run({"old": sphere(9)}, tmp_path / "out")

    def failing() -> Iterator[Entry]:
        yield from (Entry(str(rings), sphere(rings)) for rings in (6, 7, 8))
        raise end

    for out in ("out", "new/deep"):
        with pytest.raises(end if isinstance(end, type) else type(end)):
            prepare_entries(failing(), tmp_path / out, PrepareOptions(workers=workers, overwrite=True))
    assert read_parquet(tmp_path / "out").ids == ("old",)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["new", "out", "part-00000.parquet", "report.json"]


def test_workers_that_cannot_start_are_not_the_fault_of_the_meshes(tmp_path):
    script = f"""
from meshgpt.train.prepare import PrepareOptions, prepare
prepare({str(VAL)!r}, {str(tmp_path / "out")!r}, PrepareOptions(workers=1))
"""
    done = subprocess.run([sys.executable, "-"], input=script, cwd=ROOT, capture_output=True, text=True)
    assert done.stderr.strip().endswith("use workers=0, or put the call under that line")
    assert not [*tmp_path.iterdir()]


class Needs(Entry):
    def read(self) -> Mesh:
        raise ImportError("reading .dae files needs pycollada: pip install pycollada")


def test_a_missing_library_is_named(tmp_path):
    report = prepare_entries([Entry("a", sphere()), Needs("b.dae", "")], tmp_path / "out", HERE)
    assert report.problems == [Skipped("b.dae", "unreadable", "reading .dae files needs pycollada: pip install pycollada")]
    with pytest.raises(ValueError, match=r"1 unreadable\); the first is b.dae: reading .dae files needs pycollada"):
        prepare_entries([Needs("b.dae", "")], tmp_path / "none", HERE)


def test_a_source_of_which_nothing_is_left_says_why(tmp_path):
    message = "no mesh is left to write (2 unreadable, 1 flat); the first is a: broken; other limits, or another source, may help"
    with pytest.raises(ValueError, match=re.escape(message)):
        run({"a": "broken", "b": "broken", "c": thin(sphere(), 0)}, tmp_path / "out")
    with pytest.raises(ValueError, match=re.escape("no mesh is left to write (none came); other limits")):
        run({}, tmp_path / "out")
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"min_faces": 900}, "min_faces 900 and max_faces 800 leave nothing; use 1 <= min_faces <= max_faces"),
        ({"min_faces": 0}, "min_faces 0 and max_faces 800 leave nothing"),
        ({"bins": 1}, "bins 1, shard_megabytes 256.0 and worker_gigabytes 8.0 cannot all be used; bins start at 2, sizes above 0"),
        ({"shard_megabytes": 0.0}, "bins 128, shard_megabytes 0.0 and"),
        ({"up": "x"}, "the up-axis 'x' is unknown; use 'y' or 'z'"),
        ({"workers": -1}, "-1 workers cannot work; use 0 for none beside this process, or more"),
    ],
)
def test_options_that_cannot_work_are_refused_at_once(wrong, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        PrepareOptions(**wrong)


# The kits that ship


@pytest.fixture(scope="module")
def kits():
    return {name: pq.read_table(KITS / f"{name}.parquet").to_pylist() for name in ("train", "val", "test")}


def digests(place: Path) -> dict[bytes, str]:
    found = ((clean(entry, HERE), entry.id) for entry in entries(place))
    return {result.digest: name for result, name in found if isinstance(result, Cleaned)}


def test_the_kits_hold_what_they_say(kits):
    columns = "id vertices faces n_vertices n_faces words pack licence licence_evidence author source_repo source_path commit"
    for rows in kits.values():
        assert list(rows[0]) == columns.split()
        assert all(12 <= row["n_faces"] <= 800 for row in rows)
        assert {row["licence"] for row in rows} <= {"CC0-1.0", "MIT-0"}
        assert all(row["licence_evidence"].startswith(("file: ", "pack: ")) for row in rows)
        assert all(row["author"] and row["source_repo"] and row["commit"] for row in rows)
    assert sum(path.stat().st_size for path in KITS.glob("*.parquet")) < 12e6
    packs = {name: {row["pack"] for row in rows} for name, rows in kits.items()}
    assert not packs["train"] & (packs["val"] | packs["test"])


def test_train_holds_no_shape_of_val_or_test_nor_an_example():
    train = digests(KITS / "train.parquet")
    assert len(train) > 4000
    for place in (KITS / "val.parquet", KITS / "test.parquet"):
        assert not set(train) & set(digests(place))
    names = ["couch", "ribcage", "rocketlauncherModern", "crypt", "sedan-sports", "bucket", "tent", "WaterBottle_3"]
    files = [path for name in names for path in (ROOT / "examples").glob(f"{name}.*") if path.suffix in (".glb", ".gltf", ".obj")]
    for path in files:
        for entry in entries(path):
            assert clean(entry, replace(HERE, max_faces=100_000)).digest not in train, path.name


def test_the_licence_list_and_the_card_count_what_ships(kits):
    rows = [row for split in kits.values() for row in split]
    text = (KITS / "LICENSES.md").read_text()
    assert f"{len(rows)} meshes." in text
    for author in {row["author"] for row in rows}:
        of = [row for row in rows if row["author"] == author]
        assert f"## {author}: {of[0]['licence']} ({len(of)} meshes)" in text
    listed = {line[2:].split(": ")[0]: sum(map(int, re.findall(r"(\d+) from ", line))) for line in text.splitlines() if " from " in line}
    assert listed == {pack: sum(row["pack"] == pack for row in rows) for pack in {row["pack"] for row in rows}}
    commits = {line[2:] for line in text.split("## Commits")[1].splitlines() if line.startswith("- ")}
    assert commits == {f"{row['source_repo']} @ {row['commit']}" for row in rows}
    for name, split in kits.items():
        assert f"| {name} | {len(split):,} | {sum(row['n_faces'] for row in split):,} |" in (KITS / "README.md").read_text()


def test_the_datasets_library_finds_the_splits(tmp_path):
    datasets = pytest.importorskip("datasets")
    found = datasets.load_dataset(str(KITS), cache_dir=str(tmp_path))
    assert {name: len(rows) for name, rows in found.items()} == {"train": 4616, "validation": 188, "test": 282}


def test_the_script_makes_kits_from_a_corpus(kits, tmp_path):
    """On a corpus of a few rows; that it makes the kits that ship, byte by byte, is seen where the whole corpus is."""
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    for name in kits:
        table = pq.read_table(KITS / f"{name}.parquet").slice(0, 20)
        evidence = ["author: kenney.nl states CC0", *table["licence_evidence"].to_pylist()[1:]]
        position = table.column_names.index("licence_evidence")
        table = table.set_column(position, "licence_evidence", [evidence])
        pq.write_table(table, corpus / f"{name}.parquet")
    authors = {row["author"] for rows in kits.values() for row in rows[1:20]}
    sections = [f"## {author}: CC0-1.0 (9 meshes)\n\nhttps://{author}\n\n- some/pack: 9 from somewhere\n" for author in authors]
    (corpus / "LICENSES.md").write_text("\n".join(["# Licences\n", *sections]))
    make_kits(corpus, tmp_path / "kits")
    assert sorted(path.name for path in (tmp_path / "kits").iterdir()) == [
        "LICENSES.md",
        "README.md",
        "test.parquet",
        "train.parquet",
        "val.parquet",
    ]
    for name, rows in kits.items():
        assert read_parquet(tmp_path / "kits" / f"{name}.parquet").ids == tuple(row["id"] for row in rows[1:20])
    text = (tmp_path / "kits" / "LICENSES.md").read_text()
    assert "57 meshes." in text
    assert "some/pack" not in text
    assert all(f"## {author}: " in text and f"\nhttps://{author}\n" in text for author in authors)


@pytest.mark.slow
def test_the_script_makes_the_kits_that_ship(tmp_path):
    corpus = ROOT.parent / "shared" / "corpus"
    if not corpus.is_dir():
        pytest.skip("the whole corpus is not here")
    make_kits(corpus, tmp_path / "kits")
    assert content(tmp_path / "kits") == content(KITS)


def make_kits(corpus: Path, out: Path) -> None:
    subprocess.run([sys.executable, "data/make_artist_kits.py", str(corpus), str(out)], cwd=ROOT, check=True, capture_output=True)


def test_a_written_mesh_has_corners_that_tokenizers_take(val):
    result = clean(Entry("a", soup(val.mesh(5))), HERE)
    corners = corners_of(Mesh(result.vertices, result.faces))
    np.testing.assert_array_equal(corners_of(mesh_of(corners)), corners)
