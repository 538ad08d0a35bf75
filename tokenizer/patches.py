"""Patches: a vertex and the faces around it; the rims of its fans, vertex by vertex.

    centre c            fan                                    another fan of c        next centre
    BLOCK  offset       [block] offset  [block] offset  ...    FAN [block] offset ...  BLOCK offset ...

    rim a b d e: the faces c a b, c b d and c d e. A ring also has c e a: then the next id is RING, where it would be FAN or nothing,
    or the block of the next centre comes from a range of its own.

A vertex is spelled by its place in a block of 16 x 16 x 16 cells, with the block before it where that is not the block of the vertex
before. Above 128 bins blocks lie in regions, and a vertex is spelled region, block, offset; what it shares with the vertex before is
left out. A centre is always spelled in full.

    id          offsets | blocks in a region | rim: blocks or regions | centre: the same | centre after a ring: the same | FAN RING

Every face belongs to one patch, so that a mesh of any topology can be written, and a fan runs in the direction of its faces, so
that orientation is kept. Which vertices become centres is chosen for short sequences; patches are sorted by the cells of their centres.

The idea of gathering faces around shared vertices, spelled as block and offset, was published as BPT (Weng et al., 2024, "Scaling Mesh
Generation via Compressive Tokenization").
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, Integer

from meshgpt.mesh import BINS, canonical

from .checks import check_bins, checked_faces, column, first_spoiled
from .face_memory import FaceMemory
from .interface import UNLIMITED, Grammar, Steering
from .one_id import OneIdTokenizer
from .vertex_numbers import cells_of, number_of

SIDE = 16  # cells on each axis of a block
FLAT = 8  # up to so many blocks on each axis there are no regions
WIDEST = 4  # regions on each axis
WHY = (
    "",
    "is not in 0 .. {last}",
    "comes before there is a centre, whose block begins a mesh",
    "comes inside a vertex, whose offset is still to come",
    "comes where the fan has no face yet",
    "closes a rim of fewer than three vertices",
    "is a cell outside of the cube",
    "comes inside a patch",
)


class Sides(NamedTuple):
    """How many there are on each axis: bins, regions, blocks in a region, cells in a block."""

    bins: int
    regions: int
    blocks: int
    cells: int

    @classmethod
    def of(cls, bins: int) -> Sides:
        blocks = -(-bins // SIDE)
        if blocks <= FLAT:
            return cls(bins, blocks, 1, min(SIDE, bins))
        within = FLAT if blocks <= FLAT * WIDEST else 2 * FLAT
        return cls(bins, -(-blocks // within), within, SIDE)


class Bases(NamedTuple):
    """The first id of each kind."""

    block: int
    region: int
    centre: int
    centre_after_ring: int
    fan: int

    @classmethod
    def of(cls, sides: Sides) -> Bases:
        offsets, regions = sides.cells**3, sides.regions**3
        start = offsets + (sides.blocks**3 if sides.blocks > 1 else 0)
        return cls(offsets, start, start + regions, start + 2 * regions, start + 3 * regions)


class PatchesTokenizer(OneIdTokenizer):
    """One id to a step; lossless, orientation included, for any canonical corners."""

    def __init__(self, bins: int = BINS) -> None:
        check_bins(bins)
        self.bins = bins
        self.sides = Sides.of(bins)
        self.bases = Bases.of(self.sides)
        self.vocab = self.bases.fan + 2

    def encode(self, corners: Integer[np.ndarray, "f 3 3"]) -> Int[np.ndarray, "n 1"]:
        """ValueError for corners outside of the bins, degenerate and repeated faces."""
        vertices, faces = checked_faces(corners, self.bins)
        if not len(faces):
            return np.zeros((0, 1), dtype=np.int64)
        from . import patch_kernels as kernels

        spelled = spelled_out(vertices, self.sides)
        spelling = (*spelled[:2], 2 if self.sides.blocks > 1 else 1)
        owner = kernels.cover(faces, spelling)
        order = np.argsort(order_of(spelled, self.sides)[owner], kind="stable")
        fans = kernels.trails(faces[order], owner[order], len(vertices))
        return kernels.spell(*fans, spelling, spelled[2], tuple(self.bases))[:, None]

    def decode(self, ids: Integer[np.ndarray, "n width"], context: Any = None, strict: bool = True) -> Int[np.ndarray, "f 3 3"]:
        """Canonical corners; ValueError names the first id that does not fit. Without `strict` the longest sequence before that one which
        ends between fans is decoded instead."""
        sequence = column(ids)
        faces, ends, fault, at, kept = self._parse(sequence)
        corners = canonical(cells_of(faces, self.bins))
        if not fault and len(corners) == len(faces):
            return corners
        why, spoiled = WHY[fault].format(last=self.vocab - 1), first_spoiled(np.unique(faces, return_inverse=True)[1])
        if spoiled:
            at, why = int(ends[spoiled[0]]), f"ends a face that {spoiled[1]}"
            kept = self._parse(sequence[:at])[-1]
        if strict:
            subject = f"id {ids[at, 0]} at {at}" if at < len(ids) else f"the end, at {at},"
            raise ValueError(f"{subject} {why}; cut the sequence with ids[:{kept}]")
        return self.decode(ids[:kept])

    def _parse(self, sequence: Int[np.ndarray, "n"]) -> tuple[Int[np.ndarray, "f 3"], Int[np.ndarray, "f"], int, int, int]:
        """Faces as vertex numbers, the ids that end them, what is wrong, where, and how many ids before it are whole fans."""
        from . import patch_kernels as kernels

        return kernels.parse(sequence, tuple(self.sides), tuple(self.bases))

    def grammar(self, manifold: bool = False, points: Float[np.ndarray, "n 3"] | None = None, faces: int = UNLIMITED) -> Grammar:
        """A centre is chosen before its faces are known: `manifold` edges, and the cloud's `points`, are not looked at."""
        return PatchGrammar(self.sides, faces)


def spelled_out(vertices: Int[np.ndarray, "v 3"], sides: Sides) -> tuple[Int[np.ndarray, "v"], Int[np.ndarray, "v"], Int[np.ndarray, "v"]]:
    """Region, block in the region and cell in the block of each vertex; (y, z, x) in each."""
    blocks, cells = np.divmod(vertices, sides.cells)
    regions, blocks = np.divmod(blocks, sides.blocks)
    return number_of(regions, sides.regions), number_of(blocks, sides.blocks), number_of(cells, sides.cells)


def order_of(spelled: tuple[np.ndarray, np.ndarray, np.ndarray], sides: Sides) -> Int[np.ndarray, "v"]:
    """What sorts vertices by region, then block, then cell."""
    region, block, cell = spelled
    return (region * sides.blocks**3 + block) * sides.cells**3 + cell


class PatchState(NamedTuple):
    """What decides the next id; vertices are numbers (see `vertex_numbers`), -1 for none."""

    opened: int = 0  # ids of the open vertex that are still to come
    to_centre: bool = False  # it is a centre
    region: int = 0  # of the open vertex, or of the last one
    block: int = 0
    centre: int = -1
    first: int = -1  # of the rim
    last: int = -1
    rim: int = 0  # vertices on it
    whole: bool = True  # the mesh may end here
    faces: FaceMemory = FaceMemory(0)


class PatchGrammar:
    """Whatever `decode` takes, and nothing else: fans of at least one face, rings of at least three, every face a new one.

    Vertices none of whose faces is left can only run out where bins are few; then they are barred ahead of time, so that there always is
    a legal id. The order of patches is free. After `most` faces there is only END.
    """

    def __init__(self, sides: Sides, most: int = UNLIMITED) -> None:
        self.sides, self.bases, self.most = sides, Bases.of(sides), most
        self.vocab = self.bases.fan + 2

    def start(self) -> PatchState:
        return PatchState(faces=FaceMemory(self.sides.bins**3))

    def legal(self, state: PatchState) -> Bool[np.ndarray, "ids"]:
        mask = np.zeros(self.vocab + 1, dtype=bool)
        if state.opened:
            self._allow_rest(mask, state, state.faces.used_up() if state.to_centre else self._barred(state))
            return mask
        mask[self.vocab] = state.whole
        if state.whole and state.faces.faces >= self.most:
            return mask
        if state.whole:
            self._allow_regions(mask, self.bases.centre, state.faces.used_up())
        if state.centre >= 0:
            barred = self._barred(state)
            self._allow_rest(mask, state, barred)
            self._allow_regions(mask, self.bases.region, barred)
            mask[self.bases.fan] = state.rim > 1 and self._fits_another(state)
        if self._closes(state):
            mask[self.bases.fan + 1] = True
            if state.faces.faces + 1 < self.most:
                self._allow_regions(mask, self.bases.centre_after_ring, self._closed(state).faces.used_up())
        return mask

    def advance(self, state: PatchState, id: int) -> PatchState:
        id, bases = int(id), self.bases
        if id < bases.block:
            return self._with_vertex(state, self._number(state.region, state.block, id))
        if id < bases.region:
            return state._replace(opened=1, block=id - bases.block, whole=False)
        if id < bases.fan:
            start = max(base for base in bases[1:4] if base <= id)
            before = self._closed(state) if start == bases.centre_after_ring else state
            levels = 2 if self.sides.blocks > 1 else 1
            return before._replace(opened=levels, to_centre=start != bases.region, region=id - start, block=0, whole=False)
        if id == bases.fan:
            return state._replace(rim=0, whole=False)
        return self._closed(state)

    def steered(self, state: PatchState, steering: Steering) -> PatchState:
        """A patch is no face with a first corner, so there is nothing to steer."""
        return state

    def faces(self, state: PatchState) -> int:
        return state.faces.faces

    def most_steps(self, faces: int) -> int:
        """A centre and two vertices of its rim a face, each spelled in full."""
        return (9 if self.sides.blocks > 1 else 6) * faces

    def _with_vertex(self, state: PatchState, vertex: int) -> PatchState:
        if state.to_centre:
            return state._replace(opened=0, to_centre=False, centre=vertex, rim=0, whole=False)
        if not state.rim:
            return state._replace(opened=0, first=vertex, last=vertex, rim=1, whole=False)
        faces = state.faces.with_face(state.centre, state.last, vertex)
        return state._replace(opened=0, last=vertex, rim=state.rim + 1, whole=True, faces=faces)

    def _closed(self, state: PatchState) -> PatchState:
        return state._replace(rim=0, whole=True, faces=state.faces.with_face(state.centre, state.last, state.first))

    def _closes(self, state: PatchState) -> bool:
        return state.rim > 2 and state.first not in self._barred(state)

    def _fits_another(self, state: PatchState) -> bool:
        return len(state.faces.used_up_with(state.centre)) < state.faces.vertices - 1

    def _barred(self, state: PatchState) -> set[int]:
        """Vertices that cannot come next on the rim."""
        if not state.rim:
            return {state.centre, *state.faces.used_up_with(state.centre)}
        return {state.centre, state.last, *state.faces.thirds(state.centre, state.last)}

    def _allow_regions(self, mask: Bool[np.ndarray, "ids"], base: int, barred: set[int]) -> None:
        """Regions (blocks, where there are none) in which some vertex is free."""
        sides = self.sides
        spelled = (self._spelled(number)[0] for number in barred)
        self._allow(mask[base:], spelled, sides.regions, sides.blocks * sides.cells, (0, 0, 0))

    def _allow_rest(self, mask: Bool[np.ndarray, "ids"], state: PatchState, barred: set[int]) -> None:
        """What may come next of a vertex in the state's region, and in its block unless that is still to come."""
        sides, spelled = self.sides, [self._spelled(number) for number in barred]
        if sides.blocks > 1 and state.opened != 1:
            blocks = (block for region, block, _ in spelled if region == state.region)
            self._allow(mask[self.bases.block :], blocks, sides.blocks, sides.cells, self._origin(state.region, 0))
        if state.opened != 2:
            cells = (cell for region, block, cell in spelled if (region, block) == (state.region, state.block))
            self._allow(mask, cells, sides.cells, 1, self._origin(state.region, state.block))

    def _allow(self, mask: Bool[np.ndarray, "_"], barred: Iterable[int], side: int, span: int, origin: tuple[int, ...]) -> None:
        """Each of the first side^3 ids stands for a box of `span` cells an axis; it is allowed if more of its cells lie in the cube
        than are barred."""
        room = [(self.sides.bins - start - span * np.arange(side)).clip(0, span) for start in origin]
        mask[: side**3] = True
        if any(along[-1] <= 0 for along in room):
            x, y, z = (along > 0 for along in room)
            mask[: side**3] = (y[:, None, None] & z[:, None] & x).reshape(-1)
        for id, count in Counter(barred).items():
            x, y, z = _digits(id, side)
            mask[id] = room[0][x] * room[1][y] * room[2][z] > count

    def _spelled(self, number: int) -> tuple[int, int, int]:
        sides = self.sides
        blocks, cells = zip(*(divmod(at, sides.cells) for at in _digits(number, sides.bins)), strict=True)
        regions, blocks = zip(*(divmod(at, sides.blocks) for at in blocks), strict=True)
        return _joined(regions, sides.regions), _joined(blocks, sides.blocks), _joined(cells, sides.cells)

    def _origin(self, region: int, block: int) -> tuple[int, ...]:
        """The lowest cell of a block, (x, y, z)."""
        sides = self.sides
        pairs = zip(_digits(region, sides.regions), _digits(block, sides.blocks), strict=True)
        return tuple((high * sides.blocks + low) * sides.cells for high, low in pairs)

    def _number(self, region: int, block: int, cell: int) -> int:
        pairs = zip(self._origin(region, block), _digits(cell, self.sides.cells), strict=True)
        return _joined(tuple(start + at for start, at in pairs), self.sides.bins)


def _digits(number: int, side: int) -> tuple[int, int, int]:
    """(x, y, z) of the number (y * side + z) * side + x."""
    return number % side, number // side**2, number // side % side


def _joined(at: tuple[int, ...], side: int) -> int:
    x, y, z = at
    return (y * side + z) * side + x
