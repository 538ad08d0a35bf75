"""The autoregressive model: a condition and the steps so far in, the logits of the next step out.

    prefix vectors   start     step 0    step 1  ...        what the transformer reads
                     step 0    step 1    step 2  ...  END   what the depth decoder writes

It knows ids, conditions and how the parts fit together. It does not know meshes, tokenizers or sampling.

b  rows      t  steps      w  ids of a step      p  points      d  width of the model
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional

from meshgpt.conditioners import FAR_AWAY, Condition, PointCloud, PointCloudConfig, Surroundings, SurroundingsConfig, profile
from meshgpt.depth import DepthConfig, DepthDecoder, Places, StepEmbedding, chosen
from meshgpt.memory import Memory, RunningMemory, remember
from meshgpt.precision import best_for
from meshgpt.transformer import KVCache, RowCache, Transformer, TransformerConfig

IGNORED = -100


@dataclass(frozen=True)
class StepModelConfig:
    """What the tokenizer fixes (vocab, width, spell, whether ids have places) and the sizes of the parts."""

    vocab: int
    width: int
    spell: int = 3
    has_places: bool = False
    bins: int = 128
    body: TransformerConfig = field(default_factory=lambda: TransformerConfig(dim=256, layers=6, heads=4))
    cloud: PointCloudConfig = field(default_factory=PointCloudConfig)
    surroundings: SurroundingsConfig = field(default_factory=SurroundingsConfig)
    depth_dim: int = 192
    depth_hidden: int = 256
    depth_layers: int = 2
    depth_code: int = 96

    @property
    def depth(self) -> DepthConfig:
        return DepthConfig(
            self.vocab,
            self.width,
            self.spell,
            self.body.dim,
            self.depth_dim,
            self.depth_hidden,
            self.depth_layers,
            self.depth_code,
            self.surroundings.out if self.has_places else 0,
            self.bins,
        )


@dataclass(frozen=True)
class Seen:
    """The condition as the network sees it: prefix vectors, what it says of the ids that have a place, and how far places are from it."""

    prefix: Condition
    places: Places | None
    field: Float[Tensor, "b g g g"] | None = None

    def select(self, rows: Tensor) -> Seen:
        """Keep (or repeat) rows, in the given order."""
        places = None if self.places is None else self.places.select(rows)
        field = None if self.field is None else chosen(self.field, rows)
        return Seen(Condition(*(chosen(part, rows) for part in self.prefix)), places, field)

    def rows(self) -> list[Seen]:
        """Each row by itself."""
        return [self.select(torch.tensor([row], device=self.prefix.vectors.device)) for row in range(len(self.prefix.vectors))]

    @classmethod
    def gathered(cls, rows: Sequence[Seen]) -> Seen:
        """Single rows, one below the other."""
        prefix = Condition(*(torch.cat(parts) for parts in zip(*(row.prefix for row in rows), strict=True)))
        field = None if rows[0].field is None else torch.cat([row.field for row in rows])
        places = None if rows[0].places is None else Places.gathered([row.places for row in rows])
        return cls(prefix, places, field)


def seen_places(
    surroundings: Surroundings,
    middles: Float[Tensor, "vocab 3"],
    surface: Float[Tensor, "b p 6"],
    bins: int,
    drop: Bool[Tensor, "b"] | None,
) -> Places:
    """What the points say of ids with these `middles` in the cube, and of any place; rows in `drop` have their points far away."""
    shown = surface if drop is None else torch.where(drop[:, None, None], FAR_AWAY, surface)
    rows = torch.arange(len(surface), device=surface.device)
    return Places(*surroundings(surface, middles, drop), shown, profile(surface, bins, drop), rows)


class StepModel(nn.Module):
    def __init__(self, config: StepModelConfig) -> None:
        super().__init__()
        self.config = config
        self.cloud = PointCloud(replace(config.cloud, out=config.body.dim))
        self.surroundings = Surroundings(config.surroundings) if config.has_places else None
        # Where in the cube the first id of a vertex stands; the tokenizer knows.
        self.register_buffer("places", torch.zeros(config.vocab, 3) if config.has_places else None)
        self.start = nn.Parameter(torch.randn(config.body.dim) * 0.5)
        self.embed = StepEmbedding(config.depth)
        self.body = Transformer(config.body)
        self.depth = DepthDecoder(config.depth)

    def see(self, surface: Float[Tensor, "b p 6"], drop: Bool[Tensor, "b"] | None = None) -> Seen:
        """Rows in `drop` see the learned nothing instead of their points."""
        places = None
        if self.surroundings is not None:
            places = seen_places(self.surroundings, self.places, surface, self.config.bins, drop)
        return Seen(self.cloud(surface, drop), places)

    def forward(
        self, ids: Int[Tensor, "b t w"], lengths: Int[Tensor, "b"], surface: Float[Tensor, "b p 6"], drop: Bool[Tensor, "b"] | None = None
    ) -> Float[Tensor, "b"]:
        """Nats of each row's whole sequence, END included; `lengths` steps of a row are real."""
        seen = self.see(surface, drop)
        memory = remember(ids, self.depth.shifts, self.config.bins)
        hidden = self._read(ids, seen)
        targets = self._targets(ids, lengths)
        slots = self.depth(hidden, self._with_end_row(ids), memory, seen.places, range(self.config.width))
        nats = [
            functional.cross_entropy(logits.flatten(0, 1), targets[..., slot].flatten(), ignore_index=IGNORED, reduction="none")
            for slot, logits in enumerate(slots)
        ]
        return sum(nats).view(len(ids), -1).sum(1)

    def _read(self, ids: Int[Tensor, "b t w"], seen: Seen) -> Float[Tensor, "b t1 d"]:
        prefix = seen.prefix
        steps = torch.cat([self.start.expand(len(ids), 1, -1), self.embed(ids, seen.places)], 1)
        keep = None
        if not bool(prefix.keep.all()):
            keep = torch.cat([prefix.keep, prefix.keep.new_ones(steps.shape[:2])], 1)
        return self.body(torch.cat([prefix.vectors, steps], 1), keep=keep)[:, prefix.vectors.shape[1] :]

    @staticmethod
    def _with_end_row(ids: Int[Tensor, "b t w"]) -> Int[Tensor, "b t1 w"]:
        return functional.pad(ids, (0, 0, 0, 1))

    def _targets(self, ids: Int[Tensor, "b t w"], lengths: Int[Tensor, "b"]) -> Int[Tensor, "b t1 w"]:
        """The ids, END in the first slot behind them, and nothing to predict elsewhere."""
        steps = torch.arange(ids.shape[1] + 1, device=ids.device)[None]
        targets = torch.where((steps < lengths[:, None])[..., None], self._with_end_row(ids), IGNORED)
        ends = (steps == lengths[:, None])[..., None] & (torch.arange(ids.shape[2], device=ids.device) == 0)
        return torch.where(ends, self.config.vocab, targets)

    # Step by step

    def begin(self, seen: Seen, steps: int) -> tuple[KVCache, Float[Tensor, "b 1 d"]]:
        """Read the prefix; returns the cache, with room for `steps` steps, and the hidden vector that writes step 0."""
        prefix = seen.prefix.vectors
        if not bool(seen.prefix.keep.all()):
            raise ValueError("the prefix of a generation holds padding; pass conditions of equal length together")
        cache = self.body.cache(len(prefix), prefix.shape[1] + 1 + steps)
        first = torch.cat([prefix, self.start.expand(len(prefix), 1, -1)], 1)
        return cache, self.body(first, cache)[:, -1:]

    @property
    def end(self) -> int:
        """The id END."""
        return self.config.vocab

    def memory(self, rows: int) -> RunningMemory:
        """The memory before step 0."""
        return RunningMemory(rows, self.config.width, self.depth.shifts, self.config.bins, self.start.device)

    def read_step(self, ids: Int[Tensor, "b w"], seen: Seen, cache: KVCache | RowCache) -> Float[Tensor, "b 1 d"]:
        """Take in a step of each row (of those that a RowCache reads); returns the hidden vectors that write the next ones."""
        return self.body(self.embed(ids[:, None], seen.places), cache)

    def slot_logits(self, hidden: Float[Tensor, "b 1 d"], opened: Int[Tensor, "b s"], memory: Memory, seen: Seen) -> Float[Tensor, "b ids"]:
        """Logits (for slot 0 with END behind them) of the slot after the `opened` ids; of `memory`, the slot's own alone."""
        slot = opened.shape[1]
        (logits,) = self.depth(hidden, opened[:, None], memory, seen.places, range(slot, slot + 1))
        return logits[:, 0]

    def writing(self, seen: Seen | Sequence[Seen], steps: int) -> Writing:
        """Rows that are about to be written, each with so many steps at most."""
        return Writing(self, seen, steps)


class Beginnings:
    """What a network keeps of prefixes that it has read: the last one only, since rows of one condition come one after another."""

    def __init__(self, read: Callable[[Any], Any]) -> None:
        self.read, self.seen, self.kept = read, None, None

    def of(self, seen: Any) -> Any:
        if seen is not self.seen:
            self.seen, self.kept = seen, self.read(seen)
        return self.kept


class SeenRows:
    """What each of the rows sees that are being written."""

    def __init__(self, rows: Sequence[Seen]) -> None:
        self.each, self._all = [*rows], None

    def put(self, row: int, seen: Seen) -> None:
        self.each[row], self._all = seen, None

    def of(self, rows: Int[Tensor, "n"]) -> Seen:
        """Rows in the given order; the ways of one mesh share what it sees, and others have no part in it."""
        if bool((rows == rows[0]).all()):
            return self.each[int(rows[0])].select(torch.zeros_like(rows))
        if self._all is None:
            self._all = Seen.gathered(self.each)
        return self._all.select(rows)


class Writing:
    """Rows that are being written, each by itself, so that rows come and go: the cache, the memory, and the hidden vector that writes the
    open step."""

    apart = False

    def __init__(self, network: StepModel, seen: Seen | Sequence[Seen], steps: int) -> None:
        rows = seen.rows() if isinstance(seen, Seen) else list(seen)
        self.network, self.seen = network, SeenRows(rows)
        self.beginnings = Beginnings(lambda seen: network.begin(seen, 0))
        prefix, hidden = self.beginnings.of(rows[0])
        self.rows, self.device = len(rows), hidden.device
        self.cache = RowCache(network.config.body, self.rows, prefix.length + steps, prefix.keys)
        self.hidden = hidden.new_zeros(self.rows, *hidden.shape[1:])
        self.memory = [network.memory(1) for _ in rows]
        for row, condition in enumerate(rows):
            self.begin(row, condition)

    def begin(self, row: int, seen: Seen) -> None:
        """A new row in place of the one that was there."""
        prefix, hidden = self.beginnings.of(seen)
        self.cache.begin(row, prefix)
        self.hidden[row], self.memory[row] = hidden[0], self.network.memory(1)
        self.seen.put(row, seen)

    def logits(self, rows: Int[Tensor, "n"], opened: Int[Tensor, "n s"]) -> Float[Tensor, "n ids"]:
        """Of the slot after the `opened` ids of the rows' open steps."""
        with best_for(len(rows)):
            return self.network.slot_logits(self.hidden[rows], opened, self._memory(rows, opened), self.seen.of(rows))

    def _memory(self, rows: Int[Tensor, "n"], opened: Int[Tensor, "n s"]) -> Memory:
        """What each row's memory says, in the given order."""
        order = rows.argsort(stable=True)
        kinds, counts = rows[order].unique_consecutive(return_counts=True)
        parts = [
            self.memory[row].within_step(ids, torch.zeros(len(ids), dtype=torch.long, device=self.device))
            for row, ids in zip(kinds.tolist(), opened[order].split(counts.tolist()), strict=True)
        ]
        back = order.argsort()
        return Memory(*(torch.cat(same)[back] for same in zip(*parts, strict=True)))

    def take(self, ids: Int[Tensor, "b w"], rows: Sequence[int] | None = None) -> None:
        """Go on behind a step of the given rows, or of all."""
        reading = list(range(self.rows)) if rows is None else list(rows)
        for row, step in zip(reading, ids, strict=True):
            self.memory[row].advance(step[None])
        going = [at for at, row in enumerate(reading) if self.cache.lengths[row] < self.cache.capacity]
        self.cache.reading = [reading[at] for at in going]
        if going:  # without `best_for`: what a row reads may not depend on how many are read
            which = torch.tensor(self.cache.reading, device=self.device)
            self.hidden[which] = self.network.read_step(ids[going], self.seen.of(which), self.cache)
