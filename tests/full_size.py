"""The full-size check of published checkpoints: golden vectors of the released code, load times, memory, and seconds per id.

    python tests/full_size.py golden FOLDER SCRATCH        # FOLDER: golden_v1.safetensors, reseed.py ...; SCRATCH: 9 GB of disk
    python tests/full_size.py load FOLDER SCRATCH
    python tests/full_size.py speed 300 3000 7000          # against transformers' OPT, at these cache lengths

No test that pytest runs: it takes minutes and gigabytes. Random weights of the published shapes are rebuilt in SCRATCH, and stay there.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file

FILES = {"v1": "MeshAnything_350m.pth", "v2": "model.safetensors"}
SMALLEST_GAP = 1e-4  # between two logits, below which a flip is nobody's fault


def rebuilt(version: str, golden: Path, scratch: Path) -> Path:
    """A folder that looks like the hub's."""
    folder = scratch / version
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / FILES[version]).is_file():
        subprocess.run([sys.executable, golden / "reseed.py", version, folder / FILES[version]], check=True)
    if version == "v2":
        (folder / "config.json").write_text(json.dumps({"model_type": "shape_opt", "n_discrete_size": 128, "vocab_size": 132}))
    return folder


def say(what: str, came: float | bool | str, wanted: str) -> None:
    print(
        f"  {what:44} {came if isinstance(came, str) else str(came) if isinstance(came, bool) else f'{came:.2e}':>12}   ({wanted})",
        flush=True,
    )


def apart(one: torch.Tensor, other: torch.Tensor) -> float:
    return float((one - other).abs().max())


@torch.inference_mode()
def check(version: str, golden: Path, scratch: Path) -> None:
    from meshgpt.model import MeshGPT

    print(version)
    model = MeshGPT.from_pretrained(rebuilt(version, golden, scratch), device="cpu", as_released=True)
    network, vectors = model.network, load_file(golden / f"golden_{version}.safetensors")
    cloud = vectors["input.pc_normal"].clone()
    cloud[..., :3] /= 2
    seen = network.see(cloud)
    say("condition tokens, largest deviation", apart(seen.prefix, vectors["stage.cond_tokens"]), "2e-5")
    say("shape vector and latents", apart(seen.latents, vectors["stage.cat_latents"]), "2e-5")
    vocab = model.tokenizer.vocab
    theirs = torch.tensor([vocab, vocab + 2, vocab + 1, *range(vocab)])  # where each of their ids stands with us
    logits = network.logits(theirs[vectors["forced.ids"]], seen)[..., theirs]
    say("teacher-forced logits, largest deviation", apart(logits, vectors["forced.logits"]), "5e-5")
    wanted = theirs[vectors["greedy.ids"][0]].tolist()
    stream = model.stream(cloud[0].numpy(), [0], model.sampling)
    say("100 greedy ids equal", [int(next(stream)[0, 0]) for _ in wanted] == wanted, "True")
    check_points(vectors)
    if version == "v1":
        check_codes(model, seen.latents, vectors)
    else:
        check_tokenizer(golden)


def check_points(vectors: dict[str, torch.Tensor]) -> None:
    from meshgpt.published_points import as_shown

    shown = as_shown(vectors["input.pc_raw_sampled_f16"].numpy())
    say("points in float16 equal", bool((shown == vectors["input.pc_normal_f16"].numpy()).all()), "True")


def check_codes(model, latents: torch.Tensor, vectors: dict[str, torch.Tensor]) -> None:
    codes = vectors["nrd.codes"].view(1, -1, 9)
    logits, keep = model.tokenizer.network(codes, latents), (codes >= 0).all(-1)
    first = vectors["nrd.coord_logits_first310"]
    say("logits of the decoder of codes", apart(logits[:, :310].flatten(2, 3), first), "2.3e-5 of it are another eps")
    coords = logits.argmax(-1) / 128 - 0.5
    wrong = (coords != vectors["nrd.coords"]) & keep[..., None, None]
    best = logits.topk(2, -1).values
    gaps = (best[..., 0] - best[..., 1])[wrong]
    say("decoded coordinates that differ", f"{int(wrong.sum())} of {9 * int(keep.sum())}", "0, or where the gap is below 1e-4")
    assert bool((gaps < SMALLEST_GAP).all())


def check_tokenizer(golden: Path) -> None:
    from meshgpt.mesh import canonical
    from meshgpt.tokenizer.adjacent import AdjacentTokenizer, as_released, roles

    tokenizer, equal = AdjacentTokenizer(), []
    for mesh in json.loads((golden / "amt.json").read_text()).values():
        corners = canonical(np.array(mesh["trimesh_vertices_q"])[np.array(mesh["trimesh_faces"])])
        ids = tokenizer.encode(corners)[:, 0]
        equal.append(ids.tolist() == mesh["sequence"] and roles(ids).tolist() == mesh["id_sequence"])
        equal.append(bool((as_released(ids) == np.array(mesh["detok_faces"], dtype=np.float32)).all()))
    say("sequences, roles and faces of amt.json equal", all(equal), "True")
    cases = json.loads((golden / "detok_malformed.json").read_text()).values()
    same = [np.array_equal(as_released(np.array(case["ids"])), np.array(case["faces"], dtype=np.float32)) for case in cases]
    say("malformed sequences as released", f"{sum(same)} of {len(same)}", "all")
    refused = sum(map(is_refused, cases))
    say("malformed sequences refused otherwise", f"{refused} of {len(same)}", "or a valid mesh")


def is_refused(case: dict) -> bool:
    """As an error; or, when not strict, as whole faces alone."""
    from meshgpt.tokenizer.adjacent import AdjacentTokenizer

    ids = np.array(case["ids"])[:, None]
    AdjacentTokenizer().decode(ids, strict=False)
    try:
        AdjacentTokenizer().decode(ids)
    except ValueError:
        return True
    return False


# Loading


READ = "whole = open(sys.argv[1], 'rb').read()"
START = "from meshgpt.model import MeshGPT; began = time.perf_counter(); model = MeshGPT.from_pretrained(sys.argv[1], device='cpu')"


def measured(code: str, place: Path, scratch: Path) -> tuple[float, float]:
    """Seconds and peak gigabytes (above those before) of a process of its own."""
    lines = [
        "import os, sys, time, resource, warnings; warnings.simplefilter('ignore'); import meshgpt.model",
        "before, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()",
        code,
        "print(time.perf_counter() - began, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1e6)",
    ]
    own = os.environ | {"MESHGPT_CACHE": str(scratch / "converted")}
    ran = subprocess.run([sys.executable, "-c", "\n".join(lines), place], env=own, check=True, capture_output=True, text=True)
    seconds, gigabytes = ran.stdout.split()
    return float(seconds), float(gigabytes)


def load(version: str, golden: Path, scratch: Path) -> None:
    folder = rebuilt(version, golden, scratch)
    file = folder / FILES[version]
    measured(READ, file, scratch)  # from here on it is in the page cache
    shutil.rmtree(scratch / "converted", ignore_errors=True)
    first = measured(START, folder, scratch)
    rounds = [(measured(READ, file, scratch), measured(START, folder, scratch)) for _ in range(5)]
    read, start = (min(part[0] for part in column) for column in zip(*rounds, strict=True))
    peak = rounds[-1][1][1]
    size = file.stat().st_size / 1e9
    print(
        f"{version}: {size:.2f} GB; reading the file {read:.2f} s; loading the model {start:.2f} s ({start / read:.2f} times, 1.3 wanted)"
    )
    print(f"  with the conversion before it {first[0]:.2f} s, peak {first[1]:.2f} GB ({first[1] / size:.2f} times; 1.2 wanted)")
    print(f"  peak without {peak:.2f} GB ({peak / size:.2f} times)")


# Speed


def body():
    from meshgpt.one_id_model import OneIdConfig, OneIdModel
    from meshgpt.shape_encoder import ShapeEncoderConfig
    from meshgpt.transformer import TransformerConfig

    torch.manual_seed(0)
    config = TransformerConfig(1024, 24, 16, layout="opt", positions=10340)
    return OneIdModel(OneIdConfig(129, "strip", True, config, ShapeEncoderConfig())).eval()


def opt():
    from meshgpt import bench_loops
    from meshgpt.transformer import TransformerConfig

    return bench_loops.opt(TransformerConfig(1024, 24, 16), 132, 10340)


@torch.inference_mode()
def ours(network, length: int, count: int) -> float:
    """Median seconds (of processor time) of an id, behind `length` positions of noise."""
    from meshgpt.one_id_model import IdCache
    from meshgpt.precision import best_for

    cache = IdCache(network.config.body, 1, length + count + 1, network.embed.weight)
    cache.keys.normal_(std=0.5)
    cache.values.normal_(std=0.5)
    cache.length, times, id = length, [], torch.tensor([[3]])
    for _ in range(count):
        began = time.process_time()
        with best_for(1):
            hidden = network.read_step(id, None, cache)
            id = network.slot_logits(hidden, None, None, None).argmax(-1, keepdim=True)
        times.append(time.process_time() - began)
    return statistics.median(times[1:])


@torch.inference_mode()
def theirs(model, length: int, count: int) -> float:
    from meshgpt.bench_loops import time_theirs

    return time_theirs(model, [length], count, 1.0).times[0]


def speed(lengths: list[int], count: int = 12) -> None:
    from meshgpt.loading import in_precision
    from meshgpt.precision import fast_float32

    fast_float32()
    reference, seconds = opt(), {}
    print(f"seconds an id at 350 M, {torch.get_num_threads()} threads, batch 1")
    network = body()
    for length in lengths:
        best = min(ours(network, length, count), ours(network, length, count))
        seconds[length] = (best, theirs(reference, length, count), min(best, ours(network, length, count)))
    del reference
    rough = {precision: in_precision(body(), precision) for precision in ("bf16", "int8")}
    print(f"{'length':>8} {'transformers':>14} {'fp32':>8} {'times':>7} {'bf16':>8} {'int8':>8}")
    for length, (_, reference_time, best) in seconds.items():
        others = [min(ours(one, length, count) for _ in range(2)) for one in rough.values()]
        print(f"{length:8} {reference_time:14.3f} {best:8.3f} {reference_time / best:7.2f} {others[0]:8.3f} {others[1]:8.3f}", flush=True)


def main(words: list[str]) -> None:
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    if words[0] == "speed":
        return speed([int(word) for word in words[1:]])
    golden, scratch = Path(words[1]), Path(words[2])
    os.environ["MESHGPT_CACHE"] = str(scratch / "converted")
    for version in FILES:
        (check if words[0] == "golden" else load)(version, golden, scratch)
    if words[0] == "golden":
        print(f"peak of this process: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6:.2f} GB")


if __name__ == "__main__":
    main(sys.argv[1:])
