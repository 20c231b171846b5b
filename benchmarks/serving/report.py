"""The table of a load test."""

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
