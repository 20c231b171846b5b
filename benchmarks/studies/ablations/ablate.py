"""What every design element is worth: small models in which one element at a time is varied.

    python -m benchmarks.studies.ablations.ablate --data FOLDER --only strategy demuxer --seeds 0 1 2
    python -m benchmarks.studies.ablations.draw

FOLDER holds wikitext-2, sst2 and vocab, with the publishers' files (see benchmarks/studies/text). A cell that is already in
docs/results/ablations.json is not trained again, so the command can be interrupted, repeated, and run in two processes.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import torch

from benchmarks import results
from benchmarks.studies.ablations.measure import MEASURES, Data, Settings, measured
from benchmarks.studies.ablations.studies import STUDIES, Cell


def wanted(only: list[str], measures: list[str], seeds: list[int]) -> Iterator[tuple[str, Cell, int]]:
    """Yield every cell once, seed by seed, so that a first table is there early."""
    cells = {
        (measure, cell): None
        for name in only
        for measure in STUDIES[name].measures
        for cell in STUDIES[name].cells.values()
        if measure in measures
    }
    return ((measure, cell, seed) for seed in seeds for measure, cell in cells)


def run(args: argparse.Namespace, settings: Settings) -> None:
    """Measure what is missing."""
    data = Data(args.data, settings)
    for measure, cell, seed in wanted(args.only, args.measures, args.seeds):
        held = {record["cell"]: record for record in results.read_records(args.results)}
        if any(record["settings"] != settings._asdict() for record in held.values()):
            raise SystemExit(f"{args.results} was made with other settings; give another --results")
        if cell.key(measure, seed) in held:
            continue
        record = measured(measure, cell, seed, data)
        results.merge_records(args.results, "ablations", [record], key="cell", command=command(settings))
        shown = "not reached" if record["mean"] is None else f"{record['mean']:.1f}"
        print(f"{record['cell']}: {record['metric']}: {shown}, {record['seconds']} s", flush=True)


def command(settings: Settings) -> str:
    """Return the command that makes all of the file, with what differs from the defaults."""
    usual = Settings._field_defaults
    given = [f"--{k.replace('_', '-')} {v}" for k, v in settings._asdict().items() if v != usual[k]]
    return " ".join(["python -m benchmarks.studies.ablations.ablate --data FOLDER", *given])


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with wikitext-2, sst2 and vocab")
    parser.add_argument(
        "--only", nargs="+", choices=STUDIES, default=list(STUDIES), metavar="STUDY", help=f"{list(STUDIES)}"
    )
    parser.add_argument("--measures", nargs="+", choices=MEASURES, default=list(MEASURES), help="only these")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--threads", type=int, help="of torch")
    parser.add_argument("--results", type=Path, default=results.ROOT / "docs/results/ablations.json")
    for name, usual in Settings._field_defaults.items():
        kind = int if usual is None else type(usual)
        parser.add_argument(f"--{name.replace('_', '-')}", type=kind, default=usual)
    args = parser.parse_args(argv)
    if args.threads:
        torch.set_num_threads(args.threads)
    run(args, Settings(**{name: getattr(args, name) for name in Settings._fields}))


if __name__ == "__main__":
    main()
