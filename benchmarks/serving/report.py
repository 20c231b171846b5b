"""The tables of load tests and faults, and the line of a soak."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

HEAD = ("model", "server", "clients", "rows of a pass", "requests/s", "to bare", "p50 ms", "p99 ms", "core-ms/request")
HEAD += ("fill", "n used", "unequal")
FAULTS = ("fault", "injected", "survived", "others' requests meanwhile", "told to come again", "lost", "misrouted")


def table(records: Sequence[dict[str, Any]]) -> str:
    """Return the records of load tests as Markdown; the ratio is to the same bare model with as many clients."""
    bare = {(r["model"], r["clients"]): r["per_second"] for r in records if r["server"] == "bare"}
    return _markdown(HEAD, [_row(record, bare.get((record["model"], record["clients"]))) for record in records])


def _row(record: dict[str, Any], bare: float | None) -> tuple[str, ...]:
    used = record["mixtures_by_n"]
    whole = sum(used.values())
    cores = record.get("core_ms_per_request")  # not measured by older versions
    return (
        record["model"],
        record["server"],
        str(record["clients"]),
        str(record["mixtures"] * record["n_max"]),
        f"{record['per_second']:.1f}",
        f"{record['per_second'] / bare:.2f}x" if bare else "",
        f"{record['p50_ms']:.0f}",
        f"{record['p99_ms']:.0f}",
        f"{sum(cores.values()):.1f}" if cores else "",
        f"{record['fill']:.0%}",
        ", ".join(f"{n}: {count / whole:.0%}" for n, count in used.items()),
        "" if record["unequal"] is None else f"{record['unequal']} of {record['requests']}",
    )


def faults_table(records: Sequence[dict[str, Any]]) -> str:
    """Return what faults did, as Markdown, with their sums."""
    counts = ("injected", "survived", "others", "again", "lost", "misrouted")
    rows = [{**record, "again": sum(record["told_to_come_again"].values())} for record in records]
    rows.append({"name": "all", **{name: sum(row[name] for row in rows) for name in counts}})
    return _markdown(FAULTS, [(row["name"], *(f"{row[name]:,}" for name in counts)) for row in rows])


def _markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def soaks(records: Sequence[dict[str, Any]]) -> list[str]:
    """Return a line for every soak."""
    return [_soak(record) for record in records]


def _soak(record: dict[str, Any]) -> str:
    memory, growth = record["megabytes"], record["growth_mb_per_minute"]
    minute = max(1, round(len(memory) / record["minutes"])) if record["minutes"] > 1 else 1
    failures = ", ".join(f"{count} of {name}" for name, count in record["failures"].items()) or "none"
    return (
        f"{record['model']}, {record['server']}, {record['minutes']:g} minutes with {record['clients']} clients: "
        f"{record['requests']:,} requests answered, failures: {failures}; memory of all processes at most "
        f"{max(memory[:minute]):,.1f} MB in the first minute and {max(memory[-minute:]):,.1f} MB in the last"
        + ("." if growth is None else f", a line through the last four fifths {growth:+.2f} MB a minute.")
    )
