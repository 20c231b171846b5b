"""``muxwrap list``: what ``strategy=`` and ``demux=`` take."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any

import typer

from muxwrap.cli._options import Json
from muxwrap.cli._output import show_json, show_table
from muxwrap.errors import MuxwrapError, known_names

KINDS = {"features": "features", "tokens": "tokens", "image": "images"}


def list_(
    kind: Annotated[
        str | None, typer.Option(metavar="KIND", help="Only those that act on features, tokens or images.")
    ] = None,
    as_json: Json = False,
) -> None:
    """List strategies and demuxers: what they act on, what they do, and what a row costs.

    For example:

        muxwrap list

        muxwrap list --kind images

        muxwrap list --json
    """
    if kind is not None and kind not in KINDS.values():
        raise MuxwrapError(f"list --kind {kind}: unknown kind {kind!r}; {known_names(kind, KINDS.values())}")
    found = [each for each in _entries() if kind in (None, each["kind"])]
    if as_json:
        show_json(found)
        return
    for role in ("strategy", "demuxer"):
        rows = [(e["name"], e["kind"], e["description"], e["cost"]) for e in found if e["role"] == role]
        if rows:
            show_table((role, "acts on", "output for index i", "cost"), rows)
            print()


def _entries() -> Iterator[dict[str, Any]]:
    """Yield every strategy and every demuxer, with what its class's docstring says."""
    from muxwrap import demuxers, strategies
    from muxwrap._util.docstrings import cost, plain

    for name, text in strategies.registry.described(strategies.registry.names()):
        cls = strategies.registry.get(name)
        yield _entry("strategy", name, KINDS[cls.sees], text, plain(cost(cls)))
    for name, text in demuxers.registry.described(demuxers.registry.names()):
        demuxer = demuxers.registry.get(name)
        # One that puts tokens before a mixture needs a trunk that reads tokens.
        yield _entry("demuxer", name, "tokens" if demuxer.prefix_for(2) else "features", text, plain(cost(demuxer)))


def _entry(role: str, name: str, kind: str, text: str, its_cost: str) -> dict[str, str]:
    return {"role": role, "name": name, "kind": kind, "description": text, "cost": its_cost}
