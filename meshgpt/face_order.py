"""A picture of the order in which faces come: one panel a tokenizer, each face coloured by how much of the sequence it needs.

It asks `decode` for what is whole in the first ids, so that it knows nothing of how a tokenizer works.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int, Integer, UInt8

from meshgpt.files import whole_file
from meshgpt.mesh import mesh_of
from meshgpt.tokenizer.interface import MeshTokenizer
from meshgpt.views import Camera, draw_mesh, picture_place

PARTS = 48  # of a sequence that are told apart
PALETTE = 128  # colours of the file
CAPTION = 0.13  # of a panel's height, below it
ACROSS = 4  # panels
# From the first face to the last
RAMP = np.array([(0.16, 0.20, 0.62), (0.10, 0.62, 0.82), (0.55, 0.85, 0.42), (1.0, 0.85, 0.25), (0.90, 0.24, 0.16)])


def arrivals(tokenizer: MeshTokenizer, corners: Integer[np.ndarray, "f 3 3"]) -> tuple[Int[np.ndarray, "g 3 3"], Float[np.ndarray, "g"]]:
    """The mesh as it comes back, and which share of its ids (0 to 1) has to be there before each face is whole."""
    ids = tokenizer.encode(corners)
    back = tokenizer.decode(ids)
    number = {face.tobytes(): at for at, face in enumerate(back)}
    shares = np.ones(len(back))
    for part in range(PARTS - 1, 0, -1):
        there = tokenizer.decode(ids[: len(ids) * part // PARTS], strict=False)
        shares[[number[face.tobytes()] for face in there if face.tobytes() in number]] = part / PARTS
    return back, shares


def save_orders(path: str | Path, corners: Integer[np.ndarray, "f 3 3"], tokenizers: Mapping[str, MeshTokenizer], size: int = 280) -> None:
    """A .png file: dark blue faces come first, red ones last."""
    from PIL import Image

    path = picture_place(path)
    panels = [_panel(name, tokenizer, corners, size) for name, tokenizer in tokenizers.items()]
    blank = np.full_like(panels[0], 255)
    across = min(ACROSS, len(panels))
    panels += [blank] * (-len(panels) % across)
    rows = [np.concatenate(panels[at : at + across], 1) for at in range(0, len(panels), across)]
    with whole_file(path) as part:
        Image.fromarray(np.concatenate(rows)).quantize(PALETTE).save(part, optimize=True)


def _panel(name: str, tokenizer: MeshTokenizer, corners: Integer[np.ndarray, "f 3 3"], size: int) -> UInt8[np.ndarray, "h w 3"]:
    back, shares = arrivals(tokenizer, corners)
    camera = Camera.of(mesh_of(corners, tokenizer.bins).vertices, size)
    # `mesh_of` keeps the order of the faces.
    drawn = draw_mesh(mesh_of(back, tokenizer.bins), camera=camera, tints=_tints(shares))
    return np.concatenate([drawn, _caption(f"{name}: {tokenizer.encode(corners).size / len(corners):.2f} tokens a face", size)])


def _tints(shares: Float[np.ndarray, "g"]) -> Float[np.ndarray, "g 3"]:
    at = np.linspace(0, 1, len(RAMP))
    return np.stack([np.interp(shares, at, RAMP[:, colour]) for colour in range(3)], 1)


def _caption(text: str, size: int) -> UInt8[np.ndarray, "h w 3"]:
    from PIL import Image, ImageDraw, ImageFont

    image = Image.new("RGB", (size, round(size * CAPTION)), "white")
    ImageDraw.Draw(image).text((size / 2, 0), text, fill=(33, 43, 69), font=ImageFont.load_default(size // 17), anchor="ma")
    return np.asarray(image)
