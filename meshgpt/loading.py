"""A network and a tokenizer out of a model's files, without random weights first: what is read is what runs.

fp32   as stored
bf16   the transformer in bfloat16: half the memory
int8   the transformer's matrices in 8 bits, a scale a row (CPUs only): a quarter of the memory, and on CPUs the fastest

It knows files and networks. It does not know clouds or meshes.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any, Literal, TypeVar, get_args

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from meshgpt import checkpoint
from meshgpt.checkpoint import Checkpoint
from meshgpt.gate_model import GateModel, GateModelConfig
from meshgpt.one_id_model import OneIdConfig, OneIdModel
from meshgpt.precision import laid_for_rows
from meshgpt.steps import StepModel, StepModelConfig
from meshgpt.tokenizer import GatesTokenizer, build
from meshgpt.tokenizer.interface import MeshTokenizer
from meshgpt.transformer import KVCache, RowCache, Transformer

Precision = Literal["fp32", "bf16", "int8"]
AnyNetwork = TypeVar("AnyNetwork", StepModel, GateModel, OneIdModel)


def blank(config: Mapping[str, Any], found: Checkpoint) -> tuple[MeshTokenizer, StepModel | GateModel | OneIdModel]:
    """The parts that a config describes."""
    tokenizer = build(checkpoint.part(config, "tokenizer", found))
    if "one_id" in config:
        return tokenizer, OneIdModel(checkpoint.from_json(OneIdConfig, checkpoint.part(config, "one_id", found), "one_id"))
    sizes = checkpoint.part(config, "steps", found)
    if isinstance(tokenizer, GatesTokenizer):
        return tokenizer, GateModel(checkpoint.from_json(GateModelConfig, sizes, "steps"))
    return tokenizer, StepModel(checkpoint.from_json(StepModelConfig, sizes, "steps"))


def learned(tokenizer: MeshTokenizer) -> nn.Module | None:
    """The network of a tokenizer that has one."""
    network = getattr(tokenizer, "network", None)
    return network if isinstance(network, nn.Module) else None


def load_published(config: Mapping[str, Any], found: Checkpoint, precision: Precision, device: str) -> tuple[MeshTokenizer, OneIdModel]:
    """ValueError where the files do not fit, or there is no such precision on the device."""
    with torch.device("meta"):
        tokenizer, network = blank(config, found)
    weights = found.read_weights()
    checkpoint.take(network, _part(weights, "steps.", found), str(found.weights))
    if learned(tokenizer) is not None:
        checkpoint.take(learned(tokenizer), _part(weights, "tokenizer.", found), str(found.weights))
        learned(tokenizer).eval()
    if network.config.tied:
        network.head.weight = network.embed.weight
    return tokenizer, in_precision(network, precision, device).eval()


def _part(weights: Mapping[str, Tensor], prefix: str, found: Checkpoint) -> dict[str, Tensor]:
    unknown = [name for name in weights if not name.startswith(("steps.", "tokenizer."))]
    if unknown:
        raise ValueError(f"{found.weights} holds the unknown tensor {unknown[0]!r}; was it written by a newer meshgpt?")
    return {name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)}


def in_precision(network: AnyNetwork, precision: Precision, device: str = "cpu") -> AnyNetwork:
    """With the transformer in it; all else stays as it is, since it is small or runs once. ValueError where a device does not have it."""
    if precision not in get_args(Precision) or (precision == "int8" and device != "cpu"):
        raise ValueError(f"the precision {precision!r} is not there on the device {device!r}; fp32 or bf16 fit, and int8 on a cpu")
    if precision == "int8":
        _replace(network.body, Int8Linear)
    elif precision == "bf16":
        network.body.to(torch.bfloat16)
        if device == "cpu" and torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported():
            _replace(network.body, PackedLinear)
        if isinstance(network, OneIdModel):
            for part in (network.embed, network.roles, network.head):
                part.to(torch.bfloat16)
            network.kind.data = network.kind.data.to(torch.bfloat16)
        else:
            network.body = InBfloat16(network.body)
    return laid_for_rows(network) if device == "cpu" else network


def _replace(body: nn.Module, by: type[Int8Linear] | type[PackedLinear]) -> None:
    for module in [*body.modules()]:
        for name, child in [*module.named_children()]:
            if isinstance(child, nn.Linear):
                setattr(module, name, by(child))


class InBfloat16(nn.Module):
    """A transformer in bfloat16 between parts in float32."""

    def __init__(self, inner: Transformer) -> None:
        super().__init__()
        self.inner = inner

    def cache(self, rows: int, capacity: int) -> KVCache:
        return self.inner.cache(rows, capacity)

    def forward(
        self, x: Float[Tensor, "b t d"], cache: KVCache | RowCache | None = None, keep: Bool[Tensor, "b s"] | None = None
    ) -> Float[Tensor, "b t d"]:
        return self.inner(x.to(torch.bfloat16), cache, keep).to(x.dtype)


class PackedLinear(nn.Module):
    """A linear map in bfloat16 whose weights lie as oneDNN reads them best: for few rows 1.5 times as fast as torch's own."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        # Buffers of this layout cannot be saved or moved, so that they are none.
        self.packed = torch.ops.mkldnn._reorder_linear_weight(linear.weight.detach(), 1)
        self.bias = None if linear.bias is None else linear.bias.detach()

    def forward(self, x: Float[Tensor, "*n i"]) -> Float[Tensor, "*n o"]:
        return torch.ops.mkldnn._linear_pointwise(x, self.packed, self.bias, "none", [], "")


class Int8Linear(nn.Module):
    """A linear map with weights in 8 bits and a scale for each output; inputs are rounded to 8 bits as they come, to 7 on CPUs that
    would cut off their sums (those without VNNI add up pairs in 16 bits)."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        weight = linear.weight.detach()
        scale = weight.abs().amax(1).clamp(min=1e-8) / 127
        with warnings.catch_warnings():  # torch will drop this one day; nothing else of it is as fast on CPUs (5 times float32)
            warnings.simplefilter("ignore")
            rounded = torch.quantize_per_channel(weight, scale.double(), torch.zeros(len(scale), dtype=torch.long), 0, torch.qint8)
        bias = None if linear.bias is None else linear.bias.detach()
        self.packed = torch.ops.quantized.linear_prepack(rounded, bias)
        self.narrow = not torch.cpu._is_vnni_supported()

    def forward(self, x: Float[Tensor, "*n i"]) -> Float[Tensor, "*n o"]:
        return torch.ops.quantized.linear_dynamic(x, self.packed, reduce_range=self.narrow)
