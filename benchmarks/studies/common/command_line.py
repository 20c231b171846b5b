"""The options that the studies share."""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from benchmarks.results import ROOT


class WithDefaults(argparse.ArgumentDefaultsHelpFormatter):
    """Shows the default of every option that has one."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        return super()._get_help_string(action) if action.default not in (None, False, "", []) else action.help


def parser(doc: str | None, *, data: str | None, results: str, device: bool = False) -> argparse.ArgumentParser:
    """Return a parser with ``--data``, ``--threads`` and ``--results``, and ``--device`` where the study can use one.

    Args:
        doc: the study's docstring, whose first line becomes the description.
        data: what lies in the folder of data; None for a study that needs none.
        results: name of the results file in ``docs/results``.
        device: whether the study runs on an accelerator too.
    """
    made = argparse.ArgumentParser(description=(doc or "").splitlines()[0], formatter_class=WithDefaults)
    if data:
        made.add_argument("--data", type=Path, required=True, metavar="FOLDER", help=f"folder with {data}")
    made.add_argument("--results", type=Path, default=ROOT / "docs" / "results" / results, help="the results file")
    made.add_argument("--threads", type=int, help="threads of torch; torch decides without it")
    if device:
        default = "cuda" if torch.cuda.is_available() else "cpu"
        made.add_argument("--device", type=torch.device, default=default, help="where to train")
    return made


def set_threads(args: argparse.Namespace) -> None:
    """Let torch use as many threads as the command line asks for."""
    if args.threads:
        torch.set_num_threads(args.threads)


def joined(values: list[int] | list[float] | list[str]) -> str:
    """Write the values of an option as on a command line."""
    return " ".join(map(str, values))
