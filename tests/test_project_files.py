"""The files around the code agree with each other and with the package."""

from __future__ import annotations

import re
import sys

import pytest
from helpers import ROOT

import muxwrap

tomllib = pytest.importorskip("tomllib" if sys.version_info >= (3, 11) else "tomli")

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
EXTRAS = PROJECT["project"]["optional-dependencies"]


def name_of(requirement: str) -> str:
    return re.split(r"[\[<>=; ]", requirement, maxsplit=1)[0]


@pytest.mark.parametrize("extra", EXTRAS)
def test_every_requirement_is_pinned(extra: str) -> None:
    pinned = {name_of(line) for line in (ROOT / "constraints.txt").read_text().splitlines()}
    wanted = {name_of(each) for each in (*PROJECT["project"]["dependencies"], *EXTRAS[extra])} - {"muxwrap"}
    assert wanted <= pinned


def test_the_citation_has_the_version_of_the_package() -> None:
    assert f"\nversion: {muxwrap.__version__}\n" in (ROOT / "CITATION.cff").read_text()


def test_what_the_sdist_includes_exists() -> None:
    included = PROJECT["tool"]["hatch"]["build"]["targets"]["sdist"]["include"]
    assert [path for path in included if not (ROOT / path.lstrip("/")).exists()] == []


def test_the_workflow_tests_every_python_that_is_promised() -> None:
    workflow = ROOT / ".github" / "workflows" / "ci.yml"
    if not workflow.exists():
        pytest.skip("an unpacked sdist has no workflow")
    promised = re.findall(r"Python :: (3\.\d+)", "\n".join(PROJECT["project"]["classifiers"]))
    assert re.findall(r'{ python: "(3\.\d+)"', workflow.read_text()) == promised
    assert PROJECT["project"]["requires-python"] == f">={promised[0]}"
