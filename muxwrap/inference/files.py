"""From what the user names to files, in an order that does not depend on that of the names."""

from __future__ import annotations

import os
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from muxwrap.errors import MuxwrapError
from muxwrap.inference.readers import READERS
from muxwrap.inference.rows import File


def find(inputs: Sequence[str | Path], out: Path) -> tuple[list[File], int]:
    """Return the files of all inputs, sorted by name, and how many others lie in the folders.

    Folders are searched to any depth. What is hidden, with a dot or an underscore, is left out.

    Raises:
        MuxwrapError: an input is not there or of no known format, there is none, or a file is named twice.
    """
    known = f"known endings: {', '.join(READERS)}"
    named = [Path(each).absolute() for each in inputs]
    if not named:
        raise MuxwrapError(f"predict(inputs=[]): there is no input; give files or folders, {known}")
    paths: list[Path] = []
    ignored = 0
    for path in named:
        if path.is_dir():
            if out.resolve().is_relative_to(path.resolve()):
                raise MuxwrapError(f"predict(out={str(out)!r}): it lies in an input; give a folder outside of {path}")
            inside = _inside(path)
            fitting = [each for each in inside if each.suffix.lower() in READERS]
            ignored += len(inside) - len(fitting)
            paths += fitting
        elif not path.exists():
            raise MuxwrapError(f"predict: {path} is not there; give files or folders that are")
        elif path.suffix.lower() not in READERS:
            raise MuxwrapError(f"predict: {path} has no ending that tells its format; {known}")
        else:
            paths.append(path)
    if not paths:
        raise MuxwrapError(f"predict: there is no file to read in {', '.join(map(str, named))}; {known}")
    root = os.path.commonpath([path if path.is_dir() else path.parent for path in named])
    files = sorted((File(path, path.relative_to(root).as_posix()) for path in paths), key=lambda file: file.name)
    twice = next((a for a, b in pairwise(files) if a.path == b.path), None)
    if twice is not None:
        raise MuxwrapError(f"predict: {twice.path} is among the inputs twice; name it, or its folder, once")
    return files, ignored


def _inside(folder: Path) -> list[Path]:
    found = []
    for path in folder.rglob("*"):
        hidden = any(part.startswith((".", "_")) for part in path.relative_to(folder).parts)
        if not hidden and path.is_file():
            found.append(path)
    return found
