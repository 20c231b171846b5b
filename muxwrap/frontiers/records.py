"""The folder of a chart: a record and the weights of every model, so that an interrupted call goes on."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from muxwrap.errors import MuxwrapError


class Records:
    """What is kept of every model, in a folder or (None) nowhere.

    Args:
        folder: made where it is missing.
        identity: of the call; records of another one are refused.
    """

    def __init__(self, folder: str | Path | None, identity: dict[str, Any]) -> None:
        self.folder = None if folder is None else Path(folder)
        self.identity = identity
        if self.folder is not None:
            self.folder.mkdir(parents=True, exist_ok=True)

    def resume(self, name: str) -> Path | None:
        """Return the file that an interrupted distillation of the same call goes on from."""
        call = hashlib.sha256(json.dumps(self.identity, sort_keys=True).encode()).hexdigest()[:8]
        return self._path(name, f".{call}.part")

    def read(self, name: str) -> dict[str, Any] | None:
        """Return a record, None where there is none.

        Raises:
            MuxwrapError: it was made by a call with other arguments.
        """
        path = self._path(name, ".json")
        if path is None or not path.exists():
            return None
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        theirs = found.pop("made by")
        other = [key for key, value in self.identity.items() if theirs.get(key) != value]
        if other:
            was, is_ = (", ".join(f"{key}={which.get(key)!r}" for key in other) for which in (theirs, self.identity))
            raise MuxwrapError(
                f"frontier(folder={str(self.folder)!r}): the record of {name!r} was made by a call with {was}, and this one "
                f"has {is_}; give the same, or another folder"
            )
        return found

    def write(self, name: str, record: dict[str, Any], weights: dict[str, Tensor] | None) -> None:
        """Keep a record and weights; what an interrupted distillation would have gone on from is not needed any more."""
        path, kept = self._path(name, ".json"), self._path(name, ".pt")
        if path is None or kept is None:
            return
        if weights is not None:
            torch.save(weights, kept)
        part = path.with_suffix(".json.part")
        part.write_text(json.dumps({"made by": self.identity, **record}, indent=1) + "\n", encoding="utf-8")
        part.replace(path)  # whole or not at all, whenever this is interrupted
        resume = self.resume(name)
        if resume is not None:
            resume.unlink(missing_ok=True)

    def weights(self, name: str) -> dict[str, Tensor] | None:
        """Return the weights of a model; None where it was not trained.

        Raises:
            MuxwrapError: nothing was kept.
        """
        kept, record = self._path(name, ".pt"), self._path(name, ".json")
        if kept is None or record is None or not record.exists():
            raise MuxwrapError(
                f"the weights of {name!r} were not kept; give frontier a folder=, and the models stay there"
            )
        found: dict[str, Tensor] | None = torch.load(kept, weights_only=True) if kept.exists() else None
        return found

    def _path(self, name: str, ending: str) -> Path | None:
        slug = re.sub(r"[^\w.]+", "-", name).strip("-")
        return None if self.folder is None else self.folder / f"{slug}{ending}"
