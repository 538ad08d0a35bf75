"""How good a trained model is on clouds it has never seen, beside the nearest mesh that it was trained on.

    python -m meshgpt.train.evaluate --data data/artist-kits --out runs/evaluation.json

It writes one row for each mesh and the medians and means; nothing is left out: a sample without a surface counts as a failure.
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch

from meshgpt.cloud import Cloud
from meshgpt.gallery import Gallery
from meshgpt.generate import Sampling
from meshgpt.mesh import Mesh, sample_surface
from meshgpt.model import MeshGPT
from meshgpt.scores import scores
from meshgpt.tokenizer.vqvae import VQVAETokenizer

from .sources import MeshSet, read_parquet, split
from .vqvae import reconstruct

CLOUD_POINTS = 8_192
MEASURED = ("cd_ma100k", "nc_ma100k", "face_ratio")


@dataclass(frozen=True)
class EvaluateOptions:
    """Measure a model on the test split, and retrieval from the training split beside it."""

    data: str
    """A folder with test and train parquet files."""
    out: str
    """JSON file to write."""
    model: str = ""
    """Folder or hub name; the shipped model by default."""
    retrieve_from: str = ""
    """Where the nearest training mesh is looked for: parquet; the train split of the data by default."""
    limit: int = 100
    """Meshes of the test split, spread evenly over it."""
    max_faces: int = 800
    """Larger test meshes are left out."""
    best_of: int = 1
    """Samples for each cloud, of which the nearest to the cloud counts."""
    seed: int = 0
    """Of points and samples."""
    sampling: Sampling = field(default_factory=Sampling)


def run(options: EvaluateOptions) -> dict[str, float]:
    """Measure, write, and return the summary."""
    torch.set_num_threads(1)
    model = MeshGPT.from_pretrained(options.model or None, device="cpu")
    meshes = spread(read_parquet(split(options.data, "test") or options.data).at_most(options.max_faces), options.limit)
    known = read_parquet(options.retrieve_from or split(options.data, "train") or options.data).at_most(options.max_faces)
    gallery = Gallery([known.mesh(index) for index in range(len(known))], known.ids)
    rows = []
    for index in range(len(meshes)):
        rows.append(_row(model, gallery, meshes, index, options))
        print(json.dumps(rows[-1]), flush=True)
    summary = summarise(rows)
    if isinstance(model.tokenizer, VQVAETokenizer):
        summary |= {
            f"vqvae_{name}": value for name, value in reconstruct(model.tokenizer.network, meshes, 4096, torch.device("cpu")).items()
        }
    Path(options.out).write_text(json.dumps({"summary": summary, "options": asdict(options), "rows": rows}, indent=1) + "\n")
    return summary


def spread(meshes: MeshSet, count: int) -> MeshSet:
    """`count` of the meshes, evenly over the set."""
    return meshes if len(meshes) <= count else meshes.subset(np.linspace(0, len(meshes) - 1, count).round().astype(int).tolist())


def _row(model: MeshGPT, gallery: Gallery, meshes: MeshSet, index: int, options: EvaluateOptions) -> dict[str, float | str]:
    reference = meshes.mesh(index)
    surface = sample_surface(reference, CLOUD_POINTS, np.random.default_rng((options.seed, index)))
    began = time.perf_counter()
    samples = model.samples(Cloud(surface[:, :3], surface[:, 3:]), options.best_of, options.seed, sampling=options.sampling)
    seconds = time.perf_counter() - began
    best = min(samples, key=lambda sample: sample.distance)
    row: dict[str, float | str] = {"id": meshes.ids[index], "faces": len(reference.faces), "seconds": round(seconds, 2)}
    row |= {"sampled_faces": len(best.mesh.faces), "ended": float(best.ended), "dropped": best.dropped}
    row |= _scores("sample", best.mesh, reference, options.seed)
    name, near = gallery.nearest(surface[:, :3])
    return row | {"retrieved": name} | _scores("retrieval", near, reference, options.seed)


def _scores(name: str, mesh: Mesh, reference: Mesh, seed: int) -> dict[str, float]:
    return {f"{name}_{metric}": value for metric, value in scores(mesh, reference, seed, MEASURED).values.items()}


def summarise(rows: list[dict[str, float | str]]) -> dict[str, float]:
    """Medians and means; a failure counts in the median as infinitely far, and is left out of the mean but counted."""
    summary: dict[str, float] = {"meshes": len(rows), "failures": sum(not np.isfinite(row["sample_cd_ma100k"]) for row in rows)}
    for key in [f"{who}_{what}" for who in ("sample", "retrieval") for what in MEASURED]:
        values = np.array([row[key] for row in rows], dtype=float)
        summary |= {f"{key}_median": float(np.median(values)), f"{key}_mean": float(values[np.isfinite(values)].mean())}
    wins = [float(row["sample_cd_ma100k"]) < float(row["retrieval_cd_ma100k"]) for row in rows]
    return summary | {"nearer_than_retrieval": float(np.mean(wins)), "ended": float(np.mean([row["ended"] for row in rows]))}


if __name__ == "__main__":
    import tyro

    print(json.dumps(run(tyro.cli(EvaluateOptions)), indent=1))
