"""The site: every name is on a page, tables come from the code, every Python block runs and prints what it says."""

from __future__ import annotations

import importlib.util
import json
import multiprocessing
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import pages
import pytest
from helpers import ROOT

import muxwrap
from muxwrap import demuxers, strategies

DOCS = ROOT / "docs"
PAGES = sorted(DOCS.glob("*.md"))
WITH_CODE = [page for page in (*PAGES, ROOT / "README.md") if page.exists() and "```python" in page.read_text()]


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "tools" / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


tables, cards = load("docs_tables"), load("docs_cards")
# A process per page; where the system can fork, one that has the large packages already, and not muxwrap.
FORKS = "forkserver" in multiprocessing.get_all_start_methods()
PROCESSES = multiprocessing.get_context("forkserver" if FORKS else "spawn")
if FORKS:
    PROCESSES.set_forkserver_preload(["torch", "timm", "torchvision", "transformers"])


@pytest.mark.parametrize("page", WITH_CODE, ids=lambda page: page.stem)
def test_code_runs_by_itself(page: Path, tmp_path: Path) -> None:
    with PROCESSES.Pool(1) as pool:
        pool.apply(pages.run, (page, tmp_path))


def test_a_page_that_fails_or_prints_something_else_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    for code in ("print(1)  # 2", "import muxwrap\nmuxwrap.nothing", "import warnings\nwarnings.warn('old')"):
        page.write_text(f"```python\n{code}\n```\n")
        with PROCESSES.Pool(1) as pool, pytest.raises((AssertionError, AttributeError, UserWarning)):
            pool.apply(pages.run, (page, tmp_path))


def test_every_public_name_is_in_the_api() -> None:
    api = (DOCS / "api.md").read_text()
    missing = [name for name in muxwrap.__all__ if not re.search(rf"\bmuxwrap\.{name}\b|@muxwrap\.{name}\(", api)]
    assert not missing
    kinds = {"strategies": strategies.registry, "demuxers": demuxers.registry}
    wanted = [f"::: muxwrap.{kind}.{cls.__name__}" for kind, reg in kinds.items() for cls in reg._classes.values()]
    assert not [line for line in wanted if line not in api.splitlines()]


@pytest.mark.parametrize(("page", "registry"), [("strategies", strategies.registry), ("demuxers", demuxers.registry)])
def test_every_class_has_its_rows_and_its_section(page: str, registry: Any) -> None:
    made = tables.on_page_markdown((DOCS / f"{page}.md").read_text())
    for name in registry.names():
        assert made.count(f"| [{name}](#{name}) |") == 2, f"{name}: facts and cost"
        assert f"\n## {name}\n" in made


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_markers_are_known_and_filled(page: Path) -> None:
    assert "<!-- table" not in tables.on_page_markdown(page.read_text())


def test_facts_are_those_of_the_classes() -> None:
    row = next(line for line in tables.strategy_facts().splitlines() if line.startswith("| [slots]"))
    assert row.endswith("| no | no | yes | by default | 1 | 65,536 |")
    assert "| [index](#index) |" in tables.demuxer_facts()


def test_all_pages_are_in_the_navigation() -> None:
    nav = (ROOT / "mkdocs.yml").read_text().partition("\nnav:")[2]
    assert sorted(re.findall(r"[\w/]+\.md", nav)) == [page.name for page in PAGES]


def test_results_become_tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "DOCS", tmp_path)
    assert tables.demo() == ""
    assert all("docs/results" in tables.TABLES[name]() for name in ("text headline", "vision headline", "text origin"))
    assert "make zoo" in tables.zoo()
    facts = {"command": "make it", "commit": "0123456789abcdef", "machine": "2 cores", "packages": {"torch": "2.9"}}
    good = {"family": "timm", "name": "a_b", "model": "A", "parameters": 1234, "works": True, "mux": "m", "demux": "d"}
    bad = {"family": "timm", "name": "c", "model": "C", "works": False, "reason": "a | b\nand\nmore", "mux": None}
    cell = {"n": 4, "mean": 91.234, "std": 0.55, "instances_per_second": 4321.9, "ratio_to_bare": 3.456}
    cell["added_parameters"] = 1234
    (tmp_path / "results").mkdir()
    for study, records in {"zoo": [bad, good], "demo": [cell]}.items():
        (tmp_path / "results" / f"{study}.json").write_text(json.dumps({"study": study, **facts, "records": records}))
    zoo = tables.zoo()
    assert "| timm | 2 | 1 |" in zoo
    assert "### timm\n\n| architecture |" in zoo
    assert r"| a\_b | 1,234 | m | d |" in zoo
    assert r"| timm | c | a \| b and more |" in zoo
    assert "commit 012345678; 2 cores; torch 2.9" in zoo
    assert "| n=4 | 91.2 ± 0.6 % | 4,322 | 3.46x | 1,234 |" in tables.demo()


def test_scripts_of_the_frameworks_are_on_their_page() -> None:
    page = (DOCS / "frameworks.md").read_text()
    for script in (ROOT / "examples" / "frameworks").glob("*.py"):
        # In this form, of three lines, the formatter does not take the marks for operators.
        assert f"\n--8<--\nexamples/frameworks/{script.name}\n--8<--\n" in page


def test_roles_of_docstrings_become_code() -> None:
    html = "see :func:<code>wrap</code> and :class:<code>~muxwrap.strategies.Strategy</code>"
    assert tables.on_page_content(html) == "see <code>wrap</code> and <code>Strategy</code>"


def test_tables_of_the_readme_are_those_of_the_results() -> None:
    readme = (ROOT / "README.md").read_text()
    assert tables.refreshed(readme) == readme
    assert len(tables.KEPT.findall(readme)) == 2
    stale = re.sub(r"81\.1", "99.9", readme)
    assert tables.refreshed(stale) == readme != stale


def test_tables_stand_where_their_markers_are() -> None:
    table = tables.text_finding("headline").splitlines()
    made = tables.on_page_markdown("??? note\n\n    <!-- table: text headline -->\n").splitlines()
    assert made[2:] == [f"    {line}" for line in table]


def test_findings_are_the_cells_of_the_full_tables() -> None:
    full = tables.text()
    section = full[full.index("### SST-2") :].splitlines()
    (line,) = (line for line in section if line.startswith("| 40 | apart | 81.4 |"))
    (short,) = (line for line in tables.text_finding("headline").splitlines() if line.startswith("| SST-2 |"))
    assert short.split(" | ")[-1].strip(" |") == line.split(" | ")[3]
    late = [line for line in tables.vision_finding("late").splitlines() if line.startswith("| n=2")]
    assert [line.split(" | ")[1][:4] for line in late] == ["68.3", "69.4"]
    assert "| 68.31 ± 0.37 | 0.53 (2) |" in tables.vision() and "| 69.36 ± 0.38 | 0.61 (2) |" in tables.vision()


def test_what_all_cells_share_is_in_the_caption() -> None:
    records = [
        {"name": name, "backbone": "net", "strategy": each, "rows": 4} for name, each in (("a", None), ("b", "x"))
    ]
    titles = {"name": "model", "backbone": "backbone", "strategy": "strategy", "rows": "rows"}
    caption, table = tables._with_caption(records, titles)
    assert caption == "Backbone net; strategy x."
    assert table.splitlines()[0] == "| model | rows |"


def table(head: str, row: str) -> str:
    cells = ["".join(f"<{tag}>{cell}</{tag}>" for cell in line.split("|")) for tag, line in (("th", head), ("td", row))]
    return f"<table><thead><tr>{cells[0]}</tr></thead><tbody><tr>{cells[1]}</tr></tbody></table>"


def test_wide_tables_become_cards_and_names_may_break() -> None:
    small = table("n|accuracy", "2|99.1 %")
    assert cards.on_page_content(small) == small
    wide = cards.on_page_content(table("n &lt; 3|what|why", f"2|{'x' * 40}|{'y' * 40}"))
    assert wide.startswith("<table data-cards>") and '<td data-label="n &lt; 3">2</td>' in wide
    assert f'<td data-label="why">{"y" * 40}</td>' in wide
    long = cards.on_page_content(table("a|b|c", f"1|2|{'word ' * 40}"))
    assert "data-cards" in long
    code = '<code><a href="x.y">layout:hidden=(8,)@conv1</a></code>'
    broken = cards.on_page_content(table("a", code))
    assert '<a href="x.y">layout:<wbr>hidden=<wbr>(<wbr>8,<wbr>)@<wbr>conv1</a>' in broken
