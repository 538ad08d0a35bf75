"""Models on the disk: what is saved is what is loaded, and every file that does not fit gets one sentence."""

from __future__ import annotations

import json
import pickle
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from meshgpt import checkpoint
from meshgpt.checkpoint import CARD, CONFIG, FORMAT, WEIGHTS, from_json, load_into, tensors_of, to_json, write
from meshgpt.conditioners import PointCloudConfig
from meshgpt.generate import Sampling
from meshgpt.model import MeshGPT, read_tokenizer
from meshgpt.steps import StepModelConfig
from meshgpt.tokenizer import CoordsTokenizer, DracoTokenizer, VQVAEConfig, VQVAETokenizer

SMALL = 1000  # numbers in a tensor; real ones are larger than those of tiny models


@pytest.fixture
def model(tiny_network, tokenizer) -> MeshGPT:
    return MeshGPT(tokenizer, tiny_network(tokenizer))


@pytest.fixture
def saved(tmp_path, tiny_steps) -> Path:
    """A folder with a model of coords."""
    MeshGPT(CoordsTokenizer(16), tiny_steps(16)).save(tmp_path / "model", card="# A card\n")
    return tmp_path / "model"


def tensors_of_model(model: MeshGPT) -> dict[str, torch.Tensor]:
    tensors = {f"steps.{name}": value for name, value in model.network.state_dict().items()}
    if isinstance(model.tokenizer, VQVAETokenizer):
        tensors |= {f"tokenizer.{name}": value for name, value in model.tokenizer.network.state_dict().items()}
    return tensors


def test_a_saved_model_comes_back(model, tmp_path):
    model.save(tmp_path / "a" / "b", card="# A card\n")
    again = MeshGPT.from_pretrained(tmp_path / "a" / "b", device="cpu")
    before, after = tensors_of_model(model), tensors_of_model(again)
    assert before.keys() == after.keys()
    for name in before:
        assert torch.equal(before[name], after[name]), name
    assert again.network.config == model.network.config
    assert not again.network.training
    assert sorted(path.name for path in (tmp_path / "a" / "b").iterdir()) == sorted([CONFIG, WEIGHTS, CARD])
    assert (tmp_path / "a" / "b" / CARD).read_text() == "# A card\n"


def test_a_model_saved_in_bf16_comes_back_rounded_but_for_small_tensors(model, tmp_path, monkeypatch):
    monkeypatch.setattr("meshgpt.model.SMALL", SMALL)
    model.save(tmp_path, dtype=torch.bfloat16)
    again = tensors_of_model(MeshGPT.from_pretrained(tmp_path, device="cpu"))
    for name, value in tensors_of_model(model).items():
        assert again[name].dtype == value.dtype
        rounded = value.is_floating_point() and value.numel() > SMALL
        assert torch.equal(again[name], value.bfloat16().to(value.dtype) if rounded else value), name
    stored = {value.dtype for value in load_file(tmp_path / WEIGHTS).values() if value.numel() > SMALL}
    assert stored == {torch.bfloat16}


def test_a_loaded_model_writes_the_same_mesh(model, tmp_path, surface):
    if isinstance(model.tokenizer, DracoTokenizer):
        pytest.skip("it has no grammar; test_codec.py checks that it says so")
    model.save(tmp_path)
    again = MeshGPT.from_pretrained(str(tmp_path), device="cpu")
    shown = surface(1)[0].numpy()
    sampling = Sampling(max_faces=5, min_faces=2)
    for one, two in zip(model.stream(shown, [0, 1], sampling), again.stream(shown, [0, 1], sampling), strict=True):
        np.testing.assert_array_equal(one, two)


def test_a_tokenizer_is_read_from_a_whole_model_or_by_its_name(model, tmp_path, real):
    model.save(tmp_path)
    np.testing.assert_array_equal(read_tokenizer(str(tmp_path)).encode(real[0]), model.tokenizer.encode(real[0]))
    assert read_tokenizer("coords").bins == 128


def test_a_tensor_with_several_names_is_stored_once(tiny_vqvae):
    names = [name for name in tensors_of(tiny_vqvae.network) if name.endswith("codebook.embed")]
    assert len(names) == 1
    assert len([name for name in tiny_vqvae.network.state_dict() if name.endswith("codebook.embed")]) == 3


# Files that do not fit


def change(folder: Path, **values: object) -> None:
    config = json.loads((folder / CONFIG).read_text())
    (folder / CONFIG).write_text(json.dumps(config | values))


def refused(folder: Path | str, kind: type[Exception] = ValueError) -> str:
    """The one sentence."""
    with pytest.raises(kind) as caught:
        MeshGPT.from_pretrained(folder)
    assert caught.value.__cause__ is None or caught.value.__suppress_context__
    text = str(caught.value)
    assert text
    assert "\n" not in text
    return text


def test_a_missing_tensor_is_named(saved):
    weights = load_file(saved / WEIGHTS)
    del weights["steps.body.norm.weight"], weights["steps.start"]
    save_file(weights, saved / WEIGHTS)
    text = refused(saved)
    assert text.startswith(f"{saved / WEIGHTS}: 2 tensors are missing and 0 unknown, first 'start' is missing;")
    assert text.endswith("config and weights do not belong together")


@pytest.mark.parametrize("name", ["steps.extra", "extra.weight"])
def test_an_unknown_tensor_is_named(saved, name):
    save_file(load_file(saved / WEIGHTS) | {name: torch.zeros(2)}, saved / WEIGHTS)
    assert "extra" in refused(saved)


def test_a_tensor_of_another_shape_is_named(saved):
    weights = load_file(saved / WEIGHTS)
    weights["steps.start"] = torch.zeros(31)
    save_file(weights, saved / WEIGHTS)
    assert refused(saved).endswith("tensor 'start' has shape (31,) where (32,) fits; check the config")


def test_a_refused_file_leaves_the_network_as_it_was(tiny):
    before = {name: value.clone() for name, value in tiny.state_dict().items()}
    weights = {name: value + 1 for name, value in before.items()}
    weights["norm.weight"] = torch.zeros(3)
    with pytest.raises(ValueError, match=r"^here: tensor 'norm.weight' has shape \(3,\) where \(32,\) fits"):
        load_into(tiny, weights, "here")
    assert all(torch.equal(value, before[name]) for name, value in tiny.state_dict().items())


def test_a_newer_format_says_how_to_upgrade(saved):
    change(saved, format=FORMAT + 1)
    assert refused(saved).endswith(f"has format {FORMAT + 1} and this meshgpt reads up to {FORMAT}; upgrade with: pip install -U meshgpt")


@pytest.mark.parametrize("text", ["", "{", "nonsense", "\x00\xff"])
def test_what_is_not_json_is_refused(saved, text):
    (saved / CONFIG).write_bytes(text.encode("latin-1"))
    assert refused(saved) == f"{saved / CONFIG} is not valid JSON; download or save the model again"


@pytest.mark.parametrize("text", ["[]", "3", "{}", '{"format": "1"}', '{"model_type": "opt"}'])
def test_json_of_something_else_is_refused(saved, text):
    (saved / CONFIG).write_text(text)
    assert refused(saved).endswith("has no 'format' number, so it is no meshgpt model; pass a folder saved by meshgpt")


def test_a_model_of_another_kind_is_refused(saved):
    change(saved, kind="vqvae")
    assert refused(saved).endswith("describes a 'vqvae', no whole model; pass the folder of a trained transformer")


@pytest.mark.parametrize("without", ["tokenizer", "steps"])
def test_a_config_without_one_of_its_parts_is_refused(saved, without):
    config = json.loads((saved / CONFIG).read_text())
    del config[without]
    (saved / CONFIG).write_text(json.dumps(config))
    assert without in refused(saved)


def test_an_unknown_field_is_named(saved):
    config = json.loads((saved / CONFIG).read_text())
    config["steps"]["body"]["rope"] = "linear"
    (saved / CONFIG).write_text(json.dumps(config))
    text = refused(saved)
    assert text.startswith("steps.body has the unknown field 'rope'; was it written by a newer meshgpt? this one knows ['causal', 'dim', ")


def test_a_missing_field_is_named(saved):
    config = json.loads((saved / CONFIG).read_text())
    del config["steps"]["vocab"]
    (saved / CONFIG).write_text(json.dumps(config))
    assert "'vocab'" in refused(saved)


@pytest.mark.parametrize("keep", [0, 4, 100, 0.5, -1])
def test_a_truncated_weights_file_is_refused(saved, keep):
    whole = (saved / WEIGHTS).read_bytes()
    (saved / WEIGHTS).write_bytes(whole[: int(len(whole) * keep) if isinstance(keep, float) else keep])
    text = refused(saved)
    assert text.startswith(f"{saved / WEIGHTS} is no whole safetensors file (")
    assert text.endswith("; download or save the model again")


class Trap:
    """Unpickling it leaves a file behind."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return Path.touch, (self.path,)


def test_nothing_is_unpickled(saved, tmp_path):
    sprung = tmp_path / "sprung"
    (saved / WEIGHTS).write_bytes(pickle.dumps(Trap(sprung)))
    refused(saved)
    torch.save({"x": Trap(sprung)}, saved / WEIGHTS)
    refused(saved)
    (saved / WEIGHTS).rename(saved / "pytorch_model.bin")
    assert refused(saved, FileNotFoundError) == f"{saved} lacks {WEIGHTS}; a model is a folder with {CONFIG} and {WEIGHTS}"
    assert not sprung.exists()
    pickle.loads(pickle.dumps(Trap(sprung)))
    assert sprung.exists(), "the trap works"


def test_an_empty_folder_is_no_model(tmp_path):
    assert refused(tmp_path, FileNotFoundError).startswith(f"{tmp_path} lacks {CONFIG} and {WEIGHTS};")


@pytest.mark.parametrize("place", ["nowhere", "./org/name", "/org/name", "a/b/c", "~/models", "../runs"])
def test_what_is_neither_folder_nor_hub_name_is_refused(place, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = refused(place, FileNotFoundError)
    assert text == f"{place} is neither a folder nor a hub name of the form org/name; pass one of the two"


def test_a_hub_name_offline_gets_one_sentence(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert refused("meshgpt-tests/no-such-model", FileNotFoundError) == (
        "meshgpt-tests/no-such-model is no folder here, not in the cache, and HF_HUB_OFFLINE is set; download it while online"
    )


def test_a_file_is_no_folder(saved):
    refused(saved / CONFIG, FileNotFoundError)


# Writing


def snapshot(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_failed_write_leaves_the_old_model(saved, tiny_steps, monkeypatch):
    before = snapshot(saved)

    def full_disk(tensors: dict, path: Path) -> None:
        Path(path).write_bytes(b"half of it")
        raise OSError("No space left on device")

    monkeypatch.setattr(checkpoint, "save_file", full_disk)
    with pytest.raises(OSError, match="No space left"):
        MeshGPT(CoordsTokenizer(16), tiny_steps(16, seed=1)).save(saved)
    assert snapshot(saved) == before


def test_a_config_that_cannot_be_written_leaves_the_old_model(saved):
    before = snapshot(saved)
    with pytest.raises(TypeError):
        write(saved, {"kind": object()}, {"x": torch.zeros(3)})
    assert snapshot(saved) == before


def test_a_new_model_replaces_the_old_one(saved, tiny_steps):
    new = MeshGPT(CoordsTokenizer(16), tiny_steps(16, seed=1))
    new.save(saved)
    assert torch.equal(MeshGPT.from_pretrained(saved, device="cpu").network.start, new.network.start)
    assert sorted(snapshot(saved)) == sorted([CONFIG, WEIGHTS, CARD])


def test_files_may_be_read_by_everybody(saved):
    assert {oct(path.stat().st_mode & 0o444) for path in saved.iterdir()} == {oct(0o444)}


# Configs


@dataclass(frozen=True)
class Inner:
    size: int = 3


@dataclass(frozen=True)
class Outer:
    name: str
    inner: Inner = Inner()
    other: Inner | None = None


@pytest.mark.parametrize("config", [Outer("a"), Outer("b", Inner(5), Inner(7))])
def test_configs_go_to_json_and_back(config):
    assert from_json(Outer, json.loads(json.dumps(to_json(config)))) == config


@pytest.mark.parametrize("shape", [None, PointCloudConfig(points=7)])
def test_our_configs_go_to_json_and_back(shape):
    for config in (VQVAEConfig(shape=shape), StepModelConfig(3, 9, cloud=replace(PointCloudConfig(), points=9))):
        assert from_json(type(config), json.loads(json.dumps(to_json(config)))) == config


def test_fields_that_do_not_fit_are_named_with_their_place():
    with pytest.raises(ValueError, match=r"^config.inner has the unknown field 'sizes'; .* this one knows \['size'\]$"):
        from_json(Outer, {"name": "a", "inner": {"sizes": 3}})
    with pytest.raises(ValueError, match=r"^there does not fit: .*'name'$"):
        from_json(Outer, {}, "there")
