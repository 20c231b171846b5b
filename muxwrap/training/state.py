"""The state of a warm-up in a file, so that one that was interrupted goes on as if it had not been."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from torch import nn

from muxwrap.errors import MuxwrapError


def save_state(path: str | Path, parts: dict[str, Any], **facts: Any) -> None:
    """Write the state of every part, and facts of plain types, into one file.

    The file appears under its name only when it is whole: an interruption while writing leaves the one before.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(path.name + ".unfinished")
    torch.save({"facts": facts, "parts": {name: part.state_dict() for name, part in parts.items()}}, unfinished)
    os.replace(unfinished, path)


def load_state(path: str | Path, parts: dict[str, Any]) -> dict[str, Any] | None:
    """Load the state of every part and return the facts; None where there is no such file.

    Raises:
        MuxwrapError: the file is no state of a warm-up, or one of another model.
    """
    if not Path(path).exists():
        return None
    device = next(part for part in parts.values() if isinstance(part, nn.Module)).parameters().__next__().device
    try:
        saved = torch.load(path, map_location=device, weights_only=True)
        for name, part in parts.items():
            part.load_state_dict(saved["parts"][name])
    except (RuntimeError, KeyError, ValueError, TypeError) as error:
        raise MuxwrapError(
            f"checkpoint={str(path)!r} is of another model, head or optimizer: {error}; name another file, or delete it to "
            "start anew"
        ) from error
    facts: dict[str, Any] = saved["facts"]
    return facts
