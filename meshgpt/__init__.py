"""meshgpt: point clouds in, artist meshes out."""

from __future__ import annotations

import importlib
from pathlib import Path

__version__ = "0.1.0"

# In a checkout, tokenizer/ and train/ lie beside this folder; in a wheel they lie inside it.
_checkout = Path(__file__).resolve().parents[1]
if (_checkout / "tokenizer" / "interface.py").is_file():
    __path__.append(str(_checkout))

# Found on first use, so that `import meshgpt` stays fast: torch alone takes seconds.
_HOMES = {
    "Mesh": "meshgpt.mesh",
    "Fit": "meshgpt.mesh",
    "MeshGPT": "meshgpt.model",
    "read_mesh": "meshgpt.files",
    "read_points": "meshgpt.files",
    "write_mesh": "meshgpt.files",
}
__all__ = ["Fit", "Mesh", "MeshGPT", "__version__", "read_mesh", "read_points", "write_mesh"]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'meshgpt' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
