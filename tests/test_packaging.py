"""The wheel holds one package, all of it, and wins over a user's own tokenizer.py and train.py."""

from __future__ import annotations

import email
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import meshgpt

ROOT = Path(__file__).resolve().parents[1]
OURS = {".py", ".css", ".js"}
SHIPPED = {".json", ".safetensors", ".md"}  # of meshgpt/pretrained

pytestmark = pytest.mark.skipif(not (ROOT / ".git").exists(), reason="only git knows which files belong to the tree")


def files_of_the_tree() -> list[Path]:
    """What is committed or could be, so that neither what is ignored nor what is deleted gets in."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout.split("\0")
    return [Path(name) for name in listed if name and (ROOT / name).is_file()]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> zipfile.ZipFile:
    """Built from a copy: setuptools packs again what an earlier build left in build/lib."""
    tree, out = tmp_path_factory.mktemp("tree"), tmp_path_factory.mktemp("wheel")
    for path in files_of_the_tree():
        (tree / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / path, tree / path)
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", str(out), str(tree)]
    built = subprocess.run(command, capture_output=True, text=True)
    assert built.returncode == 0, built.stdout + built.stderr
    (path,) = out.glob("*.whl")
    with zipfile.ZipFile(path) as opened:
        yield opened


@pytest.fixture(scope="module")
def site(wheel, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    wheel.extractall(folder)
    return folder


def test_the_wheel_holds_one_package(wheel):
    assert {name.split("/")[0] for name in wheel.namelist()} == {"meshgpt", f"meshgpt-{meshgpt.__version__}.dist-info"}


def test_the_wheel_holds_all_of_it(wheel):
    expected = {str(path if path.parts[0] == "meshgpt" else "meshgpt" / path) for path in files_of_the_tree() if belongs(path)}
    assert {name for name in wheel.namelist() if name.startswith("meshgpt/")} == expected


def belongs(path: Path) -> bool:
    if path.parts[:2] == ("meshgpt", "pretrained"):
        return path.suffix in SHIPPED
    if path == Path("tokenizer/walk.npz"):
        return True
    return path.parts[0] in ("meshgpt", "tokenizer", "train") and path.suffix in OURS


def test_the_wheel_says_what_it_is(wheel):
    folder = f"meshgpt-{meshgpt.__version__}.dist-info"
    says = email.message_from_bytes(wheel.read(f"{folder}/METADATA"))
    assert (says["Name"], says["Version"], says["License-Expression"]) == ("meshgpt", meshgpt.__version__, "Apache-2.0")
    assert f"{folder}/licenses/LICENSE" in wheel.namelist()
    assert "meshgpt = meshgpt.cli:main" in wheel.read(f"{folder}/entry_points.txt").decode()


def test_a_users_own_files_do_not_shadow_ours(site, tmp_path):
    for name in ("tokenizer", "train", "mesh", "sample"):
        (tmp_path / f"{name}.py").write_text(f"raise SystemExit('this is the {name}.py of the user')\n")
    code = (
        "import meshgpt.mesh, meshgpt.tokenizer.coords, meshgpt.train\n"
        "for module in (meshgpt, meshgpt.mesh, meshgpt.tokenizer, meshgpt.tokenizer.coords, meshgpt.train): print(module.__file__)"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(site)}, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    found = [Path(line) for line in run.stdout.splitlines()]
    assert len(found) == 5
    assert all(path.is_relative_to(site) for path in found), f"found elsewhere: {found}"
