"""The small tables of the page of text results, each from the results file alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from benchmarks.studies.text.report import (
    NAMES,
    Line,
    Record,
    comparable,
    configuration,
    experiments,
    gap,
    multiplexed,
    preferred,
    table,
)

COUNTS = (2, 5, 10, 20, 40)
HEAD = ["", *(f"n={n}" for n in COUNTS)]
TASKS = ("sst2", "snli", "mnli", "qnli", "btc", "wnut17")
SMALL, LARGE = (2, 256), (12, 768)  # layers and width

Lines = dict[str, Line]


def headline(records: Sequence[Record]) -> str:
    """Score of the bare model, and how far the multiplexed one is from it; below, the operations saved."""
    rows = []
    for title, lines in _experiments(records):
        bare = preferred({"B1": lines["B1"]}, 1)
        assert bare is not None
        rows.append([title, f"{bare.mean:.1f}", *(gap(lines, n, "B1") for n in COUNTS)])
    snli = comparable(_lines(records, "snli", SMALL), taught=False)
    saved = [preferred(multiplexed(snli), n) for n in COUNTS]
    rows.append(["*operations saved, SNLI*", "1.0x", *(f"{p.operations:.1f}x" if p else "–" for p in saved)])
    return table(["", "bare", *HEAD[1:]], rows)


def rivals(records: Sequence[Record]) -> str:
    """How far the multiplexed model is from a plain one of 1/n of the compute, where there is one."""
    rows = [[title, *(gap(lines, n, "rival") for n in COUNTS)] for title, lines in _experiments(records)]
    return table(HEAD, [row for row in rows if set(row[1:]) != {"–"}])


def teacher(records: Sequence[Record]) -> str:
    """SNLI: what a teacher changes in the distance to each of the others."""
    lines = _lines(records, "snli", SMALL)
    rows = []
    for kind, name in (("B1", "B1"), ("B2", "B2"), ("rival", "the rival")):
        for taught, how in ((False, "alone"), (True, "both taught" if kind == "rival" else "taught")):
            alike = comparable(lines, taught)
            rows.append([f"to {name}, {how}", *(gap(alike, n, kind) for n in COUNTS)])
    return table(HEAD, rows)


def start(records: Sequence[Record]) -> str:
    """SNLI: where the trunk starts, and how fast crosstalk is learned."""
    names = {
        "apart, crosstalk at 0.1": "slots, trunk starts apart, crosstalk damped",
        "apart": "slots, trunk starts apart",
        "slots": "slots",
        "hadamard": "Hadamard codes",
        "orthogonal": "orthogonal codes",
    }
    lines = _lines(records, "snli", SMALL)
    return table(HEAD, [[title, *_scores(lines[name])] for name, title in names.items()])


def width(records: Sequence[Record]) -> str:
    """SNLI: a plain model as wide as an instance's share of a mixture, beside the multiplexed one."""
    lines = _lines(records, "snli", SMALL)
    shown = [n for n in COUNTS if n in lines["block"]]
    best = {n: preferred(multiplexed(comparable(lines, taught=False)), n) for n in shown}
    rows = {
        "plain, 1/n of the width": lines["block"],
        "plain, 1/n of the compute": lines["rival"],
        "multiplexed": best,
    }
    head = ["", *(f"n={n}" for n in shown)]
    return table(head, [[title, *(f"{line[n].mean:.1f}" for n in shown)] for title, line in rows.items()])


def indices(records: Sequence[Record]) -> str:
    """How many points lie between the worst and the best index of the multiplexed model."""
    rows = []
    for title, lines in _experiments(records):
        best = [preferred(multiplexed(lines), n) for n in COUNTS]
        rows.append([title, *(f"{p.high - p.low:.1f}" if p else "–" for p in best)])
    return table(HEAD, rows)


def warm_up(records: Sequence[Record]) -> str:
    """SNLI: a retrieval warm-up before the task, how much of unseen text it names, and the task without it."""
    rows = []
    for size in (SMALL, LARGE):
        lines = _lines(records, "snli", size)
        for name, line in lines.items():
            warmed = [part for part in name.split(", ") if part.startswith("warm-up")]
            without = lines.get(", ".join(part for part in name.split(", ") if part not in warmed), {})
            if name.startswith("B2"):
                without = lines["B1"]
            for n, point in line.items() if warmed else ():
                named = next(r["retrieval"] for r in records if _is(r, name, n, size))
                alone = f"{without[n].mean:.1f}" if n in without else "–"
                rows.append([f"{size[0]} layers", name, str(n), f"{named:.0f}", f"{point.mean:.1f}", alone])
    return table(["", "configuration", "n", "words named, %", "score", "without"], rows)


def scores(records: Sequence[Record], task: str, taught: bool, kind: str) -> dict[int, float]:
    """Return the score by n of the small model, multiplexed or of a plain kind; n=1 is the bare model."""
    lines = comparable(_lines(records, task, SMALL), taught)
    alike = multiplexed(lines) if kind == "multiplexed" else {k: v for k, v in lines.items() if k.startswith(kind)}
    found = {n: preferred(alike, n) for n in COUNTS}
    return {1: lines["B1"][1].mean} | {n: point.mean for n, point in found.items() if point is not None}


TABLES: dict[str, Callable[[Sequence[Record]], str]] = {
    "headline": headline,
    "rivals": rivals,
    "teacher": teacher,
    "start": start,
    "width": width,
    "indices": indices,
    "warm up": warm_up,
}


def _experiments(records: Sequence[Record]) -> list[tuple[str, Lines]]:
    """Return every task and size with its comparable configurations, those with a teacher after those without."""
    found = [
        (task, size, taught, comparable(_lines(records, task, size), taught))
        for task in TASKS
        for size in (SMALL, LARGE)
        for taught in (False, True)
    ]
    return [
        (f"{NAMES[task]}{', 12 layers' * (size == LARGE)}{', taught' * taught}", lines)
        for task, size, taught, lines in found
        if multiplexed(lines)
    ]


def _lines(records: Sequence[Record], task: str, size: tuple[int, int]) -> Lines:
    chosen = [r for r in records if r["dataset"] == task and (r["layers"], r["dim"]) == size]
    return next(iter(experiments(chosen).values()), {})


def _scores(line: Line) -> list[str]:
    return [f"{line[n].mean:.1f}" if n in line else "–" for n in COUNTS]


def _is(r: Record, name: str, n: int, size: tuple[int, int]) -> bool:
    return (r["dataset"], r["n"], r["layers"], r["dim"], configuration(r)) == ("snli", n, *size, name)
