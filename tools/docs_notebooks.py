"""Show the notebooks of ``examples/notebooks`` on the site, with the outputs that are kept in them.

``<!-- notebook: images -->`` on a page is replaced by that notebook while mkdocs builds the site. ``python
tools/docs_notebooks.py`` runs all notebooks and keeps their outputs; a test runs them again and compares.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent.parent / "examples" / "notebooks"
MARKER = re.compile(r"^<!-- notebook: (\w+) -->$", re.MULTILINE)
SECONDS = 120  # a cell may take, on a machine that does other things as well


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Put every notebook in the place of its marker (mkdocs calls this for each page)."""
    return MARKER.sub(
        lambda marker: shown(json.loads((FOLDER / f"{marker[1]}.ipynb").read_text(encoding="utf-8"))), markdown
    )


def shown(notebook: dict[str, Any]) -> str:
    """Return a notebook's cells and outputs as Markdown."""
    parts = []
    for cell in notebook["cells"]:
        source = _text(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(source)
            continue
        parts += [_fenced("python", source), *filter(None, map(_output, cell["outputs"]))]
    return "\n\n".join(parts)


def _output(output: dict[str, Any]) -> str:
    data = output.get("data", {})
    if "image/png" in data:
        return f"![output of the cell above](data:image/png;base64,{_text(data['image/png']).replace(chr(10), '')})"
    return _fenced("text", _text(output.get("text", data.get("text/plain", ""))))


def _fenced(language: str, text: str) -> str:
    return f"```{language}\n{text.rstrip()}\n```" if text.strip() else ""


def _text(source: str | list[str]) -> str:
    return source if isinstance(source, str) else "".join(source)


def executed(path: Path) -> Any:
    """Return a notebook with the outputs of a run in its own folder."""
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.read(path, as_version=4)
    where = {"metadata": {"path": str(path.parent)}}
    client = NotebookClient(notebook, timeout=SECONDS, coalesce_streams=True, resources=where)
    client.execute(env={**os.environ, "OMP_NUM_THREADS": "1"})  # tiny tensors: more threads only wait for each other
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)  # times of this run
        if cell.cell_type == "code":  # what libraries say of this machine is not the notebook's
            cell.outputs = [each for each in cell.outputs if each.get("name") != "stderr"]
    return notebook


if __name__ == "__main__":
    import nbformat

    for path in sorted(FOLDER.glob("*.ipynb")):
        nbformat.write(executed(path), path)
        print(f"{path.name} was run")
