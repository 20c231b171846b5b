"""Result files: records that stay, records that are replaced, and writers at the same time."""

from __future__ import annotations

import multiprocessing
from pathlib import Path

import pytest

for needed in ("timm", "torchvision", "transformers", "sklearn"):  # for the results' header
    pytest.importorskip(needed)


def _write(path: Path, worker: int) -> None:
    from benchmarks.results import merge_records

    for k in range(5):
        merge_records(path, "made up", [{"cell": f"{worker} {k}"}], key="cell", command="")


def test_records_of_two_processes_are_all_kept(tmp_path: Path) -> None:
    from benchmarks.results import read_records

    path = tmp_path / "made_up.json"
    workers = [multiprocessing.get_context("fork").Process(target=_write, args=(path, w)) for w in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert sorted(r["cell"] for r in read_records(path)) == sorted(f"{w} {k}" for w in range(3) for k in range(5))
    assert [each.name for each in tmp_path.iterdir()] == ["made_up.json"]


def test_a_record_replaces_the_one_with_its_key(tmp_path: Path) -> None:
    from benchmarks.results import merge_records, read_records

    path = tmp_path / "folder" / "made_up.json"
    assert read_records(path) == []
    for value in (1, 2):
        merge_records(path, "made up", [{"cell": "a", "value": value}, {"cell": "b"}], key="cell", command="")
    merge_records(path, "made up", [{"cell": "a", "value": 3}], key="cell", command="")
    assert read_records(path) == [{"cell": "b"}, {"cell": "a", "value": 3}]
