"""The commands put together, and what becomes of their errors."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated

import typer

import muxwrap
from muxwrap.cli.bench import bench
from muxwrap.cli.demo import demo
from muxwrap.cli.frontier import frontier
from muxwrap.cli.inspect import inspect
from muxwrap.cli.list import list_
from muxwrap.cli.predict import predict
from muxwrap.cli.serve import serve
from muxwrap.errors import MuxwrapError

app = typer.Typer(
    name="muxwrap",
    help="Data multiplexing for any PyTorch model: n inputs share one pass of the network.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,  # a failure at run time shows Python's own traceback
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("list")(list_)
app.command()(inspect)
app.command()(bench)
app.command()(frontier)
app.command()(predict)
app.command()(serve)
app.command()(demo)


def _version(asked: bool) -> None:
    if asked:
        print(muxwrap.__version__)
        raise typer.Exit


@app.callback()
def _muxwrap(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and end.")
    ] = False,
) -> None:
    pass


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command.

    Args:
        argv: the words behind ``muxwrap``; by default the process's own.

    Returns:
        The exit status: 0, 1 where a command ends with a failure or is interrupted, 2 with a line on standard error for
        what is refused and for wrong usage. Any other error goes on to Python, which shows it and exits with 1.
    """
    try:
        app(args=None if argv is None else list(argv), prog_name="muxwrap")
    except MuxwrapError as error:
        print(f"muxwrap: {error}", file=sys.stderr)
        return 2
    except SystemExit as end:  # how typer ends every command
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    return 0
