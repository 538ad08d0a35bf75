"""Checkpoints of other projects: a table for each family says of each of their tensors which of ours it becomes.

    Row("their name", "our name")                          as it is; {} stands for the number of a layer
    Row(("theirs", "another of theirs"), "ours", make)     ours is made of several
    Row("their name", None)                                dropped on purpose; with * for any end; with ? it may be missing

How a family is added is described in docs/checkpoints.md. It knows names and shapes. It does not know files.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from meshgpt import checkpoint
from meshgpt.conditioners import PointCloudConfig
from meshgpt.one_id_model import OneIdConfig
from meshgpt.shape_encoder import LAYOUT, ShapeEncoderConfig
from meshgpt.tokenizer.face_codes import FaceCodesConfig
from meshgpt.transformer import TransformerConfig

HEAD = 64  # numbers in each attention head, in all of these networks
Shapes = Mapping[str, tuple[int, ...]]


class Row(NamedTuple):
    """Their tensors, the one of ours they become, and how."""

    theirs: str | tuple[str, ...]
    ours: str | None
    make: Callable[..., Tensor] = lambda tensor: tensor

    @property
    def sources(self) -> tuple[str, ...]:
        return (self.theirs,) if isinstance(self.theirs, str) else self.theirs


class Family(NamedTuple):
    """Checkpoints of one kind. `mark` is a tensor that only they have; `config` makes our config of the shapes of their tensors."""

    name: str
    repository: str
    file: str
    mark: str
    rows: tuple[Row, ...]
    config: Callable[[Shapes], dict[str, Any]]
    licence: str
    sha256: str | None = None
    size: int | None = None  # bytes


# Parts of rows


def stacked(*tensors: Float[Tensor, "out *n"]) -> Float[Tensor, "all *n"]:
    return torch.cat(tensors)


def by_kind(tensor: Float[Tensor, "out *n"]) -> Float[Tensor, "out *n"]:
    """Heads x (query, key, value) to (query, key, value) x heads."""
    return tensor.unflatten(0, (-1, 3, HEAD)).transpose(0, 1).flatten(0, 2)


def specials_last(tensor: Float[Tensor, "ids d"]) -> Float[Tensor, "ids d"]:
    """BEGIN, END, PAD and the others to the others, BEGIN, PAD, END."""
    return torch.cat([tensor[3:], tensor[:1], tensor[2:3], tensor[1:2]])


def behind_offset(tensor: Float[Tensor, "n d"]) -> Float[Tensor, "m d"]:
    """OPT's positions count from 2."""
    return tensor[2:]


def code_embedding(
    codebook: Float[Tensor, "1 k c"], weight: Float[Tensor, "d c"], bias: Float[Tensor, "d"], specials: Float[Tensor, "3 d"]
) -> Float[Tensor, "ids d"]:
    """Codes go through a linear map, here once and for all; specials do not."""
    return specials_last(torch.cat([specials, codebook[0] @ weight.T + bias]))


def mean_half(tensor: Float[Tensor, "n *m"]) -> Float[Tensor, "half *m"]:
    """Of means and log variances."""
    return tensor[: len(tensor) // 2]


def only(tensor: Float[Tensor, "1 *n"]) -> Float[Tensor, "*n"]:
    return tensor[0]


def _both(theirs: str, ours: str, make: Callable[..., Tensor] = lambda tensor: tensor) -> Iterator[Row]:
    """Weight and bias."""
    yield from (Row(f"{theirs}.{part}", f"{ours}.{part}", make) for part in ("weight", "bias"))


def _michelangelo_block(theirs: str, ours: str) -> Iterator[Row]:
    yield from _both(f"{theirs}.ln_1", f"{ours}.attention_norm")
    yield Row(f"{theirs}.attn.c_qkv.weight", f"{ours}.attention.project.weight", by_kind)
    yield from _both(f"{theirs}.attn.c_proj", f"{ours}.attention.out")
    yield from _both(f"{theirs}.ln_2", f"{ours}.mlp_norm")
    yield from _both(f"{theirs}.mlp.c_fc", f"{ours}.mlp.up")
    yield from _both(f"{theirs}.mlp.c_proj", f"{ours}.mlp.down")


def _michelangelo() -> Iterator[Row]:
    """The point encoder; its decoder of distances and its projection to images and text are not needed."""
    theirs, ours = "point_encoder.model.shape_model", "steps.cloud"
    look = f"{theirs}.encoder.cross_attn"
    yield Row(f"{theirs}.encoder.query", f"{ours}.look.queries")
    yield from _both(f"{theirs}.encoder.input_proj", f"{ours}.look.embed")
    yield from _both(f"{look}.ln_1", f"{ours}.look.query_norm")
    yield from _both(f"{look}.ln_2", f"{ours}.look.point_norm")
    yield from _both(f"{look}.ln_3", f"{ours}.look.mlp_norm")
    yield Row(f"{look}.attn.c_q.weight", f"{ours}.look.project_query.weight")
    yield Row(f"{look}.attn.c_kv.weight", f"{ours}.look.project_points.weight")
    yield from _both(f"{look}.attn.c_proj", f"{ours}.look.mix")
    yield from _both(f"{look}.mlp.c_fc", f"{ours}.look.mlp.up")
    yield from _both(f"{look}.mlp.c_proj", f"{ours}.look.mlp.down")
    yield from _michelangelo_block(f"{theirs}.encoder.self_attn.resblocks.{{}}", f"{ours}.look.body.blocks.{{}}")
    yield from _both(f"{theirs}.encoder.ln_post", f"{ours}.look.body.norm")
    yield from _both(f"{theirs}.pre_kl", f"{ours}.narrow", mean_half)
    yield from _both(f"{theirs}.post_kl", f"{ours}.widen")
    yield from _michelangelo_block(f"{theirs}.transformer.resblocks.{{}}", f"{ours}.latents.blocks.{{}}")
    yield from _both("cond_head_proj", f"{ours}.head")
    yield from _both("cond_proj", f"{ours}.rest")
    yield Row("point_encoder.model.shape_projection", None)
    yield Row(f"{theirs}.geo_decoder.*", None)


def _opt() -> Iterator[Row]:
    """The layers of the transformer, and what is added to what it reads."""
    theirs, ours = "transformer.model.decoder", "steps"
    layer, block = f"{theirs}.layers.{{}}", f"{ours}.body.blocks.{{}}"
    yield Row(f"{theirs}.embed_positions.weight", f"{ours}.body.positions.weight", behind_offset)
    yield Row(f"{theirs}.token_embed_positions.weight", f"{ours}.roles.weight")
    yield Row(f"{theirs}.cond_embed.weight", f"{ours}.kind")
    for part in ("weight", "bias"):
        projections = tuple(f"{layer}.self_attn.{name}_proj.{part}" for name in "qkv")
        yield Row(projections, f"{block}.attention.project.{part}", stacked)
    yield from _both(f"{layer}.self_attn.out_proj", f"{block}.attention.out")
    yield from _both(f"{layer}.self_attn_layer_norm", f"{block}.attention_norm")
    yield from _both(f"{layer}.fc1", f"{block}.mlp.up")
    yield from _both(f"{layer}.fc2", f"{block}.mlp.down")
    yield from _both(f"{layer}.final_layer_norm", f"{block}.mlp_norm")


def _code_decoder() -> Iterator[Row]:
    """MeshAnything's noise-resistant decoder, by the names of optimum's BetterTransformer."""
    theirs, ours = "tokenizer", "tokenizer"
    yield Row("transformer.model.decoder.quantize_codebooks", f"{ours}.codebook.weight", only)
    yield from _both(f"{theirs}.project_down_codebook", f"{ours}.embed")
    yield Row(f"{theirs}.pos_embedding.weight", f"{ours}.place.weight", lambda tensor: tensor[:PLACES])
    yield from _both(f"{theirs}.layernorm", f"{ours}.face_norm")
    yield from _both(f"{theirs}.cond_head_proj", f"{ours}.head")
    yield from _both(f"{theirs}.cond_proj", f"{ours}.rest")
    yield Row(f"{theirs}.point_pe.weight", f"{ours}.shape_place.weight")
    yield from _both(f"{theirs}.point_layernorm", f"{ours}.shape_norm")
    names = {"in_proj": "attention.project", "out_proj": "attention.out", "linear1": "mlp.up", "linear2": "mlp.down"}
    for name, to in {**names, "norm1": "attention_norm", "norm2": "mlp_norm"}.items():
        for part in ("weight", "bias"):
            yield Row(f"{theirs}.decoder.layer.{{}}.{name}_{part}", f"{ours}.body.blocks.{{}}.{to}.{part}")
    yield from _both(f"{theirs}.to_coor_logits.0", f"{ours}.classify")


PLACES = 800  # faces that MeshAnything decodes at once; its table has rows for more


# Configs


def _layers(shapes: Shapes, start: str) -> int:
    return 1 + max(int(name.removeprefix(start).split(".")[0]) for name in shapes if name.startswith(start))


def _steps(shapes: Shapes, roles: str, points: int) -> OneIdConfig:
    opt, shape = "transformer.model.decoder.", "point_encoder.model.shape_model."
    positions, dim = shapes[f"{opt}embed_positions.weight"]
    vectors, wide = shapes[f"{shape}encoder.query"]
    frequencies = (shapes[f"{shape}encoder.input_proj.weight"][1] - 6) // 6
    look = PointCloudConfig(
        points, vectors, wide, _layers(shapes, f"{shape}encoder.self_attn.resblocks."), wide // HEAD, frequencies, dim, LAYOUT
    )
    cloud = ShapeEncoderConfig(look, shapes[f"{shape}post_kl.weight"][1], _layers(shapes, f"{shape}transformer.resblocks."))
    layers = _layers(shapes, f"{opt}layers.")
    body = TransformerConfig(dim, layers, dim // HEAD, causal=True, layout="opt", positions=positions - 2)
    return OneIdConfig(shapes["transformer.lm_head.weight"][0] - 3, roles, roles == "strip", body, cloud)


def _config_v1(shapes: Shapes) -> dict[str, Any]:
    places = min(PLACES, shapes["tokenizer.pos_embedding.weight"][0])
    _, codes, width = shapes["transformer.model.decoder.quantize_codebooks"]
    classes, dim = shapes["tokenizer.to_coor_logits.0.weight"]
    layers, seen = _layers(shapes, "tokenizer.decoder.layer."), shapes["tokenizer.point_pe.weight"][0]
    decoder = FaceCodesConfig(classes // 9, codes, width, dim, layers, dim // HEAD, seen, places)
    steps = _steps(shapes, "face", 4096)
    return {"tokenizer": {"name": "face-codes", "sizes": checkpoint.to_json(decoder)}, "one_id": checkpoint.to_json(steps)}


def _config_v2(shapes: Shapes) -> dict[str, Any]:
    steps = _steps(shapes, "strip", 8192)
    return {"tokenizer": {"name": "adjacent", "bins": steps.vocab - 1, "orient": True}, "one_id": checkpoint.to_json(steps)}


S_LAB = "S-Lab License 1.0: non-commercial use only"
DECODER = "transformer.model.decoder"
FAMILIES = (
    Family(
        "MeshAnything",
        "Yiwen-ntu/MeshAnything",
        "MeshAnything_350m.pth",
        f"{DECODER}.quantize_codebooks",
        (
            *_michelangelo(),
            *_opt(),
            *_code_decoder(),
            Row(
                tuple(
                    f"{DECODER}.{name}" for name in ("quantize_codebooks", "input_layer.weight", "input_layer.bias", "extra_embeds.weight")
                ),
                "steps.embed.weight",
                code_embedding,
            ),
            Row("transformer.lm_head.weight", "steps.head.weight", specials_last),
            Row(f"{DECODER}.embed_tokens.weight", None),  # never read: codes are embedded by their vectors
        ),
        _config_v1,
        S_LAB,
        "f2de0cbd19d7319f989962afbb0ebb7bceef500dd0f45bd90bb2c8c3311b5f6b",
        2_383_453_260,
    ),
    Family(
        "MeshAnythingV2",
        "Yiwen-ntu/MeshAnythingV2",
        "model.safetensors",
        f"{DECODER}.token_embed_positions.weight",
        (
            *_michelangelo(),
            *_opt(),
            Row("transformer.lm_head.weight", "steps.embed.weight", specials_last),
            Row(f"{DECODER}.embed_tokens.weight?", None),  # the same tensor as the head; some files hold it twice
        ),
        _config_v2,
        S_LAB,
    ),
)
