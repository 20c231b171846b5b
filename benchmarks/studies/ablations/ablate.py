"""Small models in which one design element at a time is varied: what every element is worth.

    python -m benchmarks.studies.ablations.ablate --data FOLDER --only strategy demuxer --seeds 0 1 2
    python -m benchmarks.studies.ablations.draw

FOLDER holds wikitext-2, sst2 and vocab, with the publishers' files (see the text study). A cell that is already in
docs/results/ablations.json is not trained again, so the command can be interrupted, repeated, and run in two processes.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

from benchmarks.results import read_records
from benchmarks.studies.ablations import studies
from benchmarks.studies.ablations.measure import MEASURES, SETTINGS, Data, Settings, measured
from benchmarks.studies.ablations.studies import Cell
from benchmarks.studies.common.cells import Job, Progress, Record, Study
from benchmarks.studies.common.command_line import joined, parser, set_threads


def wanted(only: list[str], measures: list[str], seeds: list[int]) -> Iterator[tuple[str, Cell, int]]:
    """Yield every cell once, seed by seed, so that a first table is there early."""
    cells = {
        (measure, cell): None
        for name in only
        for measure in studies.STUDIES[name].measures
        for cell in studies.STUDIES[name].cells.values()
        if measure in measures
    }
    return ((measure, cell, seed) for seed in seeds for measure, cell in cells)


def run(args: argparse.Namespace, settings: Settings) -> None:
    """Measure what is missing.

    Raises:
        SystemExit: the results file was made with other settings.
    """
    data = Data(args.data, settings)

    def job(measure: str, cell: Cell, seed: int) -> Job:
        def record(progress: Progress) -> Record:
            refuse_other_settings(args.results, settings)
            return measured(measure, cell, seed, data)

        key = cell.key(measure, seed)
        return Job(key, key, record)

    refuse_other_settings(args.results, settings)
    jobs = [job(*each) for each in wanted(args.only, args.measures, args.seeds)]
    Study(args.results, "ablations", command(settings), summary).run(jobs)


def refuse_other_settings(results: Path, settings: Settings) -> None:
    """Stop where the file, which another process may be writing too, holds a record of other settings."""
    if any(record["settings"] != settings._asdict() for record in read_records(results)):
        raise SystemExit(f"{results} was made with other settings; give another --results")


def summary(record: Record) -> str:
    """Return what is printed of a record."""
    return f"{record['metric']}: " + ("not reached" if record["mean"] is None else f"{record['mean']:.1f}")


def command(settings: Settings) -> str:
    """Return the command that makes all of the file, with what differs from the defaults."""
    defaults = Settings._field_defaults
    given = [f"--{k.replace('_', '-')} {v}" for k, v in settings._asdict().items() if v != defaults[k]]
    return " ".join(["python -m benchmarks.studies.ablations.ablate --data FOLDER", *given])


def main(argv: list[str] | None = None) -> None:
    made = parser(__doc__, data="wikitext-2, sst2 and vocab", results="ablations.json")
    names = list(studies.STUDIES)
    made.add_argument("--only", nargs="+", choices=names, default=names, metavar="STUDY", help=f"of {joined(names)}")
    made.add_argument("--measures", nargs="+", choices=MEASURES, default=list(MEASURES), help="only these")
    made.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="every cell is trained with each")
    for name, default in Settings._field_defaults.items():
        kind = int if default is None else type(default)
        made.add_argument(f"--{name.replace('_', '-')}", type=kind, default=default, help=SETTINGS[name])
    args = made.parse_args(argv)
    set_threads(args)
    run(args, Settings(**{name: getattr(args, name) for name in Settings._fields}))


if __name__ == "__main__":
    main()
