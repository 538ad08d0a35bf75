"""The command line: words to options, options to a run, errors to one sentence and an exit code.

    0  done      2  the words or the input do not fit      130  stopped by Ctrl-C      1, with a traceback  our own mistake

Each subcommand is an options dataclass and a function that takes it; they are imported when they are asked for. It knows words. It
does not know meshes.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import fields, make_dataclass
from inspect import cleandoc
from typing import Annotated, Any, NamedTuple, NoReturn

import meshgpt
from meshgpt.interrupts import ctrl_c_between_loops
from meshgpt.mistakes import sentence

Parts = tuple[type, Callable[[Any], object]]


class Command(NamedTuple):
    """What it does in a few words, examples of its use, and where its options and its function come from."""

    about: str
    examples: tuple[str, ...]
    parts: Callable[[], Parts]


def _sample() -> Parts:
    from meshgpt.sample_files import run
    from meshgpt.sample_options import SampleOptions

    return SampleOptions, run


def _info() -> Parts:
    from meshgpt.info import InfoOptions, run

    return InfoOptions, run


def _bench() -> Parts:
    from meshgpt.bench import BenchOptions, run

    return BenchOptions, run


def _convert() -> Parts:
    from meshgpt.convert_files import ConvertOptions, run

    return ConvertOptions, run


def _train_vqvae() -> Parts:
    from meshgpt.train.vqvae import VQVAEOptions, run

    return VQVAEOptions, run


def _train_decoder() -> Parts:
    from meshgpt.train.decoder import DecoderOptions, run

    return DecoderOptions, run


def _train_transformer() -> Parts:
    from meshgpt.train.transformer import TransformerOptions, run

    return TransformerOptions, run


def _train_completion() -> Parts:
    from meshgpt.train.completion import CompletionOptions, run

    return CompletionOptions, run


def _evaluate() -> Parts:
    from meshgpt.train.evaluate import EvaluateOptions, run

    return EvaluateOptions, run


def _tokenize() -> Parts:
    from meshgpt.train.leaderboard import TokenizeOptions, run

    return TokenizeOptions, run


def _prepare() -> Parts:
    """The options of `prepare`, with its two places before them."""
    from tyro.conf import Positional, arg

    from meshgpt.train.prepare import PrepareOptions, prepare

    source = Annotated[str, Positional, arg(metavar="SOURCE", help="A folder of meshes, ShapeNetCore or Objaverse, or parquet files.")]
    out = Annotated[str, Positional, arg(metavar="OUT", help="The folder of parquet files to write; it must be new or empty.")]
    places = [("source", source), ("out", out)]
    unchecked = {"__post_init__": lambda self: None}  # `run` checks, outside of tyro, which would frame the sentence
    options = make_dataclass("PrepareCommand", places, bases=(PrepareOptions,), namespace=unchecked, frozen=True, kw_only=True)
    options.__doc__ = "Clean, filter and fit meshes, and write them as parquet files to train on; a broken one is counted, and skipped."

    def run(command: Any) -> None:
        # Options travel to worker processes, and a class made here could not.
        chosen = PrepareOptions(**{field.name: getattr(command, field.name) for field in fields(PrepareOptions)})
        prepare(command.source, command.out, chosen)

    return options, run


COMMANDS = {
    "sample": Command(
        "a mesh for a point cloud, and a picture of both",
        (
            "meshgpt sample --cond examples/couch.ply",
            "meshgpt sample --cond scan.pcd --up z --out chair.obj --seed 1",
            "meshgpt sample --cond chair.ply --best-of 8",
            "meshgpt sample --cond chair.ply --model Yiwen-ntu/MeshAnythingV2",
            "meshgpt sample --cond scans --out meshes --no-picture",
        ),
        _sample,
    ),
    "prepare": Command(
        "a folder of meshes to a data set",
        ("meshgpt prepare my-meshes data/mine", "meshgpt prepare ShapeNetCore.v2 data/shapenet --max-faces 1600 --workers 8"),
        _prepare,
    ),
    "train vqvae": Command(
        "stage 1: the codebook of faces",
        (
            "meshgpt train vqvae --data data/artist-kits --out runs/vqvae",
            "meshgpt train vqvae --data data/artist-kits --out runs/vqvae --resume",
        ),
        _train_vqvae,
    ),
    "train decoder": Command(
        "stage 2: the decoder that forgives wrong codes",
        ("meshgpt train decoder --data data/artist-kits --vqvae runs/vqvae --out runs/decoder",),
        _train_decoder,
    ),
    "train transformer": Command(
        "stage 3: the network that writes meshes",
        (
            "meshgpt train transformer --data data/artist-kits --tokenizer runs/decoder --out runs/mine",
            "meshgpt train transformer --data data/mine --out runs/coords --model.body.dim 384 augment:none degrade:none",
        ),
        _train_transformer,
    ),
    "train completion": Command(
        "the network that completes scans from one side",
        ("meshgpt train completion --data data/artist-kits --out runs/completion",),
        _train_completion,
    ),
    "evaluate": Command(
        "how good models, baselines and finished meshes are, by the field's protocols",
        (
            "meshgpt evaluate --data data/artist-kits/test.parquet --limit 100 --out report",
            "meshgpt evaluate --data data/artist-kits --out report --methods meshgpt retrieval --model runs/mine",
            "meshgpt evaluate --data data/artist-kits --out report --methods path/to/their/meshes decimated",
            "meshgpt evaluate --data data/artist-kits --out report --methods meshgpt --conditions clean noise scan",
        ),
        _evaluate,
    ),
    "tokenize": Command(
        "how long the sequences of each tokenizer are, and whether meshes come back as they were",
        (
            "meshgpt tokenize data/artist-kits/val.parquet",
            "meshgpt tokenize my-meshes --tokenizers coords,meshopt --bins 1024 --out tokens.json",
            "meshgpt tokenize examples/tent.glb --show order.png",
        ),
        _tokenize,
    ),
    "info": Command(
        "what a model or a data set is, and what this machine has",
        ("meshgpt info", "meshgpt info runs/mine", "meshgpt info data/artist-kits", "meshgpt info Yiwen-ntu/MeshAnythingV2"),
        _info,
    ),
    "bench": Command(
        "how fast meshes are written here, beside the memory's floor and MeshAnything's way",
        ("meshgpt bench --quick", "meshgpt bench --json speed.json"),
        _bench,
    ),
    "convert": Command(
        "a published checkpoint of another project to our format",
        ("meshgpt convert Yiwen-ntu/MeshAnythingV2 models/v2", "meshgpt convert Yiwen-ntu/MeshAnything models/v1"),
        _convert,
    ),
}


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit code. An error that nobody worded for a user keeps its traceback."""
    try:
        run, options = _understood(sys.argv[1:] if arguments is None else arguments)
        with ctrl_c_between_loops():
            run(options)
    except SystemExit as stop:  # tyro's, after --help or wrong options
        return int(stop.code or 0)
    except KeyboardInterrupt:
        print("meshgpt: stopped by Ctrl-C; no file is left half-written", file=sys.stderr)
        return 130
    except Exception as error:
        said = sentence(error)
        if said is None:
            raise
        print(f"meshgpt: {said}", file=sys.stderr)
        return 2
    return 0


def parse(arguments: list[str]) -> Any:
    """The options that the words stand for; nothing is run. SystemExit after --help (0) and on words that do not fit (2)."""
    return _understood(arguments)[1]


def _understood(words: list[str]) -> tuple[Callable[[Any], object], Any]:
    if words[:1] == ["--version"]:
        print(f"meshgpt {meshgpt.__version__}")
        sys.exit(0)
    name = next((name for name in COMMANDS if words[: name.count(" ") + 1] == name.split()), None)
    if name is None:
        _stop_without_command(words)
    import tyro

    command = COMMANDS[name]
    options, run = command.parts()
    rest = words[name.count(" ") + 1 :]
    if name.startswith("train "):
        rest = ["--loop.resume" if word == "--resume" else word for word in rest]
    description = "\n".join([cleandoc(options.__doc__ or ""), "", "Examples:", *(f"$ {example}" for example in command.examples)])
    # With these, `augment:none` may stand anywhere, --augment.mirror works without it, and no flag has a --no- twin.
    markers = (tyro.conf.CascadeSubcommandArgs, tyro.conf.FlagCreatePairsOff)
    return run, tyro.cli(options, args=rest, prog=f"meshgpt {name}", description=description, config=markers)


def _stop_without_command(words: list[str]) -> NoReturn:
    """The overview for whoever asks for it; else what is wrong with the words."""
    group = words[0] if words[:1] == ["train"] else ""
    first = words[1:2] if group else words[:1]
    if not first or first[0] in ("-h", "--help"):
        print(_overview(group), file=sys.stdout if first else sys.stderr)
        sys.exit(0 if first else 2)
    known = ", ".join(name for name in COMMANDS if name.startswith(group))
    said = f"there is no command {' '.join([*words[:1], *first] if group else first)!r}; the commands are {known}"
    print(f"meshgpt: {said} (meshgpt --help says more)", file=sys.stderr)
    sys.exit(2)


def _overview(group: str) -> str:
    lines = [f"  {name:18}  {command.about}" for name, command in COMMANDS.items() if name.startswith(group)]
    usage = f"usage: meshgpt {f'{group} STAGE' if group else 'COMMAND'} [OPTIONS]"
    more = f"meshgpt {f'{group} STAGE' if group else 'COMMAND'} --help lists the options of one; meshgpt --version says which this is."
    return "\n".join([usage, "", "Point clouds in, artist meshes out.", "", *lines, "", more])
