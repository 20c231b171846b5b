"""``muxwrap frontier``: what a trained model can become, measured beside its rivals."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from muxwrap.cli._options import Json, numbers
from muxwrap.cli._output import show_json
from muxwrap.errors import MuxwrapError

if TYPE_CHECKING:
    from torch import nn


def frontier(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            help="hf:FOLDER that save_pretrained wrote, or package.module:FUNCTION that returns a trained model.",
            show_default=False,
        ),
    ],
    data: Annotated[
        str,
        typer.Argument(
            metavar="DATA",
            help="package.module:FUNCTION that returns batches to train on, labelled ones to choose by, and if there are "
            "some, labelled ones to score.",
            show_default=False,
        ),
    ],
    n: Annotated[str, typer.Option("-n", metavar="N,N,...", help="Rows per mixture.")] = "4,8",
    at: Annotated[
        str | None, typer.Option(metavar="K,K,...", help="Layers after which is mixed; by default a third and half.")
    ] = None,
    layers: Annotated[
        str | None,
        typer.Option(metavar="K,K,...", help="Layers to keep; by default all, two thirds, half and a third."),
    ] = None,
    strategy: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="How rows are mixed, see `muxwrap list`; can be repeated.")
    ] = None,
    rival: Annotated[list[str] | None, typer.Option(metavar="NAME", help="Only these rivals; can be repeated.")] = None,
    steps: Annotated[int, typer.Option(min=1, help="Optimizer steps of every training.")] = 1000,
    lr: Annotated[float, typer.Option(help="Learning rate of every training.")] = 1e-4,
    rounds: Annotated[int, typer.Option(min=1, help="Rounds of timing, each of which runs every model.")] = 5,
    dtype: Annotated[
        str, typer.Option(help="Of weights and inputs in scoring and timing; auto: the faster of float32 and bfloat16.")
    ] = "auto",
    points: Annotated[float, typer.Option(min=0.0, help="Accuracy that may be lost, of 100, in the last line.")] = 2.0,
    seed: Annotated[int, typer.Option(help="Of everything that is drawn.")] = 0,
    folder: Annotated[
        Path | None, typer.Option(help="Keep records and weights here, and go on from what is there.")
    ] = None,
    plot: Annotated[Path | None, typer.Option(metavar="FILE", help="Draw accuracy against speed here.")] = None,
    as_json: Json = False,
) -> None:
    """Distil a trained model into multiplexed ones and into their rivals, and measure accuracy and speed of all.

    Every model is trained in the same steps on the same batches. The last line says what some points of accuracy buy, and
    whether a rival is the better choice.

    For example:

        muxwrap frontier hf:my-model my_project.data:batches --folder runs/frontier

        muxwrap frontier my_project.models:trained my_project.data:batches -n 4,8,16 --layers 6,4,3 --at 2 --plot chart.png

        muxwrap frontier hf:my-model my_project.data:batches --rival layers --rival int8 --json > chart.json
    """
    import torch

    import muxwrap
    from muxwrap._util.plots import figures

    if plot:
        figures()  # which may be missing: said before hours of training
    train, held_out, test = _batches(data)
    device = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    found = muxwrap.frontier(
        _trained(model).to(device or "cpu"),
        train,
        held_out,
        test=test,
        n=numbers("-n", n),
        at=None if at is None else numbers("--at", at),
        layers=None if layers is None else numbers("--layers", layers),
        strategies=strategy or None,
        rivals=rival or None,
        steps=steps,
        lr=lr,
        dtype=dtype,
        seed=seed,
        folder=folder,
        timing={"rounds": rounds},
        progress=not as_json,
    )
    if plot:
        found.plot().figure.savefig(plot)
    if as_json:
        show_json(found.records())
        return
    print(found)
    if points != 2.0:
        print(f"\n{found.sentence(points)}")


def _batches(name: str) -> tuple[Any, Any, Any]:
    """Return what the user's function gives: batches to train on, to choose by, and to score or None.

    Raises:
        MuxwrapError: it gives something else.
    """
    from muxwrap._util.named_models import function_named

    found = function_named(name)()
    if not isinstance(found, (tuple, list)) or len(found) not in (2, 3):
        raise MuxwrapError(
            f"frontier {name}: it returned a {type(found).__name__}; return (train, held_out) or (train, held_out, test)"
        )
    train, held_out, test = (*found, None)[:3]
    return train, held_out, test


def _trained(name: str) -> nn.Module:
    """Return a trained model.

    Raises:
        MuxwrapError: the name stands for a model without its weights.
    """
    from muxwrap._util.named_models import model_named

    family, _, folder = name.partition(":")
    if family == "hf":
        made: Any = model_named(name)
        loaded: nn.Module = type(made).from_pretrained(folder)
        return loaded
    if family in ("timm", "torchvision", "transformers"):
        raise MuxwrapError(
            f"frontier {name}: weights are not loaded by this name, and a chart is of a trained model; give hf:FOLDER, or "
            "package.module:FUNCTION that returns the trained model"
        )
    return model_named(name)
