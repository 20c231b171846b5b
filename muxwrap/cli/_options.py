"""Arguments that several commands take."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from muxwrap._util.named_models import FORMS
from muxwrap.errors import MuxwrapError


def _strategies(incomplete: str) -> list[tuple[str, str]]:
    import muxwrap

    return [each for each in muxwrap.list_strategies(with_description=True) if each[0].startswith(incomplete)]


def _demuxers(incomplete: str) -> list[tuple[str, str]]:
    import muxwrap

    return [each for each in muxwrap.list_demuxers(with_description=True) if each[0].startswith(incomplete)]


Model = Annotated[str, typer.Argument(metavar="MODEL", help=f"{FORMS}.", show_default=False)]
Strategy = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="How rows are mixed, see `muxwrap list`.", autocompletion=_strategies),
]
Demux = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="How mixtures are separated, see `muxwrap list`.", autocompletion=_demuxers),
]
MuxAt = Annotated[str | None, typer.Option(metavar="PATH", help="The module where rows are mixed; by default found.")]
DemuxAt = Annotated[
    str | None, typer.Option(metavar="PATH", help="The module where mixtures are separated; by default found.")
]
Shape = Annotated[
    str | None,
    typer.Option(
        metavar="D,D,...", help="Shape of one row, such as 3,32,32, where the model does not tell what it takes."
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON on standard output, and nothing else there.")]


def choices(
    strategy: str | None, demux: str | None, mux_at: str | None, demux_at: str | None, shape: str | None
) -> dict[str, Any]:
    """Return the arguments of :func:`muxwrap.wrap` that the options stand for.

    Raises:
        MuxwrapError: the shape is not whole numbers.
    """
    found = {"strategy": strategy, "demux": demux, "mux_at": mux_at, "demux_at": demux_at}
    return {**found, "example_input": None if shape is None else _row(numbers("--shape", shape))}


def numbers(option: str, text: str) -> list[int]:
    """Read ``2,5,10``.

    Raises:
        MuxwrapError: it is something else.
    """
    try:
        return [int(each) for each in text.split(",")]
    except ValueError:
        raise MuxwrapError(
            f"{option} {text!r}: not whole numbers with commas between; give some, such as 2,5,10"
        ) from None


def _row(shape: list[int]) -> Any:
    import torch

    return torch.zeros(1, *shape)
