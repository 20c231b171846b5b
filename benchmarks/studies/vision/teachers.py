"""Bare networks that teach: trained once, and kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from benchmarks.studies.common.cells import Progress
from benchmarks.studies.common.teachers import computed_once
from benchmarks.studies.vision.data import Data
from benchmarks.studies.vision.models import Backbone, bare
from benchmarks.studies.vision.tables import Cell
from benchmarks.studies.vision.training import fit, recipe

SEED = 0


def teacher(cell: Cell, data: Data, cache: Path, device: torch.device, progress: Progress) -> nn.Module:
    """Return the trained bare network that teaches a cell, in evaluation mode; its weights are kept in a folder."""

    def trained() -> dict[str, Any]:
        fit(model, data, recipe(chosen, SEED), lambda line: progress(f"teacher: {line}"))
        return model.state_dict()

    chosen = cell.teacher
    torch.manual_seed(SEED)
    model = bare(Backbone.of(chosen, data.channels, data.side)).to(device)
    path = cache / f"{chosen} rows={len(data.train.labels)} seed={SEED}.pt"
    model.load_state_dict(computed_once(path, trained))
    return model.eval()
