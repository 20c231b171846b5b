"""A multiplexed model as an ensemble, scored by the metrics of torch-uncertainty and torchmetrics.

python examples/frameworks/uncertainty_digits.py
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from digits import EXAMPLE, digits, loader, network
from torch_uncertainty.metrics.classification import Disagreement, MutualInformation
from torchmetrics.classification import MulticlassCalibrationError

import muxwrap
from muxwrap.training import mimo_rows


def main(epochs: int = 20, limit: int | None = None) -> dict:
    torch.manual_seed(0)
    train, (x, y) = digits(limit)
    model = muxwrap.wrap(network(), n=2, example_input=EXAMPLE)
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3)
    for _ in range(epochs):
        for rows, labels in loader(train, shuffle=True):
            order = mimo_rows(len(rows), model.n)  # every index gets the whole batch, in an order of its own
            loss = F.cross_entropy(model(rows[order]), labels[order])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    with torch.no_grad():
        members = model.eval().members(x).softmax(-1)  # [n, B, classes], the estimators first
    found = {
        "calibration error": MulticlassCalibrationError(10)(members.mean(0), y),
        "mutual information": MutualInformation()(members.transpose(0, 1)),  # these two take [B, n, classes]
        "disagreement": Disagreement()(members.transpose(0, 1)),
    }
    for name, value in found.items():
        print(f"{name} {value:.3f}")
    return {"model": model, "members": members, "loss": loss.item(), "test": (x, y), **found}


if __name__ == "__main__":
    main()
