"""The table of a load test, and the line of a soak."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

HEAD = ("server", "clients", "rows of a pass", "requests/s", "to bare", "p50 ms", "p99 ms", "fill", "n used", "unequal")


def table(records: Sequence[dict[str, Any]]) -> str:
    """Return the records of the load test as Markdown; the ratio is to the bare model with as many clients."""
    bare = {record["clients"]: record["per_second"] for record in records if record["server"] == "bare"}
    rows = [_row(record, bare.get(record["clients"])) for record in records if record["kind"] == "load"]
    lines = [HEAD, tuple("---" for _ in HEAD), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _row(record: dict[str, Any], bare: float | None) -> tuple[str, ...]:
    used = record["mixtures_by_n"]
    whole = sum(used.values())
    return (
        record["server"],
        str(record["clients"]),
        str(record["mixtures"] * record["n_max"]),
        f"{record['per_second']:.1f}",
        f"{record['per_second'] / bare:.2f}x" if bare else "",
        f"{record['p50_ms']:.0f}",
        f"{record['p99_ms']:.0f}",
        f"{record['fill']:.0%}",
        ", ".join(f"{n}: {count / whole:.0%}" for n, count in used.items()),
        "" if record["unequal"] is None else f"{record['unequal']} of {record['requests']}",
    )


def soaks(records: Sequence[dict[str, Any]]) -> list[str]:
    """Return a line for every soak."""
    return [_soak(record) for record in records if record["kind"] == "soak"]


def _soak(record: dict[str, Any]) -> str:
    memory, growth = record["megabytes"], record["growth_mb_per_minute"]
    failures = ", ".join(f"{count} of {name}" for name, count in record["failures"].items()) or "none"
    return (
        f"{record['minutes']:g} minutes with {record['clients']} clients, {record['server']}: {record['requests']:,} requests "
        f"answered, failures: {failures}; memory of all processes {memory[0]:,.0f} MB at first and {memory[-1]:,.0f} MB at last"
        + ("." if growth is None else f", {growth:+.2f} MB a minute after the first fifth.")
    )
