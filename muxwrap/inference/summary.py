"""What a run of batch inference did."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Summary:
    """What was done.

    Args:
        out: the folder of the answers.
        rows: rows in, and rows out.
        errors: rows whose ``error`` says why they have no answer.
        parts: files of answers.
        done_before: how many of them were there already.
        ignored: files in the input folders that are of no known format.
        seconds: that this call took.
    """

    out: str
    rows: int
    errors: int
    parts: int
    done_before: int
    ignored: int
    seconds: float

    def __str__(self) -> str:
        before = f", {self.done_before} of them done before" if self.done_before else ""
        ignored = f"; {self.ignored} files of other formats were left out" if self.ignored else ""
        return (
            f"{self.rows:,} rows in {self.parts} parts{before}, {self.errors:,} with an error, in {self.seconds:.1f} s: "
            f"{self.out}{ignored}"
        )
