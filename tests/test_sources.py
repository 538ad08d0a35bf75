"""One place, many kinds: parquet, folders of files, ShapeNetCore and Objaverse trees; and the sentence for every place that is none."""

from __future__ import annotations

import gzip
import json
import pickle
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from meshgpt.mesh import LONGEST_SIDE, Mesh
from meshgpt.train.sources import Entry, count, entries, parquet_files, read_parquet, split

ROOT = Path(__file__).resolve().parents[1]
KITS = ROOT / "data" / "artist-kits"
VAL = KITS / "val.parquet"
FLOAT, INT = pa.float32(), pa.int32()
SQUARE = ([[0.0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]], [[0, 1, 2], [0, 2, 3]])


@pytest.fixture(scope="module")
def val():
    return read_parquet(VAL)


def write_obj(path: Path, mesh: Mesh) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [f"v {x:.7f} {y:.7f} {z:.7f}" for x, y, z in mesh.vertices] + [f"f {a} {b} {c}" for a, b, c in mesh.faces + 1]
    path.write_text("\n".join(lines) + "\n")


def write_rows(path: Path, rows: list, vertex: pa.DataType = FLOAT, face: pa.DataType = INT, **columns: list[str]) -> Path:
    """A parquet file with plain lists of lists, as most people write them."""
    vertices, faces = (pa.array([row[i] for row in rows], pa.list_(pa.list_(kind))) for i, kind in ((0, vertex), (1, face)))
    pq.write_table(pa.table({"vertices": vertices, "faces": faces, **columns}), path)
    return path


# Parquet, for training


def test_a_parquet_file_becomes_meshes_in_the_cube(val):
    rows = pq.read_table(VAL).to_pylist()
    assert len(val) == len(rows) > 100
    assert val.ids == tuple(row["id"] for row in rows)
    assert val.words == tuple(row["words"] for row in rows)
    np.testing.assert_array_equal(val.face_counts, [row["n_faces"] for row in rows])
    for index in (0, 7, len(rows) - 1):
        mesh = val.mesh(index)
        np.testing.assert_array_equal(mesh.faces, rows[index]["faces"])
        np.testing.assert_allclose(mesh.vertices, rows[index]["vertices"], atol=1e-6)


def test_every_mesh_is_fitted_whatever_its_frame(tmp_path):
    vertices = (np.array(SQUARE[0]) * 30 + [5, -7, 900]).tolist()
    mesh = read_parquet(write_rows(tmp_path / "far.parquet", [SQUARE, (vertices, SQUARE[1])])).mesh(1)
    np.testing.assert_allclose(np.ptp(mesh.vertices, axis=0), [LONGEST_SIDE, LONGEST_SIDE, 0], atol=1e-6)
    np.testing.assert_allclose(mesh.vertices.min(0), -mesh.vertices.max(0), atol=1e-6)


def test_the_kit_loads_in_about_a_second():
    start = time.perf_counter()
    kit = read_parquet(KITS / "train.parquet")
    seconds = time.perf_counter() - start
    assert len(kit) > 4000
    assert seconds < 5, f"{seconds:.1f} s for {len(kit)} meshes: a Python object for each number takes a minute"


def test_a_set_is_as_small_pickled_as_its_arrays(val):
    text = pickle.dumps(val)
    assert len(text) < 1.1 * (val.vertices.nbytes + val.faces.nbytes) + 1e5
    np.testing.assert_array_equal(pickle.loads(text).mesh(3).vertices, val.mesh(3).vertices)


def test_a_folder_of_shards_is_read_in_the_order_of_names(tmp_path, val):
    table = pq.read_table(VAL)
    for name, start in (("part-00001", 100), ("part-00000", 0)):  # written the other way round
        pq.write_table(table.slice(start, 100), tmp_path / f"{name}.parquet", row_group_size=30)
    (tmp_path / "report.json").write_text("{}")
    assert read_parquet(tmp_path).ids == val.ids
    assert [entry.id for entry in entries(tmp_path)] == list(val.ids)
    assert count(tmp_path) == len(val)


@pytest.mark.parametrize("vertex", [pa.float16(), pa.float32(), pa.float64(), pa.int16()])
@pytest.mark.parametrize("face", [pa.uint16(), pa.int32(), pa.int64(), pa.uint64()])
def test_numbers_of_any_width_fit(tmp_path, vertex, face):
    path = tmp_path / "mine.parquet"
    rows = [SQUARE, SQUARE]
    if vertex == pa.float16():
        rows = [([[np.float16(x) for x in xyz] for xyz in vertices], faces) for vertices, faces in rows]
    meshes = read_parquet(write_rows(path, rows, vertex, face))
    assert meshes.ids == ("mine-0", "mine-1")
    np.testing.assert_array_equal(meshes.mesh(1).faces, SQUARE[1])
    np.testing.assert_array_equal([*entries(path)][1].read().vertices, SQUARE[0])


def test_what_the_datasets_library_writes_fits(tmp_path):
    datasets = pytest.importorskip("datasets")
    rows = datasets.Dataset.from_dict({"vertices": [SQUARE[0]] * 3, "faces": [SQUARE[1]] * 3, "id": ["a", "b", "c"]})
    rows.to_parquet(tmp_path / "hub.parquet")
    meshes = read_parquet(tmp_path / "hub.parquet")
    assert meshes.ids == ("a", "b", "c")
    np.testing.assert_array_equal(meshes.mesh(2).faces, SQUARE[1])


def test_an_index_that_is_none_says_so(val):
    with pytest.raises(IndexError, match=re.escape("mesh 999 is not one of the 188 meshes; use 0 .. 187")):
        val.mesh(999)
    with pytest.raises(IndexError, match="mesh -1"):
        val.mesh(-1)


def test_a_part_of_a_set_is_a_set(val):
    part = val.subset([9, 2, 9])
    assert part.ids == (val.ids[9], val.ids[2], val.ids[9])
    assert part.words == (val.words[9], val.words[2], val.words[9])
    for index, whole in enumerate((9, 2, 9)):
        np.testing.assert_array_equal(part.mesh(index).vertices, val.mesh(whole).vertices)
        np.testing.assert_array_equal(part.mesh(index).faces, val.mesh(whole).faces)


def test_meshes_may_be_limited_by_their_faces(val):
    few = val.at_most(100)
    assert few.ids == tuple(name for name, faces in zip(val.ids, val.face_counts, strict=True) if faces <= 100)
    assert val.at_most(800) is val
    with pytest.raises(ValueError, match="none of the 188 meshes has at most 3 faces; raise the limit or prepare other data"):
        val.at_most(3)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ((SQUARE[0], [[0, 1, 4]]), "mesh bad has a face [0, 1, 4] but 4 vertices; fix or drop that row"),
        ((SQUARE[0], [[0, 1, -1]]), "mesh bad has a face [0, 1, -1] but 4 vertices; fix or drop that row"),
        ((SQUARE[0], []), "mesh bad has no faces; keep the good ones with: meshgpt prepare IN OUT"),
        ((SQUARE[0], None), "mesh bad has no faces; keep"),
        (([[0, 0, float("nan")], *SQUARE[0][1:]], SQUARE[1]), "mesh bad has a coordinate that is not finite; keep"),
        (([[1.0, 1, 1]] * 4, SQUARE[1]), "all vertices of mesh bad are one point; keep"),
        (([[0.0, 0]] * 6, SQUARE[1]), "a vertex or a face has more or fewer than 3 numbers; fix or drop that row"),
        (([[0.0, 0], [0, 0, 0, 0]], SQUARE[1]), "a vertex or a face has more or fewer than 3 numbers"),
        ((SQUARE[0], [[0, 1, None]]), "a vertex or a face holds a null; fix or drop that row"),
    ],
)
def test_training_stops_at_the_first_bad_row(tmp_path, row, message):
    path = write_rows(tmp_path / "bad.parquet", [SQUARE, row, SQUARE], id=["good", "bad", "fine"])
    with pytest.raises(ValueError, match=re.escape(message)):
        read_parquet(path)


def test_a_bad_row_does_not_hide_its_neighbours(tmp_path):
    path = write_rows(tmp_path / "bad.parquet", [SQUARE, (SQUARE[0], [[0, 1, 9]]), SQUARE], id=["a", "b", "c"])
    first, bad, last = entries(path)
    with pytest.raises(ValueError, match=re.escape("mesh b has a face [0, 1, 9] but 4 vertices")):
        bad.read()
    for entry in (first, last):
        np.testing.assert_array_equal(entry.read().faces, SQUARE[1])
    assert (first.id, bad.id, last.id) == ("a", "b", "c")


# Parquet, one by one


def test_entries_hold_the_rows_and_their_licences(val):
    found = list(entries(VAL))
    rows = pq.read_table(VAL).to_pylist()
    assert [entry.id for entry in found] == list(val.ids)
    for entry, row in zip(found[::40], rows[::40], strict=True):
        np.testing.assert_array_equal(entry.read().faces, row["faces"])
        np.testing.assert_array_equal(entry.read().vertices, np.array(row["vertices"], np.float32))
        assert entry.words == row["words"]
        assert entry.metadata == {name: row[name] for name in entry.metadata}
        assert {"pack", "licence", "licence_evidence", "author", "source_repo", "source_path", "commit"} <= set(entry.metadata)


def test_the_american_licence_is_one_too(tmp_path):
    path = write_rows(tmp_path / "hub.parquet", [SQUARE], license=["cc0-1.0"])
    assert next(entries(path)).metadata == {"licence": "cc0-1.0"}


def test_parquet_needs_neither_trimesh_nor_open3d_nor_datasets():
    code = f"""
import sys
sys.modules.update(dict.fromkeys(("trimesh", "open3d", "datasets", "torch")))
from meshgpt.train.sources import entries, read_parquet
print(len(read_parquet({str(VAL)!r})), sum(len(entry.read().faces) for entry in entries({str(VAL)!r})))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True)
    assert done.stdout.split()[0] == "188"


def test_a_file_larger_than_the_memory_is_read_piece_by_piece(tmp_path):
    vertices = np.random.default_rng(0).random((300, 3)).tolist()
    path = write_rows(tmp_path / "big.parquet", [(vertices, SQUARE[1])] * 4000)
    before, most = pa.total_allocated_bytes(), 0
    for entry in entries(path):
        assert entry.size() == 300 * 3 * 4 + 2 * 3 * 4
        most = max(most, pa.total_allocated_bytes() - before)
    assert most < 4e6, f"{most / 1e6:.0f} MB at once of {4000 * 300 * 12 / 1e6:.0f} MB"


# Files


@pytest.fixture
def folder(tmp_path, val):
    """Meshes at several depths, in the wrong order, beside what is no mesh."""
    for index, name in enumerate(["zebra.obj", "chairs/OfficeChair_02.OBJ", "chairs/old/stool.obj", "apple.obj"]):
        write_obj(tmp_path / name, val.mesh(index))
    for name in ("._zebra.obj", ".cache/hidden.obj", "__MACOSX/apple.obj", "texture.png", "zebra.mtl", "notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("not a mesh")
    return tmp_path


def test_a_folder_gives_its_mesh_files_in_a_fixed_order(folder, val):
    found = list(entries(folder))
    assert [entry.id for entry in found] == ["apple.obj", "zebra.obj", "chairs/OfficeChair_02.OBJ", "chairs/old/stool.obj"]
    assert [entry.category for entry in found] == ["", "", "chairs", "chairs"]
    assert [entry.words for entry in found] == ["apple", "zebra", "office chair", "stool"]
    assert found[2].metadata == {"name": "OfficeChair_02"}
    assert count(folder) == 4
    for entry, index in zip(found, (3, 0, 1, 2), strict=True):
        mesh = entry.read()
        np.testing.assert_allclose(mesh.triangles(), val.mesh(index).triangles(), atol=1e-6)
        assert entry.size() == (folder / entry.id).stat().st_size


def test_entries_travel_to_workers(folder):
    for entry in (next(entries(VAL)), next(entries(folder))):
        again = pickle.loads(pickle.dumps(entry))
        np.testing.assert_array_equal(again.read().faces, entry.read().faces)
        assert len(pickle.dumps(entry)) < 2 * entry.size() + 2000, "a row must not take its whole batch along"


def test_one_file_is_a_place_too(folder):
    (entry,) = entries(folder / "zebra.obj")
    assert (entry.id, count(folder / "zebra.obj")) == ("zebra.obj", 1)
    assert len(entry.read().faces)


def test_every_example_is_found_and_its_meshes_are_read():
    read = {}
    for entry in entries(ROOT / "examples"):
        try:
            read[entry.id] = entry.read()
        except ValueError as error:  # a point cloud, which a place of meshes may hold
            assert re.fullmatch(rf"{entry.id} has \d+ vertices but no faces; pass a mesh with faces", str(error))
    assert len(read) >= 3, f"meshes among the examples: {sorted(read)}"
    assert all(len(mesh.faces) > 12 and np.isfinite(mesh.vertices).all() for mesh in read.values())


def test_a_broken_file_speaks_when_it_is_read_not_before(tmp_path):
    (tmp_path / "broken.glb").write_bytes(b"glTF but not really")
    (entry,) = entries(tmp_path)
    with pytest.raises(ValueError, match=r"broken\.glb"):
        entry.read()
    with pytest.raises(ValueError, match="because"):
        Entry("x", "because").read()


def test_a_shapenet_tree_gives_models_by_synset(tmp_path, val):
    for index, (synset, model) in enumerate(
        [("03001627", "1a8bbf2994788e2743e99e0cae970928"), ("02691156", "10155655850468db78d106ce0a280f87")]
    ):
        models = tmp_path / synset / model / "models"
        write_obj(models / "model_normalized.obj", val.mesh(index))
        write_obj(models / "model_parts.obj", val.mesh(index))  # must not come as a second mesh
        (models / "model_normalized.json").write_text("{}")
    taxonomy = [{"synsetId": "02691156", "name": "airplane,aeroplane,plane"}, {"synsetId": "03001627", "name": "chair"}]
    (tmp_path / "taxonomy.json").write_text(json.dumps(taxonomy))
    plane, chair = entries(tmp_path)
    assert (plane.id, plane.category, plane.words) == ("02691156/10155655850468db78d106ce0a280f87", "02691156", "airplane aeroplane plane")
    assert (chair.category, chair.words) == ("03001627", "chair")
    np.testing.assert_allclose(plane.read().triangles(), val.mesh(1).triangles(), atol=1e-6)
    (alone,) = entries(tmp_path / "03001627")
    assert (alone.id, alone.category, alone.words) == (chair.id, "03001627", "")


def test_an_objaverse_tree_gives_models_with_their_licences(tmp_path):
    trimesh = pytest.importorskip("trimesh")
    uids = ["8476c4170df24cf5bbe6967222d1a42d", "8ff7f1f2465347cd8b80c9b206c2781e"]
    for folder, uid in zip(("000-023", "000-001"), uids, strict=True):
        (tmp_path / "glbs" / folder).mkdir(parents=True)
        trimesh.creation.box().export(tmp_path / "glbs" / folder / f"{uid}.glb")
    note = {
        "name": "Iron Snow Globe",
        "license": "by",
        "user": {"username": "maker"},
        "viewerUrl": f"https://sketchfab.com/3d-models/{uids[0]}",
        "tags": [{"name": "snow"}, {"name": "globe"}],
        "categories": [{"name": "art-abstract"}],
    }
    (tmp_path / "metadata").mkdir()
    with gzip.open(tmp_path / "metadata" / "000-023.json.gz", "wt") as file:
        json.dump({uids[0]: note}, file)
    bare, noted = entries(tmp_path)
    assert (bare.id, bare.category, bare.words, bare.metadata) == (uids[1], "", "", {})
    assert (noted.id, noted.category, noted.words) == (uids[0], "art-abstract", "snow globe")
    assert noted.metadata == {
        "name": "Iron Snow Globe",
        "licence": "by",
        "author": "maker",
        "source_repo": "sketchfab.com",
        "source_path": note["viewerUrl"],
    }
    assert len(noted.read().faces) == 12


# Splits, and places that are none


def test_the_split_of_a_place_is_its_file_or_folder(tmp_path):
    assert split(KITS, "val") == VAL
    assert split(KITS, "train") == KITS / "train.parquet"
    assert (split(VAL, "train"), split(VAL, "val")) == (VAL, None)
    (tmp_path / "test").mkdir()
    shutil.copy(VAL, tmp_path / "test" / "part-00000.parquet")
    assert (split(tmp_path, "test"), split(tmp_path, "train")) == (tmp_path / "test", tmp_path)


def test_several_splits_are_never_mixed():
    message = f"{KITS} holds the splits test, train, val; pass one of them, such as {KITS / 'test.parquet'}"
    for reader in (read_parquet, entries, count, parquet_files):
        with pytest.raises(ValueError, match=re.escape(message)):
            reader(KITS)


def test_shards_of_one_split_are_not_several_splits(tmp_path):
    for number in range(2):
        shutil.copy(VAL, tmp_path / f"train-{number:05d}-of-00002.parquet")
    assert count(tmp_path) == 2 * 188


def test_a_place_that_is_none_says_what_fits(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere does not exist; pass a parquet file, a mesh file or a folder of either"):
        entries(tmp_path / "nowhere")
    with pytest.raises(
        ValueError, match=r"holds no meshes; a folder with parquet files or with \.dae \.glb .* files \(at any depth\) fits"
    ):
        entries(tmp_path)
    (tmp_path / "points.txt").write_text("0 0 0")
    with pytest.raises(ValueError, match=r"points.txt is neither parquet nor a mesh; a \.parquet file or one of \.dae"):
        entries(tmp_path / "points.txt")
    with pytest.raises(ValueError, match=r"holds no parquet file; make some with: meshgpt prepare .* OUT"):
        read_parquet(tmp_path)


@pytest.mark.parametrize("reader", [entries, read_parquet])
def test_a_parquet_file_without_meshes_says_what_came(tmp_path, reader):
    path = tmp_path / "text.parquet"
    pq.write_table(pa.table({"url": ["a"], "faces": [3]}), path)
    with pytest.raises(ValueError, match=r"text.parquet has the columns url, faces; it needs vertices \(lists of 3 floats\) and faces"):
        reader(path)
    pq.write_table(pa.table({"vertices": [[[0.0, 0, 0]]], "faces": [3]}), path)
    with pytest.raises(
        ValueError, match=r"the column faces of text.parquet is int64; vertices are lists of 3 floats, faces lists of 3 ints"
    ):
        reader(path)
    fours = pa.array([[[0.0, 0, 0, 1]]], pa.list_(pa.list_(pa.float32(), 4)))
    pq.write_table(pa.table({"vertices": fours, "faces": [[[0, 0, 0]]]}), path)
    with pytest.raises(ValueError, match=r"the column vertices of text\.parquet is list"):
        reader(path)
    path.write_bytes(b"<html>not found</html>")
    with pytest.raises(ValueError, match=r"text.parquet is not a parquet file \(.*\); download or write it again"):
        reader(path)
