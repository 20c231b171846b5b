"""Digests of the files of a saved model: files of two saves, cut ones and changed ones are not taken for a model.

They guard against accidents. Who can write the folder can write digests, too.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

KEY = "sha256"
_CHUNK = 1 << 20


def of_file(path: Path) -> str:
    """Return the digest of a file."""
    found = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            found.update(chunk)
    return found.hexdigest()


def of_config(config: dict[str, Any], own: str) -> str:
    """Return the digest of a config without the entry of its ``own`` name."""
    rest = {**config, KEY: {name: value for name, value in config[KEY].items() if name != own}}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def sealed(config: dict[str, Any], own: str, folder: Path) -> dict[str, Any]:
    """Return a config with the digests of all files in a folder, and of itself under its ``own`` name."""
    files = {path.name: of_file(path) for path in sorted(folder.iterdir())}
    config = {**config, KEY: files}
    return {**config, KEY: {own: of_config(config, own), **files}}


def expected(config: Mapping[str, Any], name: str) -> str | None:
    """Return the digest that a file should have; None where none was written, as by version 0.1.0."""
    found = config.get(KEY)
    return found.get(name) if isinstance(found, dict) else None
