"""Running the code of a page of the site, as a reader would who starts with nothing."""

from __future__ import annotations

import contextlib
import io
import os
import re
import warnings
from pathlib import Path
from typing import Any

# A block runs unless the line above it is "<!-- not run -->"; a text block right below is what it prints.
BLOCK = re.compile(r"^(<!-- not run -->\n)?```python\n(.*?)^```$(?:\n\n```text\n(.*?)^```$)?", re.DOTALL | re.MULTILINE)


def run(page: Path, folder: Path) -> None:
    """Run the blocks of a page from top to bottom, and compare what they print with what the page shows."""
    import torch

    os.chdir(folder)
    torch.manual_seed(0)
    text = page.read_text()
    namespace: dict[str, Any] = {"__name__": f"docs_{page.stem}"}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        # PEFT asks Transformers models by the old name.
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
        warnings.filterwarnings("ignore", r"wrap\(.*a row takes", UserWarning)  # the pages' networks are small
        for block in BLOCK.finditer(text):
            skipped, code, below = block.groups()
            if not skipped:
                line = text[: block.start(2)].count("\n")
                _run(compile("\n" * line + code, str(page), "exec"), namespace, _shown(code, below))


def _run(code: Any, namespace: dict[str, Any], shown: list[str]) -> None:
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(code, namespace)
    lines = [line for line in printed.getvalue().splitlines() if line in shown]
    assert not shown or lines == shown, printed.getvalue()


def _shown(code: str, below: str | None) -> list[str]:
    """Return the lines that a page shows as printed: after each print, or in the text block below."""
    if below is not None:
        return below.splitlines()
    return re.findall(r"^ *print\(.*\)  # (.*)$", code, re.MULTILINE)
