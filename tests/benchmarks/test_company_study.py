"""The study of company, small."""

from __future__ import annotations

import json
from pathlib import Path

from benchmarks.studies.company.study import PERCENT, main


def test_every_cell_is_written(tmp_path: Path) -> None:
    small = ["--epochs", "1", "--limit", "130", "--attacked", "20", "--width", "8", "--results", str(tmp_path)]
    main(["--n", "2", "--strategies", "slots", "identity", *small])
    records = json.loads((tmp_path / "company.json").read_text())["records"]
    assert [record["name"] for record in records] == ["slots n=2", "identity n=2"]
    for record in records:
        assert all(0 <= record[key] <= 100 for key in PERCENT)
        assert record["crafted"] <= record["chosen"] <= record["usual"] and record["attacked"] == 20
