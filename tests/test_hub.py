"""Models from a mirror of the hub: found, fetched, broken off, gone on with, offline, and one sentence for whatever is refused."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hub_mirror import COMMIT, Hub, serving
from huggingface_hub import constants
from tiny_published import TinyV1, TinyV2

from meshgpt import hub as ours
from meshgpt.cli import main
from meshgpt.hub import folder_of
from meshgpt.info import InfoOptions
from meshgpt.info import run as show
from meshgpt.model import MeshGPT

V1, V2 = "someone/MeshAnything", "someone/MeshAnythingV2"


@pytest.fixture
def hub(tmp_path, monkeypatch) -> Hub:
    """Both checkpoints, tiny, in a mirror; and an empty cache."""
    monkeypatch.setenv("MESHGPT_CACHE", str(tmp_path / "converted"))
    monkeypatch.setattr(ours, "LARGE", 1 << 16)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_PROGRESS_BARS", True)
    folders = {V1: TinyV1().write(tmp_path / "v1"), V2: TinyV2().write(tmp_path / "v2")}
    with serving(Hub(dict(folders))) as found:
        monkeypatch.setattr(constants, "ENDPOINT", found.url)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", found.url + "/{repo_id}/resolve/{revision}/{filename}")
        yield found


def load(name: str, **options: str) -> MeshGPT:
    with pytest.warns(UserWarning, match="non-commercial"):
        return MeshGPT.from_pretrained(name, device="cpu", **options)


def weights_in_cache(tmp_path: Path) -> list[Path]:
    return [path for path in (tmp_path / "cache").rglob("*") if path.suffix in (".safetensors", ".pth", ".partial", ".incomplete")]


@pytest.mark.parametrize("name", [V1, V2])
def test_a_name_is_as_good_as_its_folder(hub, name, tmp_path):
    model = load(name)
    shutil.rmtree(tmp_path / "converted")
    local = load(hub.repositories[name])
    for one, two in zip(model.network.parameters(), local.network.parameters(), strict=True):
        assert torch.equal(one, two)


def test_the_second_time_nothing_is_downloaded(hub):
    folder_of(V2)
    hub.asked.clear()
    assert folder_of(V2).name == COMMIT
    assert [method for method, path, _ in hub.asked if "resolve" in path] == []


def test_only_what_is_needed_is_downloaded(hub):
    (hub.repositories[V2] / "350m.pth").write_bytes(b"the same again")
    (hub.repositories[V2] / "notes.txt").write_text("no")
    assert sorted(path.name for path in folder_of(V2).iterdir()) == ["config.json", "model.safetensors"]


def test_a_revision_is_asked_for(hub):
    assert folder_of(V2, COMMIT).name == COMMIT
    with pytest.raises(FileNotFoundError, match=r"^someone/MeshAnythingV2 has no revision 'nowhere' on the hub; leave --revision away"):
        folder_of(V2, "nowhere")


# Broken off


def test_a_connection_that_breaks_is_gone_on_with(hub, monkeypatch):
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 50_000)
    hub.break_after = 120_000
    whole = (hub.repositories[V2] / "model.safetensors").read_bytes()
    assert (folder_of(V2) / "model.safetensors").read_bytes() == whole
    assert f"bytes={100_000}-" in [asked for _, _, asked in hub.asked]


def test_a_download_that_was_stopped_goes_on_at_the_next_start(hub, tmp_path, monkeypatch):
    from huggingface_hub import file_download

    def stopped(url: str, stream, **options: object) -> None:
        if "config.json" in url:
            return whole(url, stream, **options)
        stream.write((hub.repositories[V2] / "model.safetensors").read_bytes()[:50_000])
        raise KeyboardInterrupt

    whole = file_download.http_get
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(file_download, "http_get", stopped)
        folder_of(V2)
    (partial,) = weights_in_cache(tmp_path)
    assert partial.suffix == ".partial"
    hub.asked.clear()
    folder = folder_of(V2)
    assert (folder / "model.safetensors").read_bytes() == (hub.repositories[V2] / "model.safetensors").read_bytes()
    assert "bytes=50000-" in [asked for _, _, asked in hub.asked]
    assert not partial.exists()


def test_wrong_bytes_are_thrown_away(hub, tmp_path):
    """A part of another file, say."""
    folder_of(V2)
    (blob,) = [path for path in (tmp_path / "cache").rglob("blobs/*") if path.stat().st_size > 1 << 16]
    shutil.rmtree(tmp_path / "cache")
    blob.parent.mkdir(parents=True)
    blob.with_name(f"{blob.name}.partial").write_bytes(b"x" * 1000)
    with pytest.raises(ValueError, match=r"^model.safetensors of someone/MeshAnythingV2 has the checksum \w{12} where \w{12} was"):
        folder_of(V2)
    assert weights_in_cache(tmp_path) == []
    folder_of(V2)


def test_the_published_checksum_of_meshanything_is_checked(hub, tmp_path):
    hub.repositories["Yiwen-ntu/MeshAnything"] = hub.repositories[V1]
    with pytest.raises(ValueError, match=r"^MeshAnything_350m.pth of Yiwen-ntu/MeshAnything has the checksum .* where f2de0cbd19d7 was"):
        folder_of("Yiwen-ntu/MeshAnything")
    assert weights_in_cache(tmp_path) == []


# Refused


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("RepoNotFound", "there is no someone/else on the hub, or it is private; check the name, or log in with: hf auth login"),
        ("GatedRepo", "someone/else is gated: ask for access on its page on the hub, then log in with: hf auth login"),
        ("", "the hub does not give out someone/else (500); try again later"),
    ],
)
def test_what_the_hub_refuses_gets_one_sentence(hub, code, words, tmp_path, monkeypatch):
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    hub.repositories["someone/else"] = code
    with pytest.raises(FileNotFoundError) as caught:
        folder_of("someone/else")
    assert str(caught.value).startswith(words)
    assert "\n" not in str(caught.value)
    assert weights_in_cache(tmp_path) == []


def test_a_repository_without_weights_is_refused(hub, tmp_path):
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.txt").write_text("no")
    hub.repositories["someone/else"] = tmp_path / "other"
    with pytest.raises(FileNotFoundError, match=r"holds no config.json and no safetensors file"):
        folder_of("someone/else")


def test_a_disk_without_room_is_found_out_before(hub, tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(100, 90, 10))
    with pytest.raises(OSError, match=r"^someone/MeshAnything needs .* GB more and .* has 0.00 GB left; make room, or set HF_HOME"):
        folder_of(V1)
    assert weights_in_cache(tmp_path) == []


def test_a_disk_that_fills_up_is_left_as_it_was(hub, tmp_path, monkeypatch):
    from huggingface_hub import file_download

    def full(url: str, stream, **options: object) -> None:
        stream.write(b"x" * 1000)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(file_download, "http_get", full)
    with pytest.raises(OSError, match=r"^the disk is full, so that someone/MeshAnything cannot be downloaded; make room"):
        folder_of(V1)
    assert weights_in_cache(tmp_path) == []


# Offline


def test_offline_the_cache_is_used_or_what_is_missing_is_named(hub, monkeypatch):
    folder_of(V2)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    hub.asked.clear()
    assert folder_of(V2).name == COMMIT
    with pytest.raises(FileNotFoundError, match=r"^someone/MeshAnything is no folder here, not in the cache, and HF_HUB_OFFLINE is set"):
        folder_of(V1)
    assert not hub.asked


def test_without_a_network_the_cache_is_used(hub, monkeypatch):
    folder_of(V2)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    assert folder_of(V2).name == COMMIT
    with pytest.raises(FileNotFoundError, match=r"not in the cache, and the hub cannot be reached; download it while online$"):
        folder_of(V1)


# What is said, and what is sent


def test_info_reads_the_header_alone(hub, capsys):
    show(InfoOptions(V1))
    said = capsys.readouterr().out
    assert "MeshAnything, a checkpoint of another project" in said
    assert "S-Lab License 1.0: non-commercial use only" in said
    assert "tokenizer.sizes           bins 8, codes 64" in said
    assert [asked for _, path, asked in hub.asked if "resolve" in path] == ["bytes=0-100000"]


def test_a_model_is_uploaded_with_a_card(hub):
    model = load(V2)
    hub.free_uploads = True
    assert model.push_to_hub("someone/mine").endswith("mine")
    assert sorted(hub.uploaded) == ["README.md", "config.json", "model.safetensors"]
    card = hub.uploaded["README.md"].decode()
    assert card.startswith("---\n")
    assert "base_model: Yiwen-ntu/MeshAnythingV2" in card
    assert "meshgpt sample --cond chair.ply --model someone/mine" in card


def test_uploading_without_the_right_to_says_how_to_log_in(hub):
    model = load(V2)
    with pytest.raises(FileNotFoundError, match="log in with: hf auth login"):
        model.push_to_hub("someone/mine")


def test_the_command_line_takes_a_name(hub, tmp_path):
    """As a user would start it: HF_ENDPOINT names the mirror."""
    points = np.random.default_rng(0).normal(size=(300, 3))
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    np.save(tmp_path / "ball.npy", np.concatenate([points, points], 1))
    own = {"HF_ENDPOINT": hub.url, "HF_HUB_OFFLINE": "0", "HF_HOME": str(tmp_path / "home"), "MESHGPT_CACHE": str(tmp_path / "converted")}
    words = ["sample.py", "--cond", str(tmp_path / "ball.npy"), "--model", V2, "--max-faces", "3", "--min-faces", "3", "--no-picture"]
    root = Path(__file__).resolve().parents[1]
    ran = subprocess.run([sys.executable, *words], cwd=root, env=os.environ | own, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    assert "S-Lab License 1.0" in ran.stderr
    assert (tmp_path / "ball.glb").is_file()


def test_a_wrong_name_on_the_command_line_is_one_sentence(hub, capsys):
    examples = Path(__file__).resolve().parents[1] / "examples"
    assert main(["sample", "--cond", str(examples / "couch.ply"), "--model", "someone/nothing", "--no-picture"]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("meshgpt: there is no someone/nothing on the hub, or it is private;")
    assert said.err.count("\n") == 1
