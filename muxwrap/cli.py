"""The command line: what there is, where a model would be multiplexed, how fast it would be."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

import muxwrap
from muxwrap._util.named_models import FORMS, model_named
from muxwrap.errors import MuxwrapError
from muxwrap.throughput import measure, predict


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return the exit status: 0, or 2 with one line on standard error for what cannot work."""
    arguments = _parser().parse_args(argv)
    try:
        arguments.run(arguments)
    except MuxwrapError as error:
        print(f"muxwrap: {error}", file=sys.stderr)
        return 2
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="muxwrap", description="Data multiplexing for any PyTorch model.")
    parser.add_argument("--version", action="version", version=muxwrap.__version__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    listing = commands.add_parser("list", help="strategies and demuxers")
    listing.set_defaults(run=_list)

    inspect = commands.add_parser("inspect", help="where a model is mixed and separated, and what is added")
    inspect.set_defaults(run=_inspect)
    inspect.add_argument("-n", type=int, default=4, help="instances in a mixture")

    bench = commands.add_parser("bench", help="measure a model bare and multiplexed, in one run")
    bench.set_defaults(run=_bench)
    bench.add_argument("-n", type=int, nargs="+", default=[2, 5, 10], help="instances in a mixture")
    bench.add_argument("--length", type=int, default=128, help="tokens of an instance, for text")
    bench.add_argument("--rounds", type=int, default=5)
    bench.add_argument("--train", action="store_true", help="forward and backward in training mode")
    bench.add_argument("--bf16", action="store_true", help="weights and inputs in bfloat16")
    bench.add_argument("--predict", action="store_true", help="predict instead of measuring")
    bench.add_argument("--json", type=Path, help="write the records here")
    bench.add_argument("--plot", type=Path, help="draw speed-up against n here")

    for command in (inspect, bench):
        command.add_argument("model", metavar="MODEL", help=FORMS)
        command.add_argument("--strategy", choices=muxwrap.list_strategies())
        command.add_argument("--demux", choices=muxwrap.list_demuxers())
        command.add_argument("--mux-at", metavar="PATH")
        command.add_argument("--demux-at", metavar="PATH")
    return parser


def _list(_: argparse.Namespace) -> None:
    print("strategies:", ", ".join(muxwrap.list_strategies()))
    print("demuxers:  ", ", ".join(muxwrap.list_demuxers()))


def _inspect(arguments: argparse.Namespace) -> None:
    print(muxwrap.wrap(model_named(arguments.model), arguments.n, **_choices(arguments)))


def _bench(arguments: argparse.Namespace) -> None:
    device = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else torch.device("cpu")
    backbone = model_named(arguments.model).to(device, torch.bfloat16 if arguments.bf16 else None)
    if arguments.predict:
        for n in arguments.n:
            print(f"n={n}: {predict(backbone, n, _length(backbone, arguments), **_choices(arguments)):.2f}x")
        return
    report = measure(
        backbone,
        arguments.n,
        length=_length(backbone, arguments),
        rounds=arguments.rounds,
        train=arguments.train,
        progress=lambda said: print(f"\r{said:60}", end="", file=sys.stderr),
        **_choices(arguments),
    )
    print(file=sys.stderr)
    print(report)
    if arguments.json:
        arguments.json.write_text(json.dumps(report.records(backbone=arguments.model), indent=1) + "\n")
    if arguments.plot:
        report.plot().figure.savefig(arguments.plot)


def _choices(arguments: argparse.Namespace) -> dict[str, Any]:
    return {key: getattr(arguments, key) for key in ("strategy", "demux", "mux_at", "demux_at")}


def _length(backbone: nn.Module, arguments: argparse.Namespace) -> int | None:
    return arguments.length if getattr(backbone, "main_input_name", None) == "input_ids" else None
