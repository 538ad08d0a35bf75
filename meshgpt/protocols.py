"""Every metric by name, and its protocol: what is measured, how, in which unit, and whose definition it is.

A number without one of these names beside it is not comparable with any other: papers sample, normalise and average differently.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Metric:
    """One named number. `of` says what it measures: a result beside its reference, two sets of meshes, a tokenizer, or a model.

    `worst` is what stands in a row when the metric could not be had; `source` names the paper or program whose definition it is.
    """

    name: str
    unit: str
    better: Literal["lower", "higher", "neither"]
    definition: str
    source: str
    of: Literal["pair", "set", "tokenizer", "model"] = "pair"
    worst: float = 0.0


LONGEST_SIDE = "longest side of the reference"
BOX_UNIT = "1/1.9 of each mesh's longest side"
SPHERE_UNIT = "squared radius of each point set"

_PAIR = [
    Metric(
        "cd_ma100k",
        LONGEST_SIDE,
        "lower",
        "Mean distance there plus mean distance back, not squared; 100,000 surface points each, in the reference's frame, longest side 1.",
        "MeshAnything (ICLR 2025)",
        worst=math.inf,
    ),
    Metric(
        "ecd_ma100k",
        LONGEST_SIDE,
        "lower",
        "cd_ma100k between those of its points that have, within 0.004, one whose normal has an absolute cosine below 0.2 with theirs; "
        "0 when the reference has none, and the reference's centre stands in when the result has none.",
        "MeshAnything (ICLR 2025); edge points as released by NMC and NDC, which square the distances",
        worst=math.inf,
    ),
    Metric(
        "nc_ma100k",
        "cosine, 0 to 1",
        "higher",
        "Mean absolute cosine between the normals of nearest points, mean of both ways; the points of cd_ma100k.",
        "MeshAnything (ICLR 2025)",
    ),
    Metric(
        "f_1pct_ma100k",
        "share, 0 to 1",
        "higher",
        "2PR / (P + R) of the shares of points nearer than 1 % of the reference's longest side, there and back; the points of cd_ma100k.",
        "Tanks and Temples (SIGGRAPH 2017)",
    ),
    Metric(
        "f_2pct_ma100k",
        "share, 0 to 1",
        "higher",
        "2PR / (P + R) of the shares of points nearer than 2 % of the reference's longest side, there and back; the points of cd_ma100k.",
        "Tanks and Temples (SIGGRAPH 2017)",
    ),
    Metric(
        "cd_bpt1024_l2",
        BOX_UNIT,
        "lower",
        "Mean distance there plus mean distance back, not squared; 1,024 surface points each, each mesh by itself in [-0.95, 0.95].",
        "BPT (CVPR 2025), metrics.py",
        worst=math.inf,
    ),
    Metric(
        "hd_bpt1024",
        BOX_UNIT,
        "lower",
        "Largest distance to the nearest point of the other mesh, of both ways; 1,024 surface points each, each mesh by itself in "
        "[-0.95, 0.95].",
        "BPT (CVPR 2025), metrics.py",
        worst=math.inf,
    ),
    Metric(
        "cd_pivot1024_sq",
        SPHERE_UNIT,
        "lower",
        "Mean squared distance there plus mean squared distance back; 1,024 surface points each, centred at their mean and divided by "
        "their largest norm.",
        "PivotMesh (ICLR 2025), evaluate.py",
        worst=math.inf,
    ),
    Metric(
        "nc_tree",
        "cosine, -1 to 1",
        "higher",
        "Cosine between the normals of a face and of the other mesh's face with the nearest centre, mean over faces and of both ways; "
        "no sampling, in the reference's frame.",
        "TreeMeshGPT (CVPR 2025)",
        worst=-1.0,
    ),
    Metric(
        "absnc_tree",
        "cosine, 0 to 1",
        "higher",
        "nc_tree with absolute cosines.",
        "TreeMeshGPT (CVPR 2025)",
    ),
    Metric(
        "vertex_ratio",
        "ratio",
        "neither",
        "Vertices of the result / vertices of the reference, those at equal places counted once.",
        "MeshAnything (ICLR 2025)",
    ),
    Metric("face_ratio", "ratio", "neither", "Faces of the result / faces of the reference.", "MeshAnything (ICLR 2025)"),
    Metric(
        "boundary_edge_ratio",
        "share, 0 to 1",
        "lower",
        "BER: edges used by exactly one face / 3F.",
        "FreeMesh (ICML 2025) and Mesh-RFT (NeurIPS 2025), detect_boundary.py",
        worst=1.0,
    ),
    Metric(
        "topology_score",
        "points, 0 to 100",
        "higher",
        "TS: 100 (0.4 quad ratio + 0.3 shape + 0.2 angle + 0.1 neighbour consistency) of the quads that pymeshlab's "
        "turn_into_quad_dominant_mesh(level=1) makes.",
        "FreeMesh (ICML 2025) and Mesh-RFT (NeurIPS 2025), topo_score.py",
    ),
    Metric(
        "non_manifold_edge_ratio",
        "share, 0 to 1",
        "lower",
        "Edges used by more than two faces / undirected edges.",
        "this project; no two papers agree",
        worst=1.0,
    ),
    Metric(
        "non_manifold_vertex_ratio",
        "share, 0 to 1",
        "lower",
        "Vertices with more than one fan of faces / vertices in use.",
        "this project; no two papers agree",
        worst=1.0,
    ),
    Metric("components", "pieces", "neither", "Pieces of faces that share edges.", "MeshLab, get_topological_measures"),
    Metric("watertight", "share, 0 to 1", "higher", "1 when every edge is used by exactly two faces, else 0.", "trimesh, is_watertight"),
    Metric(
        "duplicate_face_share",
        "share, 0 to 1",
        "lower",
        "Faces on the same three vertices as an earlier one, whichever way round / faces.",
        "this project",
        worst=1.0,
    ),
    Metric(
        "valid",
        "share, 0 to 1",
        "higher",
        "1 when the result has finite vertices and a face of positive area, else 0.",
        "this project",
    ),
]
_SETS = [
    Metric(
        "cov_pivot1024_sq",
        "share, 0 to 1",
        "higher",
        "COV: references nearest to some generated mesh by cd_pivot1024_sq / references; n = min(generated, references, 1000) each.",
        "PivotMesh (ICLR 2025), metric_utils.py",
        "set",
    ),
    Metric(
        "mmd_pivot1024_sq",
        SPHERE_UNIT,
        "lower",
        "MMD: mean over the references of cd_pivot1024_sq to the nearest generated mesh; n = min(generated, references, 1000) each.",
        "PivotMesh (ICLR 2025), metric_utils.py",
        "set",
        math.inf,
    ),
    Metric(
        "one_nna_pivot1024_sq",
        "share, 0 to 1",
        "neither",
        "1-NNA: share of all meshes whose nearest other mesh by cd_pivot1024_sq is of their own set, 0.5 being ideal; "
        "n = min(generated, references, 1000) each.",
        "PivotMesh (ICLR 2025), metric_utils.py",
        "set",
        1.0,
    ),
]
_TOKENS = [
    Metric("tokens_per_face", "ids", "lower", "L / N: all ids / all faces, END left out.", "all of the field", "tokenizer", math.inf),
    Metric(
        "compression_ratio",
        "ratio",
        "lower",
        "L / 9N: all ids / nine for each face, on canonical corners.",
        "MeshAnythingV2 (ICCV 2025), EdgeRunner (ICLR 2025)",
        "tokenizer",
        math.inf,
    ),
    Metric(
        "bits_per_face_bound",
        "bits",
        "lower",
        "L / N x log2 V, V being the vocabulary without END.",
        "Mesh Silksong (ICLR 2026)",
        "tokenizer",
        math.inf,
    ),
    Metric(
        "exact_oriented",
        "share, 0 to 1",
        "higher",
        "Meshes whose canonical corners come back as they were / meshes, those that could not be written included.",
        "this project",
        "tokenizer",
    ),
    Metric(
        "exact_unoriented",
        "share, 0 to 1",
        "higher",
        "Meshes whose faces come back on the same vertices, whichever way round / meshes, those that could not be written included.",
        "this project",
        "tokenizer",
    ),
    Metric(
        "bits_per_face",
        "bits",
        "lower",
        "Summed loss in nats of the whole sequences of a split, END included / (faces x log 2).",
        "this project, after nanochat's bits per byte",
        "model",
        math.inf,
    ),
]

METRICS: dict[str, Metric] = {metric.name: metric for metric in [*_PAIR, *_SETS, *_TOKENS]}
