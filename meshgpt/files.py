"""Mesh and point files: read into the frame they are in, written so that a file is whole or not there.

    read_mesh     .dae .glb .gltf .obj .off .ply .stl             to a Mesh: scenes baked, polygons triangulated, materials left out
    read_points   .npy .npz .pcd .ply .xyz, and any of the above  to a Cloud
    write_mesh    .glb .obj .ply .stl

It knows files. It does not know the cube, bins or networks.

v  vertices      f  faces      n  points
"""

from __future__ import annotations

import json
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain, pairwise
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote

import numpy as np
from jaxtyping import Float, Int, Shaped

from meshgpt.cloud import Cloud, checked
from meshgpt.mesh import Mesh, sample_surface
from meshgpt.pcd import read_pcd
from meshgpt.ply import read_ply, too_coarse, write_ply

MESH_ENDINGS = (".dae", ".glb", ".gltf", ".obj", ".off", ".ply", ".stl")
POINT_ENDINGS = (".npy", ".npz", ".pcd", ".ply", ".xyz")
WRITTEN_ENDINGS = (".glb", ".obj", ".ply", ".stl")
MOST_POINTS = 1_000_000
PACKED = {"KHR_draco_mesh_compression", "EXT_meshopt_compression", "KHR_meshopt_compression"}


def read_mesh(path: str | Path) -> Mesh:
    """The triangles of a file, all objects of a scene in one, in the file's own frame; vertices may be repeated from face to face.

    FileNotFoundError or ValueError with one sentence when there is none to read.
    """
    path = _existing(path, MESH_ENDINGS)
    vertices, faces = _vertices_and_faces(path)
    if not len(faces):
        raise ValueError(f"{path.name} has {len(vertices)} vertices but no faces; pass a mesh with faces")
    return Mesh(vertices, faces)


def read_points(path: str | Path, count: int = 16384, seed: int = 0) -> Cloud:
    """The points of a file, checked, in its own frame: at most a million, picked at random, or `count` from the surface of a mesh.

    FileNotFoundError or ValueError with one sentence when there are none to read.
    """
    path = _existing(path, tuple(dict.fromkeys((*POINT_ENDINGS, *MESH_ENDINGS))))
    readers = {".npy": _read_npy, ".npz": _read_npz, ".xyz": _read_xyz, ".pcd": _read_pcd, ".ply": _read_ply}
    rng = np.random.default_rng(seed)
    cloud = readers.get(path.suffix.lower(), _read_scene_points)(path, count, rng)
    try:
        return checked(cloud)
    except ValueError as error:
        raise ValueError(f"{path.name}: {error}") from None


def write_mesh(mesh: Mesh, path: str | Path) -> None:
    """All vertices and faces, in their order. A .glb has no normals, which makes viewers draw it flat-shaded, and shows both sides."""
    path = Path(path)
    ending = path.suffix.lower()
    writers = {".glb": _write_glb, ".obj": _write_obj, ".ply": _write_ply, ".stl": _write_stl}
    if ending not in writers:
        raise ValueError(f"{path.name} ends in {ending or 'nothing'}; meshes are written as {' '.join(WRITTEN_ENDINGS)}")
    if not len(mesh.faces):
        raise ValueError(f"a mesh without faces cannot be written to {path.name}; check what made it")
    if not np.isfinite(mesh.vertices).all():
        raise ValueError(f"a mesh with NaN or infinite vertices cannot be written to {path.name}; check what made it")
    with whole_file(path) as part:
        writers[ending](mesh, part)


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A place beside `path` to write to, which becomes `path` when the block ends and is removed when the block fails."""
    if not path.parent.is_dir():
        raise FileNotFoundError(f"the folder {path.parent} does not exist; make it first, or write elsewhere")
    if path.is_dir():
        raise ValueError(f"{path} is a folder; add a file name")
    part = path.with_name(f".{path.stem}-{secrets.token_hex(4)}{path.suffix}")
    try:
        yield part
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def _existing(path: str | Path, endings: tuple[str, ...]) -> Path:
    path = Path(path)
    if path.is_dir():
        raise ValueError(f"{path} is a folder; pass one file, ending in {' '.join(endings)}")
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist; check the name and the folder you are in ({Path.cwd()})")
    if path.suffix.lower() not in endings:
        raise ValueError(f"{path.name} ends in {path.suffix or 'nothing'}, which is not read here; {' '.join(endings)} are")
    if not path.stat().st_size:
        raise ValueError(f"{path.name} is empty, 0 bytes; copy or export it again")
    return path


# Meshes


def _vertices_and_faces(path: Path) -> tuple[Float[np.ndarray, "v 3"], Int[np.ndarray, "f 3"]]:
    """No faces when the file is a point cloud."""
    if path.suffix.lower() == ".ply":
        table, faces = read_ply(path)
        return _sound(_columns(table, "x", "y", "z"), faces, path.name)
    return _sound(*(_read_off(path) if path.suffix.lower() == ".off" else _read_scene(path)), path.name)


def _sound(
    vertices: Float[np.ndarray, "v 3"], faces: Int[np.ndarray, "f 3"], name: str
) -> tuple[Float[np.ndarray, "v 3"], Int[np.ndarray, "f 3"]]:
    """The same; ValueError for faces at vertices that do not exist or are nowhere."""
    if len(faces) and not (faces.min() >= 0 and faces.max() < len(vertices)):
        worst = faces.max() if faces.min() >= 0 else faces.min()
        raise ValueError(f"{name} has {len(vertices)} vertices but a face at vertex {worst}; export it again")
    broken = int((~np.isfinite(vertices[faces]).all((1, 2))).sum())
    if broken:
        raise ValueError(f"{name} has {broken} faces with NaN or infinite vertices; remove them and export it again")
    return vertices, faces


def _read_off(path: Path) -> tuple[Float[np.ndarray, "v 3"], Int[np.ndarray, "f 3"]]:
    """Read here, as trimesh 5.2 stumbles over polygons with more than four corners. What comes after x y z or a polygon is colour."""
    text = re.sub(r"#.*", "", path.read_text(encoding="utf-8", errors="replace")).strip()
    start = re.match(r"(ST)?C?N?OFF", text)
    lines = [line.split() for line in text[start.end() if start else 0 :].splitlines() if line.strip()]
    try:
        vertex_count, face_count = int(lines[0][0]), int(lines[0][1])
        vertices = np.array([line[:3] for line in lines[1 : vertex_count + 1]], np.float64).reshape(vertex_count, 3)
        rows = lines[vertex_count + 1 : vertex_count + face_count + 1]
        polygons = [[int(each) for each in row[1 : int(row[0]) + 1]] for row in rows]
        whole = start and len(rows) == face_count and all(len(corners) == int(row[0]) for corners, row in zip(polygons, rows, strict=True))
    except (ValueError, IndexError):
        whole = False
    if not whole:
        raise ValueError(f"{path.name} is not a whole OFF file; copy or export it again")
    triangles = [(corners[0], *pair) for corners in polygons for pair in pairwise(corners[1:])]
    return vertices, np.array(triangles, np.int64).reshape(-1, 3)


def _read_scene(path: Path) -> tuple[Float[np.ndarray, "v 3"], Int[np.ndarray, "f 3"]]:
    import trimesh

    ending = path.suffix.lower()
    if ending in (".glb", ".gltf"):
        _refuse_unreadable_gltf(path)
    try:
        with path.open("rb") as file:
            # Without `process` vertices stay as they are.
            scene = trimesh.load_scene(file, file_type=ending[1:], resolver=_Folder(path.parent), process=False, skip_materials=True)
        return _baked(scene)
    except ImportError as error:
        raise ImportError(f"reading {path.name} needs a library that is not here ({error}); for .dae: pip install pycollada") from None
    except Exception as error:  # loaders raise whatever they stumble over
        raise ValueError(f"{path.name} cannot be read as {ending} ({_first_words(error)}); copy or export it again") from None


def _first_words(error: Exception) -> str:
    """One line of what a library says, without whole files in it."""
    return str(error).strip().partition("\n")[0][:120] or type(error).__name__


def _baked(scene: Any) -> tuple[Float[np.ndarray, "v 3"], Int[np.ndarray, "f 3"]]:
    """All placed triangles of a trimesh scene in its outermost frame; where there are none, its points."""
    placed = [(scene.geometry[name], matrix) for matrix, name in (scene.graph[node] for node in scene.graph.nodes_geometry)]
    placed = placed or [(shape, np.eye(4)) for shape in scene.geometry.values()]  # files may describe shapes and place none
    solid = [each for each in placed if len(getattr(each[0], "faces", ()))]
    placed = solid or [each for each in placed if not hasattr(each[0], "entities")]  # entities are curves
    vertices, faces, count = [np.zeros((0, 3))], [np.zeros((0, 3), np.int64)], 0
    for shape, matrix in placed:
        corners = np.asarray(getattr(shape, "faces", ()), np.int64).reshape(-1, 3) + count
        faces.append(corners[:, ::-1] if np.linalg.det(matrix[:3, :3]) < 0 else corners)  # mirrored: the outside stays outside
        vertices.append(shape.vertices @ matrix[:3, :3].T + matrix[:3, 3])
        count += len(shape.vertices)
    return np.concatenate(vertices), np.concatenate(faces)


class _Folder:
    """Where trimesh asks for the files that a scene names: they come from the scene's own folder and from nowhere else."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def get(self, name: str) -> bytes:
        if not _stays_inside(name):
            raise FileNotFoundError(name)
        return (self.folder / unquote(name)).read_bytes()

    __getitem__ = get


def _stays_inside(name: str) -> bool:
    place = PurePosixPath(unquote(name).replace("\\", "/"))
    return not place.is_absolute() and ".." not in place.parts and ":" not in str(place)


def _refuse_unreadable_gltf(path: Path) -> None:
    """ValueError for what trimesh would read as zeros or from elsewhere."""
    try:
        problem = _gltf_problem(_gltf_header(path), path.parent)
    except (ValueError, TypeError, AttributeError, LookupError):
        raise ValueError(f"{path.name} is not a whole {path.suffix} file (its header cannot be read); copy or export it again") from None
    if problem:
        raise ValueError(f"{path.name} {problem}")


def _gltf_header(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        if path.suffix.lower() == ".gltf":
            return json.load(file)
        magic, _, _, length, kind = np.frombuffer(file.read(20), "<u4").tolist()
        if (magic, kind) != (0x46546C67, 0x4E4F534A):  # "glTF", "JSON"
            raise ValueError
        return json.loads(file.read(length))


def _gltf_problem(header: dict[str, Any], folder: Path) -> str:
    packed = sorted(PACKED.intersection(header.get("extensionsUsed", [])))
    if PACKED.intersection(header.get("extensionsRequired", [])):
        return f"is compressed with {' and '.join(packed)}, which is not read here; export it without compression"
    for uri in (each["uri"] for each in header.get("buffers", []) if not each.get("uri", "data:").startswith("data:")):
        if not _stays_inside(uri):
            return f"asks for {uri!r}, which is not in its own folder; export it as one .glb file"
        if not (folder / unquote(uri)).is_file():
            return f"needs the file {unquote(uri)!r} beside it; copy it there, or export it as one .glb file"
    accessors = header.get("accessors", [])
    primitives = [each for mesh in header.get("meshes", []) for each in mesh["primitives"]]
    if any(each.get("mode") == 6 for each in primitives):
        return "has triangle fans, which are not read here; export it as plain triangles"
    for primitive in (each for each in primitives if each.get("mode", 4) in (4, 5)):  # lists and strips of triangles
        positions = accessors[primitive["attributes"]["POSITION"]]
        stored = [positions, *([accessors[primitive["indices"]]] if "indices" in primitive else [])]
        if any("bufferView" not in each or "sparse" in each for each in stored):
            return f"stores vertices by {' and '.join(packed) or 'sparse accessors'}, which is not read here; export it without"
        if positions.get("normalized"):
            return "stores vertices as normalized integers, which is not read here; export it without KHR_mesh_quantization"
    return ""


# Points


def _read_npy(path: Path, count: int, rng: np.random.Generator) -> Cloud:
    """Mapped, so that only the points that are picked are read."""
    with _numpy_errors(path):
        rows = np.lib.format.open_memmap(path, mode="r")
    return _cloud_of_rows(rows, path.name, rng)


def _read_npz(path: Path, count: int, rng: np.random.Generator) -> Cloud:
    with _numpy_errors(path), path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
        arrays = {name: np.asarray(archive[name]) for name in archive.files}
    if len(arrays) == 1:
        return _cloud_of_rows(next(iter(arrays.values())), path.name, rng)
    if "points" not in arrays:
        raise ValueError(f"{path.name} holds the arrays {', '.join(arrays) or 'none'}; one array fits, or two named points and normals")
    rows = arrays["points"]
    if "normals" in arrays:
        if rows.shape != arrays["normals"].shape:
            raise ValueError(f"{path.name} holds points {rows.shape} and normals {arrays['normals'].shape}; save as many of each, N x 3")
        rows = np.concatenate([rows, arrays["normals"]], 1)
    return _cloud_of_rows(rows, path.name, rng)


@contextmanager
def _numpy_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # numpy and zipfile raise whatever they stumble over
        reason = _first_words(error)
        if "pickle" in reason:  # numpy's own sentence says how to run whatever the file holds
            reason = "it holds Python objects, or is not numpy's at all"
        raise ValueError(f"{path.name} cannot be read as {path.suffix} ({reason}); save it again with numpy, as plain numbers") from None


def _read_xyz(path: Path, count: int, rng: np.random.Generator) -> Cloud:
    """Lines of numbers between blanks, commas or semicolons; lines of words and a line with the number of points are passed over."""
    with path.open(encoding="utf-8", errors="replace") as file:
        first = next((line for line in file if _numbers(line) > 1), None)
        if first is None:
            raise ValueError(f"{path.name} has no line of numbers; write one point a line: x y z, or x y z nx ny nz")
        _check_columns(_numbers(first), path.name)
        separator = next((each for each in ",;" if each in first), None)
        try:
            rows = np.loadtxt(chain([first], file), delimiter=separator, ndmin=2)
        except ValueError as error:
            raise ValueError(f"{path.name} has a line unlike its first ({error}); make all lines x y z or x y z nx ny nz") from None
    return _cloud_of_rows(rows, path.name, rng)


def _numbers(line: str) -> int:
    """How many numbers a line consists of; 0 when there are words in it."""
    words = line.replace(",", " ").replace(";", " ").split()
    try:
        return len([float(word) for word in words])
    except ValueError:
        return 0


def _read_pcd(path: Path, count: int, rng: np.random.Generator) -> Cloud:
    return _cloud_of_table(read_pcd(path), rng)


def _read_ply(path: Path, count: int, rng: np.random.Generator) -> Cloud:
    table, faces = read_ply(path)
    if not len(faces):
        return _cloud_of_table(table, rng)
    return _sampled(Mesh(*_sound(_columns(table, "x", "y", "z"), faces, path.name)), path.name, count, rng)


def _read_scene_points(path: Path, count: int, rng: np.random.Generator) -> Cloud:
    vertices, faces = _vertices_and_faces(path)
    return _sampled(Mesh(vertices, faces), path.name, count, rng) if len(faces) else Cloud(_picked(vertices, rng))


def _sampled(mesh: Mesh, name: str, count: int, rng: np.random.Generator) -> Cloud:
    try:
        sampled = sample_surface(mesh, count, rng)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None
    return Cloud(sampled[:, :3], sampled[:, 3:])


def _cloud_of_rows(rows: Shaped[np.ndarray, "..."], name: str, rng: np.random.Generator) -> Cloud:
    """x, y, z and perhaps a normal. Six columns may also end in a colour, which is no normal: it is not negative and not of length one."""
    if rows.ndim != 2 or rows.dtype.kind not in "fiu":
        raise ValueError(f"{name} holds an array of shape {rows.shape} and type {rows.dtype}; save numbers, N x 3 or N x 6")
    _check_columns(rows.shape[1], name)
    rows = _picked(rows, rng).astype(np.float64)
    positions, others = rows[:, :3], rows[:, 3:]
    coloured = (others >= 0).all() and (np.abs(np.linalg.norm(others, axis=1) - 1) > 0.1).any()
    return Cloud(positions, None if not others.size or coloured else others)


def _check_columns(columns: int, name: str) -> None:
    if columns not in (3, 6):
        raise ValueError(f"{name} has {columns} columns; 3 fit (x y z), or 6 (x y z nx ny nz)")


def _cloud_of_table(table: Shaped[np.ndarray, "n"], rng: np.random.Generator) -> Cloud:
    table = _picked(table, rng)
    normals = _columns(table, "nx", "ny", "nz") if {"nx", "ny", "nz"} <= set(table.dtype.names) else None
    return Cloud(_columns(table, "x", "y", "z"), normals)


def _columns(table: Shaped[np.ndarray, "n"], *names: str) -> Float[np.ndarray, "n 3"]:
    return np.stack([table[name].astype(np.float64) for name in names], 1)


def _picked(rows: Shaped[np.ndarray, "n *columns"], rng: np.random.Generator) -> Shaped[np.ndarray, "m *columns"]:
    """A random million of more rows, in their order; the others are not read where the rows are mapped."""
    if len(rows) <= MOST_POINTS:
        return rows
    return rows[np.sort(rng.choice(len(rows), MOST_POINTS, replace=False, shuffle=False))]


# Writing


def _write_glb(mesh: Mesh, path: Path) -> None:
    import trimesh

    grey = {"baseColorFactor": (0.8, 0.8, 0.8, 1.0), "metallicFactor": 0.0, "roughnessFactor": 0.9, "doubleSided": True}
    # Coordinates in a .glb are of single precision; what lies far from the origin is moved there, and back by its node.
    origin = mesh.vertices.mean(0, dtype=np.float64) if too_coarse(mesh.vertices) else np.zeros(3)
    shape = trimesh.Trimesh(mesh.vertices - origin, mesh.faces, process=False)
    shape.visual = trimesh.visual.TextureVisuals(material=trimesh.visual.material.PBRMaterial(**grey))
    scene = trimesh.Scene()
    scene.add_geometry(shape, geom_name="mesh", transform=trimesh.transformations.translation_matrix(origin))
    path.write_bytes(scene.export(file_type="glb", include_normals=False))


def _write_obj(mesh: Mesh, path: Path) -> None:
    lines = [f"v {x:.12g} {y:.12g} {z:.12g}" for x, y, z in mesh.vertices.tolist()]
    lines += [f"f {a} {b} {c}" for a, b, c in (mesh.faces + 1).tolist()]
    path.write_text("\n".join([*lines, ""]), encoding="ascii", newline="\n")


def _write_ply(mesh: Mesh, path: Path) -> None:
    write_ply(path, mesh.vertices, mesh.faces)


def _write_stl(mesh: Mesh, path: Path) -> None:
    import trimesh

    if too_coarse(mesh.vertices, 1e-3):
        reach = np.abs(mesh.vertices).max()
        raise ValueError(f"coordinates up to {reach:.6g} are too coarse in the single precision of .stl; write a .glb or .ply")
    path.write_bytes(trimesh.Trimesh(mesh.vertices, mesh.faces, process=False).export(file_type="stl"))
