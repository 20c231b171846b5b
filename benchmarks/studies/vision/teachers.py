"""Bare networks that teach: trained once, and kept."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from benchmarks.studies.vision.data import Data
from benchmarks.studies.vision.models import Backbone, bare
from benchmarks.studies.vision.tables import Cell
from benchmarks.studies.vision.training import Recipe, fit

SEED = 0


def teacher(cell: Cell, data: Data, kept: Path, device: torch.device, tell: Callable[[str], object]) -> nn.Module:
    """Return the trained bare network that teaches a cell, in evaluation mode; its weights are kept in a folder."""
    chosen = cell.teacher
    path = kept / f"{chosen} rows={len(data.train.labels)} seed={SEED}.pt"
    torch.manual_seed(SEED)
    model = bare(Backbone.of(chosen, data.channels, data.side)).to(device)
    if path.exists():
        model.load_state_dict(torch.load(path, map_location=device))
    else:
        fit(model, data, Recipe.of(chosen, SEED), lambda said: tell(f"teacher: {said}"))
        kept.mkdir(parents=True, exist_ok=True)
        torch.save(model.state_dict(), path)
    return model.eval()
