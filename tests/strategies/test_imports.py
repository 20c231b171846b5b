"""Strategies do not import from each other: what they share has a module of its own."""

import ast
from pathlib import Path

import muxwrap.strategies

FOLDER = Path(muxwrap.strategies.__file__).parent
FILES = sorted(path for path in FOLDER.rglob("*.py") if path.parent != FOLDER and path.name != "__init__.py")


def module_of(path: Path) -> str:
    return ".".join(["muxwrap.strategies", *path.relative_to(FOLDER).with_suffix("").parts])


STRATEGIES = {module_of(path) for path in FILES if not path.name.startswith("_")}


def imported(path: Path) -> set[str]:
    """Every module that a file imports, a name taken from a package counting as a module of it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name}: name the module in full"
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def test_no_strategy_imports_from_another() -> None:
    assert len(STRATEGIES) == len(muxwrap.list_strategies())  # one strategy per file
    found = {module_of(path): imported(path) & (STRATEGIES - {module_of(path)}) for path in FILES}
    assert {name: others for name, others in found.items() if others} == {}


def test_no_strategy_imports_from_the_package_that_lists_them() -> None:
    classes = {f"muxwrap.strategies.{type_name}" for type_name in vars(muxwrap.strategies) if type_name[0].isupper()}
    assert all(not imported(path) & classes for path in FILES)
