"""Makes the eleven example inputs from eight CC0 meshes; which and whose they are is written in SOURCES.md beside this file.

python examples/make.py ../shared/examples          from the root of the repository; the same files, byte for byte, each time

couch.ply             points with normals
ribcage.ply           points
rocketlauncher.ply    points off the surface, by a normal distribution of 1 % of the longest side
crypt.ply             a dense mesh, as scanners and image-to-3D models make them
bucket-scan.ply       points that a depth camera sees from one side: holes, noise, flying pixels
tent-shell.ply        a dense mesh by marching cubes with both sides of a shell, as 3D generators make them
bottle-256.ply        256 points with normals
*.glb                 the meshes as they are
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))  # so that it runs in a checkout that is not installed

from meshgpt.cloud import import_open3d  # noqa: E402
from meshgpt.dense import double_shell  # noqa: E402
from meshgpt.files import read_mesh, write_mesh  # noqa: E402
from meshgpt.mesh import Fit, Mesh, sample_surface  # noqa: E402
from meshgpt.ply import write_ply  # noqa: E402
from meshgpt.scans import DepthCamera, scan  # noqa: E402

COPIED = ("sedan-sports.glb", "bucket.glb", "tent.glb", "WaterBottle_3.glb")
POINTS = 8192
NOISE = 0.01  # of the longest side
CELLS = 56  # along the longest side of the dense mesh
SHELL = 1 / 32  # of the cube: a cell of the shell, and half its thickness
FEW = 256
SKIN = 0.6  # cells between the mesh and the dense one around it, which closes gaps


def main(originals: Path) -> None:
    couch = sample_surface(read_mesh(originals / "couch.obj"), POINTS, np.random.default_rng(0))
    write_ply(HERE / "couch.ply", couch[:, :3], normals=couch[:, 3:])
    ribcage = sample_surface(read_mesh(originals / "ribcage.obj"), POINTS, np.random.default_rng(1))
    write_ply(HERE / "ribcage.ply", ribcage[:, :3])
    write_ply(HERE / "rocketlauncher.ply", noisy_points(read_mesh(originals / "rocketlauncherModern.obj"), np.random.default_rng(2)))
    write_mesh(dense(read_mesh(originals / "crypt.gltf")), HERE / "crypt.ply")
    write_ply(HERE / "bucket-scan.ply", seen(read_mesh(originals / "bucket.glb"), np.random.default_rng(3)))
    write_mesh(shell(read_mesh(originals / "tent.glb")), HERE / "tent-shell.ply")
    bottle = sample_surface(read_mesh(originals / "WaterBottle_3.glb"), FEW, np.random.default_rng(4))
    write_ply(HERE / "bottle-256.ply", bottle[:, :3], normals=bottle[:, 3:])
    for name in COPIED:
        shutil.copyfile(originals / name, HERE / name)


def noisy_points(mesh: Mesh, rng: np.random.Generator) -> np.ndarray:
    positions = sample_surface(mesh, POINTS, rng)[:, :3]
    side = (mesh.vertices.max(0) - mesh.vertices.min(0)).max()
    return positions + rng.normal(scale=NOISE * side, size=positions.shape)


def seen(mesh: Mesh, rng: np.random.Generator) -> np.ndarray:
    fit = Fit.of(mesh.vertices)
    return fit.undo(scan(Mesh(fit.apply(mesh.vertices), mesh.faces), 1, rng, DepthCamera(pixels=120)).positions)


def shell(mesh: Mesh) -> Mesh:
    fit = Fit.of(mesh.vertices)
    both = double_shell(Mesh(fit.apply(mesh.vertices), mesh.faces), SHELL)
    return Mesh(fit.undo(both.vertices), both.faces)


def dense(mesh: Mesh) -> Mesh:
    """The surface around everything that cannot be reached from outside, on a grid: one closed piece of small, even triangles."""
    open3d = import_open3d("making a dense mesh")
    low, high = mesh.vertices.min(0), mesh.vertices.max(0)
    cell = (high - low).max() / CELLS
    axes = [np.arange(start - 2 * cell, end + 2 * cell, cell) for start, end in zip(low, high, strict=True)]
    scene = open3d.t.geometry.RaycastingScene()
    scene.add_triangles(open3d.core.Tensor(mesh.vertices.astype(np.float32)), open3d.core.Tensor(mesh.faces.astype(np.uint32)))
    places = np.stack(np.meshgrid(*axes, indexing="ij"), -1).astype(np.float32)
    distance = scene.compute_distance(open3d.core.Tensor(places)).numpy() - SKIN * cell
    inside = ~reached_from_outside(distance > 0)
    distance[inside] = np.minimum(distance[inside], -0.05 * cell)
    shape = open3d.t.geometry.TriangleMesh.create_isosurfaces(open3d.core.Tensor(distance))
    # Its axes come in the opposite order, which turns the faces inside out; that they are so for a distance turns them back.
    vertices = shape.vertex.positions.numpy()[:, ::-1] * cell + [axis[0] for axis in axes]
    return Mesh(vertices, shape.triangle.indices.numpy())


def reached_from_outside(free: np.ndarray) -> np.ndarray:
    """The free cells of a grid that are connected to its first one."""
    reached = np.zeros_like(free)
    reached[0, 0, 0] = True
    while True:
        grown = reached.copy()
        for axis in range(3):
            grown |= np.roll(reached, 1, axis) | np.roll(reached, -1, axis)
        grown &= free
        if (grown == reached).all():
            return reached
        reached = grown


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("say where the original meshes are: python examples/make.py ../shared/examples")
    main(Path(sys.argv[1]))
