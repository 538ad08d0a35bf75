"""Files: what is read and written, in which frame, and in which words everything else is refused."""

from __future__ import annotations

import json
import os
import re
import struct
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import trimesh

import meshgpt.files
from meshgpt.cloud import Cloud
from meshgpt.files import MESH_ENDINGS, MOST_POINTS, WRITTEN_ENDINGS, read_mesh, read_points, whole_file, write_mesh
from meshgpt.mesh import Mesh, face_normals
from meshgpt.ply import read_ply, write_ply

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"

# A box with its corner in the origin, and of another length along each axis.
BOX = Mesh(
    np.array([[x, y, z] for x in (0.0, 1.0) for y in (0.0, 2.0) for z in (0.0, 3.0)]),
    np.array(
        [[0, 1, 3], [0, 3, 2], [4, 6, 7], [4, 7, 5], [0, 4, 5], [0, 5, 1], [2, 3, 7], [2, 7, 6], [0, 2, 6], [0, 6, 4], [1, 5, 7], [1, 7, 3]]
    ),
)


def volume(mesh: Mesh) -> float:
    """Signed: positive when the faces look outwards."""
    a, b, c = mesh.triangles().transpose(1, 0, 2)
    return float((a * np.cross(b, c)).sum() / 6)


def area(mesh: Mesh) -> float:
    return float(np.linalg.norm(face_normals(mesh.triangles()), axis=1).sum() / 2)


def points(count: int = 200) -> np.ndarray:
    return np.random.default_rng(0).random((count, 3))


def units(count: int = 200) -> np.ndarray:
    directions = np.random.default_rng(1).normal(size=(count, 3))
    return directions / np.linalg.norm(directions, axis=1, keepdims=True)


def one_sentence(error: pytest.ExceptionInfo) -> bool:
    """No line breaks, no second sentence, no chain of causes."""
    alone = error.value.__cause__ is None and (error.value.__context__ is None or error.value.__suppress_context__)
    return alone and "\n" not in str(error.value) and not re.search(r"[a-z]{3}\. [A-Z]", str(error.value))


# Meshes


@pytest.mark.parametrize(
    ("name", "faces", "low", "high"),
    [
        ("sedan-sports.glb", 2088, (-0.65, 0, -1.3), (0.65, 1.1, 1.25)),
        ("bucket.glb", 68, (-0.072, 0, -0.072), (0.072, 0.192, 0.072)),
        ("tent.glb", 124, (-0.28, 0, -0.275), (0.28, 0.491, 0.286)),
        ("WaterBottle_3.glb", 288, (-0.25, 0, -0.25), (0.25, 1.434, 0.25)),
        ("crypt.ply", 39488, (-3.086, -0.086, -4.086), (3.086, 8.086, 4.086)),
    ],
)
def test_examples_are_read_in_their_own_frame(name, faces, low, high):
    mesh = read_mesh(EXAMPLES / name)
    assert mesh.faces.shape == (faces, 3)
    assert mesh.faces.dtype == np.int64
    assert mesh.vertices.dtype == np.float64
    np.testing.assert_allclose(mesh.vertices.min(0), low, atol=2e-3)
    np.testing.assert_allclose(mesh.vertices.max(0), high, atol=2e-3)


@pytest.mark.parametrize("ending", WRITTEN_ENDINGS)
@pytest.mark.parametrize("name", ["sedan-sports.glb", "bucket.glb"])
def test_what_is_written_is_read_again(tmp_path, name, ending):
    mesh = read_mesh(EXAMPLES / name)
    write_mesh(mesh, tmp_path / f"again{ending}")
    again = read_mesh(tmp_path / f"again{ending}")
    np.testing.assert_allclose(again.triangles(), mesh.triangles(), atol=1e-6)
    if ending != ".stl":  # which has no vertices, only corners
        assert len(again.vertices) == len(mesh.vertices)
        np.testing.assert_array_equal(again.faces, mesh.faces)


def test_what_is_written_over_another_file_replaces_it(tmp_path):
    path = tmp_path / "box.PLY"
    path.write_text("something else")
    BOX.save(str(path))
    np.testing.assert_array_equal(read_mesh(str(path)).vertices, BOX.vertices)
    assert [each.name for each in tmp_path.iterdir()] == ["box.PLY"]


@pytest.mark.parametrize("ending", WRITTEN_ENDINGS)
def test_vertices_and_faces_are_written_as_they_are(tmp_path, ending):
    """Repeated vertices, a vertex without faces, a repeated and a degenerate face: nobody welds or drops them."""
    vertices = np.concatenate([BOX.vertices, BOX.vertices[:1], [[9.0, 9, 9]]])
    faces = np.concatenate([BOX.faces, BOX.faces[:1], [[0, 8, 1]]])
    write_mesh(Mesh(vertices, faces), tmp_path / f"box{ending}")
    again = read_mesh(tmp_path / f"box{ending}")
    np.testing.assert_array_equal(again.triangles(), vertices[faces])
    if ending in (".glb", ".ply"):
        np.testing.assert_array_equal(again.vertices, vertices)
    if ending == ".obj":  # trimesh leaves out vertices without faces when it reads
        assert (tmp_path / "box.obj").read_text().count("v ") == len(vertices)


@pytest.mark.parametrize("ending", [".glb", ".obj", ".ply"])
def test_coordinates_far_from_the_origin_are_kept(tmp_path, ending):
    far = Mesh(BOX.vertices + np.array([512345.678, 5412345.123, 310.5]), BOX.faces)
    write_mesh(far, tmp_path / f"far{ending}")
    np.testing.assert_allclose(read_mesh(tmp_path / f"far{ending}").vertices, far.vertices, rtol=0, atol=1e-5)


def test_stl_refuses_coordinates_that_it_cannot_hold(tmp_path):
    with pytest.raises(
        ValueError, match=r"^coordinates up to 5e\+06 are too coarse in the single precision of .stl; write a .glb or .ply$"
    ):
        write_mesh(Mesh(BOX.vertices + 5e6 - 2.7, BOX.faces), tmp_path / "far.stl")
    assert not list(tmp_path.iterdir())


def test_a_written_glb_is_drawn_flat_and_from_both_sides(tmp_path):
    write_mesh(BOX, tmp_path / "box.glb")
    header = gltf_header(tmp_path / "box.glb")
    assert set(header["meshes"][0]["primitives"][0]["attributes"]) == {"POSITION"}  # without normals viewers must shade flat
    assert header["materials"][0]["doubleSided"]
    assert header["materials"][0]["pbrMetallicRoughness"]["metallicFactor"] == 0


def gltf_header(path: Path) -> dict:
    data = path.read_bytes()
    return json.loads(data[20 : 20 + struct.unpack_from("<I", data, 12)[0]])


OBJ_HEAD = "v 0 0 0\nv 4 0 0\nv 4 2 0\nv 2 3 0\nv 0 2 0\nv 0 0 1\nvt 0 0\nvt 1 1\nvn 0 0 1\n"
POLYGONS = [
    ("triangles", "f 1 2 3\nf 1 3 5\n", 2, 8.0),
    ("a quad", "f 1 2 3 5\n", 2, 8.0),
    ("a pentagon", "f 1 2 3 4 5\n", 3, 10.0),
    ("pentagons only, with texture and normals", "f 1/1/1 2/2/1 3/1/1 4/2/1 5/1/1\n" * 2, 6, 20.0),
    ("quads with texture", "f 1/1 2/1 3/2 5/2\n" * 3, 6, 24.0),
    ("quads with normals", "f 1//1 2//1 3//1 5//1\n" * 2, 4, 16.0),
    (
        "all kinds, counted from the end",
        "f 1 2 3\nf -6 -5 -4 -3 -2\nf 1/1 3/1 4/1 5/2\no two\nusemtl red\nf 1 2 3 5\n",
        8,
        4 + 10 + 6 + 8.0,
    ),
]


@pytest.mark.parametrize(("faces", "count", "expected"), [each[1:] for each in POLYGONS], ids=[each[0] for each in POLYGONS])
def test_polygons_of_an_obj_become_triangles(tmp_path, faces, count, expected):
    (tmp_path / "flat.obj").write_text("mtllib nowhere.mtl\n" + OBJ_HEAD + faces)
    mesh = read_mesh(tmp_path / "flat.obj")
    assert len(mesh.faces) == count
    assert area(mesh) == pytest.approx(expected)
    assert (face_normals(mesh.triangles())[:, 2] > 0).all()


FORMATS = {"ascii": "=", "binary_little_endian": "<", "binary_big_endian": ">"}


def polygon_ply(path: Path, layout: str, polygons: list[tuple[int, ...]], vertices: np.ndarray = BOX.vertices, lists: str = "") -> bytes:
    """A PLY file with columns before, between and after those that matter."""
    header = f"""ply\nformat {layout} 1.0\ncomment made here\nobj_info none\nelement vertex {len(vertices)}
property uchar red\nproperty double x\nproperty float y\nproperty float z
element face {len(polygons)}\nproperty uchar flags\nproperty list {lists or "uchar"} int vertex_index\nproperty list uchar float texcoord
element edge 1\nproperty int a\nend_header\n"""
    order, count = FORMATS[layout], {"": "B", "ushort": "H"}[lists]
    rows = [("Bdff", (7, *each)) for each in vertices]
    rows += [(f"B{count}{len(each)}iB2f", (1, len(each), *each, 2, 0.5, 0.5)) for each in polygons]
    rows.append(("i", (5,)))
    if layout == "ascii":
        data = "".join(" ".join(map(str, values)) + "\n" for _, values in rows).encode()
    else:
        data = b"".join(struct.pack(order + kinds, *values) for kinds, values in rows)
    path.write_bytes(header.encode() + data)
    return header.encode() + data


@pytest.mark.parametrize("layout", FORMATS)
@pytest.mark.parametrize("lists", ["", "ushort"])
def test_polygons_of_a_ply_become_triangles_in_order(tmp_path, layout, lists):
    path = tmp_path / "box.ply"
    for polygons, expected in [
        ([(0, 1, 3), (4, 6, 7)], [[0, 1, 3], [4, 6, 7]]),
        ([(0, 1, 3, 2), (4, 6, 7, 5)], [[0, 1, 3], [0, 3, 2], [4, 6, 7], [4, 7, 5]]),
        (
            [(0, 1, 3), (4, 6, 7, 5), (5, 4), (1, 2, 3, 4, 5), (7, 6, 5)],
            [[0, 1, 3], [4, 6, 7], [4, 7, 5], [1, 2, 3], [1, 3, 4], [1, 4, 5], [7, 6, 5]],
        ),
    ]:
        polygon_ply(path, layout, polygons, lists=lists)
        mesh = read_mesh(path)
        np.testing.assert_array_equal(mesh.faces, expected)
        np.testing.assert_array_equal(mesh.vertices, BOX.vertices)


@pytest.mark.parametrize("layout", FORMATS)
@pytest.mark.parametrize("polygons", [[(0, 1, 3), (4, 6, 7)], [(0, 1, 3), (4, 6, 7, 5), (1, 2, 3, 4, 5)]], ids=["even", "uneven"])
def test_a_ply_cut_off_anywhere_is_refused(tmp_path, layout, polygons):
    whole = polygon_ply(tmp_path / "whole.ply", layout, polygons)
    part = tmp_path / "part.ply"
    for length in range(1, len(whole) - 1, 5):
        part.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=r"part\.ply .*(copy or export it again|export it again|check how it was saved)$") as caught:
            read_mesh(part)
        assert one_sentence(caught)


def test_a_ply_that_promises_more_than_the_disk_holds_takes_no_memory(tmp_path):
    path = tmp_path / "huge.ply"
    for layout in FORMATS:
        for counts in ("uchar", "uint"):
            path.write_bytes(
                f"ply\nformat {layout} 1.0\nelement vertex 3\n".encode()
                + XYZ
                + f"element face 999999999999\nproperty list {counts} int vertex_indices\nend_header\n".encode()
                + b"1 2 3\n" * 6
                + b"\xff" * 99
            )
            with pytest.raises(ValueError, match=r"^huge\.ply is cut off: "):
                read_mesh(path)
        path.write_bytes(f"ply\nformat {layout} 1.0\nelement vertex 99999999999999\n".encode() + XYZ + b"end_header\n0 0 0\n")
        with pytest.raises(ValueError, match=r"^huge\.ply is cut off: .* for 99999999999999 rows of 'vertex' are promised, 6 are there;"):
            read_points(path)


XYZ = b"property float x\nproperty float y\nproperty float z\n"


def scene_of_boxes(path: Path) -> None:
    """The box three times: where it is, turned about z and moved, and mirrored."""
    quarter = trimesh.transformations.rotation_matrix(np.pi / 2, [0, 0, 1])
    scene = trimesh.Scene()
    box = trimesh.Trimesh(BOX.vertices, BOX.faces, process=False)
    scene.add_geometry(box, node_name="here", geom_name="box")
    scene.graph.update(frame_from="world", frame_to="turntable", matrix=quarter)
    scene.graph.update(
        frame_from="turntable", frame_to="there", matrix=trimesh.transformations.translation_matrix([10, 0, 0]), geometry="box"
    )
    scene.graph.update(frame_from="world", frame_to="mirrored", matrix=np.diag([-2.0, 1, 1, 1]), geometry="box")
    if path.suffix == ".glb":
        scene.export(str(path))
    else:
        write_gltf(scene, path)


def write_gltf(scene: trimesh.Scene, path: Path) -> None:
    for name, data in trimesh.exchange.gltf.export_gltf(scene).items():
        (path if name == "model.gltf" else path.parent / name).write_bytes(data)


@pytest.mark.parametrize("name", ["scene.glb", "scene.gltf"])
def test_scenes_are_baked(tmp_path, name):
    scene_of_boxes(tmp_path / name)
    mesh = read_mesh(tmp_path / name)
    assert len(mesh.faces) == 36
    # A quarter turn about z takes x to y and y to -x: (10 .. 11, 0 .. 2) becomes (-2 .. 0, 10 .. 11).
    boxes = {(tuple(each.min(0).round(4)), tuple(each.max(0).round(4))) for each in np.split(mesh.vertices, 3)}
    assert boxes == {((0, 0, 0), (1, 2, 3)), ((-2, 10, 0), (0, 11, 3)), ((-2, 0, 0), (0, 2, 3))}
    assert volume(mesh) == pytest.approx(6 + 6 + 12)  # the mirrored one is not inside out
    again = read_mesh(tmp_path / name)
    np.testing.assert_array_equal(again.vertices, mesh.vertices)


def test_a_glb_that_places_nothing_shows_its_meshes(tmp_path):
    write_mesh(BOX, tmp_path / "box.glb")
    edit_glb(tmp_path / "box.glb", lambda header: (header.pop("scenes"), header.pop("scene"), header.pop("nodes")))
    np.testing.assert_array_equal(read_mesh(tmp_path / "box.glb").vertices, BOX.vertices)


def edit_glb(path: Path, change: Callable[[dict], object]) -> None:
    data, header = path.read_bytes(), gltf_header(path)
    rest = data[20 + struct.unpack_from("<I", data, 12)[0] :]
    change(header)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 4)
    path.write_bytes(struct.pack("<5I", 0x46546C67, 2, 20 + len(text) + len(rest), len(text), 0x4E4F534A) + text + rest)


def test_a_gltf_reads_the_buffer_beside_it_also_under_a_quoted_name(tmp_path):
    write_gltf(trimesh.Trimesh(BOX.vertices, BOX.faces, process=False).scene(), tmp_path / "box.gltf")
    header = json.loads((tmp_path / "box.gltf").read_text())
    (tmp_path / header["buffers"][0]["uri"]).rename(tmp_path / "my box.bin")
    header["buffers"][0]["uri"] = "my%20box.bin"
    (tmp_path / "box.gltf").write_text(json.dumps(header))
    assert volume(read_mesh(tmp_path / "box.gltf")) == pytest.approx(6)
    (tmp_path / "my box.bin").unlink()
    with pytest.raises(ValueError, match=r"^box\.gltf needs the file 'my box\.bin' beside it; copy it there") as caught:
        read_mesh(tmp_path / "box.gltf")
    assert one_sentence(caught)


@pytest.mark.parametrize(
    "uri",
    [
        "../secret.bin",
        "a/../../secret.bin",
        "%2e%2e/secret.bin",
        "..\\secret.bin",
        "/etc/passwd",
        "C:\\x.bin",
        "http://x.y/z.bin",
        "file:///x",
    ],
)
def test_a_gltf_does_not_reach_out_of_its_folder(tmp_path, uri):
    folder = tmp_path / "inside"
    folder.mkdir()
    write_gltf(trimesh.Trimesh(BOX.vertices, BOX.faces, process=False).scene(), folder / "box.gltf")
    header = json.loads((folder / "box.gltf").read_text())
    (folder / header["buffers"][0]["uri"]).rename(tmp_path / "secret.bin")
    header["buffers"][0]["uri"] = uri
    (folder / "box.gltf").write_text(json.dumps(header))
    with pytest.raises(ValueError, match=r"^box\.gltf asks for .* which is not in its own folder; export it as one \.glb file$") as caught:
        read_mesh(folder / "box.gltf")
    assert one_sentence(caught)


def draco(header: dict) -> None:
    header["extensionsUsed"] = header["extensionsRequired"] = ["KHR_draco_mesh_compression"]


def without_views(header: dict) -> None:
    header["extensionsUsed"] = ["EXT_meshopt_compression"]
    header["accessors"][1].pop("bufferView")


def sparse(header: dict) -> None:
    header["accessors"][1]["sparse"] = {"count": 1}


def fans(header: dict) -> None:
    header["meshes"][0]["primitives"][0]["mode"] = 6


def normalized(header: dict) -> None:
    header["accessors"][1]["normalized"] = True


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (draco, "is compressed with KHR_draco_mesh_compression, which is not read here; export it without compression"),
        (without_views, "stores vertices by EXT_meshopt_compression, which is not read here; export it without"),
        (sparse, "stores vertices by sparse accessors, which is not read here; export it without"),
        (fans, "has triangle fans, which are not read here; export it as plain triangles"),
        (normalized, "stores vertices as normalized integers, which is not read here; export it without KHR_mesh_quantization"),
    ],
)
def test_a_glb_that_would_be_read_as_zeros_is_refused(tmp_path, change, message):
    write_mesh(BOX, tmp_path / "box.glb")
    edit_glb(tmp_path / "box.glb", change)
    with pytest.raises(ValueError, match=f"^box.glb {message}$"):
        read_mesh(tmp_path / "box.glb")
    with pytest.raises(ValueError, match=f"^box.glb {message}$"):
        read_points(tmp_path / "box.glb")


def test_draco_with_a_plain_copy_beside_it_is_read(tmp_path):
    write_mesh(BOX, tmp_path / "box.glb")
    edit_glb(tmp_path / "box.glb", lambda header: header.update(extensionsUsed=["KHR_draco_mesh_compression"]))
    assert volume(read_mesh(tmp_path / "box.glb")) == pytest.approx(6)


def test_textures_are_not_read(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(meshgpt.files._Folder, "__getitem__", lambda _, name: asked.append(name))
    write_mesh(BOX, tmp_path / "box.glb")

    def add_texture(header: dict) -> None:
        header.update(images=[{"uri": "skin.png"}], textures=[{"source": 0}])
        header["materials"][0]["pbrMetallicRoughness"]["baseColorTexture"] = {"index": 0}

    edit_glb(tmp_path / "box.glb", add_texture)
    assert volume(read_mesh(tmp_path / "box.glb")) == pytest.approx(6)
    assert not asked


def test_off_files_are_read(tmp_path):
    rows = "0 0 0\n4 0 0 255 0 0\n\n4 2 0\n2 3 0 # top\n0 2 0\n5 0 1 2 3 4\n3 0 1 2 0.5 0.5 0.5\n2 0 1\n"
    for start in ("OFF\n5 3 0\n", "# made here\nCOFF 5 3 0\n", "OFF5 3 0\n"):  # the last is how ModelNet40 has it
        (tmp_path / "flat.off").write_text(start + rows)
        mesh = read_mesh(tmp_path / "flat.off")
        np.testing.assert_array_equal(mesh.faces, [[0, 1, 2], [0, 2, 3], [0, 3, 4], [0, 1, 2]])
        assert area(mesh) == pytest.approx(14)


def test_dae_files_are_read(tmp_path):
    pytest.importorskip("collada")
    trimesh.Trimesh(BOX.vertices, BOX.faces, process=False).export(str(tmp_path / "box.dae"))
    assert volume(read_mesh(tmp_path / "box.dae")) == pytest.approx(6)
    (tmp_path / "box.dae").write_text("<COLLADA><broken")
    with pytest.raises(ValueError, match=r"^box\.dae cannot be read as \.dae \(.*\); copy or export it again$") as caught:
        read_mesh(tmp_path / "box.dae")
    assert one_sentence(caught)


def test_dae_files_need_pycollada(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "collada", None)
    (tmp_path / "box.dae").write_text("<COLLADA/>")
    with pytest.raises(ImportError, match=r"^reading box\.dae needs a library that is not here .*; for \.dae: pip install pycollada$"):
        read_mesh(tmp_path / "box.dae")


TRUNCATED_GLB = (EXAMPLES / "tent.glb").read_bytes()[:9000]
BAD_MESHES = [
    ("empty.obj", b"", "empty.obj is empty, 0 bytes; copy or export it again"),
    ("words.obj", b"hello world\n", "words.obj has 0 vertices but no faces; pass a mesh with faces"),
    ("points.obj", b"v 0 0 0\nv 1 0 0\nv 1 1 0\n", "points.obj has 3 vertices but no faces; pass a mesh with faces"),
    ("beyond.obj", b"v 0 0 0\nv 1 0 0\nv 1 1 0\nf 1 2 9\n", "beyond.obj cannot be read as .obj (index 8 is out of bounds"),
    (
        "nan.obj",
        b"v 0 0 nan\nv 1 0 0\nv 1 1 0\nf 1 2 3\n",
        "nan.obj has 1 faces with NaN or infinite vertices; remove them and export it again",
    ),
    ("short.off", b"OFF\n3 1 0\n0 0 0\n1 0 0\n", "short.off is not a whole OFF file; copy or export it again"),
    ("cut.off", b"OFF\n3 1 0\n0 0 0\n1 0 0\n0 1 0\n3 0 1\n", "cut.off is not a whole OFF file"),
    ("less.off", b"OFF\n3 2 0\n0 0 0\n1 0 0\n0 1 0\n3 0 1 2\n", "less.off is not a whole OFF file"),
    ("no.off", b"3 1 0\n0 0 0\n1 0 0\n0 1 0\n3 0 1 2\n", "no.off is not a whole OFF file"),
    ("cut.glb", TRUNCATED_GLB, "cut.glb cannot be read as .glb (chunk was not expected length!); copy or export it again"),
    ("start.glb", TRUNCATED_GLB[:100], "start.glb is not a whole .glb file (its header cannot be read); copy or export it again"),
    ("no.glb", b"not a glb file at all", "no.glb is not a whole .glb file"),
    ("no.gltf", b"{", "no.gltf is not a whole .gltf file"),
    ("odd.gltf", b'{"meshes": [{"primitives": [{"attributes": []}]}]}', "odd.gltf is not a whole .gltf file"),
    ("list.gltf", b"[]", "list.gltf is not a whole .gltf file"),
    ("cut.stl", b"\0" * 80 + struct.pack("<I", 12) + b"\0" * 100, "cut.stl has 0 vertices but no faces"),
    ("words.ply", b"hello\n", "words.ply is not a PLY file (its first line is not 'ply'); check how it was saved"),
    (
        "kind.ply",
        b"ply\nformat ascii 1.0\nelement vertex 1\nproperty complex x\nend_header\n",
        "the header line 'property complex x' of kind.ply makes no sense",
    ),
    (
        "flat.ply",
        b"ply\nformat ascii 1.0\nelement vertex 1\nproperty float x\nproperty float y\nend_header\n1 2\n",
        "flat.ply has no vertices with numbers x, y and z",
    ),
    (
        "twice.ply",
        b"ply\nformat ascii 1.0\nelement vertex 1\n" + XYZ * 2 + b"end_header\n1 2 3\n",
        "the header of twice.ply has an element 'vertex' that",
    ),
    (
        "minus.ply",
        b"ply\nformat ascii 1.0\nelement vertex -1\n" + XYZ + b"end_header\n1 2 3\n",
        "the header of minus.ply has an element 'vertex' that",
    ),
    ("kinds.ply", b"ply\nelement vertex 1\n" + XYZ + b"end_header\n1 2 3\n", "the header of kinds.ply has no format line"),
    (
        "row.ply",
        b"ply\nformat ascii 1.0\nelement vertex 2\n" + XYZ + b"end_header\n1 2 3\n1 2 x\n",
        "row.ply has a vertex that is not as its header says",
    ),
    ("cloud.ply", b"ply\nformat ascii 1.0\nelement vertex 1\n" + XYZ + b"end_header\n1 2 3\n", "cloud.ply has 1 vertices but no faces"),
    ("chair.fbx", b"Kaydara", "chair.fbx ends in .fbx, which is not read here; .dae .glb .gltf .obj .off .ply .stl are"),
    ("chair", b"data", "chair ends in nothing, which is not read here; .dae .glb"),
    ("chair.npy", b"data", "chair.npy ends in .npy, which is not read here; .dae .glb"),
]


@pytest.mark.parametrize(("name", "data", "message"), BAD_MESHES, ids=[each[0] for each in BAD_MESHES])
def test_what_is_no_mesh_is_refused_in_one_sentence(tmp_path, name, data, message):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(ValueError, match="^" + re.escape(message)) as caught:
        read_mesh(tmp_path / name)
    assert one_sentence(caught)


@pytest.mark.parametrize("index", [8, -1])
@pytest.mark.parametrize("ending", [".ply", ".glb"])
def test_faces_at_vertices_that_do_not_exist_are_refused(tmp_path, ending, index):
    if ending == ".ply":
        polygon_ply(tmp_path / "box.ply", "binary_little_endian", [(0, 1, 2), (0, 1, index)])
    else:
        write_mesh(BOX, tmp_path / "box.glb")
        data = (tmp_path / "box.glb").read_bytes()
        place = data.index(b"BIN\0") + 4
        (tmp_path / "box.glb").write_bytes(data[:place] + struct.pack("<I", index % 2**32) + data[place + 4 :])
    with pytest.raises(ValueError, match=f"^box{ending} has 8 vertices but a face at vertex ({index}|4294967295); export it again$"):
        read_mesh(tmp_path / f"box{ending}")


@pytest.mark.parametrize("read", [read_mesh, read_points])
def test_missing_files_and_folders_are_named(tmp_path, read):
    with pytest.raises(FileNotFoundError, match=r"nothing\.ply does not exist; check the name and the folder you are in \(/") as caught:
        read(tmp_path / "nothing.ply")
    assert one_sentence(caught)
    with pytest.raises(ValueError, match=r"is a folder; pass one file, ending in .*\.ply"):
        read(tmp_path)


# Points


def test_examples_hold_the_clouds_they_should():
    couch, ribs, launcher = (read_points(EXAMPLES / f"{name}.ply") for name in ("couch", "ribcage", "rocketlauncher"))
    assert len(couch) == len(ribs) == len(launcher) == 8192
    assert couch.normals is not None
    assert ribs.normals is None
    assert launcher.normals is None
    np.testing.assert_allclose(couch.positions.min(0), (-1.5, 0, -0.75), atol=0.02)
    np.testing.assert_allclose(couch.positions.max(0), (1.5, 1.224, 0.85), atol=0.02)


def test_degraded_examples_lie_where_their_originals_do():
    bucket, bottle = read_mesh(EXAMPLES / "bucket.glb").vertices, read_mesh(EXAMPLES / "WaterBottle_3.glb").vertices
    scan, few = read_points(EXAMPLES / "bucket-scan.ply"), read_points(EXAMPLES / "bottle-256.ply")
    assert scan.normals is None
    assert np.abs(np.median(scan.positions, 0) - np.median(bucket, 0)).max() < 0.05
    inside = (scan.positions >= bucket.min(0) - 0.003) & (scan.positions <= bucket.max(0) + 0.003)
    assert 0.9 < inside.all(1).mean() < 1, "a few pixels fly"
    assert len(few) == len(few.normals) == 256
    assert (few.positions >= bottle.min(0) - 1e-6).all()
    assert (few.positions <= bottle.max(0) + 1e-6).all()


def test_the_shell_of_the_tent_has_two_sides():
    from scipy.spatial import KDTree

    shell, tent = read_mesh(EXAMPLES / "tent-shell.ply"), read_points(EXAMPLES / "tent.glb")
    apart = KDTree(tent.positions).query(shell.vertices)[0] / np.ptp(tent.positions, axis=0).max()
    np.testing.assert_allclose(np.median(apart), 1 / 32 / 0.95, rtol=0.1)
    assert len(shell.faces) > 5000


@pytest.mark.parametrize("name", ["sedan-sports.glb", "crypt.ply"])
def test_a_mesh_is_sampled(name):
    cloud = read_points(EXAMPLES / name, count=500, seed=3)
    mesh = read_mesh(EXAMPLES / name)
    assert cloud.positions.shape == cloud.normals.shape == (500, 3)
    assert (cloud.positions >= mesh.vertices.min(0) - 1e-9).all()
    assert (cloud.positions <= mesh.vertices.max(0) + 1e-9).all()
    np.testing.assert_array_equal(cloud.positions, read_points(EXAMPLES / name, count=500, seed=3).positions)
    assert (cloud.positions != read_points(EXAMPLES / name, count=500, seed=4).positions).any()
    assert len(read_points(EXAMPLES / name)) == 16384


def pcd_header(fields: str, count: int, data: str, kinds: str = "F", size: int = 4) -> bytes:
    columns = len(fields.split())
    return (
        f"# .PCD v.7 - Point Cloud Data file format\nVERSION .7\nFIELDS {fields}\nSIZE{f' {size}' * columns}\nTYPE{f' {kinds}' * columns}\n"
        f"COUNT{' 1' * columns}\nWIDTH {count}\nHEIGHT 1\nVIEWPOINT 0 0 0 1 0 0 0\nPOINTS {count}\nDATA {data}\n"
    ).encode()


def lines(rows: np.ndarray, separator: str = " ") -> bytes:
    return "".join(separator.join(f"{each:.9g}" for each in row) + "\n" for row in rows).encode()


def write_points(path: Path, kind: str, rows: np.ndarray) -> None:
    names, normal = ["x", "y", "z", "nx", "ny", "nz"][: rows.shape[1]], rows.shape[1] == 6
    ply = f"element vertex {len(rows)}\n" + "".join(f"property float {name}\n" for name in names) + "end_header\n"
    pcd = "x y z normal_x normal_y normal_z" if normal else "x y z"
    if kind == "npy":
        np.save(path, rows)
    elif kind == "npy, single, by columns":
        np.save(path, np.asfortranarray(rows.astype(np.float32)))
    elif kind == "npz":
        np.savez(path, rows)
    elif kind == "npz, two arrays":
        np.savez_compressed(path, points=rows[:, :3], **({"normals": rows[:, 3:]} if normal else {}))
    elif kind == "xyz":
        path.write_bytes(lines(rows))
    elif kind == "xyz, as CloudCompare":
        path.write_bytes(b"//X,Y,Z\n200\n" + lines(rows, ","))
    elif kind == "xyz, semicolons and blanks":
        path.write_bytes(b"# made by hand\r\n\r\n" + lines(rows, " ; ").replace(b"\n", b"\r\n"))
    elif kind == "ply, ascii":
        path.write_bytes(b"ply\nformat ascii 1.0\n" + ply.encode() + lines(rows))
    elif kind == "ply":
        write_ply(path, rows[:, :3], normals=rows[:, 3:] if normal else None)
    elif kind == "pcd, ascii":
        path.write_bytes(pcd_header(pcd, len(rows), "ascii") + lines(rows))
    elif kind == "pcd":
        path.write_bytes(pcd_header(pcd, len(rows), "binary", size=8) + rows.tobytes())
    elif kind == "pcd, compressed":
        import open3d

        cloud = open3d.geometry.PointCloud(open3d.utility.Vector3dVector(rows[:, :3]))
        if normal:
            cloud.normals = open3d.utility.Vector3dVector(rows[:, 3:])
        open3d.io.write_point_cloud(str(path), cloud, compressed=True)


KINDS = [
    *("npy", "npy, single, by columns", "npz", "npz, two arrays", "xyz", "xyz, as CloudCompare", "xyz, semicolons and blanks"),
    *("ply, ascii", "ply", "pcd, ascii", "pcd", "pcd, compressed"),
]


@pytest.mark.parametrize("kind", KINDS)
def test_clouds_of_every_kind_are_read(tmp_path, kind):
    path = tmp_path / f"cloud.{kind.split(',')[0]}"
    for normals in (None, units()):
        write_points(path, kind, points() if normals is None else np.concatenate([points(), normals], 1))
        cloud = read_points(path)
        assert isinstance(cloud, Cloud)
        assert cloud.positions.dtype == np.float64
        np.testing.assert_allclose(cloud.positions, points(), atol=1e-6)
        assert (cloud.normals is None) == (normals is None)
        if normals is not None:
            np.testing.assert_allclose(cloud.normals, normals, atol=1e-6)


@pytest.mark.parametrize("colours", [np.full((200, 3), 255.0), points(), np.arange(600).reshape(200, 3) % 256])
def test_colours_are_not_taken_for_normals(tmp_path, colours):
    np.save(tmp_path / "coloured.npy", np.concatenate([points(), colours], 1))
    assert read_points(tmp_path / "coloured.npy").normals is None


def test_flat_clouds_may_have_normals_without_a_minus(tmp_path):
    np.save(tmp_path / "floor.npy", np.concatenate([points() * [1, 0, 1], np.tile([0.0, 1, 0], (200, 1))], 1))
    np.testing.assert_array_equal(read_points(tmp_path / "floor.npy").normals, np.tile([0.0, 1, 0], (200, 1)))


def test_whole_numbers_are_points(tmp_path):
    np.save(tmp_path / "grid.npy", np.argwhere(np.ones((5, 5, 5))))
    assert read_points(tmp_path / "grid.npy").positions.max() == 4


def test_an_obj_without_faces_and_a_glb_of_points_are_clouds(tmp_path):
    (tmp_path / "points.obj").write_bytes(b"".join(b"v " + line + b"\n" for line in lines(points()).splitlines()))
    trimesh.Scene(trimesh.PointCloud(points())).export(str(tmp_path / "points.glb"))
    for name in ("points.obj", "points.glb"):
        np.testing.assert_allclose(read_points(tmp_path / name).positions, points(), atol=1e-6)


@pytest.mark.parametrize("kind", ["npy", "ply", "pcd", "xyz", "npz"])
def test_huge_clouds_are_thinned_while_they_are_read(tmp_path, monkeypatch, kind):
    monkeypatch.setattr(meshgpt.files, "MOST_POINTS", 100)
    path = tmp_path / f"cloud.{kind}"
    write_points(path, kind, np.concatenate([points(), units()], 1))
    cloud = read_points(path, seed=1)
    assert len(cloud) == len(np.unique(cloud.positions, axis=0)) == 100
    from_whole = np.abs(points()[:, None] - cloud.positions[None]).max(2).argmin(0)  # which of all points each is
    np.testing.assert_allclose(cloud.normals, units()[from_whole], atol=1e-6)
    np.testing.assert_array_equal(cloud.positions, read_points(path, seed=1).positions)
    assert (cloud.positions != read_points(path, seed=2).positions).any()


def test_a_cloud_larger_than_what_is_kept_is_not_read_whole(tmp_path):
    """40 million points, 480 MB, of which the disk holds a few: what is not picked is never touched."""
    count = 40_000_000
    path = tmp_path / "huge.ply"
    header = f"ply\nformat binary_little_endian 1.0\nelement vertex {count}\n".encode() + XYZ + b"end_header\n"
    with path.open("wb") as file:
        file.write(header)
        file.truncate(len(header) + 12 * count)
    table = read_ply(path).vertices
    assert len(table) == count
    assert isinstance(table, np.memmap)
    assert MOST_POINTS == 1_000_000


NOTHING_BUT_OBJECTS = np.array([{"a": 1}], dtype=object)
BAD_POINTS = [
    ("four.npy", np.zeros((100, 4)), "four.npy has 4 columns; 3 fit (x y z), or 6 (x y z nx ny nz)"),
    ("wide.npy", points().T, "wide.npy has 200 columns; 3 fit"),
    ("line.npy", np.zeros(100), "line.npy holds an array of shape (100,) and type float64; save numbers, N x 3 or N x 6"),
    ("text.npy", np.array([["a", "b", "c"]] * 99), "text.npy holds an array of shape (99, 3) and type <U1; save numbers, N x 3 or N x 6"),
    ("objects.npy", NOTHING_BUT_OBJECTS, "objects.npy cannot be read as .npy ("),
    ("none.npy", np.zeros((0, 3)), "none.npy: 0 points are too few to show a surface; pass at least 64, better some thousands"),
    ("few.npy", points(10), "few.npy: 10 points are too few"),
    ("nan.npy", np.where(points() > 0.999, np.nan, points()), "nan.npy: 1 of 200 points are NaN or infinite; keep the others with"),
    ("one.npy", np.ones((99, 3)), "one.npy: all 99 points are the same point"),
    ("row.npy", np.arange(300.0).reshape(-1, 3), "row.npy: all 100 points lie on one line"),
    ("names.npz", {"a": points(), "b": points()}, "names.npz holds the arrays a, b; one array fits, or two named points and normals"),
    (
        "odd.npz",
        {"points": points(), "normals": points(9)},
        "odd.npz holds points (200, 3) and normals (9, 3); save as many of each, N x 3",
    ),
    (
        "objects.npz",
        {"points": NOTHING_BUT_OBJECTS},
        "objects.npz cannot be read as .npz (it holds Python objects, or is not numpy's at all); save it again",
    ),
    ("garbage.npy", b"garbage", "garbage.npy cannot be read as .npy ("),
    ("garbage.npz", b"garbage", "garbage.npz cannot be read as .npz ("),
    ("empty.xyz", b"", "empty.xyz is empty, 0 bytes"),
    ("two.xyz", b"1 2\n" * 99, "two.xyz has 2 columns; 3 fit (x y z), or 6 (x y z nx ny nz)"),
    ("seven.xyz", b"1,2,3,4,5,6,7\n" * 99, "seven.xyz has 7 columns; 3 fit"),
    ("words.xyz", b"hello world\n" * 99, "words.xyz has no line of numbers; write one point a line: x y z, or x y z nx ny nz"),
    ("mixed.xyz", b"1 2 3\n" * 9 + b"1 2\n", "mixed.xyz has a line unlike its first ("),
    (
        "cut.pcd",
        pcd_header("x y z", 100, "binary") + b"\0" * 1199,
        "cut.pcd is cut off: 100 points take 1200 bytes, 1199 are there; copy or",
    ),
    ("huge.pcd", pcd_header("x y z", 10**12, "binary") + b"\0" * 99, "huge.pcd is cut off: 1000000000000 points take 12000000000000 bytes"),
    ("cut_text.pcd", pcd_header("x y z", 100, "ascii") + b"1 2 3\n" * 99, "cut_text.pcd is cut off: 100 points are promised, 99 are there"),
    ("none_text.pcd", pcd_header("x y z", 100, "ascii"), "none_text.pcd is cut off: 100 points are promised, 0 are there"),
    ("row.pcd", pcd_header("x y z", 100, "ascii") + b"1 2\n" * 100, "row.pcd has a point that is not as its header says ("),
    (
        "cut_packed.pcd",
        pcd_header("x y z", 100, "binary_compressed") + struct.pack("<II", 900, 1200) + b"\0" * 9,
        "cut_packed.pcd is cut off: 100 points",
    ),
    (
        "lies.pcd",
        pcd_header("x y z", 10**9, "binary_compressed") + struct.pack("<II", 9, 99) + b"\0" * 9,
        "lies.pcd is cut off: 1000000000 points",
    ),
    (
        "flat.pcd",
        pcd_header("x y", 100, "ascii") + b"1 2\n" * 100,
        "flat.pcd has the fields x y as ascii; it needs x, y and z, ascii or binary",
    ),
    (
        "kind.pcd",
        pcd_header("x y z", 100, "zipped") + b"\0" * 1200,
        "kind.pcd has the fields x y z as zipped; it needs x, y and z, ascii or binary",
    ),
    ("words.pcd", b"hello\n", "words.pcd is not a whole PCD file (its header has no DATA line)"),
    (
        "sizes.pcd",
        b"FIELDS x y z\nSIZE 4 4\nTYPE F F F\nPOINTS 9\nDATA ascii\n",
        "the header of sizes.pcd makes no sense; export it again as PCD 0.7",
    ),
    ("none.ply", b"ply\nformat ascii 1.0\nelement vertex 0\n" + XYZ + b"end_header\n", "none.ply: 0 points are too few"),
    ("area.obj", b"v 0 0 0\nv 1 0 0\nv 2 0 0\nf 1 2 3\n", "area.obj: the 1 faces have no area to sample points on"),
    ("cloud.las", b"LASF", "cloud.las ends in .las, which is not read here; .npy .npz .pcd .ply .xyz .dae .glb .gltf .obj .off .stl are"),
]


@pytest.mark.parametrize(("name", "content", "message"), BAD_POINTS, ids=[each[0] for each in BAD_POINTS])
def test_what_is_no_cloud_is_refused_in_one_sentence(tmp_path, name, content, message):
    path = tmp_path / name
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif isinstance(content, dict):
        np.savez(path, allow_pickle=True, **content)
    else:
        np.save(path, content, allow_pickle=True)
    with pytest.raises(ValueError, match="^" + re.escape(message)) as caught:
        read_points(path)
    assert one_sentence(caught)


@pytest.mark.parametrize("kind", ["npy", "npz"])
def test_numpy_files_cut_off_are_refused(tmp_path, kind):
    path = tmp_path / f"cloud.{kind}"
    write_points(path, kind, points())
    whole = path.read_bytes()
    for length in (1, 5, 60, 127, 140, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=rf"^cloud\.{kind} cannot be read as \.{kind} \(.*\); save it again") as caught:
            read_points(path)
        assert one_sentence(caught)


def test_nothing_pickled_is_run(tmp_path):
    class Bomb:
        def __reduce__(self) -> tuple:
            return (os.mkdir, (str(tmp_path / "boom"),))

    bomb = np.array([Bomb()], dtype=object)
    np.save(tmp_path / "bomb.npy", bomb, allow_pickle=True)
    np.savez(tmp_path / "bomb.npz", bomb)
    for name in ("bomb.npy", "bomb.npz"):
        with pytest.raises(ValueError, match="cannot be read"):
            read_points(tmp_path / name)
    assert not (tmp_path / "boom").exists()


# Writing


@pytest.mark.parametrize("ending", WRITTEN_ENDINGS)
def test_a_write_that_fails_leaves_what_was_there(tmp_path, monkeypatch, ending):
    path = tmp_path / f"box{ending}"
    write_mesh(BOX, path)
    before = path.read_bytes()

    def full_disk(*_: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(os, "replace", full_disk)
    with pytest.raises(OSError, match="no space left"):
        write_mesh(Mesh(BOX.vertices * 2, BOX.faces), path)
    assert path.read_bytes() == before
    assert [each.name for each in tmp_path.iterdir()] == [path.name]


def test_a_write_that_stops_half_way_leaves_nothing(tmp_path):
    with pytest.raises(KeyboardInterrupt), whole_file(tmp_path / "box.glb") as part:
        assert part.parent == tmp_path
        part.write_bytes(b"half")
        raise KeyboardInterrupt
    assert not list(tmp_path.iterdir())


def test_files_are_not_private(tmp_path):
    write_mesh(BOX, tmp_path / "box.ply")
    (tmp_path / "plain").write_text("")
    assert (tmp_path / "box.ply").stat().st_mode == (tmp_path / "plain").stat().st_mode


@pytest.mark.parametrize(
    ("name", "mesh", "kind", "message"),
    [
        ("box.fbx", BOX, ValueError, "^box.fbx ends in .fbx; meshes are written as .glb .obj .ply .stl$"),
        ("box", BOX, ValueError, "^box ends in nothing; meshes are written as .glb .obj .ply .stl$"),
        ("nowhere/box.glb", BOX, FileNotFoundError, "^the folder .*nowhere does not exist; make it first, or write elsewhere$"),
        ("folder.glb", BOX, ValueError, "folder.glb is a folder; add a file name$"),
        (
            "box.glb",
            Mesh(BOX.vertices, BOX.faces[:0]),
            ValueError,
            "^a mesh without faces cannot be written to box.glb; check what made it$",
        ),
        (
            "box.glb",
            Mesh(BOX.vertices * np.nan, BOX.faces),
            ValueError,
            "^a mesh with NaN or infinite vertices cannot be written to box.glb",
        ),
    ],
)
def test_what_cannot_be_written_is_refused(tmp_path, name, mesh, kind, message):
    (tmp_path / "folder.glb").mkdir()
    with pytest.raises(kind, match=message):
        write_mesh(mesh, tmp_path / name)
    assert [each.name for each in tmp_path.iterdir()] == ["folder.glb"]


def test_endings_are_what_the_messages_list():
    assert set(WRITTEN_ENDINGS) <= set(MESH_ENDINGS)
    assert read_mesh(EXAMPLES / "bucket.glb").faces.max() < len(read_mesh(EXAMPLES / "bucket.glb").vertices)
