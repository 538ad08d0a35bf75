"""Writing steps, one id after another: legal ids only, each row with its own random numbers, streamed step by step.

It knows a network of steps and a grammar. It does not know meshes, files or conditions.

b  rows      w  ids of a step      s  ids so far      o  ways that are open      n  different ones      k  ways of one row
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from meshgpt.one_id_model import Shape
from meshgpt.steps import Seen
from meshgpt.tokenizer.interface import Grammar, State, Steering


@dataclass(frozen=True)
class Sampling:
    """How ids are drawn.

    `temperature` 0 takes the likeliest; `guidance` above 1 exaggerates what the condition says. With `edges` manifold no edge gets
    more than two faces. With `bounds` cloud vertices stay on the cloud. Each step is tried in `tries` ways at a time, of which the one
    that suits the cloud best is taken, and the mesh ends when the cloud lies on it; with one try the network alone decides. What is
    written settles on the cloud (`settle.py`), or stays in the middles of its bins.
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    guidance: float = 1.0
    max_faces: int = 800
    min_faces: int = 1
    edges: Literal["manifold", "any"] = "manifold"
    bounds: Literal["cloud", "none"] = "cloud"
    tries: int = 32
    settle: Literal["cloud", "none"] = "cloud"

    def __post_init__(self) -> None:
        if self.temperature < 0 or self.top_k < 0 or not 0 < self.top_p <= 1 or self.guidance < 0:
            raise ValueError(
                f"temperature {self.temperature}, top-k {self.top_k}, top-p {self.top_p} and guidance {self.guidance} do not fit; "
                "use temperature, top-k and guidance of at least 0, and top-p in (0, 1]"
            )
        if self.edges not in ("manifold", "any") or self.bounds not in ("cloud", "none"):
            raise ValueError(
                f"edges {self.edges!r} and bounds {self.bounds!r} do not fit; use 'manifold' or 'any' edges, and bounds 'cloud' or 'none'"
            )
        if self.settle not in ("cloud", "none"):
            raise ValueError(f"settle {self.settle!r} does not fit; use 'cloud' or 'none'")
        if self.tries < 1:
            raise ValueError(f"{self.tries} tries for each face do not fit; use at least 1")
        if not 1 <= self.min_faces <= self.max_faces:
            raise ValueError(f"{self.min_faces} to {self.max_faces} faces do not fit; use 1 <= min-faces <= max-faces")


def pick(
    logits: Float[Tensor, "n ids"], legal: Bool[Tensor, "n ids"], which: Int[Tensor, "o"], uniform: Float[Tensor, "o"], sampling: Sampling
) -> Int[Tensor, "o"]:
    """Legal ids, each by the row of logits that `which` names; `uniform` numbers in [0, 1) decide, so that a choice depends on
    nothing but its own numbers."""
    logits = logits.masked_fill(~legal, -torch.inf)
    if sampling.temperature == 0:
        return logits.argmax(-1)[which]
    ordered, ids = (logits / sampling.temperature).sort(dim=-1, descending=True, stable=True)
    share = ordered.double().softmax(-1)
    if sampling.top_k:
        share[:, sampling.top_k :] = 0
    if sampling.top_p < 1:
        share[share.cumsum(-1) - share >= sampling.top_p * share.sum(-1, keepdim=True)] = 0
    reached = share.cumsum(-1)[which]
    at = torch.searchsorted(reached, uniform.double()[:, None] * reached[:, -1:], right=True)
    last = (share > 0).sum(-1, keepdim=True)[which] - 1
    return ids[which].gather(-1, torch.minimum(at, last))[:, 0]


@runtime_checkable
class OpenRows(Protocol):
    """So many rows that a network is writing, all at the same step."""

    rows: int
    device: torch.device

    def logits(self, rows: Int[Tensor, "n"], opened: Int[Tensor, "n s"]) -> Float[Tensor, "n ids"]:
        """Of the slot after the `opened` ids of the rows' open steps; of slot 0 with END behind them."""
        ...

    def take(self, ids: Int[Tensor, "b w"]) -> None:
        """Go on behind a step of every row; rows that have ended may hold anything."""
        ...


@runtime_checkable
class Network(Protocol):
    """Writes the steps of one tokenizer; `config` says their `width` and `spell`, `end` is the id END."""

    config: Any

    @property
    def end(self) -> int: ...

    def most_steps(self, faces: int) -> int:
        """Steps that may be written for so many faces."""
        ...

    def writing(self, seen: Any, faces: int) -> OpenRows:
        """Rows that are about to be written, each with so many faces at most."""
        ...


class Verdict(NamedTuple):
    """`take` a way; ask for some more ways, `again`; for others, after a first corner was passed over, `pass`; or `end` the mesh.
    The `spare` ways may do for the next steps."""

    what: Literal["take", "again", "pass", "end"]
    way: int = 0
    spare: tuple[int, ...] = ()


@runtime_checkable
class Judge(Protocol):
    """Chooses among the ways to write the next step of one row."""

    @property
    def steering(self) -> Steering:
        """Where the open step should begin."""
        ...

    @property
    def whole(self) -> bool:
        """Whether nothing is missing any more."""
        ...

    def promising(self, ids: Int[np.ndarray, "k s"], ended: Bool[np.ndarray, "k"]) -> Bool[np.ndarray, "k"]:
        """Which of several ways are worth going on with, where `s` ids of the step are there: those of one whole vertex or more."""
        ...

    def judge(self, ids: Int[np.ndarray, "k w"], ended: Bool[np.ndarray, "k"], uniform: float) -> Verdict:
        """Of all ways of this step so far, the latest ones last; `ended` ones are END. `uniform` in [0, 1) decides between good ones."""
        ...


def generate(
    network: Network,
    seen: Seen | Shape,
    blank: Seen | None,
    grammar: Grammar,
    seeds: Sequence[int],
    sampling: Sampling,
    judges: Sequence[Judge] = (),
) -> Iterator[Int[np.ndarray, "b w"]]:
    """Yield one step for all rows until every row has ended or the limit is reached; a row that has ended is filled with -1.

    `blank` is the same rows without their condition, for guidance; None leaves guidance out. With `judges`, one a row, each step is
    tried in `sampling.tries` ways at a time, and the judge takes one; without, the first try counts.
    """
    writer = _Writer(network, seen, blank, sampling)
    rows = [_Row(number, grammar, seed, judges[number] if judges else None) for number, seed in enumerate(seeds)]
    for step in range(network.most_steps(sampling.max_faces)):
        for row in rows:
            row.wrote = False
        asking = [row for row in rows if row.running and not (row.ways and row.decide(grammar))]
        while asking:
            _try(writer, grammar, asking, sampling.tries if judges else 1, step < sampling.min_faces)
            asking = [row for row in asking if not row.decide(grammar)]
        if not any(row.wrote for row in rows):
            return
        yield np.stack([row.step if row.wrote else np.full(network.config.width, -1) for row in rows])
        writer.take(np.stack([row.step if row.wrote else np.zeros(network.config.width, dtype=np.int64) for row in rows]))


class _Row:
    """One mesh that is being written, and the ways in which its open step was tried."""

    def __init__(self, number: int, grammar: Grammar, seed: int, judge: Judge | None) -> None:
        self.number, self.judge = number, judge
        self.state = grammar.start() if judge is None else grammar.steered(grammar.start(), judge.steering)
        self.draw = np.random.default_rng(seed)
        self.running, self.wrote = True, False
        self.ways: list[_Way] = []

    def decide(self, grammar: Grammar) -> bool:
        """Whether the open step is decided upon; if so, it is `step`, unless the row has ended."""
        verdict = self._verdict()
        if verdict.what == "again":
            return False
        ways, self.ways = self.ways, []
        if verdict.what == "pass":
            self.state = grammar.steered(self.state, self.judge.steering)
            return False
        self.wrote = verdict.what == "take"
        self.running = self.wrote and (self.judge is None or not self.judge.whole)
        if self.wrote:
            self.step, self.state = np.array(ways[verdict.way].ids), ways[verdict.way].state
            if self.judge is not None:
                self.state = grammar.steered(self.state, self.judge.steering)
                spare = dict.fromkeys(ways[way].ids for way in verdict.spare)
                self.ways = [way for ids in spare if (way := self._rewritten(grammar, ids)) is not None]
        return True

    def _rewritten(self, grammar: Grammar, ids: tuple[int, ...]) -> _Way | None:
        """A way of an earlier step as one of the open step, if it may be written."""
        state = self.state
        for id in ids:
            if not grammar.legal(state)[id]:
                return None
            state = grammar.advance(state, id)
        return _Way(self.number, state, ids)

    def _verdict(self) -> Verdict:
        ended = np.array([way.ended for way in self.ways])
        if self.judge is None:
            return Verdict("end") if ended[0] else Verdict("take")
        return self.judge.judge(np.array([way.ids for way in self.ways]), ended, self.draw.random())


@dataclass(frozen=True)
class _Way:
    """One try at a step of a row: its ids so far (fillers once it is END), and where the grammar stands behind them."""

    row: int
    state: State
    ids: tuple[int, ...] = ()
    ended: bool = False


def _try(writer: _Writer, grammar: Grammar, rows: Sequence[_Row], count: int, must_write: bool) -> None:
    """Give each of the rows `count` more ways."""
    ways = [[_Way(row.number, row.state)] * count for row in rows]
    for slot in range(writer.width):
        uniform = np.concatenate([row.draw.random(count) for row in rows])
        ways = _split(_grown(writer, grammar, list(itertools.chain(*ways)), uniform, must_write), count)
        if (slot + 1) % writer.spell == 0 and slot + 1 < writer.width:
            ways = [_sifted(row.judge, its) if row.judge else its for row, its in zip(rows, ways, strict=True)]
    for row, its in zip(rows, ways, strict=True):
        row.ways += its


def _split(ways: list[_Way], count: int) -> list[list[_Way]]:
    return [ways[start : start + count] for start in range(0, len(ways), count)]


def _grown(writer: _Writer, grammar: Grammar, ways: list[_Way], uniform: Float[np.ndarray, "o"], must_write: bool) -> list[_Way]:
    """The ways with one more id each. Ways that are alike so far are looked at once, and go on from one state."""
    going = [number for number, way in enumerate(ways) if not way.ended]
    grown = [replace(way, ids=(*way.ids, 0)) for way in ways]
    if not going:
        return grown
    numbers: dict[tuple[int, tuple[int, ...]], int] = {}
    which = [numbers.setdefault((ways[number].row, ways[number].ids), len(numbers)) for number in going]
    alike = {of: ways[number] for number, of in zip(reversed(going), reversed(which), strict=True)}
    starts = [alike[number] for number in range(len(numbers))]
    legal = np.stack([grammar.legal(way.state) for way in starts])
    if must_write and not starts[0].ids:
        legal[legal[:, :-1].any(1), -1] = False
    ids = writer.pick(starts, legal, np.array(which), uniform[going])
    states: dict[tuple[int, int], State] = {}
    for number, of, id in zip(going, which, ids.tolist(), strict=True):
        if id == writer.end:
            grown[number] = replace(ways[number], ids=(0,), ended=True)
            continue
        if (of, id) not in states:
            states[of, id] = grammar.advance(starts[of].state, id)
        grown[number] = replace(ways[number], state=states[of, id], ids=(*ways[number].ids, id))
    return grown


def _sifted(judge: Judge, ways: list[_Way]) -> list[_Way]:
    """The promising ways, as often as it takes to have as many as before; all, where none is."""
    kept = judge.promising(np.array([way.ids for way in ways]), np.array([way.ended for way in ways]))
    good = itertools.cycle([way for way, keep in zip(ways, kept, strict=True) if keep])
    return [way if keep else next(good) for way, keep in zip(ways, kept, strict=True)] if kept.any() else ways


class _Writer:
    """The network with everything that it keeps between ids: cache, memory and the open step; rows twice with guidance."""

    @torch.inference_mode()
    def __init__(self, network: Network, seen: Seen | Shape, blank: Seen | None, sampling: Sampling) -> None:
        self.sampling = sampling
        self.width, self.spell, self.end = network.config.width, network.config.spell, network.end
        self.guided = blank is not None and sampling.guidance != 1
        self.writing = network.writing(seen.joined(blank) if self.guided else seen, sampling.max_faces)

    @torch.inference_mode()
    def pick(
        self, starts: Sequence[_Way], legal: Bool[np.ndarray, "n ids"], which: Int[np.ndarray, "o"], uniform: Float[np.ndarray, "o"]
    ) -> Int[np.ndarray, "o"]:
        """The next id of each way, which goes on from `which` of the starts."""
        logits = self._logits(torch.tensor([way.row for way in starts]), torch.tensor([way.ids for way in starts], dtype=torch.long))
        legal = torch.from_numpy(legal[:, : logits.shape[1]])
        return pick(logits, legal, torch.from_numpy(which), torch.from_numpy(uniform), self.sampling).numpy()

    def _logits(self, rows: Int[Tensor, "n"], opened: Int[Tensor, "n s"]) -> Float[Tensor, "n ids"]:
        if self.guided:
            rows = torch.cat([rows, rows + self.writing.rows // 2])
        logits = self.writing.logits(rows.to(self.writing.device), self._doubled(opened)).cpu()
        if not self.guided:
            return logits
        wanted, blank = logits.log_softmax(-1).chunk(2)
        return blank + self.sampling.guidance * (wanted - blank)

    @torch.inference_mode()
    def take(self, ids: Int[np.ndarray, "b w"]) -> None:
        """Go on behind a step of every row."""
        self.writing.take(self._doubled(torch.from_numpy(ids)))

    def _doubled(self, ids: Int[Tensor, "o *w"]) -> Int[Tensor, "p *w"]:
        ids = ids.to(self.writing.device)
        return torch.cat([ids, ids]) if self.guided else ids
