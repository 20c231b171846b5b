"""The notebooks run, show what is kept in them, and are pages of the site."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from helpers import ROOT

pytest.importorskip("nbclient")
pytest.importorskip("ipykernel")
NOTEBOOKS = sorted((ROOT / "examples" / "notebooks").glob("*.ipynb"))


def load_tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("docs_notebooks", ROOT / "tools" / "docs_notebooks.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


tool = load_tool()


def printed(notebook: dict[str, Any]) -> list[str]:
    """Return what every cell prints; scores and seconds, which differ from machine to machine, as a sign."""
    cells = (cell for cell in notebook["cells"] if cell["cell_type"] == "code")
    outputs = [
        "\n".join(tool._output({**each, "data": _without_pixels(each)}) for each in cell["outputs"]) for cell in cells
    ]
    # What was trained differs in its digits, and the vocabulary in its size: it is made of this Python's own docstrings.
    return [re.sub(r"\b0\.\d+|(?<=backbone's )[\d,]+", "…", text) for text in outputs]


def _without_pixels(output: dict[str, Any]) -> dict[str, Any]:
    return {kind: "a picture" if kind == "image/png" else value for kind, value in output.get("data", {}).items()}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of Jupyter's own parts
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_run_shows_what_is_kept(path: Path) -> None:
    kept = json.loads(path.read_text(encoding="utf-8"))
    assert all(printed(kept)), "every cell shows something"
    assert printed(tool.executed(path)) == printed(kept), tool.__doc__


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_page_shows_the_notebook(path: Path) -> None:
    page = (ROOT / "docs" / f"notebook_{path.stem}.md").read_text(encoding="utf-8")
    made = tool.on_page_markdown(page)
    assert made.startswith("# ") and "<!-- notebook" not in made
    notebook = json.loads(path.read_text(encoding="utf-8"))
    for cell in notebook["cells"]:
        assert "".join(cell["source"]) in made
    assert "/tmp" not in made and "site-packages" not in made


def test_there_are_notebooks() -> None:
    assert [path.stem for path in NOTEBOOKS] == ["images", "text"]
    assert any("image/png" in each for path in NOTEBOOKS for each in re.findall(r'"(image/\w+)"', path.read_text()))
