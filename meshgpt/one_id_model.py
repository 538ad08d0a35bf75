"""The autoregressive model of both MeshAnything: a shape and the ids so far in, the logits of the next id out.

    prefix vectors   BEGIN   id 0   id 1   ...        what the transformer reads
            (BEGIN)   id 0   id 1   id 2   ...  END   what it writes

A step is one id. Each id is embedded twice: as itself, and by its role, which says where in a face it stands. Ids 0 .. vocab - 1 are the
tokenizer's; behind them come BEGIN, which these models write themselves, PAD, which they never should, and END.

It knows ids, and does what `steps.py` does for our own models. It does not know meshes, tokenizers or sampling.

b  rows      t  steps      p  points      d  width of the model
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from meshgpt.shape_encoder import ShapeEncoder, ShapeEncoderConfig
from meshgpt.steps import Beginnings
from meshgpt.transformer import KVCache, RowCache, Transformer, TransformerConfig

SPECIAL = 3  # BEGIN, PAD, END
FACE = 9  # ids of a face that stands alone
# Rows of the table of roles, in the order in which both models have them.
BEGIN_ROLE, END_ROLE, PAD_ROLE, FIRST_ROLE = 0, 1, 2, 3


@dataclass(frozen=True)
class OneIdConfig:
    """`roles`: `face` counts the nine ids of a face through (MeshAnything); `strip` tells x, y, z of a strip's first face from those of
    later vertices, and the last of the vocab breaks a strip off (MeshAnythingV2). `tied`: the embedding of ids writes them, too."""

    vocab: int
    roles: Literal["face", "strip"]
    tied: bool
    body: TransformerConfig
    cloud: ShapeEncoderConfig = field(default_factory=ShapeEncoderConfig)

    def __post_init__(self) -> None:
        if self.roles not in ("face", "strip"):
            raise ValueError(f"the roles {self.roles!r} are unknown; 'face' or 'strip' fits")

    @property
    def width(self) -> int:
        """Ids of a step."""
        return 1

    @property
    def spell(self) -> int:
        return 1

    @property
    def begin(self) -> int:
        return self.vocab

    @property
    def pad(self) -> int:
        return self.vocab + 1

    @property
    def end(self) -> int:
        return self.vocab + 2

    @property
    def role_rows(self) -> int:
        return FIRST_ROLE + (FACE if self.roles == "face" else 7)


class Shape(NamedTuple):
    """The condition: what the encoder saw, and the prefix made of it."""

    latents: Float[Tensor, "b n c"]
    prefix: Float[Tensor, "b n d"]

    def select(self, rows: Tensor) -> Shape:
        """Keep (or repeat) rows, in the given order."""
        return Shape(self.latents[rows], self.prefix[rows])

    def rows(self) -> list[Shape]:
        """Each row by itself."""
        return [self.select(torch.tensor([row], device=self.prefix.device)) for row in range(len(self.prefix))]

    @classmethod
    def gathered(cls, rows: Sequence[Shape]) -> Shape:
        """Single rows, one below the other."""
        return cls(*(torch.cat(parts) for parts in zip(*rows, strict=True)))


class IdCache(KVCache):
    """Keys and values, and how many ids each row has had since its roles were last counted from 0."""

    def __init__(self, config: TransformerConfig, rows: int, capacity: int, like: Tensor) -> None:
        super().__init__(config, rows, capacity, like)
        self.since = torch.zeros(rows, dtype=torch.long, device=like.device)


class OneIdModel(nn.Module):
    def __init__(self, config: OneIdConfig) -> None:
        super().__init__()
        dim, ids = config.body.dim, config.vocab + SPECIAL
        self.config = config
        self.cloud = ShapeEncoder(config.cloud)
        self.kind = nn.Parameter(torch.zeros(2, dim))  # added to the prefix, and to ids
        self.embed = nn.Embedding(ids, dim)
        self.roles = nn.Embedding(config.role_rows, dim)
        self.body = Transformer(config.body)
        self.head = nn.Linear(dim, ids, bias=False)
        if config.tied:
            self.head.weight = self.embed.weight
        self.writes_begin = False  # as released, it does

    def see(self, surface: Float[Tensor, "b p 6"]) -> Shape:
        latents = self.cloud(surface)
        return Shape(latents, self.cloud.prefix(latents))

    def role_of(self, ids: Int[Tensor, "b t"], since: Int[Tensor, "b"]) -> tuple[Int[Tensor, "b t"], Int[Tensor, "b"]]:
        """The role of each id, where `since` ids stood before the first one since roles were counted from 0; and the count behind them."""
        config, roles = self.config, []
        special = functional.pad(ids.new_tensor([BEGIN_ROLE, PAD_ROLE, END_ROLE]), (config.vocab, 0))
        for id in ids.unbind(1):
            if config.roles == "face":
                # The published code counts what came after the first id, whatever that was.
                place, resets = FIRST_ROLE + (since - 1) % FACE, torch.zeros_like(id, dtype=torch.bool)
            else:
                resets = id >= config.vocab - 1
                place = torch.where(since < FACE, FIRST_ROLE + 1, FIRST_ROLE + 4) + since % 3
                place = torch.where(id == config.vocab - 1, FIRST_ROLE, place)
            roles.append(torch.where(id >= config.vocab, special[id], place))
            since = torch.where(resets, 0, since + 1)
        return torch.stack(roles, 1), since

    def _embedded(self, ids: Int[Tensor, "b t"], roles: Int[Tensor, "b t"]) -> Float[Tensor, "b t d"]:
        return self.embed(ids) + self.kind[1] + self.roles(roles)

    def logits(self, ids: Int[Tensor, "b t"], shape: Shape) -> Float[Tensor, "b t1 ids"]:
        """Of whole sequences (BEGIN and END among the ids): what comes after the prefix, and after each id."""
        roles, _ = self.role_of(ids, ids.new_zeros(len(ids)))
        x = torch.cat([shape.prefix + self.kind[0], self._embedded(ids, roles)], 1)
        return self.head(self.body(x)[:, shape.prefix.shape[1] - 1 :])

    # Step by step, as `generate.py` wants it

    @property
    def end(self) -> int:
        """The id END."""
        return self.config.end

    @property
    def room(self) -> int:
        """How many ids behind BEGIN there are positions for."""
        return self.config.body.positions - self.config.cloud.look.vectors - 1

    def begin(self, shape: Shape, steps: int) -> tuple[IdCache, Float[Tensor, "b 1 d"]]:
        """Read the prefix, and BEGIN unless the model is to write it itself; returns the cache, with room for `steps` ids, and the hidden
        vector that writes the first."""
        prefix = (shape.prefix + self.kind[0]).to(self.embed.weight.dtype)
        cache = IdCache(self.config.body, len(prefix), prefix.shape[1] + 1 + steps, prefix)
        hidden = self.body(prefix, cache)[:, -1:]
        if self.writes_begin:
            return cache, hidden
        return cache, self._read(torch.full((len(prefix),), self.config.begin, device=prefix.device), cache)

    def read_step(self, ids: Int[Tensor, "b 1"], shape: Shape, cache: IdCache) -> Float[Tensor, "b 1 d"]:
        """Take in an id of each row; returns the hidden vector that writes the next one."""
        return self._read(ids[:, 0], cache)

    def _read(self, ids: Int[Tensor, "b"], cache: IdCache) -> Float[Tensor, "b 1 d"]:
        roles, cache.since = self.role_of(ids[:, None], cache.since)
        return self.body(self._embedded(ids[:, None], roles), cache)

    def slot_logits(
        self, hidden: Float[Tensor, "b 1 d"], opened: Int[Tensor, "b 0"], memory: None, shape: Shape | None
    ) -> Float[Tensor, "b ids"]:
        return self.head(hidden)[:, 0].float()

    def writing(self, shape: Shape | Sequence[Shape], steps: int) -> WritingIds:
        """Rows that are about to be written, each with so many ids at most."""
        return WritingIds(self, shape, steps)


class WritingIds:
    """Rows that are being written, each by itself, so that rows come and go: the cache, how many ids each row has had since its roles were
    last counted from 0, and the hidden vectors that write the next ids."""

    apart = False

    def __init__(self, network: OneIdModel, shapes: Shape | Sequence[Shape], steps: int) -> None:
        shapes = shapes.rows() if isinstance(shapes, Shape) else list(shapes)
        self.network, self.beginnings = network, Beginnings(lambda shape: network.begin(shape, 0))
        prefix, hidden = self.beginnings.of(shapes[0])
        self.rows, self.device = len(shapes), hidden.device
        self.cache = RowCache(network.config.body, self.rows, prefix.length + steps, prefix.keys)
        self.hidden = hidden.new_zeros(self.rows, *hidden.shape[1:])
        self.since = torch.zeros(self.rows, dtype=torch.long, device=self.device)
        for row, shape in enumerate(shapes):
            self.begin(row, shape)

    def begin(self, row: int, shape: Shape) -> None:
        """A new row in place of the one that was there."""
        prefix, hidden = self.beginnings.of(shape)
        self.cache.begin(row, prefix)
        self.hidden[row], self.since[row] = hidden[0], prefix.since[0]

    def logits(self, rows: Int[Tensor, "n"], opened: Int[Tensor, "n 0"]) -> Float[Tensor, "n ids"]:
        return self.network.slot_logits(self.hidden[rows], opened, None, None)

    def take(self, ids: Int[Tensor, "b 1"], rows: Sequence[int] | None = None) -> None:
        """Go on behind an id of the given rows, or of all."""
        reading = list(range(self.rows)) if rows is None else list(rows)
        going = [at for at, row in enumerate(reading) if self.cache.lengths[row] < self.cache.capacity]
        self.cache.reading = [reading[at] for at in going]
        if going:
            which = torch.tensor(self.cache.reading, device=self.device)
            roles, self.since[which] = self.network.role_of(ids[going], self.since[which])
            self.hidden[which] = self.network.body(self.network._embedded(ids[going], roles), self.cache)
