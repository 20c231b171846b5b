"""From the tensors of a published checkpoint to those of a wrapped model."""

from __future__ import annotations

from torch import Tensor

from muxwrap.errors import MuxwrapError
from muxwrap.published.config import MuxConfig
from muxwrap.published.rules import rules

UNREAD = ("retrieval_head.", "demux_module.", "demultiplexer.", "bert.", "roberta.", "cls.", "dropout.")
"""Where a checkpoint may have more than is read: the retrieval head, its layer of the demuxer, an unused pooler."""


def translated(tensors: dict[str, Tensor], config: MuxConfig) -> dict[str, Tensor]:
    """Return the tensors of a checkpoint under the names of the wrapped model.

    Raises:
        MuxwrapError: one is missing, or there is one that belongs to no published model.
    """
    wanted = rules(config)
    missing = [name for rule in wanted for name in rule.sources if name not in tensors]
    base = config.family + "."
    if not any(name.startswith(base) for name in tensors):
        missing.append(base + "*")
    if missing:
        raise MuxwrapError(
            f"the weights lack {_shown(missing)} of a {config.task} model with {config.demuxing!r} demuxing; give the config "
            "that they were saved with"
        )
    used = {name for rule in wanted for name in rule.sources}
    unknown = [name for name in tensors if name not in used and not name.startswith(UNREAD)]
    if unknown:
        raise MuxwrapError(
            f"the weights hold {_shown(unknown)}, which no {config.task} model with muxing {config.muxing!r} and demuxing "
            f"{config.demuxing!r} has; the config belongs to another checkpoint"
        )
    keys, matrices = tensors["instance_embedding"], config.muxing.startswith("random_ortho")
    if keys.ndim != 2 + matrices:
        kind = "matrix" if matrices else "vector"
        raise MuxwrapError(
            f"instance_embedding is {list(keys.shape)}, and {config.muxing!r} has a {kind} per instance; give the config that "
            "it was saved with"
        )
    made = {rule.target: rule.make(*(tensors[name] for name in rule.sources)).contiguous() for rule in wanted}
    return made | {f"backbone.{name}": value for name, value in tensors.items() if name.startswith(base)}


def _shown(names: list[str]) -> str:
    more = f" and {len(names) - 4} more" if len(names) > 4 else ""
    return ", ".join(map(repr, names[:4])) + more
