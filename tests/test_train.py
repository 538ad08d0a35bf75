"""Training: a stopped run and a straight one are one run, mistakes are sentences, and a few meshes can be learned by heart."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import TINY_BODY, TINY_CLOUD, TINY_SURROUNDINGS, TINY_VQVAE
from safetensors.torch import load_file

from meshgpt.completion_network import CompletionConfig
from meshgpt.conditioners import PointCloudConfig, SurroundingsConfig
from meshgpt.generate import Sampling
from meshgpt.mesh import corners_of
from meshgpt.model import MeshGPT, read_tokenizer
from meshgpt.train import completion, decoder, transformer, vqvae
from meshgpt.train.data import Recipe
from meshgpt.train.loop import Loop, LoopOptions, rate_at
from meshgpt.train.sources import read_parquet
from meshgpt.transformer import TransformerConfig

SHORT = LoopOptions(steps=6, faces=200, warmup=2, workers=0, tracker="none", validate_every=3, save_every=100, precision="fp32")
TINY = transformer.Sizes(TINY_BODY, TINY_CLOUD, TINY_SURROUNDINGS, depth_dim=32, depth_hidden=32, depth_layers=1, depth_code=16)

TINY_COMPLETION = CompletionConfig(cells=16, widths=(8, 16))


@pytest.fixture
def trained_vqvae(kit, tmp_path) -> Path:
    """Not well, but the files are there."""
    out = tmp_path / "vqvae"
    vqvae.run(vqvae.VQVAEOptions(str(kit(4)), str(out), TINY_VQVAE, replace(SHORT, steps=3)))
    return out


@pytest.fixture(params=["vqvae", "decoder", "transformer of coords", "transformer of vqvae", "completion"])
def stage(request, kit, tmp_path) -> Callable[..., dict[str, float]]:
    """Run a stage into a folder."""
    data = str(kit(12))
    tokenizer = str(request.getfixturevalue("trained_vqvae")) if request.param in ("decoder", "transformer of vqvae") else "coords"

    def run(out: Path, **loop: object) -> dict[str, float]:
        options = replace(SHORT, **loop)
        if request.param == "completion":
            return completion.run(completion.CompletionOptions(data, str(out), TINY_COMPLETION, options, shapes=2))
        if request.param == "vqvae":
            return vqvae.run(vqvae.VQVAEOptions(data, str(out), TINY_VQVAE, options))
        if request.param == "decoder":
            return decoder.run(decoder.DecoderOptions(data, tokenizer, str(out), TINY_CLOUD, options))
        return transformer.run(transformer.TransformerOptions(data, str(out), tokenizer, TINY, options, drop=0.3))

    return run


@pytest.fixture
def logged(monkeypatch) -> dict[int, dict[str, float]]:
    """The losses of every step, whatever the tracker."""
    losses: dict[int, dict[str, float]] = {}
    one_step = Loop._one_step

    def watched(self: Loop, batches: object) -> tuple[dict[str, float], int]:
        values, faces = one_step(self, batches)
        losses[self.step] = values
        return values, faces

    monkeypatch.setattr(Loop, "_one_step", watched)
    return losses


def state_of(out: Path) -> dict[str, object]:
    """Everything a run leaves: the model, the weights and the optimizer."""
    rest = torch.load(out / "state" / "training.pt", weights_only=True)
    return {"model": load_file(out / "model.safetensors"), "weights": load_file(out / "state" / "weights.safetensors"), "rest": rest}


def test_a_resumed_run_is_a_straight_one(stage, logged, tmp_path):
    measured = stage(tmp_path / "straight", accumulate=2)
    straight = dict(logged)
    logged.clear()
    stage(tmp_path / "stopped", accumulate=2, stop_after=2)
    torch.manual_seed(99)
    stage(tmp_path / "stopped", accumulate=2, stop_after=5, resume=True)
    torch.rand(3)
    again = stage(tmp_path / "stopped", accumulate=2, resume=True)
    assert sorted(logged) == [0, 1, 2, 3, 4, 5]
    assert logged == straight
    assert again == measured
    torch.testing.assert_close(state_of(tmp_path / "stopped"), state_of(tmp_path / "straight"), rtol=0, atol=0)


def test_a_run_is_that_of_its_seed(stage, logged, tmp_path):
    stage(tmp_path / "one", steps=2)
    first = dict(logged)
    stage(tmp_path / "two", steps=2)
    assert logged == first
    stage(tmp_path / "three", steps=2, seed=1)
    assert all(logged[step] != first[step] for step in first)


def test_a_run_is_not_overwritten(stage, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"holds no state to resume; leave --resume away to start there$"):
        stage(tmp_path / "out", steps=1, resume=True)
    stage(tmp_path / "out", steps=1)
    before = {path: path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()}
    with pytest.raises(FileExistsError, match=r"holds a training run already; continue it with --resume, or choose another --out$"):
        stage(tmp_path / "out", steps=2)
    assert {path: path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()} == before


def test_a_loss_that_is_no_number_ends_the_run(stage, tmp_path):
    with pytest.raises(FloatingPointError, match=r"^the loss is (nan|inf) at step [12]; lower --loop.learning-rate and resume$"):
        stage(tmp_path, learning_rate=1e30, warmup=0)


def test_the_frozen_parts_stay_frozen(kit, trained_vqvae, tmp_path):
    """The decoder learns alone; the transformer's tokenizer is the one that was given."""
    data = str(kit(12))
    decoder.run(decoder.DecoderOptions(data, str(trained_vqvae), str(tmp_path / "decoder"), TINY_CLOUD, SHORT))
    transformer.run(transformer.TransformerOptions(data, str(tmp_path / "all"), str(tmp_path / "decoder"), TINY, SHORT))
    first, second, third = (load_file(tmp_path / name / "model.safetensors") for name in ("vqvae", "decoder", "all"))
    for name, value in first.items():
        frozen = name.startswith(("encoder.", "quantizer.", "places"))
        if frozen:
            assert torch.equal(second[name], value), name
    assert any(not torch.equal(second[name], value) for name, value in first.items() if name.startswith("decoder."))
    assert all(torch.equal(third[f"tokenizer.{name}"], value) for name, value in second.items())
    torch.testing.assert_close(third["steps.places"], second["places"])


def test_what_was_trained_can_be_used(kit, tmp_path):
    options = transformer.TransformerOptions(str(kit(4)), str(tmp_path / "out"), "coords", TINY, SHORT)
    transformer.run(options)
    model = MeshGPT.from_pretrained(tmp_path / "out", device="cpu")
    shown = np.random.default_rng(0).random((64, 6)).astype(np.float32)
    assert len(list(model.stream(shown, [0], Sampling(max_faces=3, min_faces=3)))) == 3


def test_the_learning_rate_rises_and_falls():
    options = LoopOptions(steps=1000, warmup=100, learning_rate=2.0)
    rates = [rate_at(step, options) for step in range(1200)]
    assert rates[0] == pytest.approx(0.02)
    assert rates[99] == pytest.approx(2)
    assert (np.diff(rates[:100]) > 0).all()
    assert (np.diff(rates[100:1000]) < 0).all()
    assert rates[550] == pytest.approx(2 * (0.01 + 0.99 / 2))
    assert rates[1000:] == pytest.approx([0.02] * 200)
    assert np.isfinite([rate_at(step, replace(options, warmup=0, steps=1)) for step in range(3)]).all()


def test_a_set_without_splits_is_split(kit):
    """Every mesh is in one part, and the same one each time."""
    (data := kit(12) / "val.parquet").rename(alone := data.parent.parent / "alone.parquet")
    train, held_out = vqvae.read_splits(str(alone), 800)
    assert len(train) + len(held_out) == 12
    assert len(held_out) >= 1
    assert not set(train.ids) & set(held_out.ids)
    assert vqvae.read_splits(str(alone), 800)[1].ids == held_out.ids


def test_a_run_starts_from_the_weights_of_a_trained_model(kit, tmp_path):
    data = str(kit(4))
    options = transformer.TransformerOptions(data, str(tmp_path / "one"), "coords", TINY, replace(SHORT, steps=2))
    transformer.run(options)
    still = replace(SHORT, steps=1, learning_rate=0.0)
    from_one = replace(options, out=str(tmp_path / "two"), loop=still, start_from=str(tmp_path / "one"))
    transformer.run(replace(from_one, model=transformer.Sizes()))
    one, two = (MeshGPT.from_pretrained(tmp_path / name, device="cpu").network.state_dict() for name in ("one", "two"))
    assert all(torch.equal(one[name], two[name]) for name in one)
    with pytest.raises(ValueError, match="writes coords and not gates; pass its --tokenizer"):
        transformer.run(replace(from_one, tokenizer="gates", out=str(tmp_path / "three")))


# By heart


def exactly_written(model: MeshGPT, data: Path, count: int, points: int) -> int:
    """How many of the meshes come back exactly, greedily, from clouds of their own that training did not see."""
    meshes, exact = read_parquet(data / "train.parquet"), 0
    for index in range(count):
        mesh = meshes.mesh(index)
        shown = Recipe(points=points).surface(mesh, np.random.default_rng(99))
        steps = list(
            model.stream(shown, [0], Sampling(temperature=0.0, max_faces=len(mesh.faces) + 5, guidance=1.0, edges="any", bounds="none"))
        )
        written = model.tokenizer.decode(np.concatenate(steps), shown) if steps else np.zeros((0, 3, 3), dtype=np.int64)
        wanted = corners_of(mesh)
        exact += written.shape == wanted.shape and bool((written == wanted).all())
    return exact


def learn(data: Path, out: Path, tokenizer: str, sizes: transformer.Sizes, loop: LoopOptions) -> MeshGPT:
    transformer.run(
        transformer.TransformerOptions(str(data), str(out), tokenizer, sizes, loop, augment=None, degrade=None, missteps=None, drop=0.0)
    )
    return MeshGPT.from_pretrained(out, device="cpu")


@pytest.mark.parametrize("tokenizer", ["coords", "gates"])
def test_two_meshes_are_learned_by_heart(kit, tmp_path, tokenizer):
    body = TransformerConfig(dim=64, layers=2, heads=2)
    sizes = transformer.Sizes(body, TINY_CLOUD, TINY_SURROUNDINGS, depth_dim=64, depth_hidden=64, depth_layers=2, depth_code=32)
    loop = replace(SHORT, steps=90, warmup=10, learning_rate=5e-3, validate_every=1000)
    data = kit(2)
    model = learn(data, tmp_path / "out", tokenizer, sizes, loop)
    assert exactly_written(model, data, 2, TINY_CLOUD.points) == 2


@pytest.mark.slow
@pytest.mark.parametrize(("name", "steps"), [("coords", 1200), ("vqvae", 2500), ("gates", 500)])
def test_sixteen_meshes_are_learned_by_heart(kit, tmp_path, name, steps):
    """With the VQ-VAE that ships, on meshes that it gives back exactly."""
    place = name
    tokenizer = read_tokenizer(place)
    data = kit(16, lambda corners: np.array_equal(tokenizer.decode(tokenizer.encode(corners)), corners))
    body, cloud = TransformerConfig(dim=128, layers=3, heads=4), PointCloudConfig(points=256, vectors=8, dim=64, layers=1, heads=2)
    sizes = transformer.Sizes(body, cloud, SurroundingsConfig(dim=32, out=32), 96, 128, 2, 48)
    loop = replace(SHORT, steps=steps, faces=400, warmup=100, learning_rate=2e-3, validate_every=500, save_every=500)
    model = learn(data, tmp_path / "out", place, sizes, loop)
    assert exactly_written(model, data, 16, 256) >= 15
