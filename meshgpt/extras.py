"""Packages that only an extra of ours installs."""

from __future__ import annotations

import importlib
from types import ModuleType


def import_extra(module: str, purpose: str, extra: str = "evaluate") -> ModuleType:
    """The module, or an ImportError with the command that makes it work."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(f"{purpose} needs {module}, which cannot be loaded here ({error}); pip install 'meshgpt[{extra}]'") from None
