"""A folder whose files change together: a reader finds all of the old ones or all of the new ones, whenever a save is killed.

New files are written into a folder beside the old ones and reach the disk. That folder is then renamed, which is one step:
from there on its files are the ones that count. They are moved to their places afterwards, by the next save if this one is
killed, and until then a reader looks into the renamed folder first.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

SAVING, SAVED = ".muxwrap-saving-", ".muxwrap-saved"
_REMOVED = ".removed"
"""A file of the renamed folder: the names of old files which nothing has replaced."""
_ABANDONED = 3600  # seconds after which nobody is still writing

_lock = threading.Lock()


@contextmanager
def replacing(folder: Path, obsolete: Iterable[str] = ()) -> Iterator[Path]:
    """Give a folder to write into; if the block succeeds, what it holds replaces the files of these names.

    Args:
        folder: is made if it is not there.
        obsolete: names of files that are removed, if the block does not write them.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _sweep(folder)
    staging = Path(tempfile.mkdtemp(prefix=SAVING, dir=folder))
    try:
        yield staging
        removed = sorted(set(obsolete).difference(os.listdir(staging)))
        (staging / _REMOVED).write_text(json.dumps(removed), encoding="utf-8")
        for path in (*staging.iterdir(), staging):
            _flush(path)
        _commit(staging, folder)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def find(folder: Path, name: str) -> Path | None:
    """Return where the file of a name is; None where there is none."""
    saved = folder / SAVED
    if (saved / name).exists():
        return saved / name
    return None if name in _removed(saved) or not (folder / name).exists() else folder / name


def _commit(staging: Path, folder: Path) -> None:
    with _lock:
        while True:
            _finish(folder)
            try:
                os.rename(staging, folder / SAVED)
                break
            except OSError:  # another process was a moment earlier, and its files come first
                if not (folder / SAVED).exists():
                    raise
        _flush(folder)
        _finish(folder)


def _finish(folder: Path) -> None:
    """Move the files of a renamed folder to their places; any process may do it, and several at once."""
    saved = folder / SAVED
    if not saved.exists():
        return
    for name in _removed(saved):
        (folder / name).unlink(missing_ok=True)
    for name in sorted(set(_listed(saved)) - {_REMOVED}):
        try:
            os.replace(saved / name, folder / name)
        except FileNotFoundError:  # moved by another process
            continue
    _flush(folder)
    (saved / _REMOVED).unlink(missing_ok=True)
    try:
        os.rmdir(saved)
    except FileNotFoundError:
        return


def _removed(saved: Path) -> list[str]:
    try:
        names: list[str] = json.loads((saved / _REMOVED).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return []
    return names


def _listed(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)
    except FileNotFoundError:
        return []


def _sweep(folder: Path) -> None:
    """Take away what killed saves left."""
    for left in folder.glob(f"{SAVING}*"):
        try:
            old = time.time() - left.stat().st_mtime > _ABANDONED
        except FileNotFoundError:
            continue
        if old:
            shutil.rmtree(left, ignore_errors=True)


def _flush(path: Path) -> None:
    """Have the disk hold a file, or the names in a folder."""
    if path.is_dir():
        if os.name != "posix":  # other systems do not open folders
            return
        handle = os.open(path, os.O_RDONLY)
    else:
        handle = os.open(path, os.O_RDWR | getattr(os, "O_BINARY", 0))
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
