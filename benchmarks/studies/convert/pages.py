"""The tables of the site: every model beside every task, the few that a reader starts from, and the best at a speed."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean, stdev
from typing import Any

Record = dict[str, Any]
TASKS = {"snli": "SNLI", "qnli": "QNLI", "imdb": "IMDb"}
EVERY = {**TASKS, "sst2": "SST-2", "mnli": "MNLI"}
TEACHERS_HEAD = "| task | training rows | accuracy, % | on the rows that select, % | runs |"
HEADLINE = {
    "teacher": "the trained model",
    "plain, 3 layers": "plain, 3 of 6 layers",
    "plain, 2 layers": "plain, 2 of 6 layers",
    "plain pooled after layer 2, n=8": "plain, tokens pooled by 8",
    "tokens after layer 2, n=4": "`pool`, n=4",
    "tokens after layer 2, n=8": "`pool`, n=8",
    "tokens after layer 2, n=8, 4 layers": "`pool`, n=8, 4 of 6 layers",
    "orthogonal after layer 3, n=4": "features, n=4, after layer 3",
}
HEAD = "| model | " + " | ".join(f"{name}: work | speed | accuracy, %" for name in TASKS.values()) + " |"
AIMS = {2: (0.5, 0.5, 0.5), 3: (1.5, 1.5, 1.5), 4: (4.0, 2.0, 2.0)}  # points that may be lost at a speed, by task
AIMS_HEAD = "| task | faster by | multiplexed | speed | points lost | best plain one | speed | points lost |"
PLAIN = ("plain", "plain pooled")
LONGER = (2, 4, 8)  # n of the models with a long training
STARTS = {  # of the models with a long training
    "orthogonal": "φ of the first instance = I",
    "orthogonal, in steps": "the same, at n = 1, then 2, ...",
    "orthogonal, random": "random rotations",
}
LONGER_HEAD = (
    "| mixed after | start | trained in | the trained model, % | " + " | ".join(f"n = {n}, %" for n in LONGER) + " |"
)


def headline(records: Sequence[Record]) -> list[list[str]]:
    """Return the rows of the models that a reader starts from."""
    return [[name, *_cells(records, configuration)] for configuration, name in HEADLINE.items()]


def teachers(records: Sequence[Record]) -> list[list[str]]:
    """Return a row for every task: the trained models from which all others are distilled."""
    found = []
    for task, name in EVERY.items():
        runs = [r for r in _of(records, "teacher", task) if "mean" in r]
        if runs:
            reported, selected = [r["mean"] for r in runs], [max(r["selected"]) for r in runs]
            spread = f" ± {stdev(reported):.1f}" if len(runs) > 1 else ""
            mean = f"{fmean(reported):.1f}{spread}"
            found.append([name, f"{runs[0]['train_rows']:,}", mean, f"{fmean(selected):.1f}", str(len(runs))])
    return found


def whole(records: Sequence[Record]) -> list[list[str]]:
    """Return a row for every model, those with the most work first."""
    names = dict.fromkeys(r["configuration"] for r in records if "mean" in r)
    order = sorted(names, key=lambda name: (-(_work(records, name, "snli") or 0), name))
    return [[name, *_cells(records, name)] for name in order]


def at_speeds(records: Sequence[Record]) -> list[list[str]]:
    """Return for every task and speed the best multiplexed and the best plain model that is measured to be as fast.

    Best on the rows that select; the points lost are those of the reported rows, beside the teacher's of the same seeds.
    """
    found = []
    for at, task in enumerate(TASKS):
        for ratio, aims in AIMS.items():
            ours, rival = (_best(records, task, ratio, plain) for plain in (False, True))
            if ours or rival:
                aim = f"{ratio}x, for {aims[at]:g} at most"
                found.append([TASKS[task], aim, *(ours or ["–"] * 3), *(rival or ["–"] * 3)])
    return found


def longer(records: Sequence[Record], task: str = "snli") -> list[list[str]]:
    """Return a row for every layer, start and dtype in which features were mixed with a long training, beside the teacher."""
    runs = [r for r in records if r["dataset"] == task and r["kind"] in STARTS and "10 epochs" in r["configuration"]]
    teacher = {run_of(r): r["mean"] for r in _of(records, "teacher", task) if "mean" in r}
    found = []
    rows = {(-r["after"], _dtype(r), list(STARTS).index(r["kind"]), run_of(r)) for r in runs}
    for after, dtype, start, run in sorted(rows):
        kind = list(STARTS)[start]
        by_n = {r["n"]: r["mean"] for r in runs if (-r["after"], r["kind"], run_of(r)) == (after, kind, run)}
        means = (f"{by_n[n]:.1f}" if n in by_n else "–" for n in LONGER)
        found.append([f"layer {-after}", STARTS[kind], dtype, f"{teacher[run]:.1f}", *means])
    return found


def _best(records: Sequence[Record], task: str, ratio: float, plain: bool) -> list[str] | None:
    """Return name, speed and points lost."""
    trained = [r for r in records if r["dataset"] == task and "mean" in r and r["kind"] != "teacher"]
    names = dict.fromkeys(r["configuration"] for r in trained if (r["kind"] in PLAIN) == plain)
    fast = [name for name in names if (_speed(records, name, task) or 0) >= ratio]
    if not fast:
        return None
    own = {name: [r for r in trained if r["configuration"] == name] for name in fast}
    best = max(fast, key=lambda name: fmean(max(r["selected"]) for r in own[name]))
    teacher = {run_of(r): r["mean"] for r in _of(records, "teacher", task) if "mean" in r}
    lost = fmean(teacher[run_of(r)] - r["mean"] for r in own[best])
    return [best, f"{_speed(records, best, task):.2f}x", f"{lost:.1f}"]


def run_of(record: Record) -> tuple[Any, ...]:
    """Return what a teacher and its students have in common."""
    return record["seed"], record.get("device"), _dtype(record)


def _dtype(record: Record) -> str:
    """Return in what a model was trained; the first records do not say it."""
    return record.get("dtype") or ("float32" if record.get("device") == "cpu" else "bfloat16")


def _cells(records: Sequence[Record], configuration: str) -> list[str]:
    cells = []
    for task in TASKS:
        work, means = _work(records, configuration, task), _means(records, configuration, task)
        spread = f" ± {stdev(means):.1f}" if len(means) > 1 else ""
        speed = _speed(records, configuration, task)
        cells += [f"{work:.1f}" if work else "–", f"{speed:.2f}x" if speed else "–"]
        cells += [f"{fmean(means):.1f}{spread}" if means else "–"]
    return cells


def _means(records: Sequence[Record], configuration: str, task: str) -> list[float]:
    return [r["mean"] for r in _of(records, configuration, task) if "mean" in r]


def _work(records: Sequence[Record], configuration: str, task: str) -> float | None:
    found = [r["layers_worth"] for r in _of(records, configuration, task) if "layers_worth" in r]
    return found[0] if found else None


def _speed(records: Sequence[Record], configuration: str, task: str) -> float | None:
    """Return the measured ratio to the teacher, of a processor where there are several."""
    found = {r["dtype"]: r["ratio_to_bare"] for r in _of(records, configuration, task) if "ratio_to_bare" in r}
    return found.get("float32", next(iter(found.values()), None))


def _of(records: Sequence[Record], configuration: str, task: str) -> list[Record]:
    return [r for r in records if (r["configuration"], r["dataset"]) == (configuration, task)]
