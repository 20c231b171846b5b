"""A network and a training loop of your own, on scikit-learn's handwritten digits, with one line added.

python examples/plain_pytorch.py --n 2
"""

from __future__ import annotations

import argparse
from typing import Any

import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import nn

import muxwrap


class Net(nn.Module):
    """Two convolutions and two linear layers, as in a first tutorial."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 32, 3, padding=1)
        self.conv2 = nn.Conv2d(32, 64, 3, padding=1)
        self.hidden = nn.Linear(64 * 4 * 4, 128)
        self.out = nn.Linear(128, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.relu(self.conv1(x))
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)
        x = F.relu(self.hidden(x.flatten(1)))
        return self.out(x)


def digits() -> tuple[torch.Tensor, torch.Tensor]:
    """1,797 images of 8 × 8 pixels in a shuffled order, and the digits that they show."""
    data = load_digits()
    order = torch.randperm(len(data.target), generator=torch.Generator().manual_seed(0))
    images = torch.from_numpy(data.images).float()[order] / 8 - 1
    return images.unsqueeze(1), torch.from_numpy(data.target).long()[order]


@torch.no_grad()
def evaluate(model: nn.Module, images: torch.Tensor, batch_size: int) -> torch.Tensor:
    model.eval()
    return torch.cat([model(batch).argmax(1) for batch in images.split(batch_size)])


def main(argv: list[str] | None = None) -> dict[str, Any]:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n", type=int, default=2, help="instances that share one pass")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--quick", action="store_true", help="a few steps only, to see that it runs")
    args = parser.parse_args(argv)

    torch.manual_seed(0)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    images, targets = (each.to(device) for each in digits())
    train, test = (slice(0, 256), slice(256, 319)) if args.quick else (slice(0, 1437), slice(1437, None))
    images_train, targets_train, images_test, targets_test = images[train], targets[train], images[test], targets[test]
    epochs = min(args.epochs, 3) if args.quick else args.epochs

    model = Net().to(device)
    model = muxwrap.wrap(model, n=args.n, example_input=images[:1])  # the one line
    optimizer = torch.optim.AdamW(model.parameters(), lr=args.lr)

    losses = []
    for epoch in range(epochs):
        model.train()
        total = 0.0
        for rows in torch.randperm(len(images_train)).to(device).split(args.batch_size):
            loss = F.cross_entropy(model(images_train[rows]), targets_train[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item() * len(rows)
        losses.append(total / len(images_train))
        predictions = evaluate(model, images_test, args.batch_size)
        accuracy = (predictions == targets_test).float().mean().item()
        print(f"epoch {epoch + 1:3d}  loss {losses[-1]:.4f}  test accuracy {accuracy:.3f}")
    return {"model": model, "losses": losses, "predictions": predictions, "targets": targets_test}


if __name__ == "__main__":
    main()
