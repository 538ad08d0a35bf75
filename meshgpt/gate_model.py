"""The autoregressive model of gate tokens: a condition and the walk so far in, the logits of the next vertex out.

    prefix vectors   start     step 0    step 1  ...        what the transformer reads, each with the gate that comes next
                     step 0    step 1    step 2  ...  END   what the decoder writes

b  rows      t  steps      p  points      d  width of the model
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional

from meshgpt.border import RunningBorder, borders_along
from meshgpt.conditioners import FAR_AWAY, PointCloud, PointCloudConfig, Surroundings, SurroundingsConfig, profile
from meshgpt.depth import Places
from meshgpt.gate_decoder import USES, GateDecoder, GateDecoderConfig, GateEmbedding, Standing, frame_features
from meshgpt.gate_geometry import gate_of
from meshgpt.nearest import distance_field
from meshgpt.precision import best_for
from meshgpt.steps import IGNORED, Seen
from meshgpt.tokenizer.gates import LEVELS, GatesTokenizer
from meshgpt.transformer import Transformer, TransformerConfig

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
            GateDecoderConfig(
                config.bins, tokenizer.sides, tokenizer.skip, width, config.dim, config.hidden, config.layers, surroundings=out
            )
        )

    def see(self, surface: Float[Tensor, "b p 6"], drop: Bool[Tensor, "b"] | None = None) -> Seen:
        """Rows in `drop` see the learned nothing instead of their points."""
        shown = surface if drop is None else torch.where(drop[:, None, None], FAR_AWAY, surface)
        rows = torch.arange(len(surface), device=surface.device)
        places = Places(*self.surroundings(surface, self.places, drop), shown, profile(surface, self.config.bins, drop), rows)
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

    def most_steps(self, faces: int) -> int:
        """Steps that may be written for so many faces; a mesh that skips more gates than it has faces ends there."""
        return 2 * faces + 64

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

    def writing(self, seen: Seen, faces: int) -> GateWriting:
        """Rows that are about to be written, each with so many faces at most."""
        return GateWriting(self, seen, faces)


class GateWriting:
    """Rows that are being written: the cache, the border, and where the next vertex stands."""

    def __init__(self, network: GateModel, seen: Seen, faces: int) -> None:
        self.network, self.seen = network, seen
        prefix = seen.prefix.vectors
        self.rows, self.device = len(prefix), prefix.device
        self.all = torch.arange(self.rows, device=self.device)
        self.ready = [network.decoder.ready(slot) for slot in range(LEVELS)]
        self.border = RunningBorder(network.tokenizer, self.rows, faces, self.device)
        self.uses = torch.zeros(self.rows, 1, network.tokenizer.sizes[0], dtype=torch.long, device=self.device)
        self.cache = network.body.cache(len(prefix), prefix.shape[1] + 1 + network.most_steps(faces))
        self.standing = self._read(prefix, network.start.expand(len(prefix), 1, -1))

    def _read(self, prefix: Float[Tensor, "b n d"] | None, step: Float[Tensor, "b 1 d"]) -> Standing:
        border, network = self.border.now, self.network
        gate = gate_of(border)
        features = frame_features(border, gate, self.seen.field)
        step = step + network.embed_gate(features)
        hidden = network.body(step if prefix is None else torch.cat([prefix, step], 1), self.cache)[:, -1:]
        return network.decoder.stand(hidden, features, border, gate, self.uses, self.seen.field)

    def logits(self, rows: Int[Tensor, "n"], opened: Int[Tensor, "n s"]) -> Float[Tensor, "n ids"]:
        """Of the slot after the `opened` ids; of slot 0 with SKIP and END where the ids `skip` and `vocab` are."""
        seen, standing, slot = self.seen, self.standing, opened.shape[1]
        if not torch.equal(rows, self.all):
            seen, standing = seen.select(rows), standing.select(rows)
        with best_for(len(rows)):
            return self.network.decoder(standing, opened[:, None], seen.places, seen.field, slot, self.ready[slot])[:, 0]

    def take(self, ids: Int[Tensor, "b 3"]) -> None:
        """Go on behind a step of every row; rows that have ended may hold anything."""
        self.border.advance(ids.cpu().numpy())
        first = ids[:, :1].clamp(max=self.network.tokenizer.sizes[0] - 1)
        vertex = (ids[:, :1] != self.network.tokenizer.skip).long()
        self.uses = self.uses.scatter_add(2, first[:, None], vertex[:, None]).clamp_(max=USES - 1)
        if self.cache.length < self.cache.capacity:
            with best_for(self.rows):
                self.standing = self._read(None, self.network._embedded(ids[:, None], self.seen.places))
