"""`meshgpt tokenize`: numbers that can be had by hand, pictures, and places that hold no meshes."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from PIL import Image

from meshgpt.cli import main
from meshgpt.face_order import RAMP, arrivals, save_orders
from meshgpt.files import write_mesh
from meshgpt.mesh import Mesh
from meshgpt.tokenizer import CoordsTokenizer, DracoTokenizer, MeshoptTokenizer
from meshgpt.train.leaderboard import TokenizeOptions, measure

VAL = "data/artist-kits/val.parquet"


def tokenize(*words: Any) -> int:
    return main(["tokenize", *map(str, words)])


def test_the_numbers_of_a_data_set(kit, tmp_path, capsys):
    out = tmp_path / "numbers.json"
    assert tokenize(kit(5) / "val.parquet", "--tokenizers", "coords,meshopt,obj", "--out", out) == 0
    found = json.loads(out.read_text())
    assert found["meshes"] == 5
    assert set(found["tokenizers"]) == {"coords", "meshopt", "obj"}
    coords = found["tokenizers"]["coords"]["total"]
    assert coords["tokens_per_face"] == 9
    assert coords["steps_per_face"] == 1
    assert coords["compression_ratio"] == 1
    assert coords["bits_per_face_bound"] == 63
    for row in found["tokenizers"].values():
        assert row["total"]["exact_oriented"] == row["total"]["exact_unoriented"] == 1
        assert row["total"]["faces"] == found["faces"] == sum(part["faces"] for part in row["by_faces"].values())
        assert row["total"]["encode_microseconds_per_face"] > 0
    said = capsys.readouterr().out
    assert "meshopt" in said
    assert "9.000" in said
    assert "100.00%" in said


def test_bins_and_limit_are_what_they_say(kit):
    options = TokenizeOptions(str(kit(6) / "val.parquet"), "coords", bins=512, limit=3)
    found = measure(options, {"coords": CoordsTokenizer(512)})
    assert found["meshes"] == 3
    assert found["bins"] == 512
    assert found["tokenizers"]["coords"]["vocab"] == 512


def test_what_a_tokenizer_refuses_is_counted_and_told(kit):
    class Picky(CoordsTokenizer):
        def encode(self, corners: np.ndarray) -> np.ndarray:
            if len(corners) > 20:
                raise ValueError("more than twenty faces")
            return super().encode(corners)

    found = measure(TokenizeOptions(str(kit(12) / "val.parquet")), {"picky": Picky()})["tokenizers"]["picky"]
    assert 0 < found["total"]["failures"] < 12
    assert found["total"]["exact_oriented"] == 1 - found["total"]["failures"] / 12
    assert all("more than twenty faces" in line for line in found["failed"])


def test_a_folder_with_a_broken_file_is_measured_without_it(tetrahedron, tmp_path, capsys):
    write_mesh(tetrahedron, tmp_path / "good.obj")
    (tmp_path / "bad.obj").write_text("v 1 2\nf 1 2 3\n")
    write_mesh(Mesh(np.zeros((3, 3)), np.array([[0, 1, 2]])), tmp_path / "point.obj")
    assert tokenize(tmp_path, "--tokenizers", "coords") == 0
    said = capsys.readouterr().out
    assert "1 mesh, 4 faces" in said
    assert "left out: bad.obj" in said
    assert "left out: point.obj" in said


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nowhere"], "nowhere does not exist"),
        ([VAL, "--tokenizers", "coords,stroll"], "--tokenizers coords,stroll does not fit; name some of coords, vqvae"),
        ([VAL, "--tokenizers", "coords,coords"], "each once"),
        ([VAL, "--bins", "1"], "1 bins do not fit; use 2 to 1024"),
        ([VAL, "--bins", "64", "--tokenizers", "vqvae"], "the shipped codebook is made for 128 bins"),
        ([VAL, "--limit", "-1"], "--limit -1 does not fit"),
        ([VAL, "--out", "numbers.txt"], "numbers.txt does not end in .json"),
        ([VAL, "--show", "no-such-folder/picture.png"], "the folder no-such-folder does not exist"),
        ([VAL, "--tokenizers", "coords", "--limit", "1", "--show", "x.png", "--mesh", "none-such"], "has the id none-such"),
        (["pyproject.toml"], "pyproject.toml is neither parquet nor a mesh"),
    ],
)
def test_what_does_not_fit_is_one_sentence(words, message, capsys):
    assert tokenize(*words) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.startswith("meshgpt: ")
    assert said.count("\n") == 1


def test_a_place_without_one_good_mesh_is_an_error(tmp_path, capsys):
    (tmp_path / "bad.obj").write_text("v 1 2\nf 1 2 3\n")
    assert tokenize(tmp_path) == 2
    assert "none of the 1 meshes" in capsys.readouterr().err


# Pictures


def test_faces_arrive_in_the_order_of_the_sequence(real):
    corners = next(corners for corners in real if len(corners) > 200)
    back, shares = arrivals(CoordsTokenizer(), corners)
    np.testing.assert_array_equal(back, corners)
    assert (np.diff(shares) >= 0).all()
    assert shares[0] < 0.05
    assert shares[-1] == 1
    shares = arrivals(MeshoptTokenizer(), corners)[1]
    assert 0.2 < shares.min() < 0.8, "vertices come before all faces"
    assert len(np.unique(shares)) > 10
    assert (arrivals(DracoTokenizer(), corners)[1] == 1).all(), "nothing is there before the last byte"


def test_the_picture_goes_from_the_first_colour_to_the_last(real, tmp_path):
    corners = next(corners for corners in real if 100 < len(corners) < 300)
    save_orders(tmp_path / "order.png", corners, {"coords": CoordsTokenizer(), "draco": DracoTokenizer()}, size=120)
    with Image.open(tmp_path / "order.png") as picture:
        pixels = np.asarray(picture.convert("RGB")).astype(int)
    assert pixels.shape[1] == 240
    bluest = (pixels[..., 2] - pixels[..., 0]) > 40
    reddest = (pixels[..., 0] - pixels[..., 2]) > 40
    assert bluest[:, :120].sum() > 50
    assert reddest[:, :120].sum() > 50
    assert bluest[:, 120:].sum() == 0, "all of Draco's faces are last"
    assert RAMP[0, 2] > RAMP[0, 0]
    assert RAMP[-1, 0] > RAMP[-1, 2]


def test_the_command_draws(kit, tmp_path):
    assert tokenize(kit(3) / "val.parquet", "--tokenizers", "coords,meshopt,obj", "--show", tmp_path / "order.png") == 0
    with Image.open(tmp_path / "order.png") as picture:
        assert picture.width == 3 * 280
