"""The table of the page on batch inference."""

from __future__ import annotations

from typing import Any

HEAD = "| run | rows | rows/s | keys | lost | twice | answers that differ | largest difference |"


def rows(records: list[dict[str, Any]]) -> list[list[str]]:
    """Return the rows of the table, in the order of the columns of ``HEAD``."""
    return [_row(record) for record in records]


def _row(record: dict[str, Any]) -> list[str]:
    counts = [f"{record[name]:,}" for name in ("keys", "lost", "twice", "different")]
    speed = f"{record['rows_per_second']:,.0f}"
    return [record["name"], f"{record['rows']:,}", speed, *counts, f"{record['largest_difference']:.1g}"]
