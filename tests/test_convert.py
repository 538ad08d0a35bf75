"""Published checkpoints: the same numbers as transformers' own classes, every tensor accounted for, and one sentence for each bad file."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_published import CODES, PLACES, TinyV1, TinyV2

from meshgpt import converted
from meshgpt.checkpoint import CARD, CONFIG, WEIGHTS
from meshgpt.convert import moves, source_in
from meshgpt.generate import Sampling
from meshgpt.model import MeshGPT
from meshgpt.tokenizer.adjacent import roles

EXACT = {"rtol": 1e-4, "atol": 1e-5}
KINDS = {"v1": TinyV1, "v2": TinyV2}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("MESHGPT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(params=KINDS)
def theirs(request) -> TinyV2:
    return KINDS[request.param]()


@pytest.fixture
def folder(theirs, tmp_path) -> Path:
    return theirs.write(tmp_path / "published")


def load(folder: Path, **options: object) -> MeshGPT:
    with pytest.warns(UserWarning, match="non-commercial"):
        return MeshGPT.from_pretrained(folder, device="cpu", **options)


def our_id(model: MeshGPT, ids: list[int]) -> torch.Tensor:
    vocab = model.tokenizer.vocab
    return torch.tensor([[[vocab, vocab + 2, vocab + 1][id] if id < 3 else id - 3 for id in ids]])


def their_order(model: MeshGPT, logits: torch.Tensor) -> torch.Tensor:
    vocab = model.tokenizer.vocab
    return logits[..., [vocab, vocab + 2, vocab + 1, *range(vocab)]]


def points(count: int = 40) -> torch.Tensor:
    """In the cube."""
    normals = torch.nn.functional.normalize(torch.randn(count, 3), dim=1)
    return torch.cat([torch.rand(count, 3) - 0.5, normals], 1)


def doubled(points: torch.Tensor) -> torch.Tensor:
    return torch.cat([2 * points[:, :3], points[:, 3:]], 1)


# The same numbers


@torch.no_grad()
def test_the_shape_is_seen_as_published(theirs, folder):
    network, cloud = load(folder).network, points()
    seen = network.see(cloud[None])
    latents = theirs.latents(doubled(cloud))
    torch.testing.assert_close(seen.latents[0], latents, **EXACT)
    torch.testing.assert_close(seen.prefix[0], theirs.prefix(latents), **EXACT)


@torch.no_grad()
def test_logits_are_those_of_transformers_opt(theirs, folder):
    model, cloud = load(folder), points()
    seen = model.network.see(cloud[None])
    ids = [0, *range(3, 14), 2, *([131] if theirs.vocab == 132 else []), 5, 4, 3, 7, 0, 9, 1, 6]
    logits = their_order(model, model.network.logits(our_id(model, ids), seen))[0]
    torch.testing.assert_close(logits, theirs.logits(seen.prefix[0], ids), **EXACT)


def test_what_is_written_as_released_is_what_opt_writes(theirs, folder):
    model, cloud = load(folder, as_released=True), points().numpy()
    prefix = model.network.see(torch.from_numpy(cloud)[None]).prefix[0].detach()
    wanted = our_id(model, theirs.greedy(prefix, 60))[0].tolist()
    ends = wanted.index(model.network.end) if model.network.end in wanted else 60
    written = [int(step[0, 0]) for step in model.stream(cloud, [0], replace(model.sampling, max_faces=10))]
    assert written[: min(ends, 60)] == wanted[:ends][: len(written)]
    assert len(written) > 3


@torch.no_grad()
def test_codes_are_decoded_as_transformers_bert_does(tmp_path):
    theirs = TinyV1()
    model, latents = load(theirs.write(tmp_path / "published")), torch.randn(5, 128)
    codes = torch.randint(CODES, (PLACES, 9))
    codes[4], codes[3, 7] = -1, -1
    whole = (codes >= 0).all(1)
    ours = model.tokenizer.corners(codes.numpy(), latents)
    np.testing.assert_array_equal(ours[whole], theirs.corners(codes, latents)[whole])


def test_an_empty_place_changes_what_a_face_is_decoded_to(tmp_path):
    """They are seen, too: the number of places is part of the model."""
    model = load(TinyV1().write(tmp_path / "published"))
    codes, shape = torch.randint(CODES, (1, PLACES, 9)), torch.randn(1, 5, 128)
    codes[:, 3:] = -1
    fewer = model.tokenizer.network(codes, shape)[:, :3]
    codes[:, 5] = 1
    assert not torch.allclose(fewer, model.tokenizer.network(codes, shape)[:, :3], atol=1e-3)


def test_roles_are_those_of_the_tokenizer(tmp_path):
    model = load(TinyV2().write(tmp_path / "published"))
    ids = np.array([1] * 15 + [128] + [2] * 12)
    found, _ = model.network.role_of(torch.from_numpy(ids)[None], torch.zeros(1, dtype=torch.long))
    np.testing.assert_array_equal(found[0].numpy(), roles(ids))


# Every tensor


def test_every_tensor_of_ours_comes_from_one_place(theirs, folder):
    source = source_in(folder)
    targets = [move.ours for move in moves(source.family, source.shapes)]
    assert len(targets) == len(set(targets))
    load(folder)


@pytest.mark.parametrize("name", ["extra.weight", "transformer.model.decoder.layers.0.rotary", "tokenizer.odd"])
def test_an_unknown_tensor_is_named(theirs, tmp_path, name):
    theirs.weights[name] = torch.zeros(2)
    refused(theirs.write(tmp_path / "published"), f"0 tensors are missing and 1 unknown, first '{name}' is unknown")


@pytest.mark.parametrize(
    "name", ["cond_proj.bias", "transformer.model.decoder.layers.0.fc1.weight", "point_encoder.model.shape_projection"]
)
def test_a_missing_tensor_is_named(theirs, tmp_path, name):
    del theirs.weights[name]
    refused(theirs.write(tmp_path / "published"), f"1 tensors are missing and 0 unknown, first '{name}' is missing")


def test_a_tensor_of_another_shape_is_named(theirs, tmp_path):
    theirs.weights["transformer.model.decoder.layers.1.fc2.bias"] = torch.zeros(7)
    refused(theirs.write(tmp_path / "published"), "'transformer.model.decoder.layers.1.fc2.bias' of shape (7,) does not make")


def test_the_tied_tensor_may_be_there_twice(tmp_path):
    theirs = TinyV2()
    theirs.weights["transformer.model.decoder.embed_tokens.weight"] = theirs.table.clone()
    model = load(theirs.write(tmp_path / "published"))
    assert model.network.head.weight is model.network.embed.weight


# Bad files


def refused(folder: Path, words: str) -> None:
    """One sentence, and nothing is left in the cache."""
    with warnings.catch_warnings(), pytest.raises(ValueError) as caught:
        warnings.simplefilter("ignore", UserWarning)
        MeshGPT.from_pretrained(folder)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not list(converted.cache().glob("*"))
    assert not list(converted.cache().glob(".*"))


def test_a_file_cut_short_is_refused(theirs, folder):
    file = source_in(folder).file
    file.write_bytes(file.read_bytes()[:-100])
    refused(folder, "is no whole safetensors file")


@pytest.mark.parametrize("dump", [pickle.dumps, None])
def test_a_pickle_is_refused(tmp_path, dump):
    path = tmp_path / "MeshAnything_350m.pth"
    torch.save({"x": torch.zeros(3)}, path) if dump is None else path.write_bytes(dump({"x": 3}))
    refused(tmp_path, "is a pickle, which could run any code when it is read")


def test_a_config_of_another_project_is_refused(tmp_path):
    folder = TinyV2().write(tmp_path / "published")
    (folder / CONFIG).write_text(json.dumps({"model_type": "llama"}))
    refused(folder, "has no 'format' number, so it is no meshgpt model")


def test_another_projects_tensors_are_refused(tmp_path):
    save_file({"model.layers.0.weight": torch.zeros(2)}, tmp_path / "MeshAnything_350m.pth")
    refused(
        tmp_path, "is of no kind that this meshgpt converts (MeshAnything, MeshAnythingV2): its first tensor is 'model.layers.0.weight'"
    )


# Copies


def test_the_second_start_takes_the_copy(folder, cache, recwarn):
    first = load(folder)
    (copy,) = cache.iterdir()
    before = (copy / WEIGHTS).stat().st_mtime_ns
    again = MeshGPT.from_pretrained(folder, device="cpu")
    assert not recwarn
    assert (copy / WEIGHTS).stat().st_mtime_ns == before
    for one, two in zip(first.network.parameters(), again.network.parameters(), strict=True):
        assert torch.equal(one, two)


def test_another_file_in_its_place_makes_another_copy(tmp_path, cache):
    folder = TinyV2().write(tmp_path / "published")
    load(folder)
    theirs = TinyV2(seed=1)
    theirs.write(folder)
    model = load(folder)
    assert torch.equal(model.network.head.weight[:128], theirs.table[3:131])
    assert len(list(cache.iterdir())) == 1


def test_a_full_disk_leaves_nothing(folder, cache, monkeypatch):
    def full(*words: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(converted, "convert", full)
    with pytest.warns(UserWarning), pytest.raises(OSError, match=r"^the disk of .* is full, so that nothing was converted"):
        MeshGPT.from_pretrained(folder)
    assert not list(cache.iterdir())


def test_a_converted_model_is_saved_and_loaded_like_ours(theirs, folder, tmp_path):
    model = load(folder)
    model.save(tmp_path / "saved")
    again = MeshGPT.from_pretrained(tmp_path / "saved", device="cpu")
    assert again.converted_from == model.converted_from
    assert again.network.config == model.network.config
    shown = points(64).numpy()
    steps = [[step.tolist() for step in one.stream(shown, [0], replace(one.sampling, max_faces=2))] for one in (model, again)]
    assert steps[0] == steps[1]


def test_the_copy_holds_each_number_once(folder, cache):
    load(folder)
    (copy,) = cache.iterdir()
    assert sorted(path.name for path in copy.iterdir()) == sorted([CONFIG, WEIGHTS, CARD])
    weights = load_file(copy / WEIGHTS)
    assert all(value.dtype == torch.float32 for value in weights.values())
    assert (copy / WEIGHTS).stat().st_size < sum(value.nbytes for value in weights.values()) + 65536


# Meshes


def test_every_mesh_is_whole(theirs, folder, surface):
    model = load(folder)
    sampling = Sampling(temperature=1.0, max_faces=5, min_faces=2, tries=1)
    cloud = surface(1)[0].numpy().astype(np.float64)
    for sample in model.samples(_cloud(cloud), 2, 0, sampling=sampling):
        assert 1 <= len(sample.mesh.faces) <= 5
        assert sample.steps <= model.published.steps(5)


def _cloud(points: np.ndarray):
    from meshgpt.cloud import Cloud

    return Cloud(points[:, :3], points[:, 3:])


def test_a_mesh_lies_where_its_cloud_lies(folder, surface):
    model = load(folder)
    cloud, move = surface(1)[0].numpy().astype(np.float64), np.array([30.0, -4, 2])
    sampling = Sampling(temperature=0.0, max_faces=4, tries=1)
    near = model.samples(_cloud(cloud), sampling=sampling)[0].mesh
    cloud[:, :3] = cloud[:, :3] * 8 + move
    far = model.samples(_cloud(cloud), sampling=sampling)[0].mesh
    np.testing.assert_allclose(far.vertices, near.vertices * 8 + move, atol=1e-3)


def test_guidance_is_refused(folder, surface):
    model = load(folder)
    with pytest.raises(ValueError, match="leave the guidance at 1"):
        model.samples(_cloud(surface(1)[0].numpy().astype(np.float64)), sampling=Sampling(guidance=2.0, max_faces=2))


@pytest.mark.parametrize(("precision", "close"), [("bf16", 0.1), ("int8", 0.3)])
@torch.no_grad()
def test_fewer_bits_give_about_the_same_logits(folder, precision, close):
    exact, rough, cloud = load(folder), MeshGPT.from_pretrained(folder, device="cpu", precision=precision), points()
    logits = []
    for model in (exact, rough):
        seen = model.network.see(cloud[None])
        _, hidden = model.network.begin(seen, 5)
        logits.append(model.network.slot_logits(hidden, torch.zeros(1, 0, dtype=torch.long), None, seen))
    spread = logits[0].std()
    assert 0 < (logits[0] - logits[1]).abs().max() / spread < close * 3
    assert (logits[0] - logits[1]).std() / spread < close


def test_an_int8_model_is_not_saved(folder, tmp_path):
    with pytest.raises(ValueError, match="int8 or bf16 cannot be saved"):
        load(folder, precision="int8").save(tmp_path / "saved")


def test_our_own_models_have_no_released_way():
    with pytest.raises(ValueError, match="--as-released is for published models"):
        MeshGPT.from_pretrained(as_released=True)


# Memory


def test_conversion_holds_one_tensor_at_a_time(tmp_path):
    """A file larger than what the process may grow by."""
    code = (
        "import resource, sys, torch; from pathlib import Path; from meshgpt.convert import write_tensors;"
        "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024; before = peak();"
        "shapes = {str(n): (1024, 1024) for n in range(64)};"
        "write_tensors(open(sys.argv[1], 'wb'), shapes, lambda name: torch.full(shapes[name], float(name)));"
        "print(peak() - before)"
    )
    ran = subprocess.run([sys.executable, "-c", code, tmp_path / "x"], capture_output=True, text=True, check=True)
    assert int(ran.stdout) < 64 << 20 < (tmp_path / "x").stat().st_size
    weights = load_file(tmp_path / "x")
    assert all((value == float(name)).all() for name, value in weights.items())
