"""The table of the ensemble study."""

from __future__ import annotations

from typing import Any

from benchmarks.studies.ensemble.report import rows


def record(n: int, same: float, select: float, accuracy: float, strategy: str = "slots") -> dict[str, Any]:
    test = {"accuracy": accuracy, "nll": 0.5, "ece": 0.1}
    found = {"backbone": "mlp", "n": n, "same": same, "strategy": strategy, "passes": 1, "test": test}
    return {**found, "select": {"accuracy": 0.0, "nll": select, "ece": 0.0}}


def test_the_share_is_chosen_on_held_out_images() -> None:
    """The share with the better test accuracy is not taken where its held-out loss is larger."""
    found = rows(
        [record(2, 0.0, 0.4, 80.0), record(2, 0.0, 0.4, 82.0), record(2, 0.5, 0.9, 99.0), record(1, 0.0, 1, 70.0)]
    )
    assert found[0][1:4] == ["single", "1", "70.0"]
    assert found[1][1:] == ["ensemble, n=2", "1", "81.0 ± 1.4", "0.500 ± 0.000", "0.100 ± 0.000", "2"]
