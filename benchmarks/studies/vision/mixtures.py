"""Draw what a mixture of digits looks like under every strategy, before any training.

python -m benchmarks.studies.vision.mixtures --out docs/images/mixtures.png
python -m benchmarks.studies.vision.mixtures --data FOLDER   # MNIST's files instead of scikit-learn's digits
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib
import torch
from torch import Tensor

import muxwrap
from muxwrap import strategies
from muxwrap._demo.idx import read_idx

COLUMNS = 7


def digits(folder: Path | None, n: int) -> Tensor:
    """Return n images ``[n, 1, H, W]`` from 0 to 1."""
    if folder is None:
        from sklearn.datasets import load_digits

        images = torch.tensor(load_digits().images[:n] / 16, dtype=torch.float32).unsqueeze(1)
        return torch.nn.functional.interpolate(images, scale_factor=3)
    return read_idx(folder / "t10k-images-idx3-ubyte")[:n].unsqueeze(1) / 255


def mixtures(images: Tensor) -> Iterator[tuple[str, Tensor]]:
    """Yield a title and one mixture ``[width, H, W]`` for every strategy that can mix images."""
    n, channels, *size = images.shape
    group = images.unsqueeze(0)
    names = [*muxwrap.list_strategies("image"), *muxwrap.list_strategies("features")]
    choices: list[tuple[str, dict[str, Any]]] = [(name, {}) for name in names]
    for name, options in (("kernels", {"kind": "graded"}), ("nonlinear", {"channels": 8})):
        choices.insert(choices.index((name, {})) + 1, (name, options))
    for name, options in choices:
        cls = strategies.registry.get(name)
        dim = channels if cls.sees == "image" else images[0].numel()
        strategy = strategies.registry.build(partial(cls, **options), n=n, dim=dim, size=tuple(size), seed=0)
        rows = group if cls.sees == "image" else group.flatten(2)
        with torch.no_grad():
            mixture = strategy(rows)[0]
        title = " ".join([name, *(value for value in options.values() if isinstance(value, str))])
        wide = f" ({strategy.width} channels)" if cls.sees == "image" and strategy.width != dim else ""
        yield title + wide, mixture.reshape(-1, *size)


def tile(mixture: Tensor) -> Tensor:
    """Lay the channels of a mixture out side by side, two per row, or four if there are many: ``[C, H, W] -> [H', W']``."""
    if len(mixture) == 1:
        return mixture[0]
    spread = mixture.amax((1, 2), keepdim=True) - mixture.amin((1, 2), keepdim=True)
    scaled = (mixture - mixture.amin((1, 2), keepdim=True)) / spread.clamp(min=1e-6)
    columns = 2 if len(scaled) <= 4 else 4
    rows = [torch.cat(list(row), dim=1) for row in scaled.split(columns)]
    return torch.cat([torch.nn.functional.pad(row, (0, rows[0].shape[1] - row.shape[1])) for row in rows])


def main(arguments: list[str] | None = None) -> Path:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, help="folder with MNIST's files; scikit-learn's digits without it")
    parser.add_argument("--n", type=int, default=4, help="images per mixture")
    parser.add_argument("--out", type=Path, default=Path("mixtures.png"), help="the picture")
    args = parser.parse_args(arguments)

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    images = digits(args.data, args.n)
    pictures = [*((f"instance {i}", image) for i, image in enumerate(images)), *mixtures(images)]
    rows = -(-len(pictures) // COLUMNS)
    figure, axes = plt.subplots(rows, COLUMNS, figsize=(1.6 * COLUMNS, 1.85 * rows), layout="constrained")
    for axis in axes.flat:
        axis.axis("off")
    for axis, (title, picture) in zip(axes.flat, pictures, strict=False):
        axis.imshow(tile(picture), cmap="gray")
        axis.set_title(title.replace(" (", "\n("), fontsize=8)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(args.out, dpi=110)
    plt.close(figure)
    return args.out


if __name__ == "__main__":
    print(main())
