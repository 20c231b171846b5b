"""The records in docs/results have the keys that the code makes, so that no cell is trained twice."""

from __future__ import annotations

import json
from argparse import Namespace
from typing import Any

import pytest
from helpers import ROOT

for needed in ("tokenizers", "transformers", "timm", "torchvision", "tqdm"):
    pytest.importorskip(needed)

USUAL = {"warm_up_lr": 1e-3, "tf32": False, "teachers": []}  # settings that a record holds where they differ from this


def kept(study: str) -> list[dict[str, Any]]:
    records = json.loads((ROOT / "docs" / "results" / f"{study}.json").read_text(encoding="utf-8"))["records"]
    assert records and len({record["cell"] for record in records}) == len(records)
    return records


def test_text() -> None:
    from benchmarks.studies.text.cells import Cell, group, settings

    for record in kept("text"):
        cell = Cell(record["dataset"], record["configuration"], record["n"], record["warm_up"])
        rates = [float(rate) for rate in record["group"].rpartition(" lr=")[2].split(",")]  # all that were given
        assert record["lr"] in rates
        args = Namespace(**{**USUAL, **record, "lr": rates})
        assert record["group"] == group(args, cell) and record["cell"] == f"{group(args, cell)} seed={record['seed']}"
        assert settings(args, cell).items() <= record.items()


def test_vision() -> None:
    from benchmarks.studies.vision.tables import TABLES, Cell

    cells = {str(cell) for table in TABLES.values() for cell in table()}
    for record in kept("vision"):
        fields = {field: record[field] for field in Cell._fields if record.get(field) is not None}  # bare: demux
        cell = Cell(**fields)
        assert record["group"] == str(cell) and record["group"] in cells
        assert record["cell"] == f"{cell} seed={record['seed']}"


def test_vision_speed() -> None:
    from benchmarks.studies.vision.speed import networks
    from benchmarks.studies.vision.tables import TABLES

    found = networks(list(TABLES))
    for cells in found.values():
        assert cells[0].configuration == "bare" or all(cell.configuration != "bare" for cell in cells)
    assert {record["cell"] for record in kept("vision_speed")} <= {c.network for cells in found.values() for c in cells}


def test_ablations() -> None:
    from benchmarks.studies.ablations.measure import Settings
    from benchmarks.studies.ablations.studies import STUDIES

    measured = {(measure, cell) for s in STUDIES.values() for measure in s.measures for cell in s.cells.values()}
    keys = {cell.key(measure, seed) for measure, cell in measured for seed in range(3)}
    for record in kept("ablations"):
        assert record["cell"] in keys and record["settings"] == Settings()._asdict()


def test_retrieval() -> None:
    from benchmarks.studies.text.retrieval import CELLS, key

    assert {record["cell"] for record in kept("retrieval_levels")} <= {key(*cell, 0) for cell in CELLS}
