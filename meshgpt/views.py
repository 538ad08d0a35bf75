"""Pictures of meshes and clouds, drawn with numpy alone: no display, no driver, no system library.

    triangles   which face is nearest at each sample   its shade, dark along its edges   samples averaged to pixels
    points      which ball is nearest at each sample   its shade, paler far away         samples averaged to pixels

The camera stands in front of the shape (+z), to its right and above it. It knows shapes. It does not know models or tokens.

f  faces      n  points      s  samples, row by row from the top left
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int, UInt8

from meshgpt.cloud import Cloud, thinned
from meshgpt.files import whole_file
from meshgpt.mesh import Fit, Mesh, face_normals

SAMPLES = 3  # along a side of a pixel
BATCH = 1 << 19  # samples looked at together
NOTHING = np.iinfo(np.int64).max

DISTANCE = 3.5  # of the camera from the middle of the cube
RIGHTWARDS, UPWARDS = np.radians(34), np.radians(24)
MARGIN = 0.06  # of the picture, on each side

# Colours from the shadow to the light
FRONT = np.array([(0.33, 0.40, 0.60), (0.90, 0.94, 1.00)])
BACK = np.array([(0.72, 0.40, 0.31), (1.00, 0.83, 0.72)])
BALL = np.array([(0.16, 0.25, 0.48), (0.62, 0.76, 0.98)])
LIGHTS = np.array([(-0.55, 0.72, 0.42), (0.90, 0.10, 0.40), (-0.3, -0.8, 0.5)])  # directions, in the camera's frame
STRENGTHS = np.array([0.92, 0.16, 0.10])
SHADOW = 0.6  # of the light of a tint
LINE = (0.13, 0.17, 0.27)
LINE_WIDTH = 1.0  # pixels
HAZE, HAZE_BEHIND = 0.5, 0.75  # how much of a ball's colour is white at the far side of the shape, and where that faces away
MOST_BALLS = 30_000


@dataclass(frozen=True)
class Camera:
    """A three-quarter view: where positions in the user's frame fall in a square picture of `size` pixels."""

    fit: Fit
    size: int
    zoom: float
    offset: tuple[float, float]

    @classmethod
    def of(cls, positions: Float[np.ndarray, "n 3"], size: int = 512, up: str = "y") -> Camera:
        """The view that these positions fill."""
        if not 8 <= size <= 2048:
            raise ValueError(f"a picture of {size} x {size} pixels cannot be drawn; sizes from 8 to 2048 fit")
        fit = Fit.of(positions, up)
        seen = _flattened(fit.apply(positions))[:, :2]
        low, high = seen.min(0), seen.max(0)
        zoom = size * SAMPLES * (1 - 2 * MARGIN) / max((high - low).max(), 1e-6)
        x, y = size * SAMPLES / 2 - zoom * (low + high) / 2
        return cls(fit, size, float(zoom), (float(x), float(y)))

    @property
    def side(self) -> int:
        """Samples along a side of the picture."""
        return self.size * SAMPLES

    def project(self, positions: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, "n 3"]:
        """Samples to the right, samples down, and nearness."""
        return _flattened(self.fit.apply(positions)) * [self.zoom, self.zoom, 1] + [*self.offset, 0]


def draw_mesh(
    mesh: Mesh,
    size: int = 512,
    up: str = "y",
    camera: Camera | None = None,
    transparent: bool = False,
    tints: Float[np.ndarray, "f 3"] | None = None,
) -> UInt8[np.ndarray, "h w colours"]:
    """Flat-shaded, with edges, on white; faces seen from behind are orange. `camera` keeps the view of another shape.

    `transparent` puts nothing behind, and adds a fourth channel: how much of each pixel is covered. `tints` are the colours
    of the faces in full light (red, green, blue, 0 to 1), from either side.
    """
    triangles = mesh.triangles().reshape(-1, 3)
    camera = camera or Camera.of(triangles, size, up)
    faces = _Faces.of(camera.project(triangles).reshape(-1, 3, 3))
    seen = _nearest(_samples_of_faces(faces, camera.side), camera.side)
    at = np.flatnonzero(seen >= 0)
    face = seen[at]
    colours = _face_colours(camera, triangles.reshape(-1, 3, 3), faces, tints)[face]
    lines = _lines(faces, face, at, camera.side)[:, None]
    return _picture(at, colours * (1 - lines) + lines * LINE, np.ones((len(at), 1)), camera, transparent)


def draw_cloud(
    cloud: Cloud, size: int = 512, up: str = "y", camera: Camera | None = None, transparent: bool = False
) -> UInt8[np.ndarray, "h w colours"]:
    """Small balls on white, paler far away, shaded by the normals of the cloud where it has some; at most 30,000 of them.

    `camera` and `transparent` as in `draw_mesh`.
    """
    camera = camera or Camera.of(cloud.positions, size, up)
    cloud = thinned(cloud, MOST_BALLS, np.random.default_rng(0))
    centres = camera.project(cloud.positions)
    radius = SAMPLES * float(np.clip(0.48 * camera.size / np.sqrt(len(cloud)), 0.8, max(camera.size / 100, 0.8)))
    seen = _nearest(_samples_of_balls(centres, radius, camera.side), camera.side)
    at = np.flatnonzero(seen >= 0)
    ball = seen[at]
    sideways = (np.column_stack(_middles(at, camera.side)) - centres[ball, :2]) / radius * [1, -1]
    normals = np.column_stack([sideways, np.sqrt((1 - (sideways**2).sum(1)).clip(0))])
    low, high = centres[:, 2].min(), centres[:, 2].max()
    haze = HAZE * (high - centres[ball, 2:]) / max(high - low, 1e-9)
    if cloud.normals is not None:
        facing = (camera.fit.turn(cloud.normals) @ AXES.T)[ball]
        normals = 0.35 * normals + 0.65 * np.where(facing[:, 2:] < 0, -facing, facing)
        haze = np.where(facing[:, 2:] < 0, np.maximum(haze, HAZE_BEHIND), haze)
    return _picture(at, _shaded(BALL, normals), 1 - haze, camera, transparent)


def picture_place(path: str | Path) -> Path:
    """Where a picture may be written; ValueError where the name does not end in .png."""
    path = Path(path)
    if path.suffix.lower() != ".png":
        raise ValueError(f"{path.name} ends in {path.suffix or 'nothing'}; pictures are written as .png")
    return path


def save_picture(mesh: Mesh, path: str | Path, cloud: Cloud | None = None, up: str = "y", size: int = 512) -> None:
    """A .png file of the mesh or, when a cloud is given, of both seen from the same place, the cloud on the left."""
    from PIL import Image

    path = picture_place(path)
    shown = mesh.triangles().reshape(-1, 3)
    camera = Camera.of(shown if cloud is None else np.concatenate([shown, cloud.positions]), size, up)
    pictures = [draw_mesh(mesh, camera=camera)]
    if cloud is not None:
        pictures.insert(0, draw_cloud(cloud, camera=camera))
    with whole_file(path) as part:
        Image.fromarray(np.concatenate(pictures, 1)).save(part, optimize=True)


# Where things fall in the picture


def _axes() -> Float[np.ndarray, "3 3"]:
    """To the right, up and towards the camera."""
    back = np.array([np.sin(RIGHTWARDS) * np.cos(UPWARDS), np.sin(UPWARDS), np.cos(RIGHTWARDS) * np.cos(UPWARDS)])
    right = np.array([np.cos(RIGHTWARDS), 0.0, -np.sin(RIGHTWARDS)])
    return np.stack([right, np.cross(back, right), back])


AXES = _axes()


def _flattened(unit: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, "n 3"]:
    """Positions in the cube to right, down and nearness: 0 at the far end of what the cube can hold, 1 at the near end.

    Nearness goes with one over the distance, which is what stays linear across a flat triangle.
    """
    x, y, z = (unit @ AXES.T).T
    scale = 1 / (DISTANCE - z)
    far, near = 1 / (DISTANCE + 1), 1 / (DISTANCE - 1)
    return np.stack([x * scale, -y * scale, (scale - far) / (near - far)], 1)


class _Faces(NamedTuple):
    """Triangles in the picture, and the share each corner has in a place: start + x * right + y * down, not negative inside."""

    corners: Float[np.ndarray, "f 3 2"]
    nearness: Float[np.ndarray, "f 3"]
    area: Float[np.ndarray, "f"]  # twice of it, and negative when seen from outside, as y runs down
    start: Float[np.ndarray, "f 3"]
    right: Float[np.ndarray, "f 3"]
    down: Float[np.ndarray, "f 3"]

    @classmethod
    def of(cls, projected: Float[np.ndarray, "f 3 3"]) -> _Faces:
        corners, nearness = projected[:, :, :2], projected[:, :, 2]
        after, last = corners[:, [1, 2, 0]], corners[:, [2, 0, 1]]  # of the edge across from each corner
        right, down = after[:, :, 1] - last[:, :, 1], last[:, :, 0] - after[:, :, 0]
        start = after[:, :, 0] * last[:, :, 1] - last[:, :, 0] * after[:, :, 1]
        area = start.sum(1)
        scale = np.where(area == 0, np.nan, area)[:, None]
        return cls(corners, nearness, area, start / scale, right / scale, down / scale)


def _middles(samples: Int[np.ndarray, "s"], side: int) -> tuple[Float[np.ndarray, "s"], Float[np.ndarray, "s"]]:
    return samples % side + 0.5, samples // side + 0.5


# What is nearest at each sample


class _Covered(NamedTuple):
    """Samples that something covers, what it is, and how near it is there."""

    samples: Int[np.ndarray, "s"]
    owners: Int[np.ndarray, "s"]
    nearness: Float[np.ndarray, "s"]


def _nearest(covered: Iterator[_Covered], side: int) -> Int[np.ndarray, "s"]:
    """The z-buffer: the nearest owner of each sample, -1 where there is none."""
    buffer = np.full(side * side, NOTHING)
    for each in covered:
        # Distance and owner in one integer, so that the smallest is the nearest.
        distance = ((1 - each.nearness.clip(0, 1)) * (1 << 30)).astype(np.int64)
        np.minimum.at(buffer, each.samples, distance << 32 | each.owners)
    return np.where(buffer == NOTHING, -1, buffer & 0xFFFFFFFF)


def _samples_of_faces(faces: _Faces, side: int) -> Iterator[_Covered]:
    """A batch of rows at a time: the samples whose middles lie inside."""
    face, y, first, counts = _rows_of_faces(faces, side)
    shares = faces.start[face] + (first + 0.5)[:, None] * faces.right[face] + (y + 0.5)[:, None] * faces.down[face]
    nearness, slope = (shares * faces.nearness[face]).sum(1), (faces.right * faces.nearness).sum(1)[face]
    ends = np.cumsum(counts)
    for rows in np.split(np.arange(len(counts)), np.searchsorted(ends, np.arange(BATCH, counts.sum(), BATCH))):
        row = np.repeat(rows, counts[rows])
        along = np.arange(len(row)) - np.repeat(np.cumsum(counts[rows]) - counts[rows], counts[rows])
        yield _Covered((y * side + first)[row] + along, face[row], nearness[row] + slope[row] * along)


def _rows_of_faces(faces: _Faces, side: int) -> tuple[Int[np.ndarray, "r"], ...]:
    """Each row of samples of each face: which face, which row, its first sample, and how many they are."""
    low, high = faces.corners[:, :, 1].min(1), faces.corners[:, :, 1].max(1)
    top = np.ceil(low - 0.5).clip(0, side).astype(np.int64)
    heights = np.where(faces.area != 0, np.floor(high + 0.5).clip(0, side).astype(np.int64) - top, 0)
    face = np.repeat(np.arange(len(top)), heights)
    y = top[face] + np.arange(len(face)) - np.repeat(np.cumsum(heights) - heights, heights)
    right = faces.right[face]
    with np.errstate(divide="ignore", invalid="ignore"):
        crossings = -(faces.start[face] + (y + 0.5)[:, None] * faces.down[face]) / right
    # A little to each side, so that no sample falls between two faces that share an edge.
    left = np.where(right > 0, crossings, -np.inf).max(1) - 1e-6
    right = np.where(right < 0, crossings, np.inf).min(1) + 1e-6
    first, last = np.ceil(left - 0.5).clip(0, side), np.floor(right - 0.5).clip(-1, side - 1)
    return face, y, first.astype(np.int64), (last - first + 1).clip(0).astype(np.int64)


def _samples_of_balls(centres: Float[np.ndarray, "n 3"], radius: float, side: int) -> Iterator[_Covered]:
    """The samples whose middles lie inside, one place of a box around all balls at a time."""
    reach = int(np.ceil(radius))
    corner = np.floor(centres[:, :2]).astype(np.int64)
    for x, y in np.ndindex(2 * reach + 1, 2 * reach + 1):
        place = corner + np.array([x - reach, y - reach])
        inside = (((place + 0.5 - centres[:, :2]) ** 2).sum(1) <= radius**2) & ((place >= 0) & (place < side)).all(1)
        owners = np.flatnonzero(inside)
        yield _Covered(place[owners, 1] * side + place[owners, 0], owners, centres[owners, 2])


# Colours


def _shaded(ramp: Float[np.ndarray, "*n 2 3"], normals: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, "n 3"]:
    """The colour between shadow and light; `normals` are in the camera's frame, of any length."""
    unit = normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)
    lights = LIGHTS / np.linalg.norm(LIGHTS, axis=1, keepdims=True)
    light = ((unit @ lights.T).clip(0) @ STRENGTHS).clip(0, 1)[:, None]
    return ramp[..., 0, :] * (1 - light) + ramp[..., 1, :] * light


def _face_colours(
    camera: Camera, triangles: Float[np.ndarray, "f 3 3"], faces: _Faces, tints: Float[np.ndarray, "f 3"] | None
) -> Float[np.ndarray, "f 3"]:
    outside = faces.area < 0
    unit = camera.fit.apply(triangles.reshape(-1, 3)).reshape(-1, 3, 3)
    normals = face_normals(unit) @ AXES.T
    ramps = np.where(outside[:, None, None], FRONT, BACK) if tints is None else np.stack([tints * SHADOW, tints], 1)
    return _shaded(ramps, np.where(outside[:, None], normals, -normals))


def _lines(faces: _Faces, face: Int[np.ndarray, "s"], samples: Int[np.ndarray, "s"], side: int) -> Float[np.ndarray, "s"]:
    """How much of each sample is line: near an edge of its face, less in faces so small that lines would fill them."""
    lengths = np.linalg.norm(faces.corners[:, [1, 2, 0]] - faces.corners[:, [2, 0, 1]], axis=2)
    heights = np.abs(faces.area)[:, None] / np.maximum(lengths, 1e-9)
    radius = np.abs(faces.area) / np.maximum(lengths.sum(1), 1e-9) / SAMPLES  # of the circle inside a face, in pixels
    strength = ((radius - 0.6) / 2.4).clip(0.06, 0.9)
    x, y = _middles(samples, side)
    distance = np.full(len(samples), np.inf)
    for start, right, down in zip((faces.start * heights).T, (faces.right * heights).T, (faces.down * heights).T, strict=True):
        distance = np.minimum(distance, start[face] + x * right[face] + y * down[face])
    return (LINE_WIDTH * SAMPLES / 2 + 0.5 - distance).clip(0, 1) * strength[face]


def _picture(
    samples: Int[np.ndarray, "s"], colours: Float[np.ndarray, "s 3"], cover: Float[np.ndarray, "s 1"], camera: Camera, transparent: bool
) -> UInt8[np.ndarray, "h w colours"]:
    """Each pixel the mean of its samples, of which `cover` hides what is behind: white or, when transparent, nothing."""
    canvas = np.zeros((camera.side * camera.side, 4), np.float32)
    canvas[samples] = np.concatenate([colours * cover, cover], 1)
    pixels = canvas.reshape(camera.size, SAMPLES, camera.size, SAMPLES, 4).mean((1, 3))
    colour, covered = pixels[..., :3], pixels[..., 3:]
    shown = np.concatenate([colour / np.maximum(covered, 1e-6), covered], -1) if transparent else colour + (1 - covered)
    return (shown.clip(0, 1) * 255 + 0.5).astype(np.uint8)
