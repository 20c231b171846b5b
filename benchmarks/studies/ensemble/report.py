"""The table of the study: means over networks, the share of one-image mixtures chosen on held-out training images."""

from __future__ import annotations

from collections import defaultdict
from statistics import mean, stdev
from typing import Any

Records = list[dict[str, Any]]
NAMES = {"resnet": "ResNet, CIFAR-10 subset", "mlp": "perceptron, Fashion-MNIST"}
SCORES = {"accuracy": "{:.1f}", "nll": "{:.3f}", "ece": "{:.3f}"}
HEAD = "| network | model | passes | accuracy, % | NLL | ECE | networks |"


def rows(records: Records) -> list[list[str]]:
    """Return the rows of the table, in the order of the columns of ``HEAD``."""
    groups: dict[tuple[str, str, int], Records] = defaultdict(list)
    for record in records:
        kind = (
            "deep ensemble" if record["strategy"] == "deep ensemble" else "single" if record["n"] == 1 else "ensemble"
        )
        groups[record["backbone"], kind, record["n"]].append(record)
    order = {"single": 0, "ensemble": 1, "deep ensemble": 2}
    keys = sorted(groups, key=lambda key: (key[0], order[key[1]], key[2]))
    return [_row(key, _chosen(groups[key])) for key in keys]


def _chosen(records: Records) -> Records:
    """Return the networks of the share whose negative log-likelihood on the held-out images is the smallest."""
    by_share: dict[Any, Records] = defaultdict(list)
    for record in records:
        by_share[record.get("same")].append(record)
    return min(by_share.values(), key=lambda found: mean(record["select"]["nll"] for record in found))


def _row(key: tuple[str, str, int], records: Records) -> list[str]:
    backbone, kind, n = key
    label = kind if n == 1 else f"{kind}, n={n}"
    if records[0].get("same"):
        label += f", {records[0]['same']:.0%} of one image"
    cells = [NAMES[backbone], label, str(records[0]["passes"])]
    for name, form in SCORES.items():
        values = [record["test"][name] for record in records]
        deviation = f" ± {form.format(stdev(values))}" if len(values) > 1 else ""
        cells.append(form.format(mean(values)) + deviation)
    return [*cells, str(len(records))]
