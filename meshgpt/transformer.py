"""A transformer over vectors: vectors in, vectors out, causal or not, with a cache of what it has seen.

It knows vectors and their order. It does not know ids, meshes, tokenizers, conditions or sampling.

b  rows of a batch      t  positions now      s  positions so far
h  heads                e  width of a head    d  width of the model
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional

from meshgpt.precision import best_for

ROTARY_BASE = 10_000.0
EPSILON = 1e-6  # of RMSNorm


@dataclass(frozen=True)
class Layout:
    """How a block is built. `post_norm` puts norms behind the branches, and no norm at the end; `rotary` brings QK-norm along."""

    norm: Literal["rms", "layer"] = "rms"
    post_norm: bool = False
    mlp: Literal["swiglu", "relu", "gelu"] = "swiglu"
    bias: bool = False
    projection_bias: bool = False  # of queries, keys and values
    rotary: bool = True


LAYOUTS = {
    "meshgpt": Layout(),
    "opt": Layout("layer", post_norm=True, mlp="relu", bias=True, projection_bias=True, rotary=False),  # OPT-350M: both MeshAnything
    "bert": Layout("layer", post_norm=True, mlp="gelu", bias=True, projection_bias=True, rotary=False),  # MeshAnything's decoder of codes
    "michelangelo": Layout("layer", mlp="gelu", bias=True, rotary=False),  # the point encoder of both MeshAnything
}


@dataclass(frozen=True)
class TransformerConfig:
    """`layers` blocks of width `dim`: pre-norm RMSNorm, SwiGLU, RoPE, QK-norm, unless the `layout` is another's.

    `positions` is the length of a table of learned ones, for layouts without rotary ones.
    """

    dim: int = 256
    layers: int = 8
    heads: int = 4
    causal: bool = True
    layout: str = "meshgpt"
    positions: int = 0
    last_norm: bool = True

    def __post_init__(self) -> None:
        if self.layout not in LAYOUTS:
            raise ValueError(f"the layout {self.layout!r} is unknown; this meshgpt has {', '.join(LAYOUTS)}")

    @property
    def built(self) -> Layout:
        return LAYOUTS[self.layout]

    @property
    def hidden(self) -> int:
        """The SwiGLU's width: 8/3 of `dim`, so that the block costs what a plain MLP of four widths does (Shazeer 2020)."""
        return -(-self.dim * 8 // 3 // 32) * 32 if self.built.mlp == "swiglu" else 4 * self.dim


class KVCache:
    """Keys and values of all layers so far. Whoever generates makes one and passes it in."""

    def __init__(self, config: TransformerConfig, rows: int, capacity: int, like: Tensor) -> None:
        shape = (config.layers, rows, config.heads, capacity, config.dim // config.heads)
        # Not filled: nothing is read before it was written, and memory that is never written to costs nothing.
        self.keys = torch.empty(shape, dtype=like.dtype, device=like.device)
        self.values = torch.empty(shape, dtype=like.dtype, device=like.device)
        self.capacity = capacity
        self.length = 0

    def extend(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Store what comes now behind what came before and return the whole; the caller moves `length` once for all layers."""
        end = self.length + keys.shape[2]
        if end > self.capacity:
            raise ValueError(f"{end} positions do not fit a cache made for {self.capacity}; make it larger")
        self.keys[layer, :, :, self.length : end] = keys
        self.values[layer, :, :, self.length : end] = values
        return self.keys[layer, :, :, :end], self.values[layer, :, :, :end]

    def select(self, rows: Tensor) -> None:
        """Keep (or repeat) rows, in the given order."""
        self.keys, self.values = self.keys[:, rows], self.values[:, rows]


class RowCache:
    """Keys and values of rows that are at different places, each read by itself: a row's numbers do not depend on the others.

    `reading` says which rows the next vectors are for; the caller sets it. A row begins with a copy of what a cache of one row holds.
    """

    def __init__(self, config: TransformerConfig, rows: int, capacity: int, like: Tensor) -> None:
        shape = (config.layers, rows, config.heads, capacity, config.dim // config.heads)
        # Not zeros: memory that no row reaches is never touched.
        self.keys = torch.empty(shape, dtype=like.dtype, device=like.device)
        self.values = torch.empty(shape, dtype=like.dtype, device=like.device)
        self.capacity = capacity
        self.lengths = [0] * rows
        self.reading = list(range(rows))
        # What is read with, as the kernels take it; it does not change while rows are read.
        self.weights: list[list[np.ndarray]] | None = None

    @property
    def reading_at(self) -> list[int]:
        """Where the rows that are read next are."""
        return [self.lengths[row] for row in self.reading]

    def begin(self, row: int, prefix: KVCache) -> None:
        """A new row in place of the one that was there."""
        length = prefix.length
        self.keys[:, row, :, :length] = prefix.keys[:, 0, :, :length]
        self.values[:, row, :, :length] = prefix.values[:, 0, :, :length]
        self.lengths[row] = length

    def attend(
        self, layer: int, query: Float[Tensor, "b h 1 e"], keys: Float[Tensor, "b h 1 e"], values: Float[Tensor, "b h 1 e"]
    ) -> Float[Tensor, "b h 1 e"]:
        """Store what comes now behind what came before in each row, and look it all up; the caller moves the rows once for all layers."""
        mixed = torch.empty_like(query)
        for at, row in enumerate(self.reading):
            end = self.lengths[row] + 1
            self.keys[layer, row, :, end - 1 : end] = keys[at]
            self.values[layer, row, :, end - 1 : end] = values[at]
            known = self.keys[layer, row, None, :, :end], self.values[layer, row, None, :, :end]
            mixed[at] = attend_once(query[at, None], *known)[0]
        return mixed

    def move(self) -> None:
        for row in self.reading:
            self.lengths[row] += 1


def rotary(positions: Float[Tensor, "t"], width: int) -> tuple[Tensor, Tensor]:
    """Cosines and sines, t x width / 2, of rotary positions (Su et al. 2021)."""
    turns = ROTARY_BASE ** (-torch.arange(0, width, 2, device=positions.device, dtype=torch.float32) / width)
    angles = positions[:, None] * turns
    return angles.cos(), angles.sin()


def rotate(x: Float[Tensor, "*b h t e"], turn: tuple[Tensor, Tensor]) -> Float[Tensor, "*b h t e"]:
    cos, sin = (part.to(x.dtype) for part in turn)
    left, right = x.chunk(2, -1)
    return torch.cat([left * cos - right * sin, right * cos + left * sin], -1)


def attend_once(
    query: Float[Tensor, "b h 1 e"], key: Float[Tensor, "b h s e"], value: Float[Tensor, "b h s e"]
) -> Float[Tensor, "b h 1 e"]:
    """Attention of one query to all positions; two plain products on CPUs, where torch's own kernel is two to five times as slow."""
    if key.device.type != "cpu":
        return functional.scaled_dot_product_attention(query, key, value)
    with best_for(1):
        scores = (query * query.shape[-1] ** -0.5) @ key.transpose(-1, -2)
        return scores.softmax(-1, dtype=torch.float32).to(value.dtype) @ value


class Attention(nn.Module):
    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        layout = config.built
        self.heads, self.causal, self.rotary = config.heads, config.causal, layout.rotary
        self.project = nn.Linear(config.dim, 3 * config.dim, bias=layout.projection_bias)
        self.out = nn.Linear(config.dim, config.dim, bias=layout.bias)
        if layout.rotary:
            self.query_norm = nn.RMSNorm(config.dim // config.heads, eps=EPSILON)
            self.key_norm = nn.RMSNorm(config.dim // config.heads, eps=EPSILON)

    def forward(
        self,
        x: Float[Tensor, "b t d"],
        turn: tuple[Tensor, Tensor],
        mask: Bool[Tensor, "b 1 t s"] | None = None,
        cache: KVCache | RowCache | None = None,
        layer: int = 0,
    ) -> Float[Tensor, "b t d"]:
        projected = self.project(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        query, key, value = projected
        if self.rotary and cache is not None:
            query, key = self._turned_together(projected[:2], turn)
        elif self.rotary:
            query, key = rotate(self.query_norm(query), turn), rotate(self.key_norm(key), turn)
        if isinstance(cache, RowCache):
            return self.out(cache.attend(layer, query, key, value).transpose(1, 2).flatten(2))
        if cache is not None:
            key, value = cache.extend(layer, key, value)
        if cache is not None and mask is None and query.shape[2] == 1:
            mixed = attend_once(query, key, value)
        else:
            causal = self.causal and mask is None and query.shape[2] > 1
            mixed = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask, is_causal=causal)
        return self.out(mixed.transpose(1, 2).flatten(2))

    def _turned_together(self, both: Float[Tensor, "2 b h t e"], turn: tuple[Tensor, Tensor]) -> Float[Tensor, "2 b h t e"]:
        """Queries and keys at once: with one position the number of operations is what counts."""
        weight = torch.stack([self.query_norm.weight, self.key_norm.weight])[:, None, None, None]
        return rotate(functional.rms_norm(both, both.shape[-1:], eps=self.query_norm.eps) * weight, turn)


class SwiGLU(nn.Module):
    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.up = nn.Linear(dim, 2 * hidden, bias=False)
        self.down = nn.Linear(hidden, dim, bias=False)

    def forward(self, x: Float[Tensor, "*n d"]) -> Float[Tensor, "*n d"]:
        gate, up = self.up(x).chunk(2, -1)
        return self.down(functional.silu(gate) * up)


class PlainMLP(nn.Module):
    def __init__(self, dim: int, hidden: int, bend: Literal["relu", "gelu"]) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(dim, hidden), nn.Linear(hidden, dim)
        self.bend = functional.relu if bend == "relu" else functional.gelu

    def forward(self, x: Float[Tensor, "*n d"]) -> Float[Tensor, "*n d"]:
        return self.down(self.bend(self.up(x)))


def norm_of(layout: Layout, dim: int) -> nn.Module:
    return nn.RMSNorm(dim, eps=EPSILON) if layout.norm == "rms" else nn.LayerNorm(dim, eps=1e-5)


def mlp_of(layout: Layout, dim: int, hidden: int) -> nn.Module:
    return SwiGLU(dim, hidden) if layout.mlp == "swiglu" else PlainMLP(dim, hidden, layout.mlp)


class Block(nn.Module):
    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.post_norm = config.built.post_norm
        self.attention_norm = norm_of(config.built, config.dim)
        self.attention = Attention(config)
        self.mlp_norm = norm_of(config.built, config.dim)
        self.mlp = mlp_of(config.built, config.dim, config.hidden)

    def in_order(self) -> list[Tensor]:
        """The weights as the kernels take them; matrices as inputs x outputs. None where one is not plain."""
        attention, mlp = self.attention, self.mlp
        linear = (attention.project, attention.out, mlp.up, mlp.down)
        if not all(type(part) is nn.Linear for part in linear):
            return []
        project, out, up, down = (part.weight.detach().T for part in linear)
        norms = (self.attention_norm, attention.query_norm, attention.key_norm, self.mlp_norm)
        before, query, key, behind = (part.weight.detach() for part in norms)
        return [before, project, query, key, out, behind, up, down]

    def forward(self, x: Tensor, turn: tuple[Tensor, Tensor], mask: Tensor | None, cache: KVCache | RowCache | None, layer: int) -> Tensor:
        if self.post_norm:
            x = self.attention_norm(x + self.attention(x, turn, mask, cache, layer))
            return self.mlp_norm(x + self.mlp(x))
        x = x + self.attention(self.attention_norm(x), turn, mask, cache, layer)
        return x + self.mlp(self.mlp_norm(x))


class Transformer(nn.Module):
    """Blocks and a last norm. Positions count what is kept: padding shifts nobody."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        if config.dim % (2 * config.heads):
            raise ValueError(f"a width of {config.dim} does not split into {config.heads} heads of even width")
        self.config = config
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.norm = norm_of(config.built, config.dim) if config.last_norm and not config.built.post_norm else nn.Identity()
        if config.positions:
            self.positions = nn.Embedding(config.positions, config.dim)
        self._initialise()

    def cache(self, rows: int, capacity: int) -> KVCache:
        """An empty one for so many rows and positions, of the type of what this transformer computes."""
        return KVCache(self.config, rows, capacity, next(self.parameters()))

    def _initialise(self) -> None:
        for name, weight in self.named_parameters():
            if weight.ndim == 2 and not weight.is_meta:
                depth = 2 * self.config.layers if name.endswith(("out.weight", "down.weight")) else 1
                nn.init.normal_(weight, std=0.7 / (weight.shape[1] * depth) ** 0.5)

    def forward(
        self, x: Float[Tensor, "b t d"], cache: KVCache | RowCache | None = None, keep: Bool[Tensor, "b s"] | None = None
    ) -> Float[Tensor, "b t d"]:
        """`keep` says which positions so far (those of the cache included) are real; without it all are."""
        if isinstance(cache, RowCache):
            return self._step(x, cache)
        past = cache.length if cache is not None else 0
        width = self.config.dim // self.config.heads
        turn = rotary(torch.arange(past, past + x.shape[1], device=x.device, dtype=torch.float32), width)
        mask = None
        if self.config.positions:
            x = x + self._learned(x, keep, past)
        if keep is not None:
            turn = self._kept_turn(keep, past, width)
            mask = keep[:, None, None, :]
        if self.config.causal and (keep is not None or (past and x.shape[1] > 1)):
            order = torch.ones(x.shape[1], past + x.shape[1], dtype=torch.bool, device=x.device).tril(past)
            mask = order[None, None] if mask is None else mask & order
        if mask is not None:
            mask = _never_empty(mask.expand(len(x), 1, x.shape[1], past + x.shape[1]), past)
        for layer, block in enumerate(self.blocks):
            x = block(x, turn, mask, cache, layer)
        if cache is not None:
            cache.length += x.shape[1]
        return self.norm(x)

    def _step(self, x: Float[Tensor, "b 1 d"], cache: RowCache) -> Float[Tensor, "b 1 d"]:
        """One position more of each row that the cache reads, wherever these are. ValueError where a row is full."""
        longest = max(cache.reading_at) + 1
        if longest > cache.capacity:
            raise ValueError(f"{longest} positions do not fit a cache made for {cache.capacity}; make it larger")
        at = torch.tensor(cache.reading_at, device=x.device)
        if self.config.positions:
            x = x + self.positions(at)[:, None]
        turn = rotary(at.float(), self.config.dim // self.config.heads)
        if cache.weights is None:
            cache.weights = self._small(x)
        if cache.weights:
            x = _read_by_kernels(cache.weights, x, cache, turn)
        else:
            for layer, block in enumerate(self.blocks):
                x = block(x, tuple(part[:, None, None] for part in turn), None, cache, layer)
        cache.move()
        return self.norm(x)

    def _small(self, x: Tensor) -> list[list[np.ndarray]]:
        """The weights of the blocks, in the order of the kernels, where these are faster: on CPUs, as far as products lie in the caches of
        the processor. Otherwise none."""
        if self.config.built != LAYOUTS["meshgpt"] or x.device.type != "cpu" or torch.is_grad_enabled():
            return []
        weights = [block.in_order() for block in self.blocks]
        fits = all(weights) and all(weight.dtype == torch.float32 and weight.is_contiguous() for layer in weights for weight in layer)
        return [[weight.numpy() for weight in layer] for layer in weights] if fits else []

    def _learned(self, x: Float[Tensor, "b t d"], keep: Bool[Tensor, "b s"] | None, past: int) -> Float[Tensor, "#b t d"]:
        if past + x.shape[1] > self.config.positions:
            raise ValueError(
                f"{past + x.shape[1]} positions do not fit the {self.config.positions} that were learned; generate fewer faces"
            )
        if keep is None:
            return self.positions.weight[None, past : past + x.shape[1]]
        return self.positions((keep.long().cumsum(1) - 1).clamp(min=0)[:, past:])

    @staticmethod
    def _kept_turn(keep: Bool[Tensor, "b s"], past: int, width: int) -> tuple[Tensor, Tensor]:
        positions = (keep.long().cumsum(1) - 1).clamp(min=0)[:, past:].float()
        cos, sin = rotary(positions.flatten(), width)
        shape = (*positions.shape, width // 2)
        return cos.view(shape)[:, None], sin.view(shape)[:, None]


def _read_by_kernels(
    blocks: list[list[np.ndarray]],
    x: Float[Tensor, "b 1 d"],
    cache: RowCache,
    turn: tuple[Float[Tensor, "b half"], Float[Tensor, "b half"]],
) -> Float[Tensor, "b 1 d"]:
    from meshgpt.step_kernels import read_position

    rows, lengths = np.array(cache.reading), np.array(cache.reading_at)
    vectors, turns = x[:, 0].clone().numpy(), torch.cat(turn, 1).numpy()
    for layer, weights in enumerate(blocks):
        read_position(vectors, *weights, cache.keys[layer].numpy(), cache.values[layer].numpy(), rows, lengths, turns, EPSILON)
    return torch.from_numpy(vectors)[:, None]


def _never_empty(mask: Bool[Tensor, "b 1 t s"], past: int) -> Bool[Tensor, "b 1 t s"]:
    """Let each position see itself: a padded one that sees nothing would be NaN and, through 0 x NaN, spoil gradients."""
    itself = torch.ones(mask.shape[-2:], dtype=torch.bool, device=mask.device).tril(past).triu(past)
    return mask | itself
