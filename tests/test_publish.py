"""Publishing puts a transformer and a tokenizer together, in 16 bits, and refuses two that do not write the same ids."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

from meshgpt import checkpoint
from meshgpt.model import MeshGPT, read_tokenizer
from meshgpt.tokenizer import VQVAETokenizer
from meshgpt.train.publish import PublishOptions, run


def save_tokenizer(tokenizer: VQVAETokenizer, folder) -> str:
    config = {"kind": "vqvae", "vqvae": checkpoint.to_json(tokenizer.network.config)}
    checkpoint.write(folder, config, checkpoint.tensors_of(tokenizer.network))
    return str(folder)


@pytest.fixture
def trained(tmp_path, tiny_vqvae, tiny_steps) -> str:
    model = MeshGPT(tiny_vqvae, tiny_steps(vocab=tiny_vqvae.vocab, width=tiny_vqvae.width, places=True))
    model.save(tmp_path / "trained")
    return str(tmp_path / "trained")


def test_the_other_decoder_is_shipped_with_the_same_ids(tmp_path, tiny_vqvae, trained, real):
    other = copy.deepcopy(tiny_vqvae)
    with torch.no_grad():
        other.network.decoder.shift.bias += 0.05
    run(PublishOptions(trained, str(tmp_path / "out"), save_tokenizer(other, tmp_path / "decoder")))
    shipped = read_tokenizer(str(tmp_path / "out"))
    ids = tiny_vqvae.encode(real[0])
    np.testing.assert_array_equal(shipped.encode(real[0]), ids)
    np.testing.assert_array_equal(shipped.decode(ids), other.decode(ids))
    assert shipped.decode(ids).shape != tiny_vqvae.decode(ids).shape or (shipped.decode(ids) != tiny_vqvae.decode(ids)).any()


def test_weights_are_halved_and_codebooks_keep_their_digits(tmp_path, trained):
    run(PublishOptions(trained, str(tmp_path / "out")))
    weights = checkpoint.Checkpoint.at(tmp_path / "out").read_weights()
    large = [value for value in weights.values() if value.is_floating_point() and value.numel() > 8_192]
    assert large and all(value.dtype == torch.float16 for value in large)
    assert all(value.dtype == torch.float32 for name, value in weights.items() if name.endswith("_codebook.embed"))


def test_a_tokenizer_that_writes_other_ids_is_refused(tmp_path, tiny_vqvae, trained):
    other = copy.deepcopy(tiny_vqvae)
    with torch.no_grad():
        other.network.encoder.refine.bias += 1
    with pytest.raises(ValueError, match="not the one that the transformer was trained with"):
        run(PublishOptions(trained, str(tmp_path / "out"), save_tokenizer(other, tmp_path / "decoder")))
    assert not (tmp_path / "out").exists()


def test_another_kind_of_tokenizer_is_refused(tmp_path, trained):
    with pytest.raises(ValueError, match="of different kinds"):
        run(PublishOptions(trained, str(tmp_path / "out"), "coords"))
