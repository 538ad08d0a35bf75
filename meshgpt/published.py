"""How clouds become what a published model is shown, and how its ids become a mesh: as both MeshAnything do it, or better.

Ours         every cloud, bounds fitted exactly; only ids that decode; the mesh in the frame of the cloud
as released  a cloud of at least as many points as the model sees, in float16; whatever ids it writes; the mesh in the frame of the network

It knows points, ids and meshes. It does not know networks or files.

p  points      n  ids
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from meshgpt.conditioners import pick_points
from meshgpt.generate import Sampling
from meshgpt.mesh import Fit, Mesh, mesh_of, to_unit
from meshgpt.tokenizer.adjacent import AdjacentTokenizer, as_released
from meshgpt.tokenizer.face_codes import FACE, FaceCodesTokenizer
from meshgpt.tokenizer.interface import UNLIMITED, Grammar, State, Steering
from meshgpt.trimesh_order import mended

LONGEST_SIDE = 0.9995  # of what the networks are shown, in the cube
SPECIALS = 2  # BEGIN and PAD, between the ids of the tokenizer and END
STRIPS = 0.7  # of nine ids a face: the most that MeshAnythingV2 may write


@dataclass(frozen=True)
class Published:
    """The handling of one model: it sees `points` points, and has positions for `room` ids."""

    tokenizer: AdjacentTokenizer | FaceCodesTokenizer
    points: int
    room: int
    as_released: bool = False

    @property
    def sampling(self) -> Sampling:
        """The published default: the likeliest id, always; and as many faces as the model was trained for."""
        settle = "none" if self.as_released else "cloud"
        return Sampling(temperature=0.0, max_faces=self.most_faces, edges="any", tries=1, settle=settle)

    @property
    def most_faces(self) -> int:
        return self.tokenizer.network.config.places if isinstance(self.tokenizer, FaceCodesTokenizer) else 1600

    @property
    def shell_side(self) -> float:
        """How much of the cube the longest side takes up where marching cubes make a shell around a mesh."""
        return 0.9 if isinstance(self.tokenizer, FaceCodesTokenizer) else 0.95

    # Clouds

    def fit(self, positions: Float[np.ndarray, "p 3"], up: str) -> Fit:
        """As released, clouds come as the network is shown them (`published_points.py`) and stay there."""
        if self.as_released:
            return Fit()
        fit = Fit.of(positions, up)
        low, high = fit.apply(positions).min(0), fit.apply(positions).max(0)
        return replace(fit, scale=fit.scale * float((high - low).max()) / LONGEST_SIDE)

    def shown(self, cloud: Float[np.ndarray, "p 6"], rng: np.random.Generator) -> Float[np.ndarray, "k 6"]:
        """Of a cloud in the cube."""
        return cloud.astype(np.float32) if self.as_released else pick_points(cloud, self.points, rng)

    # Ids

    def steps(self, faces: int) -> int:
        """The most ids that so many faces take."""
        if isinstance(self.tokenizer, FaceCodesTokenizer):
            wanted = FACE * faces + 2 * self.as_released
        else:
            wanted = int(FACE * faces * STRIPS + 3) if self.as_released else (FACE + 1) * faces
        return min(wanted, self.room + self.as_released)

    def grammar(self, least: int, most: int) -> Grammar:
        """For meshes of so many faces; as released, of any."""
        if self.as_released:
            return Anything(self.tokenizer.vocab + SPECIALS + 1, self.steps(most))
        if isinstance(self.tokenizer, FaceCodesTokenizer):
            most = min(most, self.most_faces)  # it has no places for more
        return Limited(self.tokenizer.grammar(faces=most), least, most, self.room)

    def faces_in(self, ids: Int[np.ndarray, "n"]) -> int:
        """How many there are so far; as released, about."""
        if isinstance(self.tokenizer, FaceCodesTokenizer):
            return len(ids) // FACE
        stops = np.flatnonzero(np.append(ids, self.tokenizer.bins) == self.tokenizer.bins)
        return int(((np.diff(stops, prepend=-1) - 1) // 3 - 2).clip(min=0).sum())

    # Meshes

    def mesh(self, ids: Int[np.ndarray, "n 1"], context: Any, strict: bool) -> Mesh:
        """In the cube. Bins stand at the low edges of their cells there, as released."""
        if self.as_released:
            return mended(self._faces_as_released(ids[:, 0], context))
        mesh = mesh_of(self.tokenizer.decode(ids, context, strict), self.tokenizer.bins)
        return Mesh(mesh.vertices - 0.5 / self.tokenizer.bins, mesh.faces)

    def _faces_as_released(self, ids: Int[np.ndarray, "n"], context: Any) -> Float[np.ndarray, "f 3 3"]:
        """The first id is taken for BEGIN; other special ones are none."""
        ids = np.where(ids < self.tokenizer.vocab, ids, -1)[1:]
        if isinstance(self.tokenizer, AdjacentTokenizer):
            return as_released(ids).astype(np.float64)
        codes = ids[: len(ids) // FACE * FACE].reshape(-1, FACE)[: self.most_faces]
        if not len(codes):
            return np.zeros((0, 3, 3))
        corners = self.tokenizer.corners(codes, context)[(codes >= 0).all(1)]
        return to_unit(corners, self.tokenizer.bins) - 0.5 / self.tokenizer.bins


@dataclass(frozen=True)
class Limited:
    """A tokenizer's grammar for a network that has BEGIN and PAD before END: neither is ever legal. The mesh ends
    after `least` to `most` faces, and before there are more than `room` ids."""

    inner: Grammar
    least: int
    most: int
    room: int = UNLIMITED

    def start(self) -> tuple[State, int]:
        return self.inner.start(), 0

    def legal(self, state: tuple[State, int]) -> Bool[np.ndarray, "ids"]:
        inner, written = state
        legal = self.inner.legal(inner)
        if legal[-1]:
            faces = self.inner.faces(inner)
            legal[:-1] &= faces < self.most and written + self.inner.most_steps(1) <= self.room
            legal[-1] = faces >= self.least or not legal[:-1].any()
        return np.concatenate([legal[:-1], np.zeros(SPECIALS, dtype=bool), legal[-1:]])

    def advance(self, state: tuple[State, int], id: int) -> tuple[State, int]:
        return self.inner.advance(state[0], id), state[1] + 1

    def steered(self, state: tuple[State, int], steering: Steering) -> tuple[State, int]:
        return state

    def faces(self, state: tuple[State, int]) -> int:
        return self.inner.faces(state[0])

    def most_steps(self, faces: int) -> int:
        return min(self.inner.most_steps(faces), self.room)


@dataclass(frozen=True)
class Anything:
    """No grammar: every one of `ids` ids may come next, always, and nobody counts faces; after `steps` of them it is over."""

    ids: int
    steps: int = UNLIMITED

    def start(self) -> State:
        return False

    def legal(self, state: State) -> Bool[np.ndarray, "ids"]:
        """All, but for END before there is anything."""
        legal = np.ones(self.ids, dtype=bool)
        legal[-1] = state
        return legal

    def advance(self, state: State, id: int) -> State:
        return True

    def steered(self, state: State, steering: Steering) -> State:
        return state

    def faces(self, state: State) -> None:
        return None

    def most_steps(self, faces: int) -> int:
        return self.steps
