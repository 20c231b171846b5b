"""One residual network, trained bare and with 2, 4 and 8 images sharing every pass: what is gained and what it costs.

    python -m benchmarks.demo                  # scikit-learn's handwritten digits
    python -m benchmarks.demo --data FOLDER    # MNIST, Fashion-MNIST, ...: their four idx files

What `muxwrap demo` runs, with its numbers and a picture written into files. Hyper-parameters were chosen with --validate,
which never looks at the test images.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from tqdm import tqdm

from benchmarks import results
from muxwrap._demo.images import digits, held_out, mnist_format
from muxwrap._demo.run import label, run


def table(rows: list[dict[str, Any]]) -> str:
    lines = ["| model | accuracy | images/s | speed | added parameters |", "|---|---:|---:|---:|---:|"]
    for row in rows:
        accuracy = f"{row['mean']:.1f} ± {row['std']:.1f} %"
        speed = f"{row['instances_per_second']:,.0f} | {row['ratio_to_bare']:.2f}x"
        lines.append(f"| {label(row['n'])} | {accuracy} | {speed} | {row['added_parameters']:,} |")
    return "\n".join(lines)


def plot(rows: list[dict[str, Any]], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, ax = plt.subplots(figsize=(6, 3.6), layout="constrained")
    speeds, means = ([row[key] for row in rows] for key in ("ratio_to_bare", "mean"))
    ax.errorbar(speeds, means, yerr=[row["std"] for row in rows], marker="o", capsize=3)
    for row, x, y in zip(rows, speeds, means, strict=True):
        ax.annotate(label(row["n"]), (x, y), textcoords="offset points", xytext=(8, 6))
    ax.set(xlabel="images per second, bare model = 1", ylabel="test accuracy in %", title=rows[0]["dataset"])
    ax.margins(0.12)
    ax.grid(alpha=0.3)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)


def command(args: argparse.Namespace) -> str:
    """Return the command without the paths of one machine."""
    options = ["--data FOLDER"] if args.data else []
    options += ["--validate"] if args.validate else []
    options += [f"--{key} {getattr(args, key)}" for key in ("epochs", "limit") if getattr(args, key)]
    options += [" ".join(["--n", *map(str, args.n)])] if args.n != [2, 4, 8] else []
    return " ".join(["python -m benchmarks.demo", *options])


def main(argv: list[str] | None = None) -> list[dict[str, Any]]:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", help="folder with the idx files of MNIST or of a data set like it")
    parser.add_argument("--n", type=int, nargs="+", default=[2, 4, 8], help="images that share one pass")
    parser.add_argument("--epochs", type=int, help="for every configuration; 100 for the digits, 4 for a folder")
    parser.add_argument("--limit", type=int, help="use this many training and test images at most")
    parser.add_argument("--validate", action="store_true", help="score on a quarter of the training images instead")
    parser.add_argument("--results", default="runs/demo", help="folder for demo.json; docs/results is the kept copy")
    args = parser.parse_args(argv)

    data = mnist_format(args.data) if args.data else digits()
    data = held_out(data) if args.validate else data
    data = data.first(args.limit)
    epochs = args.epochs or (4 if args.data else 100)
    print(f"{data.name}: {len(data.train_x):,} images to train on, {len(data.test_x):,} to test, {epochs} epochs each")
    split = "validation" if args.validate else "test"
    with tqdm(bar_format="{desc}", leave=False) as bar:
        rows = run(data, args.n, epochs, split, show=bar.set_description, say=tqdm.write)

    folder = Path(args.results)
    pictures = folder.parent / "images" if folder.name == "results" else folder
    results.write(folder / "demo.json", "demo", rows, command(args))
    plot(rows, pictures / "demo.png")
    print(f"\n{table(rows)}\n\nwritten: {folder / 'demo.json'}, {pictures / 'demo.png'}")
    return rows
