"""Who may import whom, what may load when, how long a function may be. The tables are the test.

A module goes by its import name without `meshgpt.`: `mesh`, `tokenizer` (the package), `tokenizer.coords`, `train.loop`.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.metadata
import itertools
import re
import statistics
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import NamedTuple

import jaxtyping
import numpy as np
import pytest

import meshgpt

ROOT = Path(__file__).resolve().parents[1]

# Module: what of ours it may import, at its top or inside functions. `*` stands for anything.
MAY_IMPORT = {
    "sample": "cli",
    "cli": "*",
    "sample_files": (
        "cloud compile_ahead files generate mesh mistakes model particulars published_points sample_options sample_places shared_jobs views"
    ),
    "compile_ahead": "cloud compiled mesh model shared_jobs tidy",
    "sample_options": "generate sample_places",
    "sample_places": "files mistakes",
    "shared_jobs": "interrupts",
    "interrupts": "",
    "particulars": "files mesh topology",
    "validity": "mesh",
    "info": "checkpoint convert converted hub model",
    "stopwatch": "",
    "bench_loops": "cloud gate_model generate loading mesh model precision steps stopwatch tokenizer transformer",
    "bench": "bench_loops gate_model loading model precision steps stopwatch transformer",
    "convert_files": "convert converted hub",
    "mistakes": "",
    "mesh": "files",
    "cloud": "",
    "pcd": "",
    "ply": "",
    "files": "mesh cloud pcd ply",
    "views": "mesh cloud files",
    "markup": "",
    "plots": "markup",
    "evaluation": "",
    "tables": "evaluation",
    "contact_sheet": "cloud markup mesh evaluation views",
    "result_picture": "contact_sheet evaluation files mesh views",
    "report": "contact_sheet files markup plots evaluation",
    "metrics": "mesh topology",
    "topology": "mesh",
    "shape_sets": "mesh",
    "protocols": "",
    "scores": "mesh metrics protocols shape_sets topology",
    "tokenizer_metrics": "mesh tokenizer.interface",
    "tokenizer_tables": "",
    "face_order": "files mesh tokenizer.interface views",
    "extras": "",
    "dense": "mesh cloud extras",
    "scans": "mesh cloud dense",
    "denoise": "cloud",
    "upsample": "cloud",
    # A cloud that was seen from one side, and what the other side may be.
    "viewpoint": "cloud",
    "symmetry": "cloud viewpoint",
    "surface_grid": "",
    "completion_network": "surface_grid",
    "scene": "surface_grid symmetry viewpoint",
    "completion": "checkpoint cloud completion_network converted mesh scene surface_grid viewpoint",
    "gallery": "mesh",
    "silence": "",
    "reconstruct": "mesh cloud dense silence",
    "baselines": "mesh cloud extras gallery reconstruct silence",
    "precision": "",
    "transformer": "precision step_kernels",
    "step_kernels": "compiled",
    "boundary": "",
    "memory": "boundary",
    "nearest": "",
    "touching": "",
    "depth": "transformer boundary memory nearest touching",
    "border": "mesh tokenizer.gates tokenizer.gate_kernels tokenizer.walk tokenizer.walk_machine",
    "gate_geometry": "border nearest",
    "gate_decoder": "border conditioners depth gate_geometry tokenizer.gate_grammar touching transformer",
    "gate_loops": (
        "border depth gate_decoder gate_geometry gate_slot_kernels gate_stand_kernels tokenizer.gate_grammar touching transformer"
    ),
    "gate_stand_kernels": "compiled gate_geometry_kernels step_kernels",
    "gate_slot_kernels": "compiled gate_decoder_kernels step_kernels",
    "gate_decoder_kernels": "compiled gate_geometry_kernels step_kernels",
    "gate_geometry_kernels": "compiled",
    "gate_model": "border conditioners depth gate_decoder gate_geometry gate_loops nearest precision steps tokenizer.gates transformer",
    "gate_judge": (
        "coverage generate judge mesh tokenizer.gates tokenizer.gate_kernels tokenizer.interface tokenizer.walk tokenizer.walk_machine"
    ),
    "conditioners": "transformer nearest",
    "checkpoint": "",
    "steps": "transformer depth memory conditioners precision",
    "shape_encoder": "transformer conditioners",
    "one_id_model": "steps transformer shape_encoder",
    "generate": "one_id_model pick_kernels steps tokenizer.interface",
    "pick_kernels": "compiled",
    # Published models of other projects: their tables, their files, and how they are run.
    "families": "checkpoint conditioners one_id_model shape_encoder transformer tokenizer.face_codes",
    "hub": "checkpoint families",
    "convert": "checkpoint families hub one_id_model tokenizer",
    "card": "checkpoint families",
    "converted": "card checkpoint convert hub",
    "loading": "checkpoint gate_model one_id_model precision steps tokenizer tokenizer.interface transformer",
    "trimesh_order": "mesh",
    "published": "conditioners generate mesh trimesh_order tokenizer.adjacent tokenizer.face_codes tokenizer.interface",
    "published_points": "cloud dense mesh",
    "coverage": "coverage_kernels",
    "settle": "coverage mesh settle_kernels",
    "settle_kernels": "compiled",
    "face_graph": "",
    "mesh_cost": "coverage face_graph mesh settle_kernels tidy_kernels",
    "hole_filling": "coverage face_graph mesh_cost tidy_kernels",
    "tidy": "coverage face_graph hole_filling mesh mesh_cost settle tidy_kernels",
    "tidy_kernels": "compiled settle_kernels",
    "compiled": "",
    "coverage_kernels": "compiled",
    "judge": "coverage generate mesh tokenizer.interface",
    "model": (
        "mesh cloud coverage denoise judge gate_judge gate_model memory metrics precision checkpoint steps generate tokenizer tokenizer.* "
        "completion upsample card converted hub interrupts loading one_id_model published settle tidy validity"
    ),
    "tokenizer": "checkpoint tokenizer.*",
    "tokenizer.interface": "",
    "tokenizer.checks": "mesh",
    "tokenizer.one_id": "",
    "tokenizer.coords": "mesh tokenizer.interface tokenizer.checks",
    "tokenizer.room": "mesh tokenizer.interface tokenizer.room_kernels",
    "tokenizer.room_kernels": "compiled",
    "tokenizer.face_grammar": "tokenizer.interface tokenizer.room",
    "tokenizer.file_reading": "",
    **dict.fromkeys(("tokenizer.meshopt_file", "tokenizer.draco_file", "tokenizer.obj_text"), "tokenizer.file_reading"),
    "tokenizer.meshopt_planes": "tokenizer.meshopt_file",
    "tokenizer.meshopt_grammar": "tokenizer.interface tokenizer.meshopt_file tokenizer.meshopt_planes",
    "tokenizer.obj_grammar": "tokenizer.interface",
    "tokenizer.codec": (
        "mesh tokenizer.interface tokenizer.checks tokenizer.one_id tokenizer.file_reading tokenizer.meshopt_file tokenizer.draco_file "
        "tokenizer.obj_text tokenizer.meshopt_grammar tokenizer.obj_grammar"
    ),
    "tokenizer.vertex_numbers": "",
    "tokenizer.face_memory": "",
    "tokenizer.winding": "mesh tokenizer.adjacent_kernels",
    "tokenizer.adjacent_kernels": "compiled",
    "tokenizer.adjacent": (
        "mesh tokenizer.interface tokenizer.checks tokenizer.one_id tokenizer.vertex_numbers tokenizer.face_memory tokenizer.winding "
        "tokenizer.adjacent_kernels"
    ),
    "tokenizer.patch_kernels": "compiled",
    "tokenizer.patches": (
        "mesh tokenizer.interface tokenizer.checks tokenizer.one_id tokenizer.vertex_numbers tokenizer.face_memory tokenizer.patch_kernels"
    ),
    "tokenizer.quantizer": "",
    "tokenizer.decoder": "transformer conditioners",
    "tokenizer.face_codes": (
        "mesh transformer tokenizer.interface tokenizer.checks tokenizer.face_grammar tokenizer.one_id tokenizer.winding"
    ),
    "tokenizer.vqvae": (
        "mesh transformer conditioners tokenizer.interface tokenizer.checks tokenizer.face_grammar tokenizer.room tokenizer.quantizer "
        "tokenizer.decoder"
    ),
    "tokenizer.gates": (
        "mesh tokenizer.interface tokenizer.checks tokenizer.gate_grammar tokenizer.gate_kernels tokenizer.walk tokenizer.walk_kernels"
    ),
    "tokenizer.gate_grammar": "tokenizer.interface tokenizer.gate_kernels tokenizer.walk tokenizer.walk_machine",
    "tokenizer.gate_kernels": "compiled tokenizer.walk_kernels tokenizer.walk_machine",
    "tokenizer.walk": (
        "mesh tokenizer.interface tokenizer.checks tokenizer.one_id tokenizer.walk_grammar tokenizer.walk_words tokenizer.walk_kernels"
    ),
    "tokenizer.walk_grammar": "tokenizer.interface tokenizer.walk_words tokenizer.walk_kernels tokenizer.walk_machine",
    "tokenizer.walk_words": "tokenizer.walk_kernels",
    "tokenizer.walk_kernels": "compiled tokenizer.walk_machine",
    "tokenizer.walk_machine": "compiled",
    "train": "",
    "train.sources": "mesh files",
    "train.shards": "",
    "train.prepare": "mesh train.sources train.shards",
    "train.augment": "mesh",
    "train.batches": "",
    "train.missteps": "tokenizer.gates tokenizer.walk",
    "train.data": "mesh conditioners tokenizer.gates tokenizer.interface tokenizer.vqvae "
    "train.augment train.batches train.missteps train.sources train.workers",
    "train.workers": "",
    "train.loop": "checkpoint precision",
    **dict.fromkeys(
        ("train.vqvae", "train.decoder", "train.transformer"),
        "mesh model steps gate_model conditioners transformer checkpoint tokenizer tokenizer.* "
        "train.loop train.data train.batches train.augment train.missteps train.sources train.vqvae",
    ),
    "train.completion": (
        "checkpoint cloud completion_network denoise mesh scans scene surface_grid symmetry train.augment train.loop train.sources "
        "train.vqvae train.workers"
    ),
    "train.publish": "checkpoint converted model tokenizer.vqvae",
    "train.leaderboard": "face_order files mesh model tables tokenizer tokenizer_metrics tokenizer_tables train.sources",
    "train.methods": "baselines cloud dense files gallery generate mesh model scans train.sources",
    "train.evaluate": (
        "baselines cloud evaluation files gallery generate loading mesh model protocols report result_picture scans scores shape_sets "
        "tables train.methods train.sources"
    ),
}

# The one way back: a method for convenience, which nothing at the top of a module depends on.
ONLY_INSIDE = {("mesh", "files"): "Mesh.save"}

# What is not ours and may load at a module's top: these anywhere, all others (they take seconds, or may be missing) inside functions.
LIGHT = {"numpy", "torch", "jaxtyping", "safetensors"}
AT_THE_TOP = {
    "sample_options": "tyro",
    "info": "tyro",
    "bench": "tyro",
    "convert_files": "tyro",
    "tables": "rich",
    "compiled": "numba",
    "tokenizer_tables": "rich",
    "train.leaderboard": "tyro",
    "train.sources": "pyarrow",
    "train.shards": "pyarrow",
    "train.loop": "accelerate",
}

# Dependencies that no file of ours imports, and why they are there.
FOR_OTHERS = {
    "datasets": "it reads the data sets that ship and that `prepare` writes",
    "pycollada": "trimesh reads .dae files with it",
    "tensorboard": "accelerate's tracker writes with it",
    "transformers": "the pretrained image and text encoders, and the classes that converted checkpoints are compared with, are its",
}

LONGEST_FUNCTION, P95_FUNCTION, LONGEST_FILE = 80, 40, 450  # lines
EMPTY_NAMES = {"util", "utils", "helper", "helpers", "misc", "common", "base"}


class Import(NamedTuple):
    """`name` is dotted and absolute; `inside` is the class and function it stands in, '' at the top of a module."""

    name: str
    inside: str
    line: int


def files_of_modules() -> dict[str, Path]:
    files = {"sample": ROOT / "sample.py"}
    for folder in ("meshgpt", "tokenizer", "train"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            parts = parts[1:] if folder == "meshgpt" else parts
            files[".".join(part for part in parts if part != "__init__") or "meshgpt"] = path
    return files


FILES = files_of_modules()
TREES = {module: ast.parse(path.read_text(), str(path)) for module, path in FILES.items()}


def imports(module: str) -> Iterator[Import]:
    """Every import statement of a module, wherever it stands, and `import_module` with a literal name.

    Not those for a module that is run (`python -m meshgpt.train.vqvae`): it is a command line then, and nobody's library.
    """
    path = FILES[module]
    package = ["meshgpt", *module.split(".")] if path.name == "__init__.py" else ["meshgpt", *module.split(".")[:-1]]

    def walk(node: ast.AST, inside: tuple[str, ...]) -> Iterator[Import]:
        if isinstance(node, ast.If) and ast.unparse(node.test) == "__name__ == '__main__'":
            return
        if isinstance(node, ast.Import):
            yield from (Import(alias.name, ".".join(inside), node.lineno) for alias in node.names)
        if isinstance(node, ast.ImportFrom):
            above = package[: len(package) + 1 - node.level] if node.level else []
            start = ".".join([*above, *([node.module] if node.module else [])])
            yield from (Import(f"{start}.{alias.name}", ".".join(inside), node.lineno) for alias in node.names)
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
            yield from (Import(word.value, ".".join(inside), node.lineno) for word in node.args[:1] if isinstance(word, ast.Constant))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            inside = (*inside, node.name)
        for child in ast.iter_child_nodes(node):
            yield from walk(child, inside)

    yield from walk(TREES[module], ())


def target(name: str) -> str | None:
    """The module of ours that an imported name is, or is found in; None for what is not ours and for `meshgpt` itself.

    Importing anything of ours runs `meshgpt/__init__.py`, so that one needs no row; names it finds on first use count as their homes.
    """
    if name.split(".")[0] != "meshgpt":
        return None
    rest = name.removeprefix("meshgpt").removeprefix(".")
    if rest in meshgpt._HOMES:
        return meshgpt._HOMES[rest].removeprefix("meshgpt.")
    while rest and rest not in FILES and rest not in MAY_IMPORT:
        rest = rest.rpartition(".")[0]
    return rest or None


def edges() -> Iterator[tuple[str, str, Import]]:
    for module in FILES:
        for found in imports(module):
            if (imported := target(found.name)) and imported != module:
                yield module, imported, found


def test_every_module_has_a_row_and_every_row_a_module():
    modules = set(FILES) - {"meshgpt"}
    unknown = sorted(modules - set(MAY_IMPORT))
    assert not unknown, f"new modules {unknown}: add a row to MAY_IMPORT in tests/test_architecture.py that says what they may import"
    stale = sorted(set(MAY_IMPORT) - modules)
    assert not stale, f"there are no files for the rows {stale} of MAY_IMPORT"


def test_imports_follow_the_table():
    wrong = [
        f"{FILES[module].relative_to(ROOT)}:{found.line}: {module} imports {imported}; its row allows: {MAY_IMPORT[module] or 'nothing'}"
        for module, imported, found in edges()
        if module in MAY_IMPORT and not any(fnmatch(imported, allowed) for allowed in MAY_IMPORT[module].split())
    ]
    assert not wrong, "\n".join(wrong)


def test_the_way_back_stays_inside_its_method():
    wrong = [
        f"{module} imports {imported} in {found.inside or 'its top'}, line {found.line}; only {ONLY_INSIDE[module, imported]} may"
        for module, imported, found in edges()
        if (module, imported) in ONLY_INSIDE and found.inside != ONLY_INSIDE[module, imported]
    ]
    assert not wrong, "\n".join(wrong)


def test_only_the_command_line_knows_the_command_line_and_training():
    wrong = []
    for module, imported, found in edges():
        if imported == "cli" and module != "sample":
            wrong.append(f"{module} imports cli, line {found.line}")
        if imported.split(".")[0] == "train" and module != "cli" and module.split(".")[0] != "train":
            wrong.append(f"{module} imports {imported}, line {found.line}")
    assert not wrong, "\n".join(wrong)


def test_nothing_is_imported_in_a_circle():
    after: dict[str, set[str]] = {module: set() for module in FILES}
    for module, imported, _ in edges():
        if (module, imported) not in ONLY_INSIDE and imported in FILES:
            after[module].add(imported)
    while leaves := [module for module, needs in after.items() if not needs]:
        for leaf in leaves:
            del after[leaf]
        for needs in after.values():
            needs.difference_update(leaves)
    assert not after, f"among these modules there is a circle of imports: { ({k: sorted(v) for k, v in after.items()}) }"


def test_our_folders_are_imported_by_their_full_names():
    wrong = [
        f"{FILES[module].relative_to(ROOT)}:{found.line}: write meshgpt.{found.name}, or another's file of that name may be found first"
        for module in FILES
        for found in imports(module)
        if found.name.split(".")[0] in ("tokenizer", "train")
    ]
    assert not wrong, "\n".join(wrong)


def foreign(module: str) -> Iterator[tuple[str, Import]]:
    for found in imports(module):
        root = found.name.split(".")[0]
        if root != "meshgpt" and root not in sys.stdlib_module_names:
            yield root, found


def test_heavy_libraries_are_imported_where_they_are_used():
    wrong = [
        f"{FILES[module].relative_to(ROOT)}:{found.line}: {root} at the top; import it inside the function that uses it"
        for module in FILES
        for root, found in foreign(module)
        if not found.inside and root not in LIGHT and root not in AT_THE_TOP.get(module, "").split()
    ]
    assert not wrong, "\n".join(wrong)


def test_compiled_loops_are_imported_where_they_are_used():
    """Their compiler takes a second to load."""
    wrong = [
        f"{FILES[module].relative_to(ROOT)}:{found.line}: {imported} at the top; import it inside the function that uses it"
        for module, imported, found in edges()
        if imported.endswith("_kernels") and not found.inside and not module.endswith("_kernels")
    ]
    assert not wrong, "\n".join(wrong)


def distribution(requirement: str) -> str:
    return re.split(r"[<>=!~\[; ]", requirement)[0].replace("_", "-").lower()


def test_dependencies_are_what_is_imported():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    declared = {distribution(text) for text in project["dependencies"]}
    names = importlib.metadata.packages_distributions()
    used = {
        name.replace("_", "-").lower()
        for root in {root for module in FILES for root, _ in foreign(module)}
        for name in names.get(root, [f"{root} (not installed)"])
    }
    in_extras = {distribution(text) for text in project["optional-dependencies"]["evaluate"]}
    assert used <= declared | in_extras, f"imported, but no dependency in pyproject.toml: {sorted(used - declared)}"
    idle = declared - used - set(FOR_OTHERS)
    assert not idle, f"dependencies that nothing imports: {sorted(idle)}; drop them, or say in FOR_OTHERS why they are there"


def test_importing_the_package_loads_nothing_heavy():
    code = "import sys, meshgpt; print(*{name.split('.')[0] for name in sys.modules})"
    loaded = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True).stdout.split()
    assert "meshgpt" in loaded
    assert not set(loaded) & {"torch", "numpy", "transformers", "trimesh", "open3d", "datasets", "accelerate", "pyarrow", "tyro", "rich"}


def test_names_say_something():
    empty = [path.relative_to(ROOT) for path in FILES.values() if EMPTY_NAMES & set(path.relative_to(ROOT).with_suffix("").parts)]
    assert not empty, f"name these after the idea they hold: {[str(path) for path in empty]}"


def lengths_of_functions() -> dict[str, int]:
    return {
        f"{FILES[module].relative_to(ROOT)}:{node.lineno} {node.name}": node.end_lineno - node.lineno + 1
        for module, tree in TREES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }


def test_functions_are_short():
    lengths = lengths_of_functions()
    long = {name: lines for name, lines in lengths.items() if lines > LONGEST_FUNCTION}
    assert not long, f"more than {LONGEST_FUNCTION} lines: {long}"
    p95 = statistics.quantiles(lengths.values(), n=20)[-1]
    longest = dict(itertools.islice(sorted(lengths.items(), key=lambda item: -item[1]), 10))
    assert p95 <= P95_FUNCTION, f"one function in twenty has more than {p95:.0f} lines, {P95_FUNCTION} are the budget; longest: {longest}"


def test_loops_are_compiled_anew_with_those_that_they_call():
    """numba looks at the file of a loop only, and would take old machine code from its cache."""
    loops = {module for module in FILES if module.endswith(("_kernels", "_machine"))}
    calls = {(module, imported) for module, imported, _ in edges() if {module, imported} <= loops}
    for module in sorted({module for module, _ in calls}):
        path, called = FILES[module], sorted(imported for other, imported in calls if other == module)
        digest = hashlib.sha256(b"".join(FILES[other].read_bytes() for other in called)).hexdigest()[:16]
        assert f'COMPILED_WITH = "{digest}"' in path.read_text(), f'write COMPILED_WITH = "{digest}" in {path.name}'


def test_files_are_short():
    lines = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in FILES.values()}
    long = {name: count for name, count in lines.items() if count > LONGEST_FILE}
    assert not long, f"more than {LONGEST_FILE} lines; is there a second idea in {long}?"


def test_shapes_are_checked_in_the_package():
    from meshgpt.mesh import weld

    with pytest.raises(jaxtyping.TypeCheckError, match="corners"):
        weld(np.zeros((4, 9), dtype=np.int64))


def test_shapes_are_checked_in_the_folders_beside_it():
    from meshgpt.tokenizer.coords import CoordsTokenizer

    with pytest.raises(jaxtyping.TypeCheckError, match="corners"):
        CoordsTokenizer(16).encode(np.zeros((4, 9), dtype=np.int64))
