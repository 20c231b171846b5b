"""``muxwrap.json``: how a model was wrapped, in JSON's types."""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import Any

from torch import nn

from muxwrap import demuxers, strategies
from muxwrap._hooks.components import Components
from muxwrap._util.classes import class_of
from muxwrap.checkpoint import digests
from muxwrap.errors import MuxwrapError
from muxwrap.registry import options_of
from muxwrap.site import Sites

CONFIG, FORMAT = "muxwrap.json", 2
"""The format's number rises when a field changes what the others mean; new fields that do not are kept and not read."""

_REQUIRED: dict[str, Any] = {
    "format": int,
    "backbone": str,
    "n": int,
    "check_finite": bool | str,
    "strategy": dict,
    "demux": dict,
    "sites": dict,
}
_OPTIONAL = ("cost", "largest", "shuffle", "sizes", "rows", "recipe", digests.KEY)


def describe(components: Components) -> dict[str, Any]:
    """Return how a model is wrapped, in JSON's types.

    Raises:
        MuxwrapError: the strategy or the demuxer has no registered name.
    """
    return {
        "format": FORMAT,
        "backbone": class_of(components.backbone).__name__,
        "n": components.n,
        "check_finite": components.check_finite,
        "largest": components.largest,
        "shuffle": components.shuffle,
        "strategy": _named(components.strategy, "strategy"),
        "demux": _named(components.demuxer, "demuxer"),
        "sites": components.sites.to_dict(),
    }


def unknown_fields(config: dict[str, Any]) -> dict[str, Any]:
    """Return what a later version wrote that changes nothing of what is read here; it is written again."""
    return {key: value for key, value in config.items() if key not in _REQUIRED and key not in _OPTIONAL}


def parsed(path: Path, shown: str) -> dict[str, Any]:
    """Read the file, and check that what is needed of it is there.

    Args:
        path: the file.
        shown: the call that messages repeat.

    Raises:
        FileNotFoundError: there is no such file.
        MuxwrapError: it is damaged, or of a later format.
    """
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise MuxwrapError(f"{shown}: {CONFIG} is not JSON ({error}); save the model again") from error
    if not isinstance(config, dict):
        raise MuxwrapError(f"{shown}: {CONFIG} holds a {type(config).__name__} and not an object; save the model again")
    written = config.get("format")
    if isinstance(written, int) and written > FORMAT:
        raise MuxwrapError(f"{shown}: written in format {written}, this muxwrap reads up to {FORMAT}; update muxwrap")
    for key, kind in _REQUIRED.items():
        if not isinstance(config.get(key), kind):
            named = getattr(kind, "__name__", kind)
            raise MuxwrapError(
                f"{shown}: {key} in {CONFIG} is {config.get(key)!r} and not a {named}; save the model again"
            )
    for key, registry in (("strategy", strategies.registry), ("demux", demuxers.registry)):
        _check_options(config[key], registry, f"{shown}: the {key} in {CONFIG}")
    return config


def sites_of(config: dict[str, Any], shown: str) -> Sites:
    """Return the saved sites.

    Raises:
        MuxwrapError: they are not those of this version.
    """
    try:
        return Sites.from_dict(config["sites"])
    except (TypeError, KeyError, ValueError, AttributeError) as error:
        raise MuxwrapError(
            f"{shown}: the sites in {CONFIG} are not read by this version ({type(error).__name__}: {error}); update muxwrap, "
            "or save the model again"
        ) from error


def _check_options(saved: dict[str, Any], registry: Any, shown: str) -> None:
    name, options = saved.get("name"), saved.get("options")
    if not isinstance(name, str) or not isinstance(options, dict):
        raise MuxwrapError(f"{shown} has no name and options but {saved!r}; save the model again")
    unknown = sorted(options.keys() - inspect.signature(registry.get(name)).parameters.keys())
    if unknown:
        raise MuxwrapError(f"{shown}, {name!r}, has an option {unknown[0]!r} that this version lacks; update muxwrap")


def _named(module: nn.Module, kind: str) -> dict[str, Any]:
    registry = strategies.registry if kind == "strategy" else demuxers.registry
    name = getattr(module, "name", None)
    if name is None or registry.get(name) is not type(module):
        raise MuxwrapError(
            f"{type(module).__name__} has no name to save; put @muxwrap.register_{kind}('name') above the class"
        )
    return {"name": name, "options": options_of(module)}
