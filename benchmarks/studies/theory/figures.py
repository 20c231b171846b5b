"""The figures of docs/why.md: measured and predicted errors and capacities. A few minutes on one core.

python -m benchmarks.studies.theory.figures
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import nn

from benchmarks import results
from muxwrap import theory

DIM, VOCABULARY = 256, 2_000
COUNTS = (1, 2, 4, 8, 12, 16, 20, 24, 32, 48, 64)
WIDTHS, VOCABULARIES, SHARES = (64, 256, 768), (1_000, 10_000, 50_265), (0.99, 0.5)
CODES = ("identity", "hadamard", "orthogonal", "sign", "slots")
Record = dict[str, Any]


def record(study: str, n: int, metric: str, values: list[float], predicted: float | None, **fields: Any) -> Record:
    """Return one cell: mean and deviation over seeds, and the prediction; None where a field does not apply."""
    measured = torch.tensor(values, dtype=torch.float64)
    blank = dict.fromkeys(("backbone", "dataset", "split", "demux", "groupings", "per_index", "epochs"))
    blank |= dict.fromkeys(("instances_per_second", "ratio_to_bare", "strategy"))
    std = measured.std().item() if len(values) > 1 else None
    score = {"mean": measured.mean().item(), "std": std, "seeds": len(values), "predicted": predicted}
    return {**blank, "figure": study, "n": n, "metric": metric, **score, **fields}


def exactness() -> list[Record]:
    """Largest deviation of the one pass from the n passes, by the number of layers."""
    records = []
    for dtype, depth in [(d, k) for d in (torch.float64, torch.float32) for k in (1, 2, 4, 8, 12)]:
        torch.manual_seed(depth)
        layer = nn.TransformerEncoderLayer(16, 2, 64, batch_first=True, dtype=dtype)
        small = nn.TransformerEncoder(layer, depth, enable_nested_tensor=False).eval()
        x = torch.randn(4, 8, 32, 16, dtype=dtype)
        with torch.no_grad():
            error = (theory.multiplexed(small, 8)(x) - small(x.flatten(0, 1)).view_as(x)).abs().max().item()
        fields = {"backbone": "nn.TransformerEncoder, width 16", "depth": depth, "dtype": str(dtype)[6:]}
        records.append(record("exactness", 8, "largest absolute error", [error], 0.0, **fields))
    return records


def shared_heads() -> list[Record]:
    """Eight instances with 8, 4, 2 and 1 head groups."""
    records = []
    for groups in (8, 4, 2, 1):
        errors = []
        for seed in range(3):
            torch.manual_seed(seed)
            attention = nn.MultiheadAttention(32, 4, batch_first=True, dtype=torch.float64)
            errors.append(theory.shared_heads_error(attention, torch.randn(2, 8, 256, 32, dtype=torch.float64), groups))
        records.append(compared("shared heads", 8, errors, groups=groups))
    return records


def shared_norm() -> list[Record]:
    """Eight instances whose scales differ, exp of a normal number times the spread."""
    records = []
    for spread in (0.0, 0.1, 0.2, 0.4, 0.8, 1.2):
        errors = []
        for seed in range(3):
            torch.manual_seed(seed)
            x = torch.randn(16, 8, 16, 32, dtype=torch.float64) * (spread * torch.randn(16, 8, 1, 1).double()).exp()
            errors.append(theory.shared_norm_error(x))
        records.append(compared("shared norm", 8, errors, spread=spread))
    return records


def full_rank() -> list[Record]:
    """Instances of 16 dimensions in a mixture of 64, apart and overlapping."""
    records = []
    for overlap, n in [(o, k) for o in (False, True) for k in (1, 2, 4, 6, 8, 12, 16)]:
        errors = [theory.full_rank_error(n, 16, 64, overlap=overlap, seed=100 * seed) for seed in range(3)]
        records.append(compared("full rank", n, errors, overlap=overlap))
    return records


def compared(study: str, n: int, errors: list[theory.Error], **fields: Any) -> Record:
    """Return a record of errors that were predicted."""
    predicted = sum(error.predicted for error in errors) / len(errors)
    return record(study, n, "relative error", [error.measured for error in errors], predicted, **fields)


def capacity() -> list[Record]:
    """Tokens that a matched filter reads back, nothing trained."""
    records = []
    for code, n in [(c, k) for c in CODES for k in COUNTS]:
        read = partial(theory.capacity.recovery, code, n, DIM, VOCABULARY, positions=100)
        predicted = theory.capacity.predicted_recovery(n, DIM, VOCABULARY)
        fields = {"strategy": code, "dim": DIM, "vocabulary": VOCABULARY}
        records.append(record("capacity", n, "recovered", [read(seed=s) for s in range(2)], predicted, **fields))
    return records


def capacity_limits() -> list[Record]:
    """The largest n of which 99 % and half of the tokens are read back, by width, vocabulary and code."""
    records = []
    for dim, words, code in [(d, v, c) for d in WIDTHS for v in VOCABULARIES for c in CODES if c != "identity"]:
        read = cache(partial(theory.capacity.recovery, code, dim=dim, vocabulary=words, positions=100))
        predicted = partial(theory.capacity.predicted_recovery, dim=dim, vocabulary=words)
        fields = {"strategy": code, "dim": dim, "vocabulary": words, "rule": theory.capacity.rule_of_thumb(dim, words)}
        for share in SHARES:
            found, expected = (largest(each, share, dim) for each in (read, predicted))
            records.append(record("capacity limit", found, "largest n", [found], expected, share=share, **fields))
    return records


def largest(read: Callable[[int], float], share: float, dim: int) -> int:
    """Return the largest n <= dim at which a share that falls with n is still reached, by halving."""
    low, high = 1, dim + 1
    while high - low > 1:
        # The answer is mostly far below dim, and large n are the expensive ones: doubling comes first.
        middle = min(2 * low, (low + high) // 2)
        low, high = (middle, high) if read(middle) >= share else (low, middle)
    return low


def lines(ax: Any, records: list[Record], x: str, label: str = "measured", colour: str = "C0") -> None:
    """Draw measured points with deviations, and the prediction as a line."""
    at = [r[x] for r in records]
    ax.errorbar(at, [r["mean"] for r in records], [r["std"] or 0 for r in records], fmt="o", color=colour, label=label)
    ax.plot(at, [r["predicted"] for r in records], color=colour, linestyle=":", label="predicted")


def draw_exact(records: list[Record]) -> Figure:
    figure = Figure(figsize=(5, 3.4), layout="constrained")
    ax = figure.add_subplot()
    for dtype in ("float32", "float64"):
        chosen = [r for r in records if r["figure"] == "exactness" and r["dtype"] == dtype]
        ax.plot([r["depth"] for r in chosen], [r["mean"] for r in chosen], marker="o", label=dtype)
    ax.set(xlabel="layers", ylabel="largest absolute error", yscale="log", title="One pass against 8 passes")
    ax.grid(alpha=0.3)
    ax.legend()
    return figure


def draw_limits(records: list[Record]) -> Figure:
    figure = Figure(figsize=(11, 3.4), layout="constrained")
    heads, norm, rank = figure.subplots(1, 3)
    lines(heads, [r for r in records if r["figure"] == "shared heads"], "groups")
    heads.set(xlabel="head groups for 8 instances", ylabel="relative error", title="Fewer head groups than instances")
    heads.set_xticks([1, 2, 4, 8])
    lines(norm, [r for r in records if r["figure"] == "shared norm"], "spread")
    norm.set(xlabel="deviation of the instances' log scales", title="One layer norm for all")
    for overlap, label in enumerate(("slots", "overlapping frames")):
        lines(rank, [r for r in records if r.get("overlap") is bool(overlap)], "n", label, f"C{overlap}")
    rank.axvline(4, color="grey", linewidth=0.8, label="n r = d")
    rank.set(xlabel="n instances of 16 dimensions in 64", title="More than fits")
    rank.set_xticks(range(0, 17, 4))
    for ax in (heads, norm, rank):
        ax.set_ylim(bottom=0)
        ax.grid(alpha=0.3)
        found = dict(zip(*reversed(ax.get_legend_handles_labels()), strict=True))  # one entry for all predictions
        ax.legend(found.values(), found, fontsize=8)
    return figure


def draw_capacity(records: list[Record]) -> Figure:
    figure = Figure(figsize=(6, 3.8), layout="constrained")
    ax = figure.add_subplot()
    for code, style in zip(CODES, ("o-", "o-", "s-", "x--", "o-"), strict=True):  # sign lies on orthogonal
        chosen = [r for r in records if r["figure"] == "capacity" and r["strategy"] == code]
        ax.plot([r["n"] for r in chosen], [r["mean"] for r in chosen], style, label=code)
    ax.plot([r["n"] for r in chosen], [r["predicted"] for r in chosen], "k:", label="predicted")
    ax.axvline(theory.capacity.rule_of_thumb(DIM, VOCABULARY), color="grey", linewidth=0.8, label="d / (2 ln V)")
    ax.grid(alpha=0.3)
    ax.set(
        xlabel="n (instances in a mixture)",
        ylabel="share of the tokens read back",
        title=f"d = {DIM}, V = {VOCABULARY:,}",
    )
    ax.legend()
    return figure


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--docs", type=Path, default=results.ROOT / "docs", help="folder with results/ and images/")
    parser.add_argument("--redraw", action="store_true", help="only draw the results that are there")
    args = parser.parse_args(argv)
    path = args.docs / "results" / "theory.json"
    if not args.redraw:
        records = [*exactness(), *shared_heads(), *shared_norm(), *full_rank(), *capacity(), *capacity_limits()]
        results.write(path, "theory", records, "python -m benchmarks.studies.theory.figures")
    records = results.read_records(path)
    (args.docs / "images").mkdir(exist_ok=True)
    for name, draw in {"exact": draw_exact, "limits": draw_limits, "capacity": draw_capacity}.items():
        draw(records).savefig(args.docs / "images" / f"theory_{name}.png", dpi=130)


if __name__ == "__main__":
    main()
