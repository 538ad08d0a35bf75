"""Writing steps, one id after another: legal ids only, each row with its own random numbers, streamed step by step.

It knows a network of steps and a grammar. It does not know meshes, files or conditions.

b  rows      w  ids of a step      o  ways that are open      k  ways of one row
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from meshgpt.memory import RunningMemory
from meshgpt.steps import Seen, StepModel
from meshgpt.tokenizer.interface import Grammar, State, Vertex


@dataclass(frozen=True)
class Sampling:
    """How ids are drawn.

    `temperature` 0 takes the likeliest; `guidance` above 1 exaggerates what the condition says. With `edges` manifold no edge gets
    more than two faces; with closed, moreover, none is left with one before the mesh goes on elsewhere. With `bounds` cloud
    vertices stay in the cloud's box and faces come bottom up. Each face is tried in `tries` ways at a time, of which the one that suits
    the cloud best is taken, and the mesh ends when the cloud lies on it; with one try the network alone decides.
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    guidance: float = 1.0
    max_faces: int = 400
    min_faces: int = 1
    edges: Literal["closed", "manifold", "any"] = "manifold"
    bounds: Literal["cloud", "none"] = "cloud"
    tries: int = 24

    def __post_init__(self) -> None:
        if self.temperature < 0 or self.top_k < 0 or not 0 < self.top_p <= 1 or self.guidance < 0:
            raise ValueError(
                f"temperature {self.temperature}, top-k {self.top_k}, top-p {self.top_p} and guidance {self.guidance} do not fit; "
                "use temperature, top-k and guidance of at least 0, and top-p in (0, 1]"
            )
        if self.edges not in ("closed", "manifold", "any"):
            raise ValueError(f"edges {self.edges!r} do not fit; use 'closed', 'manifold' or 'any'")
        if self.bounds not in ("cloud", "none") or (self.bounds == "none" and self.edges == "closed"):
            raise ValueError(
                f"bounds {self.bounds!r} do not fit edges {self.edges!r}; use 'cloud', or 'none' with edges 'manifold' or 'any'"
            )
        if self.tries < 1:
            raise ValueError(f"{self.tries} tries for each face do not fit; use at least 1")
        if not 1 <= self.min_faces <= self.max_faces:
            raise ValueError(f"{self.min_faces} to {self.max_faces} faces do not fit; use 1 <= min-faces <= max-faces")


def pick(logits: Float[Tensor, "b ids"], legal: Bool[Tensor, "b ids"], uniform: Float[Tensor, "b"], sampling: Sampling) -> Int[Tensor, "b"]:
    """One legal id a row; `uniform` numbers in [0, 1) decide, so that a row's choice depends on nothing but its own numbers."""
    logits = logits.masked_fill(~legal, -torch.inf)
    if sampling.temperature == 0:
        return logits.argmax(-1)
    ordered, ids = (logits / sampling.temperature).sort(dim=-1, descending=True, stable=True)
    share = ordered.double().softmax(-1)
    if sampling.top_k:
        share[:, sampling.top_k :] = 0
    if sampling.top_p < 1:
        share[share.cumsum(-1) - share >= sampling.top_p * share.sum(-1, keepdim=True)] = 0
    reached = share.cumsum(-1)
    at = torch.searchsorted(reached, uniform.double()[:, None] * reached[:, -1:], right=True)
    last = (share > 0).sum(-1, keepdim=True) - 1
    return ids.gather(-1, torch.minimum(at, last))[:, 0]


class Verdict(NamedTuple):
    """`take` a way; ask for some more ways, `again`; for others, after a first corner was passed over, `pass`; or `end` the mesh."""

    what: Literal["take", "again", "pass", "end"]
    way: int = 0


@runtime_checkable
class Judge(Protocol):
    """Chooses among the ways to write the next step of one row. `passed` and `ceiling` are for the grammar (`Grammar.steered`)."""

    passed: Set[Vertex]

    @property
    def ceiling(self) -> float: ...

    @property
    def whole(self) -> bool:
        """Whether nothing is missing any more."""
        ...

    def judge(self, ids: Int[np.ndarray, "k w"], ended: Bool[np.ndarray, "k"], uniform: float) -> Verdict:
        """Of all ways of this step so far, the latest ones last; `ended` ones are END. `uniform` in [0, 1) decides between good ones."""
        ...


def generate(
    network: StepModel,
    seen: Seen,
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
    for step in range(sampling.max_faces):
        for row in rows:
            row.wrote = False
        asking = [row for row in rows if row.running]
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
        self.number, self.judge, self.state = number, judge, grammar.start()
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
            self.state = grammar.steered(self.state, self.judge.passed, self.judge.ceiling)
            return False
        self.wrote = verdict.what == "take"
        self.running = self.wrote and (self.judge is None or not self.judge.whole)
        if self.wrote:
            self.step, self.state = np.array(ways[verdict.way].ids), ways[verdict.way].state
            if self.judge is not None:
                self.state = grammar.steered(self.state, self.judge.passed, self.judge.ceiling)
        return True

    def _verdict(self) -> Verdict:
        ended = np.array([way.ended for way in self.ways])
        if self.judge is None:
            return Verdict("end") if ended[0] else Verdict("take")
        return self.judge.judge(np.array([way.ids for way in self.ways]), ended, self.draw.random())


@dataclass
class _Way:
    """One try at a step: its ids so far (fillers once it is END), and where the grammar stands behind them."""

    state: State
    ids: tuple[int, ...] = ()
    ended: bool = False


def _try(writer: _Writer, grammar: Grammar, rows: Sequence[_Row], count: int, must_write: bool) -> None:
    """Give each of the rows `count` more ways."""
    ways = [_Way(row.state) for row in rows for _ in range(count)]
    writer.open_step(np.repeat([row.number for row in rows], count))
    for slot in range(writer.width):
        legal = _legal(grammar, ways)
        if slot == 0 and must_write:
            legal[legal[:, :-1].any(1), -1] = False
        uniform = np.concatenate([row.draw.random(count) for row in rows])
        ids = writer.pick(torch.from_numpy(legal), torch.from_numpy(uniform))
        if slot == 0:
            for way, id in zip(ways, ids, strict=True):
                way.ended = id == writer.end
        ids = np.where([way.ended for way in ways], 0, ids)
        _advance(grammar, ways, ids)
        writer.push(torch.from_numpy(ids))
    for number, row in enumerate(rows):
        row.ways += ways[number * count : (number + 1) * count]


def _legal(grammar: Grammar, ways: Sequence[_Way]) -> Bool[np.ndarray, "o ids"]:
    """Ways that are in one state are looked up once. Ended ones go on as fillers: any id will do, nobody reads them."""
    found = {id(way.state): way.state for way in ways}
    masks = {key: grammar.legal(state) for key, state in found.items()}
    legal = np.stack([masks[id(way.state)] for way in ways])
    legal[[way.ended for way in ways], :-1] = True
    return legal


def _advance(grammar: Grammar, ways: Sequence[_Way], ids: Int[np.ndarray, "o"]) -> None:
    """Ways that go the same way stay in one state."""
    states: dict[tuple[int, int], State] = {}
    before = [way.state for way in ways]  # keeps them alive, so that no two have one address
    for way, state, one in zip(ways, before, ids.tolist(), strict=True):
        way.ids += (one,)
        if way.ended:
            continue
        if (id(state), one) not in states:
            states[id(state), one] = grammar.advance(state, one)
        way.state = states[id(state), one]


class _Writer:
    """The network with everything that it keeps between ids: cache, memory and the open step; rows twice with guidance."""

    @torch.inference_mode()
    def __init__(self, network: StepModel, seen: Seen, blank: Seen | None, sampling: Sampling) -> None:
        self.network, self.sampling = network, sampling
        self.width, self.end = network.config.width, network.config.vocab
        self.guided = blank is not None and sampling.guidance != 1
        self.seen = seen.joined(blank) if self.guided else seen
        self.cache, self.hidden = network.begin(self.seen, sampling.max_faces)
        self.memory = RunningMemory(len(self.hidden), self.width, network.depth.shifts, network.config.bins, self.hidden.device)
        self.rows = torch.zeros(0, dtype=torch.long)

    @torch.inference_mode()
    def open_step(self, rows: Int[np.ndarray, "o"]) -> None:
        """Begin the step anew, once for each of the given rows."""
        wanted = torch.from_numpy(np.concatenate([rows, rows + len(self.hidden) // 2]) if self.guided else rows).to(self.hidden.device)
        if not torch.equal(wanted, self.rows):
            self.rows, self.shown = wanted, self.seen.select(wanted)
        self.opened = torch.zeros(len(wanted), 0, dtype=torch.long, device=self.hidden.device)

    @torch.inference_mode()
    def pick(self, legal: Bool[Tensor, "o ids"], uniform: Float[Tensor, "o"]) -> Int[np.ndarray, "o"]:
        memory = self.memory.within_step(self.opened, self.rows)
        logits = self.network.slot_logits(self.hidden[self.rows], self.opened, memory, self.shown).cpu()
        if self.guided:
            wanted, blank = logits.log_softmax(-1).chunk(2)
            logits = blank + self.sampling.guidance * (wanted - blank)
        return pick(logits, legal[:, : logits.shape[1]], uniform, self.sampling).numpy()

    @torch.inference_mode()
    def push(self, ids: Int[Tensor, "o"]) -> None:
        ids = self._doubled(ids)
        self.opened = torch.cat([self.opened, ids[:, None]], 1)

    @torch.inference_mode()
    def take(self, ids: Int[np.ndarray, "b w"]) -> None:
        """Go on behind a step of every row."""
        step = self._doubled(torch.from_numpy(ids))
        self.memory.advance(step)
        if self.cache.length < self.cache.capacity:
            self.hidden = self.network.read_step(step, self.seen, self.cache)

    def _doubled(self, ids: Int[Tensor, "o *w"]) -> Int[Tensor, "p *w"]:
        ids = ids.to(self.hidden.device)
        return torch.cat([ids, ids]) if self.guided else ids
