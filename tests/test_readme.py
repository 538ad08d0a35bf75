"""What the README tells people to type is understood, and the names it imports exist."""

from __future__ import annotations

import ast
import re
import shlex
from pathlib import Path

import pytest

import meshgpt

README = (Path(__file__).resolve().parents[1] / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def commands() -> list[list[str]]:
    """The words of each command line in a bash block, without variables set before it."""
    lines = "".join(blocks("bash")).replace("\\\n", " ").splitlines()
    words = [shlex.split(line, comments=True) for line in lines]
    return [line[next((i for i, word in enumerate(line) if not re.match(r"\w+=", word)), 0) :] for line in words if line]


def arguments_of(words: list[str]) -> list[str] | None:
    """What reaches the command line of meshgpt; None for a command of somebody else."""
    match words:
        case ["meshgpt", *arguments]:
            return arguments
        case ["python", "sample.py", *arguments]:
            return ["sample", *arguments]
        case ["accelerate", "launch", *arguments] if "-m" in arguments:
            module, *rest = arguments[arguments.index("-m") + 1 :]
            return [*module.removeprefix("meshgpt.").split("."), *rest]
    return None


OURS = [arguments for words in commands() if (arguments := arguments_of(words)) is not None]


def test_the_readme_shows_every_stage():
    shown = {" ".join(arguments[:2]) for arguments in OURS} | {arguments[0] for arguments in OURS}
    assert {"sample", "prepare", "train vqvae", "train decoder", "train transformer"} <= shown


@pytest.mark.parametrize("arguments", OURS, ids=" ".join)
def test_its_commands_are_understood(arguments):
    from meshgpt.cli import parse

    if "--help" in arguments:
        with pytest.raises(SystemExit, match=r"^0$"):
            parse(arguments)
    else:
        parse(arguments)


def test_its_python_compiles_and_imports_what_exists():
    assert blocks("python"), "the README shows no Python"
    for code in blocks("python"):
        for node in ast.walk(ast.parse(code)):
            if isinstance(node, ast.ImportFrom) and node.module == "meshgpt":
                missing = [alias.name for alias in node.names if not hasattr(meshgpt, alias.name)]
                assert not missing, f"the README imports {missing} from meshgpt, which has no such names"


def test_ci_finds_its_commands():
    for name in ("system", "install", "test"):
        assert re.search(rf"^<!-- ci:{name} -->\n```bash\n\S", README, re.MULTILINE), f"no bash block after <!-- ci:{name} -->"
