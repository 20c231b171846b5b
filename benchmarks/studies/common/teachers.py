"""Bare models that teach: trained once, and kept in a folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch


def computed_once(path: Path, compute: Callable[[], Any]) -> Any:
    """Return what a file holds; where there is no file yet, it is computed and saved first."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}")  # whole or not at all, whenever this is interrupted
        torch.save(compute(), temporary)
        temporary.replace(path)
    return torch.load(path, map_location="cpu")
