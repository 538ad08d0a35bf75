"""Corners to ids and back. A tokenizer is described by a small JSON object, and built from it."""

from __future__ import annotations

from typing import Any

from meshgpt.checkpoint import from_json, to_json

from .adjacent import AdjacentTokenizer
from .codec import DracoTokenizer, MeshoptTokenizer, ObjTokenizer
from .coords import CoordsTokenizer
from .face_codes import FaceCodesConfig, FaceCodesDecoder, FaceCodesTokenizer
from .gates import GatesTokenizer
from .interface import MeshTokenizer
from .patches import PatchesTokenizer
from .vqvae import VQVAE, VQVAEConfig, VQVAETokenizer
from .walk import WalkTokenizer

TOKENIZERS = {
    "coords": CoordsTokenizer,
    "vqvae": VQVAETokenizer,
    "gates": GatesTokenizer,
    "walk": WalkTokenizer,
    "patches": PatchesTokenizer,
    "adjacent": AdjacentTokenizer,
    "meshopt": MeshoptTokenizer,
    "draco": DracoTokenizer,
    "obj": ObjTokenizer,
}
FACE_CODES = "face-codes"  # it only decodes, and comes with the models that have it


def describe(tokenizer: MeshTokenizer) -> dict[str, Any]:
    """The JSON object of a tokenizer."""
    if isinstance(tokenizer, VQVAETokenizer):
        return {"name": "vqvae", "vqvae": to_json(tokenizer.network.config)}
    if isinstance(tokenizer, FaceCodesTokenizer):
        return {"name": FACE_CODES, "sizes": to_json(tokenizer.network.config)}
    name = next(name for name, kind in TOKENIZERS.items() if isinstance(tokenizer, kind))
    oriented = {"orient": tokenizer.orient} if name == "adjacent" else {}
    return {"name": name, "bins": tokenizer.bins, **oriented}


def build(description: dict[str, Any]) -> MeshTokenizer:
    """The tokenizer of a description, a learned one still with random weights; ValueError on an unknown name or setting."""
    name = description.get("name")
    if name == FACE_CODES:
        return FaceCodesTokenizer(FaceCodesDecoder(from_json(FaceCodesConfig, description.get("sizes") or {}, "tokenizer.sizes")))
    if name not in TOKENIZERS:
        raise ValueError(f"the tokenizer {name!r} is unknown; this meshgpt has {', '.join(TOKENIZERS)}")
    if name == "vqvae":
        sizes = description.get("vqvae")
        if not isinstance(sizes, dict):
            raise ValueError(f"the tokenizer's sizes 'vqvae' are {sizes!r}; an object fits")
        return VQVAETokenizer(VQVAE(from_json(VQVAEConfig, sizes, "tokenizer.vqvae")))
    bins = description.get("bins")
    if not isinstance(bins, int):
        raise ValueError(f"the tokenizer's bins are {bins!r}; a whole number fits")
    if name == "adjacent":
        return AdjacentTokenizer(bins, orient=bool(description.get("orient", False)))
    return TOKENIZERS[name](bins)
