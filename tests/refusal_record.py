"""Which refusals the tests meet: for ``tools/refusals.py``, which makes the page of them."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from muxwrap.errors import MuxwrapError

OPTION = "--refusals"


class Record:
    """Notes where in muxwrap each error is made and what it says, and writes it down when the tests are over.

    Args:
        path: the file; processes that test side by side have one each.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.found: dict[tuple[str, int, str], str] = {}
        root = Path(sys.modules["muxwrap"].__file__ or "").parent
        plain = MuxwrapError.__init__

        def noting(error: MuxwrapError, *args: Any, **kwargs: Any) -> None:
            plain(error, *args, **kwargs)
            made = sys._getframe(1)
            file = Path(made.f_code.co_filename)
            if file.is_relative_to(root):
                self._note(file.relative_to(root).as_posix(), made.f_lineno, str(error))

        MuxwrapError.__init__ = noting  # type: ignore[method-assign]

    def _note(self, file: str, line: int, message: str) -> None:
        """Keep the shortest of the messages that differ in values only."""
        key = file, line, re.sub(r"'[^']*'|\[[^]]*\]|[\d.]+", "…", message)
        self.found[key] = min(self.found.get(key, message), message, key=lambda text: (len(text), text))

    def pytest_sessionfinish(self) -> None:
        """Write the record."""
        rows = [{"file": file, "line": line, "message": text} for (file, line, _), text in self.found.items()]
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_text(json.dumps(rows, indent=1))


def start(config: pytest.Config) -> None:
    """Begin to record if the command line asks for it."""
    folder = config.getoption(OPTION)
    if folder:
        worker = getattr(config, "workerinput", {}).get("workerid", "main")
        config.pluginmanager.register(Record(Path(folder) / f"{worker}.json"))
