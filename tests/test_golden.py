"""A tiny model and what it computed on the day its numbers were stored.

Refresh on purpose, after a change that is meant to change them: python tests/test_golden.py
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from meshgpt.checkpoint import load_into, tensors_of
from meshgpt.conditioners import PointCloudConfig, SurroundingsConfig
from meshgpt.steps import StepModel, StepModelConfig
from meshgpt.transformer import TransformerConfig

GOLDEN = Path(__file__).parent / "golden" / "steps.safetensors"
CONFIG = StepModelConfig(
    vocab=24,
    width=9,
    spell=3,
    has_places=True,
    bins=8,
    body=TransformerConfig(dim=24, layers=2, heads=2),
    cloud=PointCloudConfig(points=48, vectors=4, dim=24, layers=1, heads=2, frequencies=3),
    surroundings=SurroundingsConfig(nearest=4, around=32, dim=16, out=8),
    depth_dim=24,
    depth_hidden=32,
    depth_layers=2,
    depth_code=12,
)
INPUTS = ("ids", "lengths", "surface", "drop")


@pytest.fixture
def golden() -> dict[str, torch.Tensor]:
    return load_file(GOLDEN)


def weights_of(golden: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name.removeprefix("model."): value for name, value in golden.items() if name.startswith("model.")}


@torch.no_grad()
def test_the_model_still_computes_the_same(golden):
    """All of it: points, surroundings, transformer, memory, hints, boundary, axes, depth decoder, END, padding, dropped rows."""
    network = StepModel(CONFIG).eval()
    load_into(network, weights_of(golden), str(GOLDEN))
    nats = network(*(golden[name] for name in INPUTS))
    torch.testing.assert_close(nats, golden["nats"], rtol=1e-4, atol=1e-3)


@torch.no_grad()
def test_every_weight_has_a_say_in_the_golden_numbers(golden):
    network = StepModel(CONFIG).eval()
    load_into(network, weights_of(golden), str(GOLDEN))
    for name, weight in network.named_parameters():
        before = weight.clone()
        weight.mul_(1.3).add_(0.05)
        off = network(*(golden[name] for name in INPUTS)) - golden["nats"]
        assert off.abs().max() > 2e-3, f"{name} could change unseen"
        weight.copy_(before)


def test_the_golden_file_is_small():
    assert GOLDEN.stat().st_size < 400_000


@torch.no_grad()
def refresh() -> None:
    torch.manual_seed(0)
    network = StepModel(CONFIG).eval()
    for weight in network.parameters():
        # As if trained a little: what starts as zero or one would otherwise not be seen.
        weight.add_(0.1 * torch.randn_like(weight))
    network.places.uniform_(-0.5, 0.5)
    network.depth.offsets.normal_(std=0.02)
    network.depth.shifts.normal_(2, 1)
    normals = torch.nn.functional.normalize(torch.randn(4, 48, 3), dim=-1)
    inputs = {
        "ids": torch.randint(CONFIG.vocab, (4, 10, 9)),
        "lengths": torch.tensor([10, 3, 7, 0]),
        "surface": torch.cat([torch.rand(4, 48, 3) - 0.5, normals], -1),
        "drop": torch.tensor([False, False, True, False]),
    }
    nats = network(*(inputs[name] for name in INPUTS))
    GOLDEN.parent.mkdir(exist_ok=True)
    tensors = {f"model.{name}": value.clone() for name, value in tensors_of(network).items()}
    save_file(tensors | inputs | {"nats": nats}, GOLDEN)
    GOLDEN.chmod(0o644)
    print(f"{GOLDEN}: {GOLDEN.stat().st_size:,} bytes, nats {nats.tolist()}")


if __name__ == "__main__":
    refresh()
