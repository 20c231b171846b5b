"""Result files: one file per study, with what made it; a record that is measured again replaces the old one."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("torch", "einops", "scikit-learn", "timm", "torchvision", "transformers")


def read_records(path: Path) -> list[dict[str, Any]]:
    """Return the records of a study's file, none where there is no file yet."""
    return json.loads(path.read_text(encoding="utf-8"))["records"] if path.exists() else []


def merge_records(
    path: Path, study: str, records: list[dict[str, Any]], *, key: str, command: str | None = None
) -> None:
    """Write records into a study's file; they replace those with the same ``key``, and the others stay.

    Processes that do so at once wait for each other.
    """
    new = {record[key] for record in records}
    with _lock(path):
        others = [record for record in read_records(path) if record[key] not in new]
        write(path, study, [*others, *records], command)


def write(path: Path, study: str, records: list[dict[str, Any]], command: str | None = None) -> None:
    """Write a study's file with the command (by default this one), commit, machine and packages that made it."""
    header = {
        "study": study,
        "command": command or " ".join(["python", Path(sys.argv[0]).name, *sys.argv[1:]]),
        "commit": _commit(),
        "machine": {"cpu": _cpu(), "cores": os.cpu_count()},
        "packages": {name: version(name) for name in PACKAGES},
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")  # whole or not at all, whenever this is interrupted
    temporary.write_text(json.dumps({**header, "records": records}, indent=1) + "\n", encoding="utf-8")
    temporary.replace(path)


def device_name(device: torch.device) -> str:
    """Return an accelerator's name, or ``cpu``."""
    return "cpu" if device.type == "cpu" else torch.get_device_module(device).get_device_name(device)


def _lock(path: Path) -> FileLock:
    """Return the lock of a results file; it lies among the temporary files, so that nothing stays beside the results."""
    name = hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:16]
    return FileLock(Path(tempfile.gettempdir()) / f"muxwrap-{name}.lock")


def _commit() -> str | None:
    found = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False)
    return found.stdout.strip() if found.returncode == 0 else None


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    return next(
        (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.processor()
    )
