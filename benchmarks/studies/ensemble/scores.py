"""How good the probabilities of a classifier are."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchmetrics.functional.classification import multiclass_calibration_error

import muxwrap
from benchmarks.studies.vision.data import Split

BINS = 15


@torch.no_grad()
def probabilities(model: nn.Module, images: Tensor) -> Tensor:
    """Return the probabilities ``[rows, classes]`` of all images; an ensemble's are the mean of its members'."""
    model.eval()
    call = model.members if isinstance(model, muxwrap.Multiplex) else model
    answers = [call(part).float().softmax(-1) for part in images.split(500)]
    return torch.cat([part.mean(0) if part.ndim > 2 else part for part in answers])


def scores(found: Tensor, split: Split) -> dict[str, float]:
    """Return accuracy in percent, negative log-likelihood in nats, and expected calibration error over 15 bins."""
    classes = found.shape[-1]
    return {
        "accuracy": 100 * (found.argmax(-1) == split.labels).double().mean().item(),
        "nll": F.nll_loss(found.clamp_min(1e-12).log(), split.labels).item(),
        "ece": multiclass_calibration_error(found, split.labels, classes, n_bins=BINS, norm="l1").item(),
    }
