"""A model on the disk: a folder with config.json and safetensors.

Finding it comes first (`converted.py`), building second. Nothing is ever unpickled. It knows files and tensors. It does not know networks.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, get_args, get_type_hints

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

FORMAT = 1
CONFIG, WEIGHTS, CARD = "config.json", "model.safetensors", "README.md"
Config = TypeVar("Config")


class Checkpoint(NamedTuple):
    """Files that are already on this disk."""

    config: Path
    weights: Path

    @classmethod
    def at(cls, folder: Path) -> Checkpoint:
        """FileNotFoundError names what the folder lacks."""
        missing = [name for name in (CONFIG, WEIGHTS) if not (folder / name).is_file()]
        if missing:
            raise FileNotFoundError(f"{folder} lacks {' and '.join(missing)}; a model is a folder with {CONFIG} and {WEIGHTS}")
        return cls(folder / CONFIG, folder / WEIGHTS)

    def read_config(self) -> dict[str, Any]:
        """The JSON object of config.json; ValueError when it is none, or was written by a newer version."""
        try:
            config = json.loads(self.config.read_text(encoding="utf-8"))
        except ValueError:
            raise ValueError(f"{self.config} is not valid JSON; download or save the model again") from None
        if not isinstance(config, dict) or not isinstance(config.get("format"), int):
            raise ValueError(f"{self.config} has no 'format' number, so it is no meshgpt model; pass a folder saved by meshgpt")
        if config["format"] > FORMAT:
            raise ValueError(
                f"{self.config} has format {config['format']} and this meshgpt reads up to {FORMAT}; upgrade with: pip install -U meshgpt"
            )
        return config

    def read_weights(self) -> dict[str, Tensor]:
        try:
            return load_file(self.weights, backend="pread")  # memory of our own: the file may be replaced while the model is used
        except SafetensorError as error:
            raise ValueError(f"{self.weights} is no whole safetensors file ({error}); download or save the model again") from None


def write(folder: str | Path, config: Mapping[str, Any], weights: Mapping[str, Tensor], card: str = "") -> None:
    """Write a model's files into a folder, which is made where it is missing; each file is whole or not there."""
    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"format": FORMAT, **config}, indent=2) + "\n"
    tensors = {key: value.detach().contiguous().cpu() for key, value in weights.items()}
    _replace_file(target / WEIGHTS, lambda path: save_file(tensors, path))
    _replace_file(target / CONFIG, lambda path: path.write_text(text, encoding="utf-8"))
    if card:
        _replace_file(target / CARD, lambda path: path.write_text(card, encoding="utf-8"))


def _replace_file(path: Path, fill: Callable[[Path], object]) -> None:
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        fill(beside)
        beside.chmod(0o644)  # safetensors writes files that nobody else may read
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


def replace_folder(new: Path, target: Path) -> None:
    """Move `new` to `target`; an older `target` goes only when the new one stands."""
    os.chmod(new, 0o755)
    if not target.exists():
        os.replace(new, target)
        return
    old = Path(tempfile.mkdtemp(prefix=f".{target.name}-old-", dir=target.parent))
    os.replace(target, old / "was")
    os.replace(new, target)
    shutil.rmtree(old)


def tensors_of(network: nn.Module) -> dict[str, Tensor]:
    """Every tensor of a network once: of several names of one tensor, the first."""
    owners: dict[tuple[int, int], str] = {}
    state = network.state_dict()
    return {
        name: value
        for name, value in state.items()
        if not value.numel() or owners.setdefault((value.data_ptr(), value.numel()), name) == name
    }


def load_into(network: nn.Module, weights: Mapping[str, Tensor], name: str) -> None:
    """Fill a network; ValueError names the first tensor that is missing, unknown or of another shape."""
    own = tensors_of(network)
    _check_fits(own, weights, name)
    with torch.no_grad():
        for key, value in weights.items():
            own[key].copy_(value)


def take(network: nn.Module, weights: Mapping[str, Tensor], name: str) -> None:
    """Like `load_into`, for a network built without memory (on the device meta): the tensors become its own, uncopied."""
    own = dict(network.named_parameters())
    _check_fits(own, weights, name)
    network.load_state_dict(weights, strict=False, assign=True)


def _check_fits(own: Mapping[str, Tensor], weights: Mapping[str, Tensor], name: str) -> None:
    missing = [key for key in own if key not in weights]
    unknown = [key for key in weights if key not in own]
    if missing or unknown:
        first = f"{missing[0]!r} is missing" if missing else f"{unknown[0]!r} is unknown"
        counts = f"{len(missing)} tensors are missing and {len(unknown)} unknown"
        raise ValueError(f"{name}: {counts}, first {first}; config and weights do not belong together")
    for key, value in weights.items():
        if value.shape != own[key].shape:
            raise ValueError(f"{name}: tensor {key!r} has shape {tuple(value.shape)} where {tuple(own[key].shape)} fits; check the config")


def part(config: Mapping[str, Any], name: str, found: Checkpoint) -> dict[str, Any]:
    """The object `name` of a config; ValueError when there is none."""
    if not isinstance(config.get(name), dict):
        raise ValueError(f"{found.config} has no object {name!r}; download or save the model again")
    return config[name]


def to_json(config: Any) -> dict[str, Any]:
    """A frozen config dataclass as plain JSON values."""
    return {field.name: to_json(value) if is_dataclass(value := getattr(config, field.name)) else value for field in fields(config)}


def from_json(kind: type[Config], values: Mapping[str, Any], where: str = "config") -> Config:
    """The dataclass back; an unknown or missing field is a ValueError that names it."""
    hints = get_type_hints(kind)
    unknown = sorted(set(values) - set(hints))
    if unknown:
        raise ValueError(f"{where} has the unknown field {unknown[0]!r}; was it written by a newer meshgpt? this one knows {sorted(hints)}")
    built = {}
    for name, value in values.items():
        _check_kind(hints[name], value, f"{where}.{name}")
        nested = [part for part in (hints[name], *get_args(hints[name])) if is_dataclass(part)]
        built[name] = from_json(nested[0], value, f"{where}.{name}") if nested and isinstance(value, dict) else value
    try:
        return kind(**built)
    except TypeError as error:
        raise ValueError(f"{where} does not fit: {error}") from None


def _check_kind(hint: Any, value: Any, where: str) -> None:
    """Numbers, strings, flags and objects are told apart; what a number may be is the class's own business."""
    kinds = [kind for part in (hint, *get_args(hint)) for kind in _JSON_KINDS.get(part, (dict,) if is_dataclass(part) else ())]
    if kinds and not (type(value) in kinds or (is_dataclass(hint) and isinstance(value, dict))):
        raise ValueError(f"{where} is {value!r}, where {' or '.join(kind.__name__ for kind in kinds)} fits; was the file edited?")


_JSON_KINDS: dict[Any, tuple[type, ...]] = {
    int: (int,),
    float: (float, int),
    str: (str,),
    bool: (bool,),
    type(None): (type(None),),
}
