"""What one save wrote into a folder, read as a whole."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from muxwrap._backbones import MODEL_CONFIG
from muxwrap._util.writer import SAFE
from muxwrap.checkpoint import digests
from muxwrap.checkpoint.config import CONFIG, parsed, sites_of
from muxwrap.checkpoint.files import TENSORS, WHOLE, read_tensors
from muxwrap.checkpoint.folder import find
from muxwrap.checkpoint.tensors import PREFIX, misfit
from muxwrap.errors import MuxwrapError
from muxwrap.site import Sites

_TRIES = 10


@dataclass
class Saved:
    """What one save wrote.

    Args:
        folder: where.
        config: how the model was wrapped; None in a checkpoint of the Trainer.
        backbone: the tensors of the backbone's file, or of the whole model.
        added: the tensors of what was added, if they have a file.
        shown: the call that messages repeat.
    """

    folder: Path
    config: dict[str, Any] | None
    backbone: dict[str, Tensor]
    added: dict[str, Tensor] | None
    shown: str

    @property
    def wrapping(self) -> dict[str, Any]:
        """How the model was wrapped.

        Raises:
            MuxwrapError: the folder does not say.
        """
        if self.config is None:
            raise MuxwrapError(
                f"{self.shown}: no {CONFIG} there; its tensors say nothing of how the model was wrapped (a checkpoint of the "
                "Trainer?): give the wrapped model, load(folder, muxwrap.wrap(backbone, n, ...))"
            )
        return self.config

    @property
    def sites(self) -> Sites:
        """Where the model was wrapped."""
        return sites_of(self.wrapping, self.shown)

    def named(self, model: nn.Module) -> dict[str, Tensor]:
        """Return the tensors under a wrapped model's names."""
        if self.added is None or misfit(model, self.backbone) is None:
            return self.backbone
        return {**{PREFIX + name: value for name, value in self.backbone.items()}, **self.added}


def files(pickled: bool) -> list[str]:
    """Return the names of the files that are read."""
    return [CONFIG, MODEL_CONFIG, *(name for name in TENSORS if pickled or name.endswith(SAFE))]


def read(folder: str | Path, shown: str, *, allow_pickle: bool = False) -> Saved:
    """Read what one save wrote; while another one is going on, wait for it.

    Args:
        folder: of the model.
        shown: the call that messages repeat.
        allow_pickle: whether files that are not safetensors may be read.

    Raises:
        MuxwrapError: there is no model, a file is damaged, or the files are not of one save.
    """
    folder = Path(folder)
    for _ in range(_TRIES):
        before = _text(folder)
        try:
            return _read(folder, shown, allow_pickle)
        except (MuxwrapError, FileNotFoundError) as error:
            problem = error
            if _text(folder) == before:
                break
    if isinstance(problem, MuxwrapError):
        raise problem
    raise MuxwrapError(f"{shown}: files vanish while they are read; stop what writes there") from problem


def _read(folder: Path, shown: str, allow_pickle: bool) -> Saved:
    path = find(folder, CONFIG)
    config = None if path is None else parsed(path, shown)
    if config is None and not any(find(folder, name) for name in WHOLE):
        raise MuxwrapError(f"{shown}: no {CONFIG} there; give a folder that save_pretrained wrote")
    wanted = digests.expected(config or {}, CONFIG)
    if config is not None and wanted is not None and wanted != digests.of_config(config, CONFIG):
        raise MuxwrapError(
            f"{shown}: {CONFIG} is not as it was saved; save the model again, or take {digests.KEY!r} out of it if the change "
            "is meant"
        )
    return Saved(folder, config, *read_tensors(folder, config or {}, shown, allow_pickle), shown)


def _text(folder: Path) -> bytes | None:
    path = find(folder, CONFIG)
    try:
        return None if path is None else path.read_bytes()
    except FileNotFoundError:
        return None
