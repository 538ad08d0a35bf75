"""What the tests share: small meshes, the real ones of the shipped validation split, and networks that are tiny."""

from __future__ import annotations

import itertools
import os
import signal

os.environ["HF_HUB_OFFLINE"] = "1"  # before the hub's library is imported: no test may need it

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from meshgpt.conditioners import PointCloudConfig, SurroundingsConfig
from meshgpt.gate_model import GateModel, GateModelConfig
from meshgpt.mesh import Mesh, corners_of
from meshgpt.steps import StepModel, StepModelConfig
from meshgpt.tokenizer import TOKENIZERS, VQVAE, GatesTokenizer, MeshTokenizer, VQVAEConfig, VQVAETokenizer
from meshgpt.tokenizer.vqvae import pad_faces
from meshgpt.train.sources import MeshSet, read_parquet
from meshgpt.transformer import Transformer, TransformerConfig

VAL = Path(__file__).resolve().parents[1] / "data" / "artist-kits" / "val.parquet"
TINY_BODY = TransformerConfig(dim=32, layers=2, heads=2)
TINY_CLOUD = PointCloudConfig(points=64, vectors=4, dim=32, layers=1, heads=2, frequencies=3)
TINY_SURROUNDINGS = SurroundingsConfig(nearest=3, around=20, dim=16, out=8)
TINY_VQVAE = VQVAEConfig(dim=32, heads=2, encoder_layers=1, decoder_layers=1, levels=3, codes=256, code_width=4)


def mesh_of_solid(solid: Any) -> Mesh:
    """Of one of trimesh's."""
    return Mesh(np.array(solid.vertices, dtype=np.float64), np.array(solid.faces, dtype=np.int64))


# The same examples every time, and nothing left behind on the disk.
hypothesis.settings.register_profile("hermetic", derandomize=True, database=None, deadline=None)
hypothesis.settings.load_profile("hermetic")

# In the background of a script Ctrl-C is ignored, and by the programs that tests start as well.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _same_arithmetic() -> Iterator[None]:
    """Training and loading switch to a faster float32; no test may depend on which one ran before it."""
    matmul = torch.backends.mkldnn.matmul
    before = matmul.fp32_precision
    torch.manual_seed(0)
    yield
    matmul.fp32_precision = before


@pytest.fixture
def tetrahedron() -> Mesh:
    """In the cube, every face counterclockwise from outside."""
    vertices = np.array([[-0.4, -0.4, -0.4], [0.4, -0.4, -0.4], [0.0, -0.4, 0.4], [0.0, 0.4, 0.0]])
    return Mesh(vertices, np.array([[0, 1, 2], [0, 3, 1], [1, 3, 2], [2, 3, 0]]))


@pytest.fixture(scope="session")
def val() -> MeshSet:
    return read_parquet(VAL)


@pytest.fixture(scope="session")
def real(val) -> list[np.ndarray]:
    """The canonical corners, at 128 bins, of all meshes of the validation split."""
    return [corners_of(val.mesh(index)) for index in range(len(val))]


@pytest.fixture
def kit(tmp_path, real) -> Callable[..., Path]:
    """A folder with train.parquet and val.parquet, both holding the few smallest fitting meshes of the validation split."""

    def make(count: int, fits: Callable[[np.ndarray], bool] = lambda corners: True) -> Path:
        table = pq.read_table(VAL)
        smallest = np.argsort(table["n_faces"].to_numpy(), kind="stable").tolist()
        table = table.take(list(itertools.islice((index for index in smallest if fits(real[index])), count)))
        folder = tmp_path / f"kit-{count}"
        folder.mkdir()
        for split in ("train", "val"):
            pq.write_table(table.slice(0, count), folder / f"{split}.parquet")
        return folder

    return make


@pytest.fixture
def tiny() -> Transformer:
    torch.manual_seed(0)
    return Transformer(TINY_BODY).eval()


@pytest.fixture(scope="session")
def tiny_steps() -> Callable[..., StepModel]:
    """A network of random weights; nothing in it is zero, so that every part has a say."""

    def make(vocab: int = 11, width: int = 9, spell: int = 3, places: bool = False, seed: int = 0) -> StepModel:
        torch.manual_seed(seed)
        sizes = {"body": TINY_BODY, "cloud": TINY_CLOUD, "surroundings": TINY_SURROUNDINGS}
        depth = {"depth_dim": 32, "depth_hidden": 32, "depth_layers": 2, "depth_code": 16}
        network = StepModel(StepModelConfig(vocab, width, spell, places, **sizes, **depth))
        for weight in network.parameters():
            if not weight.any():
                torch.nn.init.normal_(weight, std=0.5)
        network.depth.shifts.normal_(std=5)
        if places:
            network.places.uniform_(-0.5, 0.5)
            network.depth.offsets.normal_(std=0.02)
        return network.eval()

    return make


@pytest.fixture(scope="session")
def tiny_gates() -> Callable[..., GateModel]:
    """A network of random weights for gate tokens; nothing in it is zero, so that every part has a say."""

    def make(bins: int = 16, seed: int = 0) -> GateModel:
        torch.manual_seed(seed)
        network = GateModel(GateModelConfig(bins, TINY_BODY, TINY_CLOUD, TINY_SURROUNDINGS, dim=32, hidden=32))
        for weight in network.parameters():
            if not weight.any():
                torch.nn.init.normal_(weight, std=0.5)
        return network.eval()

    return make


@pytest.fixture
def endless_gates(tiny_gates) -> GateModel:
    """It hardly ever ends a mesh."""
    network = tiny_gates()
    torch.nn.init.zeros_(network.decoder.stop.weight)
    torch.nn.init.constant_(network.decoder.stop.bias, -1e4)
    return network


@pytest.fixture
def tiny_network(tiny_steps, tiny_gates) -> Callable[[MeshTokenizer], StepModel | GateModel]:
    """The network that writes the steps of a tokenizer, of random weights."""

    def make(tokenizer: MeshTokenizer) -> StepModel | GateModel:
        if isinstance(tokenizer, GatesTokenizer):
            return tiny_gates(tokenizer.bins)
        return tiny_steps(tokenizer.vocab, tokenizer.width, tokenizer.spell, tokenizer.places is not None)

    return make


@pytest.fixture
def surface() -> Callable[..., torch.Tensor]:
    """Clouds of random points with unit normals."""

    def make(rows: int = 2, points: int = 64, seed: int = 0) -> torch.Tensor:
        rng = torch.Generator().manual_seed(seed)
        normals = torch.nn.functional.normalize(torch.randn(rows, points, 3, generator=rng), dim=-1)
        return torch.cat([torch.rand(rows, points, 3, generator=rng) - 0.5, normals], -1)

    return make


@pytest.fixture(scope="session")
def tiny_vqvae(real) -> VQVAETokenizer:
    """A VQ-VAE that has seen one batch, so that its codebook holds vectors, and has learned nothing more."""
    torch.manual_seed(0)
    network = VQVAE(TINY_VQVAE)
    batch = pad_faces(real[:24])
    with torch.no_grad():
        network(batch)
    network.measure([batch])
    return VQVAETokenizer(network.eval())


@pytest.fixture(scope="session", params=TOKENIZERS)
def tokenizer(request) -> MeshTokenizer:
    """Each of TOKENIZERS in turn, at 128 bins."""
    return request.getfixturevalue("tiny_vqvae") if request.param == "vqvae" else TOKENIZERS[request.param]()
