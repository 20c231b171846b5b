"""``make demo``: what it runs trains, measures, writes its files, and ends well."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from helpers import ROOT


def test_the_command_ends_with_its_files_and_without_an_error(tmp_path: Path) -> None:
    words = ["--epochs", "1", "--limit", "60", "--n", "2", "--results", str(tmp_path)]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.demo", *words], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "| n=2 |" in done.stdout
    records = json.loads((tmp_path / "demo.json").read_text())["records"]
    assert [record["n"] for record in records] == [1, 2]
    assert (tmp_path / "demo.png").stat().st_size > 0
