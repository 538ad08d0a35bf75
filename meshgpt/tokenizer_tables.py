"""Tokenizers side by side: the results of `meshgpt tokenize` as tables in the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypedDict

from rich.table import Table


class Measured(TypedDict):
    """Of one tokenizer on some meshes. Lengths and times are totals over totals, exact ones are shares of all meshes."""

    meshes: int
    faces: int
    failures: int
    tokens_per_face: float
    steps_per_face: float
    compression_ratio: float
    bits_per_face_bound: float
    exact_oriented: float
    exact_unoriented: float
    encode_microseconds_per_face: float
    decode_microseconds_per_face: float


class Tokenizer(TypedDict):
    """One row: its vocabulary, all meshes, and those of each range of face counts in which there are some."""

    vocab: int
    lossy: bool
    total: Measured
    by_faces: dict[str, Measured]
    failed: list[str]


HEADS = ("tokens/face", "steps/face", "ratio to 9", "vocabulary", "bits/face", "exact", "unoriented", "encode µs/face", "decode µs/face")


def leaderboard(tokenizers: dict[str, Tokenizer], title: str) -> Table:
    """One row a tokenizer, the shortest first."""
    table = Table("tokenizer", title=title, caption="tokens, bits and times are totals over totals; exact: share of the meshes")
    for head in HEADS:
        table.add_column(head, justify="right")
    for name, row in sorted(tokenizers.items(), key=lambda item: item[1]["total"]["tokens_per_face"]):
        table.add_row(name, *_cells(row))
    return table


def _cells(row: Tokenizer) -> Sequence[str]:
    total = row["total"]
    return (
        f"{total['tokens_per_face']:.3f}",
        f"{total['steps_per_face']:.3f}",
        f"{total['compression_ratio']:.3f}",
        f"{row['vocab']:,}",
        f"{total['bits_per_face_bound']:.1f}",
        f"{total['exact_oriented']:.2%}",
        f"{total['exact_unoriented']:.2%}",
        f"{total['encode_microseconds_per_face']:.2f}",
        f"{total['decode_microseconds_per_face']:.2f}",
    )


def by_faces(tokenizers: dict[str, Tokenizer]) -> Table:
    """Tokens and microseconds for each face, by how many faces the meshes have."""
    counts = {found: measured["meshes"] for row in tokenizers.values() for found, measured in row["by_faces"].items()}
    table = Table("tokenizer", title="by face count", caption="tokens/face, and µs/face of encode + decode")
    for found, meshes in counts.items():
        table.add_column(f"{found}\n{meshes:,} mesh{'es' * (meshes != 1)}", justify="right")
    for name, row in sorted(tokenizers.items(), key=lambda item: item[1]["total"]["tokens_per_face"]):
        table.add_row(name, *(_short(row["by_faces"].get(found)) for found in counts))
    return table


def _short(found: Measured | None) -> str:
    if found is None:
        return "none written"
    return f"{found['tokens_per_face']:.2f}, {found['encode_microseconds_per_face'] + found['decode_microseconds_per_face']:.1f}"
