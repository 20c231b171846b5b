"""Result files: one study a file, with what made it, and records that are replaced when they are measured again."""

from __future__ import annotations

import fcntl
import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("torch", "einops", "scikit-learn", "timm", "torchvision", "transformers")


def read_records(path: Path) -> list[dict[str, Any]]:
    """Return the records of a study's file, none where there is no file yet."""
    return json.loads(path.read_text())["records"] if path.exists() else []


def merge_records(
    path: Path, study: str, records: list[dict[str, Any]], *, key: str, command: str | None = None
) -> None:
    """Write records into a study's file in the place of those with the same ``key``; others are kept.

    Processes that do so at once wait for each other.
    """
    new = {record[key] for record in records}
    with _alone_in(path.parent):
        held = [record for record in read_records(path) if record[key] not in new]
        write(path, study, [*held, *records], command)


def write(path: Path, study: str, records: list[dict[str, Any]], command: str | None = None) -> None:
    """Write a study's file with the command (by default this one), commit, machine and packages that made it."""
    facts = {
        "study": study,
        "command": command or " ".join(["python", Path(sys.argv[0]).name, *sys.argv[1:]]),
        "commit": _commit(),
        "machine": {"cpu": _cpu(), "cores": os.cpu_count()},
        "packages": {name: version(name) for name in PACKAGES},
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    made = path.with_name(f".{path.name}.{os.getpid()}")  # whole or not at all, whenever this is interrupted
    made.write_text(json.dumps({**facts, "records": records}, indent=1) + "\n")
    made.replace(path)


def device_name(device: torch.device) -> str:
    """Return an accelerator's name, or ``cpu``."""
    return "cpu" if device.type == "cpu" else torch.get_device_module(device).get_device_name(device)


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Lock the folder, since the file itself is replaced; the lock ends with the process that holds it."""
    folder.mkdir(parents=True, exist_ok=True)
    held = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield
    finally:
        os.close(held)


def _commit() -> str | None:
    found = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False)
    return found.stdout.strip() if found.returncode == 0 else None


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    return next(
        (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.processor()
    )
