"""Answers of a run against the rows that went in, and against the answers of one process."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np


def read_answers(out: Path) -> tuple[list[str], dict[str, Any], dict[str, str]]:
    """Return all keys as they stand, the answers by key and the errors by key."""
    import pyarrow.parquet as pq

    table = pq.read_table(out, columns=["key", "answer", "error"])
    keys = table["key"].to_pylist()
    rows = list(zip(keys, table["answer"].to_pylist(), table["error"].to_pylist(), strict=True))
    answers = {key: np.array(answer) for key, answer, _ in rows if answer is not None}
    return keys, answers, {key: error for key, _, error in rows if error is not None}


def compared(ids: Sequence[str], out: Path, one: Path) -> dict[str, Any]:
    """Count what is lost, there twice, strange or different, and return the largest difference of two answers."""
    keys, answers, errors = read_answers(out)
    _, wanted, wanted_errors = read_answers(one)
    counts = Counter(keys)
    both = answers.keys() & wanted.keys()
    differences = [float(np.abs(answers[key] - wanted[key]).max()) for key in both]
    return {
        "rows": len(ids),
        "keys": len(counts),
        "lost": len(set(ids) - counts.keys()),
        "twice": sum(count > 1 for count in counts.values()),
        "strange": len(counts.keys() - set(ids)),
        "errors": len(errors),
        "other_errors": len(dict(errors.items() ^ wanted_errors.items())) + len(answers.keys() ^ wanted.keys()),
        "different": sum(difference > 0 for difference in differences),
        "largest_difference": max(differences, default=0.0),
    }
