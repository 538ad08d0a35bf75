"""Published models on the command line, as they were released and better; and their points, as they are drawn and rounded."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_published import TinyV1, TinyV2

from meshgpt.cli import main
from meshgpt.cloud import Cloud
from meshgpt.files import read_mesh, write_mesh
from meshgpt.mesh import Mesh, sample_surface
from meshgpt.published import Anything, Limited, Published
from meshgpt.published_points import as_shown, cloud_as_shown, points_of_cloud, points_of_mesh, shell_of
from meshgpt.tokenizer import AdjacentTokenizer
from meshgpt.tokenizer.face_codes import FaceCodesConfig, FaceCodesDecoder, FaceCodesTokenizer
from meshgpt.trimesh_order import mended

SQUARES = np.array(
    [[0, 2, 1], [0, 3, 2], [4, 5, 6], [4, 6, 7], [0, 1, 5], [0, 5, 4], [1, 2, 6], [1, 6, 5], [2, 3, 7], [2, 7, 6], [3, 0, 4], [3, 4, 7]]
)
CORNERS = np.array([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0], [0, 0, 1], [1, 0, 1], [1, 1, 1], [0, 1, 1]], dtype=float)
BOX = Mesh(CORNERS * [4, 2, 1] + 10, SQUARES)


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("MESHGPT_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(params=[TinyV1, TinyV2])
def place(request, tmp_path) -> Path:
    return request.param().write(tmp_path / "model")


@pytest.fixture
def box(tmp_path) -> Path:
    points = sample_surface(BOX, 9000, np.random.default_rng(0))
    np.save(tmp_path / "box.npy", points)
    write_mesh(BOX, tmp_path / "box.obj")
    return tmp_path / "box.npy"


def sample(*words: object) -> int:
    return main(["sample", "--no-picture", *map(str, words)])


# The command line


def test_a_published_model_is_sampled_like_ours(place, box, capsys):
    assert sample("--cond", box, "--model", place, "--max-faces", 4, "--min-faces", 2, "--temperature", 1, "--samples", 2) == 0
    said = capsys.readouterr()
    assert said.err.count("non-commercial") == 1
    assert len(said.out.splitlines()) == 2
    for number in range(2):
        mesh = read_mesh(box.with_name(f"box-{number}.glb"))
        assert 1 <= len(mesh.faces) <= 4
        assert (np.abs(mesh.vertices - [12, 11, 10.5]) <= 2.01).all()
    assert sample("--cond", box, "--model", place, "--max-faces", 4) == 0
    assert "non-commercial" not in capsys.readouterr().err


def test_as_released_meshes_stay_in_the_network_s_frame(place, box, capsys):
    for cond in (box, box.with_suffix(".obj")):
        status = sample("--cond", cond, "--model", place, "--as-released", "--out", "out.obj", "--seed", 3, "--max-faces", 4)
        said = capsys.readouterr()
        if status == 0:
            assert np.abs(read_mesh("out.obj").vertices).max() <= 0.5
        else:
            assert "the model wrote no face" in said.err, "what random weights write need not decode"


@pytest.mark.parametrize("precision", ["bf16", "int8"])
def test_fewer_bits_on_the_command_line(place, box, precision):
    assert sample("--cond", box, "--model", place, "--max-faces", 3, "--min-faces", 3, "--precision", precision) == 0


def test_a_shell_around_a_mesh_is_shown(place, box):
    assert sample("--cond", box.with_suffix(".obj"), "--model", place, "--mc", "--mc-level", 5, "--max-faces", 3, "--min-faces", 3) == 0
    mesh = read_mesh(box.with_suffix(".glb"))
    assert (np.abs(mesh.vertices - [12, 11, 10.5]) < 2.5).all(), "in the frame of the mesh"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--as-released", "--up", "z"], "--as-released turns nothing"),
        (["--mc"], "box.npy is no mesh, and --mc makes a shell around one; leave --mc away"),
        (["--mc-level", "12"], "--mc-level 12 does not fit; use 4 to 9"),
        (["--guidance", "2"], "leave the guidance at 1"),
    ],
)
def test_options_that_do_not_fit_get_one_sentence(tmp_path, box, capsys, words, message):
    place = TinyV2().write(tmp_path / "model")
    assert sample("--cond", box, "--model", place, "--max-faces", 2, *words) == 2
    said = capsys.readouterr()
    assert message in said.err
    assert said.out == ""


@pytest.mark.parametrize("words", [["--as-released"], ["--mc"]])
def test_our_own_model_has_no_released_way(box, capsys, words):
    assert sample("--cond", box.with_suffix(".obj"), *words) == 2
    assert "are for published models, and the one that ships is none" in capsys.readouterr().err


def test_few_points_are_refused_as_released_and_taken_otherwise(tmp_path, capsys):
    place = TinyV2().write(tmp_path / "model")
    np.save("few.npy", sample_surface(BOX, 300, np.random.default_rng(0)))
    assert sample("--cond", "few.npy", "--model", place, "--as-released") == 2
    assert "takes clouds of at least 8192 points with normals, and this one has 300 with normals" in capsys.readouterr().err
    assert sample("--cond", "few.npy", "--model", place, "--max-faces", 2) == 0


def test_convert_writes_a_model_of_ours(place, box, capsys):
    assert main(["convert", str(place), "ours"]) == 0
    said = capsys.readouterr()
    assert said.out.startswith("ours: MeshAnything")
    assert "non-commercial" in said.err
    assert sample("--cond", box, "--model", "ours", "--max-faces", 2) == 0
    assert main(["convert", "ours", "again"]) == 2
    assert "ours is no checkpoint of another project" in capsys.readouterr().err
    assert main(["convert", str(place), "ours"]) == 2
    assert "ours is not empty; name a new folder" in capsys.readouterr().err
    assert main(["info", "ours"]) == 0
    assert "converted_from Yiwen-ntu/MeshAnything" in capsys.readouterr().out


def test_info_of_a_folder(place, capsys):
    assert main(["info", str(place)]) == 0
    said = capsys.readouterr().out
    assert "licence                   S-Lab License 1.0: non-commercial use only" in said
    assert "one_id.cloud.look" in said


# Points


def test_points_are_scaled_in_their_own_arithmetic():
    points = (np.random.default_rng(0).normal(size=(500, 6)) * 3).astype(np.float16)
    shown = as_shown(points)
    assert shown.dtype == np.float16
    middle = (points[:, :3].min(0) + points[:, :3].max(0)) / np.float16(2)
    assert middle.dtype == np.float16
    moved = points[:, :3] - middle
    np.testing.assert_array_equal(shown[:, :3], moved / np.abs(moved).max() * np.float16(0.9995))
    np.testing.assert_array_equal(shown[:, 3:], points[:, 3:])
    exact = as_shown(points.astype(np.float64))
    assert (shown != exact).any(), "rounding first changes numbers"
    np.testing.assert_allclose(np.abs(cloud_as_shown(points).positions).max(), 0.9995 / 2, atol=1e-3)


def test_points_are_drawn_again_from_the_same_seed():
    once, again, other = (points_of_mesh(BOX, 1000, seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(once, again)
    assert (once != other).any()
    np.testing.assert_allclose(np.abs(once[:, 3:]).max(1), 1)
    low, high = BOX.vertices.min(0), BOX.vertices.max(0)
    assert ((once[:, :3] >= low) & (once[:, :3] <= high)).all()
    assert np.isclose(once[:, :3], low).any(1).mean() + np.isclose(once[:, :3], high).any(1).mean() > 0.99
    assert abs((once[:, 2] == 11).mean() - 8 / 28) < 0.05, "by area"
    cloud = Cloud(np.arange(30.0).reshape(10, 3), np.ones((10, 3)))
    picked = points_of_cloud(cloud, 10, 0)
    assert sorted(picked[:, 0].tolist()) == cloud.positions[:, 0].tolist()


def test_the_shell_of_a_box_has_two_sides():
    """The outer one a cell outside, facing out; the inner one a cell inside, facing in."""
    level, side = 6, 0.9
    shell = shell_of(BOX, side, level)
    cell = 4 / side / 2**level
    low, high = BOX.vertices.min(0), BOX.vertices.max(0)
    np.testing.assert_allclose(shell.vertices.min(0), low - cell, atol=0.1 * cell)
    np.testing.assert_allclose(shell.vertices.max(0), high + cell, atol=0.1 * cell)
    inside = ((shell.vertices > low) & (shell.vertices < high)).all(1)
    assert 0.2 < inside.mean() < 0.6
    inner = shell.triangles()[inside[shell.faces].all(1)]
    np.testing.assert_allclose(shell.vertices[inside].max(0), high - cell, atol=0.1 * cell)
    volumes = [(np.cross(part[:, 0] - 12, part[:, 1] - 12) * (part[:, 2] - 12)).sum() for part in (shell.triangles(), inner)]
    assert volumes[0] > 0 > volumes[1]


# Ids and meshes


def test_only_what_decodes_may_be_written():
    grammar = Limited(AdjacentTokenizer(4).grammar(), 2, 3)
    rng = np.random.default_rng(0)
    for _ in range(20):
        state, ids = grammar.start(), []
        while True:
            legal = grammar.legal(state)
            assert len(legal) == 5 + 3
            assert not legal[5:7].any(), "BEGIN and PAD"
            id = int(rng.choice(np.flatnonzero(legal)))
            if id == 7:
                break
            state, ids = grammar.advance(state, id), [*ids, id]
        assert 2 <= len(AdjacentTokenizer(4).decode(np.array(ids)[:, None])) <= 3


def test_faces_of_codes_are_counted():
    tokenizer = FaceCodesTokenizer(FaceCodesDecoder(FaceCodesConfig(8, 16, 64, 64, 1, 1, 3, 5)))
    grammar, state = Limited(tokenizer.grammar(), 1, 2), None
    state = grammar.start()
    for place in range(18):
        legal = grammar.legal(state)
        assert legal[-1] == (place == 9)
        state = grammar.advance(state, (place * 7 + place // 3) % 16)
    assert np.flatnonzero(grammar.legal(state)).tolist() == [18]
    assert Published(tokenizer, 64, 1000).steps(3) == 27


def test_anything_goes_as_released():
    grammar = Anything(9)
    assert grammar.legal(grammar.advance(grammar.start(), 3)).tolist() == [True] * 9


def test_what_codes_cannot_be_decoded_is_named():
    tokenizer = FaceCodesTokenizer(FaceCodesDecoder(FaceCodesConfig(8, 16, 64, 64, 1, 1, 3, 5)))
    shape, ids = torch.randn(3, 64), np.arange(12)[:, None] % 16
    with pytest.raises(ValueError, match=r"^the end, at 12, comes inside a face; cut the sequence with ids\[:9\]$"):
        tokenizer.decode(ids, shape)
    assert len(tokenizer.decode(ids, shape, strict=False)) <= 1
    ids[4] = 16
    with pytest.raises(ValueError, match=r"^id 16 at 4 is not in 0 .. 15; cut the sequence with ids\[:0\]$"):
        tokenizer.decode(ids, shape)
    with pytest.raises(ValueError, match=r"^54 ids are more than the 5 faces"):
        tokenizer.decode(np.zeros((54, 1), dtype=np.int64), shape)
    with pytest.raises(ValueError, match="never published"):
        tokenizer.encode(np.zeros((1, 3, 3), dtype=np.int64))


def test_malformed_ids_as_released_and_otherwise():
    """BEGIN first, then a BREAK inside of a vertex: a triangle for them, and for us the whole faces before it."""
    ids = np.array([129, 1, 2, 3, 4, 5, 6, 7, 8, 99, 10, 128, 1, 2, 3])[:, None]
    mesh = Published(AdjacentTokenizer(), 8192, 1000, as_released=True).mesh(ids, None, strict=True)
    np.testing.assert_allclose(mesh.vertices[:, 0] * 128 + 64, [1, 4, 7])
    with pytest.raises(ValueError, match="breaks off a strip after 10 ids"):
        Published(AdjacentTokenizer(), 8192, 1000).mesh(ids[1:], None, strict=True)
    assert len(Published(AdjacentTokenizer(), 8192, 1000).mesh(ids[1:], None, strict=False).faces) == 1
    dummy = Published(AdjacentTokenizer(), 8192, 1000, as_released=True).mesh(ids[:1], None, strict=True)
    np.testing.assert_allclose(dummy.vertices[0], [-0.1, 0, 0.1], atol=1e-6)


def test_triangles_are_mended():
    flipped = BOX.triangles()[:, ::-1]
    flat = flipped[:1, [0, 1, 1]]
    mesh = mended(np.concatenate([flipped, flipped[:2], flat]))
    assert (len(mesh.vertices), len(mesh.faces)) == (8, 12)
    corner = mesh.triangles()
    assert (np.cross(corner[:, 0], corner[:, 1]) * corner[:, 2]).sum() > 0
