"""The command line: what it writes and says, and how it refuses what does not fit."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import meshgpt.model
from meshgpt.cli import COMMANDS, main, parse
from meshgpt.cloud import Cloud
from meshgpt.files import read_mesh, write_mesh
from meshgpt.generate import Sampling
from meshgpt.mesh import Mesh, canonical, sample_surface, to_bins
from meshgpt.model import MeshGPT, Sample
from meshgpt.sample_files import TRIES, rows_at_once
from meshgpt.sample_options import SampleOptions
from meshgpt.tokenizer import CoordsTokenizer

ROOT = Path(__file__).resolve().parents[1]
SURFACE = r"\d+ pieces?, (?:watertight|\d+ open edges?)(?:, \d+ crowded edges?)?"
LINE = re.compile(
    rf"(.+): (\d+) faces?, (\d+) vertices, {SURFACE}, ([\d.]+) % from the cloud, [\d.]+ s, seed (\d+)"
    r"(?:, \d+ faces left out)?(, cut off by --max-faces \d+)?"
)

BOX = Mesh(
    np.array([[x, y, z] for x in (0.0, 1.0) for y in (0.0, 2.0) for z in (0.0, 3.0)]),
    np.array(
        [[0, 1, 3], [0, 3, 2], [4, 6, 7], [4, 7, 5], [0, 4, 5], [0, 5, 1], [2, 3, 7], [2, 7, 6], [0, 2, 6], [0, 6, 4], [1, 5, 7], [1, 7, 3]]
    ),
)
ROWS = sample_surface(BOX, 200, np.random.default_rng(0))


@pytest.fixture
def model(tiny_steps, tmp_path) -> Path:
    """The folder of a model that has learned nothing."""
    tokenizer = CoordsTokenizer(16)
    folder = tmp_path / "models" / "tiny"
    MeshGPT(tokenizer, tiny_steps(tokenizer.vocab)).save(folder, card="---\nlicense: mit\n---\n# Tiny\n\nIt has learned nothing.\n")
    return folder


@pytest.fixture
def box(tmp_path) -> Path:
    """A cloud with normals, alone in its folder."""
    path = tmp_path / "clouds" / "box.npy"
    path.parent.mkdir()
    np.save(path, ROWS)
    return path


@pytest.fixture
def sample(model):
    """Run `sample` with the tiny model."""

    def run(*words: str | Path) -> int:
        return main(["sample", "--model", str(model), "--max-faces", "12", "--tries", "1", *map(str, words)])

    return run


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def refused(capsys, message: str) -> None:
    """One sentence, and nothing else."""
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.count("\n") == 1
    assert said.err.startswith("meshgpt: ")
    assert "Traceback" not in said.err
    assert re.search(message, said.err), said.err


# What is written


def test_the_mesh_and_its_picture_go_beside_the_cloud(sample, box, capsys):
    assert sample("--cond", box) == 0
    assert names(box.parent) == ["box.glb", "box.npy", "box.png"]
    mesh = read_mesh(box.with_suffix(".glb"))
    said = capsys.readouterr()
    path, faces, vertices, distance, seed, _ = LINE.fullmatch(said.out.strip()).groups()
    assert (path, int(faces), int(vertices), seed) == (str(box.with_suffix(".glb")), len(mesh.faces), len(mesh.vertices), "0")
    assert float(distance) > 0
    assert said.err == ""


@pytest.mark.parametrize(
    ("words", "written"),
    [
        (["--out", "chair.obj"], ["chair.obj", "chair.png"]),
        (["--out", "folder"], ["folder/box.glb", "folder/box.png"]),
        (["--out", "chair.ply", "--no-picture"], ["chair.ply"]),
        (["--out", "chair.stl", "--picture"], ["chair.png", "chair.stl"]),
        (["--out", "chair.glb", "--picture", "seen.png"], ["chair.glb", "seen.png"]),
        (["--out", "c.glb", "--samples", "2"], ["c-0.glb", "c-0.png", "c-1.glb", "c-1.png"]),
        (["--out", "c.glb", "--samples", "2", "--picture", "p.png"], ["c-0.glb", "c-1.glb", "p-0.png", "p-1.png"]),
    ],
    ids=" ".join,
)
def test_names_of_what_is_written(sample, box, tmp_path, monkeypatch, words, written):
    (tmp_path / "here" / "folder").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "here")
    assert sample("--cond", box, *words) == 0
    assert sorted(str(path) for path in Path().rglob("*.*")) == written
    assert names(box.parent) == ["box.npy"]


def test_an_input_is_never_overwritten(sample, tmp_path, capsys):
    path = tmp_path / "tent.glb"
    shutil.copyfile(ROOT / "examples" / "tent.glb", path)
    before = path.read_bytes()
    assert sample("--cond", path) == 0
    assert path.read_bytes() == before
    assert (tmp_path / "tent-mesh.glb").is_file()
    assert (tmp_path / "tent-mesh.png").is_file()
    assert "is an input" in capsys.readouterr().err


def test_a_folder_of_inputs_becomes_a_folder_of_meshes_and_a_bad_one_stops_nobody(sample, box, capsys):
    np.save(box.with_name("few.npy"), ROWS[:10])
    np.savetxt(box.with_name("box.xyz"), ROWS[:, :3])
    box.with_name("notes.txt").write_text("not an input")
    assert sample("--cond", box.parent, "--no-picture", "--processes", "1") == 2
    assert names(box.parent.with_name("clouds-meshes")) == ["box-mesh.glb", "box.glb"]
    said = capsys.readouterr().err
    assert "few.npy: 10 points are too few" in said
    assert "1 of the 3 inputs" in said


def test_processes_that_share_a_folder_write_what_one_writes(sample, box, tmp_path, capfd):
    for number in range(3):
        np.save(box.with_name(f"box-{number}.npy"), ROWS[number::2])
    np.save(box.with_name("few.npy"), ROWS[:10])
    for processes in ("1", "2"):
        words = ("--out", tmp_path / processes, "--no-picture", "--report", tmp_path / f"{processes}.json", "--processes", processes)
        assert sample("--cond", box.parent, *words) == 2
        said = capfd.readouterr()
        assert said.out.count(" vertices, ") == 4
        assert said.err.count("few.npy: 10 points are too few") == 1
        assert "1 of the 5 inputs" in said.err
    assert len(names(tmp_path / "1")) == 4
    assert {path.name: path.read_bytes() for path in (tmp_path / "1").iterdir()} == {
        path.name: path.read_bytes() for path in (tmp_path / "2").iterdir()
    }
    one, two = (json.loads((tmp_path / f"{processes}.json").read_text()) for processes in ("1", "2"))
    assert [record["input"] for record in one] == [record["input"] for record in two]


@pytest.mark.parametrize(("meshes", "processes", "rows"), [(32, 2, 2), (3, 2, 1), (1000, 2, 16), (5, 1, 5), (32, 1, 16)])
def test_no_process_takes_all_its_share_at_once(meshes, processes, rows):
    """One that is through with its own would have nothing left to help with."""
    assert rows_at_once(meshes, processes) == rows


def test_a_seed_gives_its_mesh_again(sample, box, tmp_path):
    for name, words in {"one": ["--seed", "6"], "again": ["--seed", "6"], "both": ["--seed", "5", "--samples", "2"]}.items():
        assert sample("--cond", box, "--out", tmp_path / f"{name}.glb", "--no-picture", *words) == 0
    one, other = (tmp_path / "one.glb").read_bytes(), (tmp_path / "both-0.glb").read_bytes()
    assert one == (tmp_path / "again.glb").read_bytes()
    assert one == (tmp_path / "both-1.glb").read_bytes()
    assert one != other


def test_the_best_of_several_is_kept(sample, box, tmp_path, capsys):
    def distances(*words: str) -> dict[str, float]:
        assert sample("--cond", box, "--out", tmp_path / "out.glb", "--no-picture", *words) == 0
        found = [LINE.fullmatch(line) for line in capsys.readouterr().out.splitlines()]
        return {match[5]: float(match[4]) for match in found}

    every = distances("--samples", "4")
    assert list(every) == ["0", "1", "2", "3"]
    best = distances("--samples", "2", "--best-of", "2")
    assert best == {seed: every[seed] for seed in (min("01", key=every.get), min("23", key=every.get))}


@pytest.mark.parametrize("frame", ["large and far away", "z up"])
def test_the_mesh_comes_back_in_the_frame_of_the_cloud(sample, tmp_path, frame):
    def there(positions: np.ndarray) -> np.ndarray:
        if frame == "z up":
            x, y, z = positions.T
            return np.stack([x, -z, y], 1)
        return 1000 * positions + [5000, -300, 40]

    normals = there(ROWS[:, 3:]) if frame == "z up" else ROWS[:, 3:]
    np.save(tmp_path / "here.npy", ROWS)
    np.save(tmp_path / "there.npy", np.concatenate([there(ROWS[:, :3]), normals], 1))
    up = ["--up", "z"] if frame == "z up" else []
    assert sample("--cond", tmp_path / "here.npy", "--out", tmp_path / "here.ply", "--no-picture") == 0
    assert sample("--cond", tmp_path / "there.npy", "--out", tmp_path / "there.ply", *up) == 0
    here, away = read_mesh(tmp_path / "here.ply"), read_mesh(tmp_path / "there.ply")
    np.testing.assert_array_equal(here.faces, away.faces)
    np.testing.assert_allclose(away.vertices, there(here.vertices), atol=1e-4 if frame == "z up" else 0.1)


def fake_samples(monkeypatch, empty: int) -> None:
    """A model that writes no face for the first seeds."""

    def samples(self, cloud: Cloud, count: int, seed: int, *rest: object) -> list[Sample]:
        nothing = Mesh(np.zeros((0, 3)), np.zeros((0, 3), np.int64))
        meshes = [(one, nothing if one < empty else BOX) for one in range(seed, seed + count)]
        return [Sample(mesh, one, 12, True, 0, 0.1 if len(mesh.faces) else float("inf")) for one, mesh in meshes]

    monkeypatch.setattr(MeshGPT, "samples", samples)


def test_a_sample_without_faces_is_tried_again(sample, box, monkeypatch, capsys):
    fake_samples(monkeypatch, empty=2)
    assert sample("--cond", box) == 0
    said = capsys.readouterr()
    assert "seed 2" in said.out
    assert said.err.splitlines() == [f"meshgpt: seed {seed} gave a mesh without faces; trying seed {seed + 1}" for seed in (0, 1)]


def test_samples_without_faces_end_somewhere(sample, box, monkeypatch, capsys):
    fake_samples(monkeypatch, empty=1000)
    assert sample("--cond", box) == 2
    assert f"no face for this cloud, with seeds up to {TRIES}; pass another --seed" in capsys.readouterr().err.splitlines()[-1]
    assert names(box.parent) == ["box.npy"]


# What is refused


def ply(header: str, rows: str = "") -> str:
    return f"ply\nformat ascii 1.0\n{header}end_header\n{rows}"


XYZ = "property float x\nproperty float y\nproperty float z\n"
BAD_CLOUDS = {
    "missing": ("cloud.npy", None, "does not exist; check the name"),
    "unknown ending": ("cloud.docx", "words", r"ends in \.docx, which is not read here"),
    "no bytes": ("cloud.ply", "", "is empty, 0 bytes"),
    "no points": ("cloud.ply", ply(f"element vertex 0\n{XYZ}"), "0 points|no points"),
    "few points": ("cloud.npy", ROWS[:63], "63 points are too few to show a surface; pass at least 64"),
    "NaN": ("cloud.npy", np.where(np.arange(600).reshape(200, 3) == 7, np.nan, ROWS[:, :3]), "1 of 200 points are NaN or infinite"),
    "infinity": ("cloud.npy", np.where(np.arange(600).reshape(200, 3) == 7, np.inf, ROWS[:, :3]), "1 of 200 points are NaN or infinite"),
    "no extent": ("cloud.npy", np.ones((200, 3)), "are the same point"),
    "one line": ("cloud.npy", np.linspace(0, 1, 200)[:, None] * [1.0, 2.0, 3.0], "lie on one line"),
    "four columns": ("cloud.npy", ROWS[:, :4], r"has 4 columns; 3 fit \(x y z\)"),
    "text": ("cloud.xyz", "these are\nno numbers\n", "has no line of numbers"),
    "truncated": ("cloud.ply", ply(f"element vertex 200\n{XYZ}", "0 0 0\n1 1 1\n"), "is cut off: .* promised"),
    "no mesh": ("cloud.glb", "not a glb at all, only some words", "not a whole .glb file"),
}


@pytest.mark.parametrize("case", BAD_CLOUDS)
def test_bad_clouds_get_one_sentence(sample, tmp_path, capsys, case):
    name, content, message = BAD_CLOUDS[case]
    folder = tmp_path / "clouds"
    folder.mkdir()
    if isinstance(content, str):
        (folder / name).write_text(content)
    elif content is not None:
        np.save(folder / name, content)
    assert sample("--cond", folder / name) == 2
    refused(capsys, message)
    assert names(folder) == ([] if content is None else [name])


def test_planar_clouds_and_meshes_are_good_inputs(sample, tmp_path):
    np.save(tmp_path / "flat.npy", ROWS * [1, 1, 0, 1, 1, 1])
    write_mesh(BOX, tmp_path / "solid.obj")
    assert sample("--cond", tmp_path / "flat.npy", "--no-picture") == 0
    assert sample("--cond", tmp_path / "solid.obj") == 0
    assert {"flat.glb", "solid.glb", "solid.png"} <= set(names(tmp_path))


def weights(change):
    def apply(folder: Path) -> None:
        tensors = load_file(folder / "model.safetensors")
        change(tensors)
        save_file(tensors, folder / "model.safetensors")

    return apply


def config(change):
    def apply(folder: Path) -> None:
        values = json.loads((folder / "config.json").read_text())
        change(values)
        (folder / "config.json").write_text(json.dumps(values))

    return apply


BAD_MODELS = {
    "missing tensor": (weights(lambda tensors: tensors.pop("steps.start")), "1 tensors are missing and 0 unknown, first 'start'"),
    "unknown tensor": (weights(lambda tensors: tensors.update({"steps.new": torch.ones(1)})), "0 tensors are missing and 1 unknown"),
    "unknown part": (weights(lambda tensors: tensors.update({"new": torch.ones(1)})), "holds the unknown tensor 'new'"),
    "wrong shape": (
        weights(lambda tensors: tensors.update({"steps.start": torch.ones(5)})),
        r"'start' has shape \(5,\) where \(32,\)",
    ),
    "newer": (config(lambda values: values.update(format=99)), "has format 99 and this meshgpt reads up to 1; upgrade"),
    "unknown setting": (config(lambda values: values["steps"].update(wings=2)), "unknown field 'wings'; was it written by a newer meshgpt"),
    "unknown tokenizer": (config(lambda values: values.update(tokenizer={"name": "morse"})), "tokenizer 'morse' is unknown"),
    "another kind": (config(lambda values: values.update(kind="vqvae")), "describes a 'vqvae', no whole model"),
    "no JSON": (lambda folder: (folder / "config.json").write_text("{'kind': "), "is not valid JSON"),
    "another program's": (lambda folder: (folder / "config.json").write_text("{}"), "has no 'format' number"),
    "truncated weights": (lambda folder: (folder / "model.safetensors").write_bytes(b"\0" * 40), "no whole safetensors file"),
    "no weights": (lambda folder: (folder / "model.safetensors").unlink(), "lacks model.safetensors"),
    "no model": (shutil.rmtree, "neither a folder nor a hub name"),
}


@pytest.mark.parametrize("case", BAD_MODELS)
def test_bad_models_get_one_sentence(sample, model, box, capsys, case):
    change, message = BAD_MODELS[case]
    change(model)
    assert sample("--cond", box) == 2
    refused(capsys, message)
    assert names(box.parent) == ["box.npy"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--out", "chair.fbx"], r"chair.fbx ends in .fbx; meshes are written as .glb .obj .ply .stl"),
        (["--out", "nowhere/chair.glb"], "the folder nowhere does not exist"),
        (["--picture", "chair.jpg"], r"chair.jpg ends in .jpg; pictures are written as .png"),
        (["--picture", "nowhere/chair.png"], "the folder nowhere does not exist"),
        (["--picture", "chair.png", "--no-picture"], "contradict each other"),
        (["--temperature", "-1"], "temperature -1.0"),
        (["--top-p", "0"], "top-p in"),
        (["--min-faces", "900"], "900 to 12 faces do not fit"),
        (["--samples", "0"], "use samples and best-of of at least 1"),
        (["--device", "toaster"], "the device 'toaster' cannot be used here"),
        (["--model", "nobody/nothing"], "no folder here, not in the cache, and (the hub cannot be reached|HF_HUB_OFFLINE is set)"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_options_that_cannot_be_met_get_one_sentence(sample, box, capsys, words, message):
    assert sample("--cond", box, *words) == 2
    refused(capsys, message)
    assert names(box.parent) == ["box.npy"]


def test_a_folder_without_inputs_gets_one_sentence(sample, tmp_path, capsys):
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "notes.txt").write_text("nothing to see")
    assert sample("--cond", tmp_path / "notes") == 2
    refused(capsys, "holds no point cloud and no mesh; a folder with files ending in")


@pytest.mark.parametrize(
    "words",
    [
        ["sample"],
        ["sample", "--cond"],
        ["sample", "--cond", "a", "--colour", "red"],
        ["train", "vqvae"],
        ["sample", "--cond", "a", "--up", "x"],
    ],
)
def test_wrong_usage_is_an_exit_code_of_two(words, capsys):
    assert main(words) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert "--help" in said.err


@pytest.mark.parametrize("words", [[], ["smaple"], ["train"], ["train", "everything"]])
def test_without_a_command_the_commands_are_listed(words, capsys):
    assert main(words) == 2
    assert "train vqvae" in capsys.readouterr().err


def test_ctrl_c_leaves_nothing_behind(sample, box, monkeypatch, capsys):
    def interrupted(*words: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(meshgpt.model, "write", interrupted)
    assert sample("--cond", box) == 130
    refused(capsys, "stopped by Ctrl-C")
    assert names(box.parent) == ["box.npy"]


@pytest.mark.parametrize("mistake", [lambda *words: np.stack([]), lambda *words: {}["faces"]], ids=["in C", "in Python"])
def test_our_own_mistakes_keep_their_traceback(sample, box, monkeypatch, mistake):
    monkeypatch.setattr(MeshGPT, "samples", mistake)
    with pytest.raises((ValueError, KeyError)):
        sample("--cond", box)


# Help, and other commands


@pytest.mark.parametrize("command", COMMANDS)
def test_help_shows_examples_that_are_understood(command, capsys):
    assert main([*command.split(), "--help"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    for example in COMMANDS[command].examples:
        assert f"$ {example}" in said
        parse(example.split()[1:])


def test_every_option_of_sample_is_described():
    source = (ROOT / "meshgpt" / "sample_options.py").read_text()
    for field in fields(SampleOptions):
        assert re.search(rf'^    {field.name}: .*\n    """\S', source, re.MULTILINE), f"{field.name} has no description"


def test_options_default_to_those_of_the_library():
    assert parse(["sample", "--cond", "a"]).sampling(Sampling()) == Sampling()


def test_training_options_may_be_nested_or_none():
    words = ["--resume", "--loop.steps", "7", "--model.body.dim", "64", "--augment.mirror", "0", "degrade:none"]
    options = parse(["train", "transformer", "--data", "a", "--out", "b", *words])
    assert (options.loop.resume, options.loop.steps, options.model.body.dim) == (True, 7, 64)
    assert (options.augment.mirror, options.degrade) == (0, None)


def test_training_stops_and_goes_on_from_the_command_line(kit, tmp_path, capsys):
    sizes = "--model.dim 16 --model.heads 1 --model.encoder-layers 1 --model.decoder-layers 1 --model.codes 32"
    loop = "--loop.steps 2 --loop.faces 128 --loop.workers 0 --loop.tracker none"
    words = ["train", "vqvae", "--data", str(kit(4)), "--out", str(tmp_path / "run"), *sizes.split(), *loop.split()]
    assert main([*words, "--loop.stop-after", "1"]) == 0
    assert "step 1/1" in capsys.readouterr().err
    assert main(words) == 2
    refused(capsys, "holds a training run already; continue it with --resume")
    assert main([*words, "--resume"]) == 0
    assert "step 2/2" in capsys.readouterr().err
    assert main(["info", str(tmp_path / "run")]) == 0
    assert "kind 'vqvae'" in capsys.readouterr().out


def test_help_is_quick_and_training_needs_few_libraries():
    """The overview and the help of `sample` load no torch; training starts on a machine that has only what it needs."""
    code = """
import sys
from meshgpt.cli import main
assert main(["--help"]) == main(["--version"]) == main(["sample", "--help"]) == 0
assert not {"torch", "open3d", "trimesh", "rich", "pyarrow"} & set(sys.modules)
for name in [*sys.modules, "tyro", "rich", "trimesh", "open3d", "datasets", "scipy", "PIL", "transformers"]:
    if name.split(".")[0] in ("tyro", "rich", "trimesh", "open3d", "datasets", "scipy", "PIL", "transformers"):
        sys.modules[name] = None
import meshgpt.train.vqvae, meshgpt.train.decoder, meshgpt.train.transformer, meshgpt.train.loop
with meshgpt.train.loop._Progress(True, 0, 1) as progress:
    progress.show(1, {"loss": 2.0}, 3.0)
"""
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert "step 1/1  loss 2" in run.stderr


def test_prepare_writes_a_data_set_that_info_describes(tmp_path, capsys):
    meshes = tmp_path / "meshes"
    meshes.mkdir()
    for name in ("tent.glb", "bucket.glb"):
        shutil.copyfile(ROOT / "examples" / name, meshes / name)
    assert main(["prepare", str(meshes), str(tmp_path / "set"), "--workers", "0"]) == 0
    assert main(["info", str(tmp_path / "set")]) == 0
    assert re.search(r"part-00000.parquet +2 meshes, \d+ faces", capsys.readouterr().out)
    assert main(["prepare", str(meshes), str(tmp_path / "set"), "--workers", "0"]) == 2
    refused(capsys, "is not empty")


@pytest.mark.parametrize(
    ("words", "message"), [([], "holds no meshes; a folder with"), (["--min-faces", "9", "--max-faces", "8"], "leave nothing")]
)
def test_prepare_refuses_in_one_sentence(tmp_path, capsys, words, message):
    (tmp_path / "empty").mkdir()
    assert main(["prepare", str(tmp_path / "empty"), str(tmp_path / "set"), *words]) == 2
    refused(capsys, message)
    assert names(tmp_path) == ["empty"]


def test_info_describes_a_model(model, capsys):
    assert main(["info", str(model)]) == 0
    said = capsys.readouterr().out
    tensors = load_file(model / "model.safetensors")
    count = sum(tensor.numel() for tensor in tensors.values())
    assert f"{count:,} in {len(tensors)} tensors of F32" in said
    assert re.search(r"tokenizer +name coords, bins 16", said)
    assert said.endswith("\n# Tiny\nIt has learned nothing.\n")
    assert torch.__version__ in said


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("nothing", None, "is neither a folder nor a hub name"),
        ("words.parquet", b"words", "is not a parquet file of meshes"),
        ("model", {"config.json": b"{}", "model.safetensors": b""}, "has no 'format' number"),
        ("model", {"config.json": b'{"format": 1}', "model.safetensors": b"\0" * 40}, "is no whole safetensors file"),
    ],
)
def test_info_refuses_in_one_sentence(tmp_path, capsys, name, content, message):
    if isinstance(content, bytes):
        (tmp_path / name).write_bytes(content)
    for file, text in content.items() if isinstance(content, dict) else ():
        (tmp_path / name).mkdir(exist_ok=True)
        (tmp_path / name / file).write_bytes(text)
    assert main(["info", str(tmp_path / name)]) == 2
    assert re.search(f"^meshgpt: .*{message}.*\n$", capsys.readouterr().err)


# The whole way


COUCH = ROOT / "examples" / "couch.ply"


@pytest.fixture(scope="module")
def couch(tmp_path_factory) -> Path:
    """The folder in which the shipped model has built the couch, by the README's command."""
    folder = tmp_path_factory.mktemp("couch")
    command = [sys.executable, "sample.py", "--cond", str(COUCH), "--out", str(folder / "couch.glb")]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert LINE.fullmatch(run.stdout.strip())
    return folder


def test_the_shipped_model_builds_the_couch(couch):
    assert names(couch) == ["couch.glb", "couch.png"]
    mesh, cloud = read_mesh(couch / "couch.glb"), meshgpt.read_points(COUCH)
    assert 20 <= len(mesh.faces) <= 800
    fit = meshgpt.Fit.of(cloud.positions)
    cells = to_bins(fit.apply(mesh.vertices), 1024)[mesh.faces]
    assert len(canonical(cells)) == len(mesh.faces), "degenerate or repeated faces"


def test_the_couch_of_the_shipped_model_fills_the_box_of_its_cloud(couch):
    mesh, cloud = read_mesh(couch / "couch.glb"), meshgpt.read_points(COUCH)
    size = np.ptp(cloud.positions, axis=0).max()
    for end in (np.min, np.max):
        np.testing.assert_allclose(end(mesh.vertices, axis=0), end(cloud.positions, axis=0), atol=0.05 * size)
