"""Writing steps, one id after another: legal ids only, each row with its own random numbers, streamed step by step.

It knows a network of steps and a grammar. It does not know meshes, files or conditions.

b  rows      w  ids of a step      s  ids so far      o  ways that are open      n  different ones      k  ways of one row
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
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
    written settles on the cloud (`settle.py`), or stays in the middles of its bins; where it settles, and edges are manifold, it is made
    `tidy` as well (`tidy.py`), or left with the faces that were written.
    A cloud that was seen from one side only is completed first (`completion.py`), or left as it is.
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
    tidy: Literal["cloud", "none"] = "cloud"
    complete: Literal["auto", "none"] = "auto"

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
        if self.settle not in ("cloud", "none") or self.tidy not in ("cloud", "none"):
            raise ValueError(f"settle {self.settle!r} and tidy {self.tidy!r} do not fit; use 'cloud' or 'none'")
        if self.complete not in ("auto", "none"):
            raise ValueError(f"complete {self.complete!r} does not fit; use 'auto' or 'none'")
        if self.tries < 1:
            raise ValueError(f"{self.tries} tries for each face do not fit; use at least 1")
        if not 1 <= self.min_faces <= self.max_faces:
            raise ValueError(f"{self.min_faces} to {self.max_faces} faces do not fit; use 1 <= min-faces <= max-faces")


def pick(
    logits: Float[Tensor, "n ids"], legal: Bool[Tensor, "n ids"], which: Int[Tensor, "o"], uniform: Float[Tensor, "o"], sampling: Sampling
) -> Int[Tensor, "o"]:
    """Legal ids, each by the row of logits that `which` names; `uniform` numbers in [0, 1) decide, so that a choice depends on
    nothing but its own numbers."""
    from meshgpt.pick_kernels import picked

    asked = (part.numpy() for part in (logits.float(), legal.contiguous(), which, uniform.double()))
    return torch.from_numpy(picked(*asked, float(sampling.temperature), sampling.top_k, float(sampling.top_p)))


@runtime_checkable
class OpenRows(Protocol):
    """So many rows that a network is writing, each by itself."""

    rows: int
    device: torch.device

    @property
    def apart(self) -> bool:
        """Whether the logits of a row are the same to the last bit whoever else is asked about, and so can be asked for at once."""
        ...

    def begin(self, row: int, seen: Any) -> None:
        """A new row in place of the one that was there."""
        ...

    def logits(self, rows: Int[Tensor, "n"], opened: Int[Tensor, "n s"]) -> Float[Tensor, "n ids"]:
        """Of the slot after the `opened` ids of the rows' open steps; of slot 0 with END behind them."""
        ...

    def take(self, ids: Int[Tensor, "b w"], rows: Sequence[int] | None = None) -> None:
        """Go on behind a step of the given rows, or of all."""
        ...


@runtime_checkable
class Network(Protocol):
    """Writes the steps of one tokenizer; `config` says their `width` and `spell`, `end` is the id END."""

    config: Any

    @property
    def end(self) -> int: ...

    def writing(self, seen: Any, steps: int) -> OpenRows:
        """Rows that are about to be written (a batch of what they see, or a list of single ones), each with so many steps at most."""
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

    @property
    def unfinished(self) -> bool:
        """Whether so much is missing that the mesh may not end, as long as anything else may come."""
        ...

    def promising(self, ids: Int[np.ndarray, "k s"], ended: Bool[np.ndarray, "k"]) -> Bool[np.ndarray, "k"]:
        """Which of several ways are worth going on with, where `s` ids of the step are there: those of one whole vertex or more."""
        ...

    def judge(self, ids: Int[np.ndarray, "k w"], ended: Bool[np.ndarray, "k"], uniform: float) -> Verdict:
        """Of all ways of this step so far, the latest ones last; `ended` ones are END. `uniform` in [0, 1) decides between good ones."""
        ...


class Task(NamedTuple):
    """One mesh to be written: what is seen of its condition (one row), the same without the condition for guidance, or None, and what
    chooses among the ways to write a step, or None. Tasks of one condition share `seen` and `blank`, so that these are read once."""

    seen: Any
    blank: Any
    grammar: Grammar
    seed: int
    judge: Judge | None = None


class Written(NamedTuple):
    """What was written of which task: a step, or None where it only ended; how many faces there are, where the grammar counts them;
    whether it `goes_on`; and if not, whether it was `cut` off by a limit."""

    task: int
    step: Int[np.ndarray, "w"] | None
    faces: int | None
    goes_on: bool
    cut: bool


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
    blanks = [None] * len(seeds) if blank is None else blank.rows()
    tasks = [
        Task(one, without, grammar, seed, judges[number] if judges else None)
        for number, (one, without, seed) in enumerate(zip(seen.rows(), blanks, seeds, strict=True))
    ]
    yield from in_step(network, tasks, sampling)


def in_step(network: Network, tasks: Sequence[Task], sampling: Sampling) -> Iterator[Int[np.ndarray, "b w"]]:
    """All tasks side by side, as `generate` yields them."""
    for written in write(network, tasks, sampling, len(tasks)):
        steps = np.full((len(tasks), network.config.width), -1)
        for one in written:
            if one.step is not None:
                steps[one.task] = one.step
        if (steps >= 0).any():
            yield steps


def write(network: Network, tasks: Iterable[Task], sampling: Sampling, rows: int) -> Iterator[list[Written]]:
    """Write every task, up to `rows` at the same time: one that is done makes room for the next. Yields a step of all that are being
    written. What a task becomes depends on nothing but the task: of judged ones to the last bit where the network's large products do not
    depend on the number of rows (see precision.py); of others as far as last bits decide nothing."""
    waiting = enumerate(tasks)
    first = list(itertools.islice(waiting, rows))
    if not first:
        return
    writer = _Writer(network, [task for _, task in first], sampling)
    running = [_Row(place, number, task, sampling) for place, (number, task) in enumerate(first)]
    while running:
        asking = [row for row in running if not (row.ways and row.decide())]
        while asking:
            _try(writer, asking, sampling)
            asking = [row for row in asking if not row.decide()]
        yield [row.written() for row in running]
        going = [row for row in running if row.running]
        writer.take(going)
        ended = (row.place for row in running if not row.running)
        for place, (number, task) in zip(ended, waiting, strict=False):
            writer.begin(place, task)
            going.append(_Row(place, number, task, sampling))
        running = sorted(going, key=lambda row: row.place)


class _Row:
    """One mesh that is being written, and the ways in which its open step was tried."""

    def __init__(self, place: int, number: int, task: Task, sampling: Sampling) -> None:
        self.place, self.number, self.sampling = place, number, sampling
        self.grammar, self.judge = task.grammar, task.judge
        self.state = self.grammar.start() if task.judge is None else self.grammar.steered(self.grammar.start(), task.judge.steering)
        self.draw = np.random.default_rng(task.seed)
        self.left = self.grammar.most_steps(sampling.max_faces)
        self.running, self.wrote, self.cut = True, False, False
        self.ways: list[_Way] = []

    @property
    def tries(self) -> int:
        return 1 if self.judge is None else self.sampling.tries

    def written(self) -> Written:
        return Written(self.number, self.step if self.wrote else None, self.grammar.faces(self.state), self.running, self.cut)

    def decide(self) -> bool:
        """Whether the open step is decided upon; if so, it is `step`, unless the row has ended."""
        verdict = self._verdict()
        if verdict.what == "again":
            return False
        ways, self.ways = self.ways, []
        if verdict.what == "pass":
            self.state = self.grammar.steered(self.state, self.judge.steering)
            return False
        if verdict.what == "end" and self._too_short(self.state) and not ways[verdict.way].ended:
            self.judge, verdict = None, Verdict("take")  # it sees nothing more to do, and leaves the rest to the network
        self.wrote, self.cut = verdict.what == "take", False
        self.running = self.wrote
        if self.wrote:
            self._take(ways, verdict)
        return True

    def _take(self, ways: list[_Way], verdict: Verdict) -> None:
        self.step, self.state = np.array(ways[verdict.way].ids), ways[verdict.way].state
        self.left -= 1
        self.cut = self.left <= 0 or not self._fewer(self.state, self.sampling.max_faces, unknown=True)
        if self.judge is not None and self.judge.whole:
            self.running = self._too_short(self.state)
            self.judge = None
        self.running &= not self.cut
        if self.judge is not None:
            self.state = self.grammar.steered(self.state, self.judge.steering)
            spare = dict.fromkeys(ways[way].ids for way in verdict.spare)
            self.ways = [way for ids in spare if (way := self._rewritten(ids)) is not None]

    def _too_short(self, state: State) -> bool:
        """A judge may leave a mesh without a face, unless more are asked for."""
        return self.sampling.min_faces > 1 and self._fewer(state, self.sampling.min_faces)

    def _fewer(self, state: State, count: int, unknown: bool = False) -> bool:
        """Whether there are fewer faces than so many."""
        faces = self.grammar.faces(state)
        return unknown if faces is None else faces < count

    def _rewritten(self, ids: tuple[int, ...]) -> _Way | None:
        """A way of an earlier step as one of the open step, if it may be written."""
        way = _Way(self, self.state)
        for id in ids:
            if not self.grammar.legal(way.state)[id]:
                return None
            way = _Way(self, way.state, (*way.ids, id))
        return way

    def legal(self, state: State) -> Bool[np.ndarray, "ids"]:
        """What the grammar allows; END only when there are enough faces and the judge misses little, or when nothing else goes on."""
        legal = self.grammar.legal(state)
        if legal[-1] and legal[:-1].any() and (self._fewer(state, self.sampling.min_faces) or self._unfinished):
            legal[-1] = False
        return legal

    @property
    def _unfinished(self) -> bool:
        return self.judge is not None and self.judge.unfinished

    def _verdict(self) -> Verdict:
        ended = np.array([way.ended for way in self.ways])
        if self.judge is None:
            return Verdict("end") if ended[0] else Verdict("take")
        return self.judge.judge(np.array([way.ids for way in self.ways]), ended, self.draw.random())


class _Way(NamedTuple):
    """One try at a step of a row: its ids so far (fillers once it is END), and where the grammar stood before the last of them."""

    row: _Row
    before: State
    ids: tuple[int, ...] = ()
    ended: bool = False

    @property
    def state(self) -> State:
        """Where the grammar stands behind them: found out when it is asked for, as of most ways nobody wants to know."""
        return self.row.grammar.advance(self.before, self.ids[-1]) if self.ids else self.before


def _try(writer: _Writer, rows: Sequence[_Row], sampling: Sampling) -> None:
    """Give each of the rows more ways."""
    ways = [[_Way(row, row.state)] * row.tries for row in rows]
    for slot in range(writer.width):
        uniform = np.concatenate([row.draw.random(row.tries) for row in rows])
        grown = iter(_grown(writer, list(itertools.chain(*ways)), uniform))
        ways = [list(itertools.islice(grown, row.tries)) for row in rows]
        if (slot + 1) % writer.spell == 0 and slot + 1 < writer.width:
            ways = [_sifted(row.judge, its) if row.judge else its for row, its in zip(rows, ways, strict=True)]
    for row, its in zip(rows, ways, strict=True):
        row.ways += its


def _grown(writer: _Writer, ways: list[_Way], uniform: Float[np.ndarray, "o"]) -> list[_Way]:
    """The ways with one more id each. Ways that are alike so far are looked at once, and go on from one state."""
    going = [number for number, way in enumerate(ways) if not way.ended]
    grown = [way if not way.ended else way._replace(ids=(*way.ids, 0)) for way in ways]
    if not going:
        return grown
    numbers: dict[tuple[int, tuple[int, ...]], int] = {}
    which = [numbers.setdefault((ways[number].row.place, ways[number].ids), len(numbers)) for number in going]
    alike = {of: ways[number] for number, of in zip(reversed(going), reversed(which), strict=True)}
    starts = [alike[number] for number in range(len(numbers))]
    states = [way.state for way in starts]
    legal = np.stack([way.row.legal(state) for way, state in zip(starts, states, strict=True)])
    ids = writer.pick(starts, legal, np.array(which), uniform[going])
    after: dict[tuple[int, int], _Way] = {}
    for number, of, id in zip(going, which, ids.tolist(), strict=True):
        if (of, id) not in after:
            after[of, id] = _went_on(starts[of], states[of], id, writer.end)
        grown[number] = after[of, id]
    return grown


def _went_on(way: _Way, state: State, id: int, end: int) -> _Way:
    if id == end:
        return _Way(way.row, state, (0,), ended=True)
    return _Way(way.row, state, (*way.ids, id))


def _sifted(judge: Judge, ways: list[_Way]) -> list[_Way]:
    """The promising ways, as often as it takes to have as many as before; all, where none is."""
    kept = judge.promising(np.array([way.ids for way in ways]), np.array([way.ended for way in ways]))
    good = itertools.cycle([way for way, keep in zip(ways, kept, strict=True) if keep])
    return [way if keep else next(good) for way, keep in zip(ways, kept, strict=True)] if kept.any() else ways


class _Writer:
    """The network with everything that it keeps between ids, of as many rows as there are places; rows twice with guidance."""

    @torch.inference_mode()
    def __init__(self, network: Network, tasks: Sequence[Task], sampling: Sampling) -> None:
        self.sampling, self.places = sampling, len(tasks)
        self.width, self.spell, self.end = network.config.width, network.config.spell, network.end
        self.guided = tasks[0].blank is not None and sampling.guidance != 1
        self.judged = tasks[0].judge is not None
        seen = [task.seen for task in tasks] + ([task.blank for task in tasks] if self.guided else [])
        self.writing = network.writing(seen, max(task.grammar.most_steps(sampling.max_faces) for task in tasks))

    @torch.inference_mode()
    def begin(self, place: int, task: Task) -> None:
        """A new task in the place of one that is done."""
        self.writing.begin(place, task.seen)
        if self.guided:
            self.writing.begin(place + self.places, task.blank)

    @torch.inference_mode()
    def pick(
        self, starts: Sequence[_Way], legal: Bool[np.ndarray, "n ids"], which: Int[np.ndarray, "o"], uniform: Float[np.ndarray, "o"]
    ) -> Int[np.ndarray, "o"]:
        """The next id of each way, which goes on from `which` of the starts."""
        # Where logits are not apart, they differ in their last bits with the number of ways; judged meshes then ask one by one.
        meshes = (
            [[*starts]]
            if not self.judged or self.writing.apart
            else [[*its] for _, its in itertools.groupby(starts, lambda way: way.row.place)]
        )
        logits = torch.cat([self._logits(ways) for ways in meshes])
        legal = torch.from_numpy(legal[:, : logits.shape[1]])
        return pick(logits, legal, torch.from_numpy(which), torch.from_numpy(uniform), self.sampling).numpy()

    def _logits(self, ways: Sequence[_Way]) -> Float[Tensor, "n ids"]:
        rows = torch.tensor([way.row.place for way in ways])
        opened = torch.tensor([way.ids for way in ways], dtype=torch.long)
        if self.guided:
            rows, opened = torch.cat([rows, rows + self.places]), torch.cat([opened, opened])
        logits = self.writing.logits(rows.to(self.writing.device), opened.to(self.writing.device)).cpu()
        if not self.guided:
            return logits
        wanted, blank = logits.log_softmax(-1).chunk(2)
        return blank + self.sampling.guidance * (wanted - blank)

    @torch.inference_mode()
    def take(self, rows: Sequence[_Row]) -> None:
        """Go on behind the steps of these rows."""
        if not rows:
            return
        ids = torch.from_numpy(np.stack([row.step for row in rows])).to(self.writing.device)
        places = [row.place for row in rows]
        if self.guided:
            ids, places = torch.cat([ids, ids]), [*places, *(place + self.places for place in places)]
        self.writing.take(ids, places)
