"""Put a trained transformer and a tokenizer together as one small model folder, for release.

    python -m meshgpt.train.publish --model runs/transformer --tokenizer runs/decoder --out meshgpt/pretrained --card CARD.md

The tokenizer may be another one than the transformer was trained with, as long as it writes the same ids: the noise-resistant
decoder is trained beside the transformer, and takes the place of the VQ-VAE's own here. A completion network is put there as it is.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from meshgpt import checkpoint
from meshgpt.checkpoint import Checkpoint
from meshgpt.converted import at
from meshgpt.model import MeshGPT, read_tokenizer
from meshgpt.tokenizer.vqvae import VQVAETokenizer


@dataclass(frozen=True)
class PublishOptions:
    """Write a model folder with 16-bit weights."""

    model: str
    """Folder of the trained transformer."""
    out: str
    """Folder to write."""
    tokenizer: str = ""
    """Folder of the tokenizer to ship; the transformer's own by default."""
    card: str = ""
    """Markdown file that becomes the folder's README.md; an existing card stays when none is given."""


def run(options: PublishOptions) -> None:
    """ValueError where the two do not write the same ids."""
    card = Path(options.card).read_text(encoding="utf-8") if options.card else ""
    if (found := at(options.model)).read_config()["kind"] == "completion":
        return _publish_completion(found, options.out, card)
    model = MeshGPT.from_pretrained(options.model, device="cpu")
    if options.tokenizer:
        other = read_tokenizer(options.tokenizer)
        check_same_ids(model, other)
        model = MeshGPT(other, model.network)
    model.save(options.out, card, dtype=torch.float16)


def _publish_completion(found: Checkpoint, out: str, card: str) -> None:
    config = {name: value for name, value in found.read_config().items() if name != "format"}
    weights = {name: value.half() if value.ndim > 1 else value for name, value in found.read_weights().items()}
    checkpoint.write(out, config, weights, card)


def check_same_ids(model: MeshGPT, other: object) -> None:
    own = model.tokenizer
    if isinstance(own, VQVAETokenizer) != isinstance(other, VQVAETokenizer):
        raise ValueError("the transformer and the tokenizer are of different kinds; pass the tokenizer that it was trained with")
    if isinstance(own, VQVAETokenizer) and isinstance(other, VQVAETokenizer):
        mine, theirs = own.network.encoder.state_dict(), other.network.encoder.state_dict()
        same = mine.keys() == theirs.keys() and all(torch.equal(mine[name], theirs[name]) for name in mine)
        if not same or not torch.equal(own.network.quantizer.codebook, other.network.quantizer.codebook):
            raise ValueError("the tokenizer's encoder or codebook is not the one that the transformer was trained with; pass one that is")


if __name__ == "__main__":
    import tyro

    run(tyro.cli(PublishOptions))
