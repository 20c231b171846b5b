"""The loop of every study: measure the cells that are not in its results file yet, one after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

from tqdm import tqdm

from benchmarks.results import merge_records, read_records

Record = dict[str, Any]
Progress = Callable[[str], object]


class Job(NamedTuple):
    """One cell to measure.

    Args:
        key: what its record is found by.
        title: what the progress bar and the printed line show.
        measure: returns the record, without the key; its argument shows progress.
    """

    key: str
    title: str
    measure: Callable[[Progress], Record]


class Study(NamedTuple):
    """A study's results file, its name, the command that makes the file, and what is printed of a record."""

    results: Path
    name: str
    command: str
    summary: Callable[[Record], str]

    def run(self, jobs: Iterable[Job]) -> None:
        """Measure what is missing and write every record at once, so that an interrupted run can be repeated."""
        for job in (bar := tqdm(list(jobs), unit="cell", disable=None)):
            if any(record["cell"] == job.key for record in read_records(self.results)):
                continue
            bar.set_description(job.title)
            record = {"cell": job.key, **job.measure(bar.set_postfix_str)}
            merge_records(self.results, self.name, [record], key="cell", command=self.command)
            tqdm.write(f"{job.title}: {self.summary(record)}, {record['seconds']:.0f} s")
