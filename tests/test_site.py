"""The site, built and looked at in a headless browser at 1,300 and 390 pixels, in light and dark."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from helpers import ROOT

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
BROKEN = """<!doctype html><html><body data-md-color-scheme="default"><input class="md-search__input">
<article class="md-content"><div class="md-content__inner" style="width: 300px">
<p style="color: #eee; background: #fff">faint words</p>
<div><table style="width: 2000px"><tr><td>too wide</td></tr></table></div>
<img src="missing.png"></div></article><script>console.error("broken")</script></body></html>"""


def load_tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("check_site", ROOT / "tools" / "check_site.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


pytestmark = pytest.mark.skipif(BROWSER is None, reason="there is no Chromium here")


def test_what_is_wrong_is_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "index.html").write_text(BROKEN)
    assert load_tool().main([str(tmp_path), "--browser", str(BROWSER)]) == 1
    found = capsys.readouterr().out
    for each in ("cut off: too wide", "scrolls sideways", "picture: ", "faint in default", "finds nothing", "broken"):
        assert each in found, found


def test_every_page_fits_and_is_readable(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("material")
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "-d", str(tmp_path / "site")]
    subprocess.run(command, cwd=ROOT, env=environment, check=True)
    status = load_tool().main([str(tmp_path / "site"), "--browser", str(BROWSER)])
    assert status == 0, capsys.readouterr().out
