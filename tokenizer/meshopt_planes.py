"""The vertices of `meshopt_file`, byte by byte: one plane after another, each the same byte of up to 256 vertices.

    plane    modes of the groups, two bits each      group 0      group 1 ...
    group    mode 0: all deltas are 0      1, 2: sixteen deltas of 2 or 4 bits, then a byte for each that is all ones      3: a byte each

A set of values is a number with a bit for each.
"""

from __future__ import annotations

from typing import NamedTuple

from .meshopt_file import BITS, BLOCK, GROUP, two_bytes

ALL = (1 << 256) - 1
DELTA = tuple(byte >> 1 ^ -(byte & 1) for byte in range(256))


class Planes(NamedTuple):
    """Whole blocks, as vertices; of the open block its whole planes, and what the one before it ended with; of the open plane its
    modes, its limits once all modes are known, its values; of the open group the deltas that have no value yet, None for large ones."""

    count: int
    bins: int
    blocks: tuple[tuple[bytes, ...], ...]
    before: bytes
    planes: tuple[bytes, ...]
    modes: bytes
    limits: tuple[int, ...]
    values: tuple[int, ...]
    deltas: tuple[int | None, ...]

    @property
    def size(self) -> int:
        """Vertices in the open block."""
        return min(BLOCK, self.count - BLOCK * len(self.blocks))

    @property
    def groups(self) -> int:
        return -(-self.size // GROUP)

    @property
    def width(self) -> int:
        """Bytes of a coordinate."""
        return 2 if two_bytes(self.bins) else 1

    @property
    def value(self) -> int:
        """The latest one."""
        return self.values[-1] if self.values else self.before[len(self.planes)]

    def mode(self, group: int) -> int:
        return self.modes[group // 4] >> 2 * (group % 4) & 3

    @property
    def group(self) -> int:
        return len(self.values) // GROUP


def opened(count: int, first: bytes, bins: int) -> Planes:
    """Before the first byte of the planes."""
    return Planes(count, bins, (), first + bytes(len(first) // 3), (), b"", (), (), ())


def legal_bytes(state: Planes) -> list[int]:
    """Never none."""
    if not state.limits:
        return _legal_modes(state)
    if _packed(state) is not None:
        return _legal_packed(state)
    at = len(state.values)
    if at >= state.size:
        return [0]
    free, value = _free(state), state.value
    return [byte for byte, delta in enumerate(DELTA) if free >> (value + delta) % 256 & 1]


def advanced(state: Planes, byte: int) -> Planes | list[tuple[int, ...]]:
    """After one more byte; all vertices after the last one."""
    if not state.limits:
        state = state._replace(modes=state.modes + bytes([byte]))
        if len(state.modes) * 4 < state.groups:
            return state
        state = state._replace(limits=_limits(state))
    elif (bits := _packed(state)) is not None:
        state = state._replace(deltas=state.deltas + _deltas(byte, bits))
    else:
        state = state._replace(deltas=(DELTA[byte], *state.deltas[1:]))
    return _settled(state)


# What follows from what is written


def _settled(state: Planes) -> Planes | list[tuple[int, ...]]:
    """All values that need no more byte, up to the end of the plane, the block, the vertices."""
    while state.group < state.groups:
        state = _begun(state)
        if _packed(state) is not None:
            return state
        values, deltas = list(state.values), list(state.deltas)
        value = state.value
        while deltas and deltas[0] is not None:
            value = (value + deltas.pop(0)) % 256
            values.append(value)
        state = state._replace(values=tuple(values), deltas=tuple(deltas))
        if deltas:
            return state
    planes = (*state.planes, bytes(state.values[: state.size]))
    state = state._replace(planes=planes, modes=b"", limits=(), values=())
    if len(planes) < 4 * state.width:
        return state
    before = bytes(plane[-1] for plane in planes)
    state = state._replace(blocks=(*state.blocks, planes), before=before, planes=())
    return state if len(state.blocks) * BLOCK < state.count else _vertices(state)


def _begun(state: Planes) -> Planes:
    """At the start of a group, the deltas that its mode says."""
    mode = state.mode(state.group)
    if state.deltas or len(state.values) % GROUP or BITS[mode] in (2, 4):
        return state
    return state._replace(deltas=(None if mode else 0,) * GROUP)


def _vertices(state: Planes) -> list[tuple[int, ...]]:
    rows = [row for planes in state.blocks for row in zip(*planes[: 3 * state.width], strict=True)]
    if state.width == 1:
        return rows
    return [tuple(row[axis] | row[axis + 1] << 8 for axis in (0, 2, 4)) for row in rows]


# What may come


def _below(limit: int) -> int:
    """The set of all values up to the limit."""
    return (1 << limit + 1) - 1


def _moved(values: int, delta: int) -> int:
    delta %= 256
    return (values << delta | values >> 256 - delta) & ALL


def _deltas(byte: int, bits: int) -> tuple[int | None, ...]:
    large = (1 << bits) - 1
    parts = [byte >> shift & large for shift in range(8 - bits, -1, -bits)]
    return tuple(None if part == large else DELTA[part] for part in parts)


def _packed(state: Planes) -> int | None:
    """Bits of a delta, while packed ones are to come."""
    bits = BITS[state.mode(state.group)]
    return bits if bits in (2, 4) and len(state.values) % GROUP == 0 and len(state.deltas) < GROUP else None


def _own_limits(state: Planes) -> list[int]:
    """The highest value of each vertex in this plane."""
    plane = len(state.planes)
    if plane >= 3 * state.width:
        return [0] * state.size
    if state.width == 1:
        return [state.bins - 1] * state.size
    return [state.bins - 1 - low >> 8 for low in state.planes[-1]] if plane % 2 else [255] * state.size


def _limits(state: Planes) -> tuple[int, ...]:
    """With what groups whose deltas are all 0 ask of the vertex before them."""
    limits = _own_limits(state)
    for group in range(state.groups - 1, 0, -1):
        if state.mode(group) == 0:
            limits[GROUP * group - 1] = min(limits[GROUP * group - 1 : GROUP * (group + 1)])
    return tuple(limits)


def _legal_modes(state: Planes) -> list[int]:
    if len(state.planes) >= 3 * state.width:
        return [0]
    limits = _own_limits(state)
    values = 1 << state.value
    for group in range(4 * len(state.modes)):
        values = _after_group(values, state.mode(group), limits[GROUP * group : GROUP * (group + 1)])
    reached = {0: values}
    for place in range(4):
        own = limits[GROUP * (4 * len(state.modes) + place) :][:GROUP]
        modes = range(4) if own else range(1)
        further = {
            modes_so_far | mode << 2 * place: _after_group(left, mode, own) for modes_so_far, left in reached.items() for mode in modes
        }
        reached = {key: left for key, left in further.items() if left}
    return sorted(reached)


def _after_group(values: int, mode: int, limits: list[int]) -> int:
    """Values that the last vertex of a group may have, by those of the one before it."""
    if not limits:
        return values
    return _below(limits[-1]) if mode else values & _below(min(limits))


def _legal_packed(state: Planes) -> list[int]:
    bits, at = _packed(state), len(state.values)
    limits = [*state.limits[at : at + GROUP], *(None,) * (at + GROUP - state.size)]
    values = 1 << state.value
    for delta, limit in zip(state.deltas, limits, strict=False):
        if limit is not None:
            values = _below(limit) & (ALL if delta is None else _moved(values, delta))
    reached = {0: values}
    for limit in limits[len(state.deltas) :][: 8 // bits]:
        reached = _further(reached, bits, limit)
    return sorted(reached)


def _further(reached: dict[int, int], bits: int, limit: int | None) -> dict[int, int]:
    """Beginnings of a byte, with one more delta, and the values that each leaves; behind the last vertex all deltas are 0."""
    if limit is None:
        return {begun << bits: left for begun, left in reached.items()}
    below, large = _below(limit), (1 << bits) - 1
    further = {
        begun << bits | part: below & (left << delta % 256 | left >> -delta % 256 if delta else left)
        for begun, left in reached.items()
        for part, delta in enumerate(DELTA[:large])
    }
    further |= {begun << bits | large: below for begun in reached}
    return {begun: left for begun, left in further.items() if left}


def _free(state: Planes) -> int:
    """Values of the next vertex with which those after it, up to the next one that is told, keep their limits."""
    at, free, way = len(state.values), _below(state.limits[len(state.values)]), 0
    for place, delta in enumerate(state.deltas[1:], at + 1):
        if delta is None or place >= state.size:
            break
        way += delta
        free &= _moved(_below(state.limits[place]), -way)
    return free
