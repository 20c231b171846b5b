"""``muxwrap bench``: a model bare and multiplexed, measured in one run or predicted."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from muxwrap.cli._options import Demux, DemuxAt, Json, Model, MuxAt, Shape, Strategy, choices, numbers
from muxwrap.cli._output import running, show_json

if TYPE_CHECKING:
    import torch
    from torch import nn

    from muxwrap.throughput import Report


class Dtype(str, Enum):
    """Of weights and inputs."""

    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"
    FLOAT16 = "float16"
    AUTO = "auto"


def bench(
    model: Model,
    n: Annotated[str, typer.Option("-n", metavar="N,N,...", help="Rows per mixture, measured in turn.")] = "2,5,10",
    strategy: Strategy = None,
    demux: Demux = None,
    mux_at: MuxAt = None,
    demux_at: DemuxAt = None,
    shape: Shape = None,
    length: Annotated[int, typer.Option(help="Tokens of a row, for text.")] = 128,
    rounds: Annotated[int, typer.Option(min=1, help="Rounds, each of which runs every configuration.")] = 5,
    train: Annotated[bool, typer.Option("--train", help="Forward and backward in training mode.")] = False,
    dtype: Annotated[
        Dtype,
        typer.Option(
            help="Of weights and inputs; auto: whichever of float32 and bfloat16 the bare model is faster in."
        ),
    ] = Dtype.FLOAT32,
    predicted: Annotated[bool, typer.Option("--predict", help="Predict the speed-up instead of measuring it.")] = False,
    plot: Annotated[Path | None, typer.Option(metavar="FILE", help="Draw speed-up against n here.")] = None,
    as_json: Json = False,
) -> None:
    """Measure a model bare and multiplexed in one run, each at its own best batch size, on this machine.

    For example:

        muxwrap bench timm:resnet50 -n 2,4,8

        muxwrap bench transformers:bert -n 10,40 --length 128 --dtype auto --plot speed.png

        muxwrap bench timm:vit_base_patch16_224 --predict

        muxwrap bench timm:resnet50 --json > speed.json
    """
    from muxwrap._util.named_models import model_named
    from muxwrap._util.plots import figures
    from muxwrap.errors import MuxwrapError
    from muxwrap.throughput import measure, predict

    if predicted and (plot or train):
        raise MuxwrapError(
            f"bench {model} --predict {'--train' if train else '--plot'}: a prediction is of the forward alone, without "
            "a table to draw; measure, without --predict"
        )
    if plot:
        figures()  # which may be missing: said before minutes of measuring
    counts, asked, device = numbers("-n", n), choices(strategy, demux, mux_at, demux_at, shape), _device()
    say: Callable[[str], object] = (lambda _: None) if as_json else print
    say(_machine(device))
    with running(f"making {model}") as show:
        backbone = model_named(model).to(device)
        tokens = length if getattr(backbone, "main_input_name", None) == "input_ids" else None
        options: dict[str, Any] = {"length": tokens, "train": train, "progress": show}
        chosen = dtype.value
        if dtype is Dtype.AUTO:
            chosen = _fastest(backbone, {**options, "example_input": asked["example_input"]}, say)
        if predicted:
            found = {count: predict(backbone, count, tokens, dtype=chosen, **asked) for count in counts}
        else:
            report = measure(backbone, counts, dtype=chosen, rounds=rounds, **options, **asked)
    if predicted:
        _show_predicted(found, model, chosen, as_json)
        return
    if as_json:
        show_json(report.records(backbone=model))
    else:
        print(report)
    if plot:
        report.plot().figure.savefig(plot)


def _fastest(backbone: nn.Module, options: dict[str, Any], say: Callable[[str], object]) -> str:
    """Measure the bare model in float32 and bfloat16, print the table, and return the faster dtype."""
    from muxwrap.throughput import compare_dtypes

    report: Report = compare_dtypes(backbone, **options)
    say(f"{report}\n\nThe bare model is fastest in {report.fastest.dtype}; multiplexed in that dtype:\n")
    return report.fastest.dtype


def _show_predicted(found: dict[int, float], model: str, dtype: str, as_json: bool) -> None:
    if as_json:
        show_json([{"backbone": model, "n": n, "dtype": dtype, "predicted": ratio} for n, ratio in found.items()])
        return
    for n, ratio in found.items():
        print(f"n={n}: {ratio:.2f}x, predicted in {dtype}")


def _device() -> torch.device:
    import torch

    accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    return accelerator or torch.device("cpu")


def _machine(device: torch.device) -> str:
    """Describe the device; of a processor, whether it has instructions for bfloat16."""
    import torch

    from muxwrap.throughput import bfloat16_instructions

    if device.type != "cpu":
        return f"on {torch.get_device_module(device).get_device_name(device)}"
    instructions = bfloat16_instructions() or "no instructions of its own, so it is emulated"
    return f"on the processor, {torch.get_num_threads()} threads; for bfloat16: {instructions}"
