"""The autoregressive model of gate tokens: a condition and the walk so far in, the logits of the next vertex out.

    prefix vectors   start     step 0    step 1  ...        what the transformer reads, each with the gate that comes next
                     step 0    step 1    step 2  ...  END   what the decoder writes

b  rows      t  steps      p  points      d  width of the model
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional

from meshgpt.border import RunningBorder, borders_along
from meshgpt.conditioners import PointCloud, PointCloudConfig, Surroundings, SurroundingsConfig
from meshgpt.depth import Places
from meshgpt.gate_decoder import USES, GateDecoder, GateDecoderConfig, GateEmbedding, Standing, frame_features
from meshgpt.gate_geometry import gate_of
from meshgpt.gate_loops import Clouds, GateLoops, Stand
from meshgpt.nearest import distance_field
from meshgpt.precision import best_for
from meshgpt.steps import IGNORED, Beginnings, Seen, SeenRows, seen_places
from meshgpt.tokenizer.gates import LEVELS, GatesTokenizer
from meshgpt.transformer import KVCache, RowCache, Transformer, TransformerConfig

FIELD = 32


@dataclass(frozen=True)
class GateModelConfig:
    bins: int = 128
    body: TransformerConfig = field(default_factory=lambda: TransformerConfig(dim=256, layers=4, heads=4))
    cloud: PointCloudConfig = field(default_factory=PointCloudConfig)
    surroundings: SurroundingsConfig = field(default_factory=SurroundingsConfig)
    dim: int = 192
    hidden: int = 256
    layers: int = 2

    width = spell = LEVELS

    @property
    def vocab(self) -> int:
        return GatesTokenizer(self.bins).vocab


class GateModel(nn.Module):
    def __init__(self, config: GateModelConfig) -> None:
        super().__init__()
        self.config = config
        self.tokenizer = tokenizer = GatesTokenizer(config.bins)
        width, out = config.body.dim, config.surroundings.out
        self.cloud = PointCloud(replace(config.cloud, out=width))
        self.surroundings = Surroundings(config.surroundings)
        self.register_buffer("places", tokenizer.middles, persistent=False)
        self.start = nn.Parameter(torch.randn(width) * 0.5)
        self.skipped = nn.Parameter(torch.randn(width) * 0.5)
        self.embed = nn.ModuleList(nn.Embedding(size, width) for size in tokenizer.sizes)
        self.embed_place = nn.Linear(out, width, bias=False)
        self.embed_gate = GateEmbedding(width)
        self.body = Transformer(config.body)
        self.decoder = GateDecoder(
            GateDecoderConfig(config.bins, tokenizer.sides, width, config.dim, config.hidden, config.layers, surroundings=out)
        )

    def see(self, surface: Float[Tensor, "b p 6"], drop: Bool[Tensor, "b"] | None = None) -> Seen:
        """Rows in `drop` see the learned nothing instead of their points."""
        places = seen_places(self.surroundings, self.places, surface, self.config.bins, drop)
        far = distance_field(surface, FIELD)
        if drop is not None:
            far = torch.where(drop[:, None, None, None], 1.0, far)
        return Seen(self.cloud(surface, drop), places, far)

    def forward(
        self,
        ids: Int[Tensor, "b t 3"],
        lengths: Int[Tensor, "b"],
        surface: Float[Tensor, "b p 6"],
        drop: Bool[Tensor, "b"] | None = None,
        written: Int[Tensor, "b t 3"] | None = None,
    ) -> Float[Tensor, "b"]:
        """Nats of each row's whole sequence, END included; `lengths` steps of a row are real. What should be `written` at each step is
        the step itself, unless something else is said."""
        return sum(self.nats(ids, lengths, surface, drop, written)).sum(1)

    def nats(
        self,
        ids: Int[Tensor, "b t 3"],
        lengths: Int[Tensor, "b"],
        surface: Float[Tensor, "b p 6"],
        drop: Bool[Tensor, "b"] | None = None,
        written: Int[Tensor, "b t 3"] | None = None,
    ) -> list[Float[Tensor, "b t1"]]:
        seen, border = self.see(surface, drop), borders_along(self.tokenizer, ids, lengths)
        with torch.no_grad(), torch.autocast(ids.device.type, enabled=False):
            gate = gate_of(border)
            features = frame_features(border, gate, seen.field)
        hidden = self._read(ids, features, seen)
        written = functional.pad(ids if written is None else written, (0, 0, 0, 1))
        targets = self._targets(written, lengths)
        standing = self.decoder.stand(hidden, features, border, gate, self._uses(ids), seen.field)
        slots = (self.decoder(standing, written, seen.places, seen.field, slot) for slot in range(3))
        return [
            functional.cross_entropy(logits.flatten(0, 1), targets[..., slot].flatten(), ignore_index=IGNORED, reduction="none").view(
                len(ids), -1
            )
            for slot, logits in enumerate(slots)
        ]

    @property
    def end(self) -> int:
        """The id END."""
        return self.tokenizer.vocab

    def _embedded(self, ids: Int[Tensor, "b t 3"], places: Places) -> Float[Tensor, "b t d"]:
        known = [level(ids[..., at].clamp(max=level.num_embeddings - 1)) for at, level in enumerate(self.embed)]
        first = ids[..., :1].clamp(max=len(self.places) - 1)
        vertex = sum(known) + self.embed_place(places.of_ids(first)[:, :, 0])
        return torch.where((ids[..., :1] == self.tokenizer.skip), self.skipped.to(vertex.dtype), vertex)

    def _read(self, ids: Int[Tensor, "b t 3"], features: Float[Tensor, "b t1 n"], seen: Seen) -> Float[Tensor, "b t1 d"]:
        steps = torch.cat([self.start.expand(len(ids), 1, -1), self._embedded(ids, seen.places)], 1) + self.embed_gate(features)
        prefix = seen.prefix.vectors
        return self.body(torch.cat([prefix, steps], 1))[:, prefix.shape[1] :]

    def _targets(self, written: Int[Tensor, "b t1 3"], lengths: Int[Tensor, "b"]) -> Int[Tensor, "b t1 3"]:
        """SKIP stands behind the ids of the first slot, END behind that; there is nothing to predict elsewhere."""
        steps = torch.arange(written.shape[1], device=written.device)[None, :, None]
        coarse = torch.where(written[..., :1] == self.tokenizer.skip, self.tokenizer.sizes[0], written[..., :1])
        fine = torch.where(written[..., :1] == self.tokenizer.skip, IGNORED, written[..., 1:])
        targets = torch.where(steps < lengths[:, None, None], torch.cat([coarse, fine], -1), IGNORED)
        end = (steps == lengths[:, None, None]) & (torch.arange(3, device=written.device) == 0)
        return torch.where(end, self.tokenizer.sizes[0] + 1, targets)

    def _uses(self, ids: Int[Tensor, "b t 3"]) -> Int[Tensor, "b t1 v"]:
        """How many earlier vertices lie in each coarse block, up to USES - 1."""
        size = self.tokenizer.sizes[0]
        counts = torch.zeros(len(ids), ids.shape[1] + 1, size + 1, dtype=torch.int32, device=ids.device)
        counts[:, 1:].scatter_(2, ids[..., :1].clamp(max=size), 1)
        return counts[..., :size].cumsum(1, dtype=torch.int32).clamp_(max=USES - 1).long()

    def writing(self, seen: Seen | Sequence[Seen], steps: int) -> GateWriting:
        """Rows that are about to be written, each with so many steps at most."""
        return GateWriting(self, seen, steps)


class GateWriting:
    """Rows that are being written, each by itself, so that rows come and go: the cache, the border, and where the next vertex stands."""

    def __init__(self, network: GateModel, seen: Seen | Sequence[Seen], steps: int) -> None:
        rows = seen.rows() if isinstance(seen, Seen) else list(seen)
        self.network, self.seen, self.steps = network, SeenRows(rows), steps
        self.rows, self.device = len(rows), network.start.device
        self.loops = GateLoops(network) if GateLoops.fit(network.decoder) else None
        self.ready = [network.decoder.ready(slot) for slot in range(LEVELS)]
        self.border = RunningBorder(network.tokenizer, self.rows, steps, self.device)
        self.uses = torch.zeros(self.rows, 1, network.tokenizer.sizes[0], dtype=torch.long, device=self.device)
        self.beginnings = Beginnings(self._begin)
        prefix, standing = self.beginnings.of(rows[0])
        self.cache = RowCache(network.config.body, self.rows, prefix.length + steps, prefix.keys)
        self.standing = standing.copies(self.rows)
        if self.loops is not None:
            self.stand = Stand.of(self.standing)
            self.clouds = Clouds.room(self.rows, rows[0].places, rows[0].field)
        for row, condition in enumerate(rows):
            self.begin(row, condition)

    @property
    def apart(self) -> bool:
        return self.loops is not None

    def _begin(self, seen: Seen) -> tuple[KVCache, Standing]:
        """What is kept of the prefix, and where the first vertex stands."""
        prefix, network = seen.prefix.vectors, self.network
        border, uses = RunningBorder(network.tokenizer, 1, 1, self.device).look([0]), self.uses.new_zeros(1, *self.uses.shape[1:])
        gate = gate_of(border)
        features = frame_features(border, gate, seen.field)
        cache = network.body.cache(1, prefix.shape[1] + 1)
        hidden = network.body(torch.cat([prefix, network.start.expand(1, 1, -1) + network.embed_gate(features)], 1), cache)[:, -1:]
        return cache, network.decoder.stand(hidden, features, border, gate, uses, seen.field)

    def begin(self, row: int, seen: Seen) -> None:
        """A new row in place of the one that was there."""
        prefix, standing = self.beginnings.of(seen)
        self.cache.begin(row, prefix)
        self.border.begin(row, self.steps)
        self.uses[row] = 0
        self.standing.put(torch.tensor([row], device=self.device), standing)
        self.seen.put(row, seen)
        if self.loops is not None:
            self.clouds.put(row, seen.places, seen.field)

    def logits(self, rows: Int[Tensor, "n"], opened: Int[Tensor, "n s"]) -> Float[Tensor, "n ids"]:
        """Of the slot after the `opened` ids; of slot 0 with SKIP and END where the ids `skip` and `vocab` are."""
        if self.loops is not None:
            return self.loops.logits(self.stand, self.clouds, rows, opened)
        seen, slot = self.seen.of(rows), opened.shape[1]
        with best_for(len(rows)):
            return self.network.decoder(self.standing.select(rows), opened[:, None], seen.places, seen.field, slot, self.ready[slot])[:, 0]

    def take(self, ids: Int[Tensor, "b 3"], rows: Sequence[int] | None = None) -> None:
        """Go on behind a step of the given rows, or of all; a step that is none changes little."""
        reading = list(range(self.rows)) if rows is None else list(rows)
        self.border.advance(ids.cpu().numpy(), reading)
        which, network = torch.tensor(reading, device=self.device), self.network
        first = ids[:, :1].clamp(max=network.tokenizer.sizes[0] - 1)
        vertex = (ids[:, :1] != network.tokenizer.skip).long()
        self.uses[which] = self.uses[which].scatter_add(2, first[:, None], vertex[:, None]).clamp_(max=USES - 1)
        going = [at for at, row in enumerate(reading) if self.cache.lengths[row] < self.cache.capacity]
        self.cache.reading = [reading[at] for at in going]
        if going:  # without `best_for`: what a row reads may not depend on how many are read
            read = self._read if self.loops is None else self._read_by_loops
            read(ids[going], torch.tensor(self.cache.reading, device=self.device))

    def _read(self, ids: Int[Tensor, "b 3"], rows: Int[Tensor, "b"]) -> None:
        network, border, seen = self.network, self.border.look(rows.tolist()), self.seen.of(rows)
        gate = gate_of(border)
        features = frame_features(border, gate, seen.field)
        step = network._embedded(ids[:, None], seen.places) + network.embed_gate(features)
        hidden = network.body(step, self.cache)
        self.standing.put(rows, network.decoder.stand(hidden, features, border, gate, self.uses[rows], seen.field))

    def _read_by_loops(self, ids: Int[Tensor, "b 3"], rows: Int[Tensor, "b"]) -> None:
        which, written = rows.numpy(), ids.contiguous().numpy()
        frames, found = self.border.frames(which.tolist())
        step, features = self.loops.enter(self.stand, self.clouds, which, written, frames)
        hidden = self.network.body(step, self.cache)
        self.loops.leave(self.stand, self.clouds, which, frames, found, hidden, features)
        self.stand.uses[which] = self.uses[rows, 0].numpy()
