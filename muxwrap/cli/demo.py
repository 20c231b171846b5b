"""``muxwrap demo``: a small network trained bare and multiplexed on real digits."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from muxwrap.cli._options import Json, numbers
from muxwrap.cli._output import running, show_json, show_table


def demo(
    data: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="The four idx files of MNIST or of a data set like it, gzipped or not."),
    ] = None,
    n: Annotated[str, typer.Option("-n", metavar="N,N,...", help="Images per mixture, one model each.")] = "2,4,8",
    epochs: Annotated[
        int | None, typer.Option(min=1, help="Of every model.", show_default="100, for a folder 4")
    ] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Use this many images to train on and to test at most.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Train a small network bare and multiplexed on handwritten digits; print accuracy and speed of each.

    The digits are scikit-learn's, 8 x 8 pixels: four minutes on two cores. Everything runs on the processor. Accuracy is the
    mean and the deviation over five random groupings of the test images; each model is timed at its own best batch size.

    For example:

        muxwrap demo

        muxwrap demo -n 4 --epochs 20

        muxwrap demo --data mnist --json > demo.json
    """
    from muxwrap._demo.images import digits, mnist_format
    from muxwrap._demo.run import label, run

    say = (lambda _: None) if as_json else print
    counts = numbers("-n", n)
    images = (mnist_format(str(data)) if data else digits()).first(limit)
    epochs = epochs or (4 if data else 100)
    rows, tests = len(images.train_x), len(images.test_x)
    say(f"{images.name}: {rows:,} images to train on, {tests:,} to test, {epochs} epoch{'s' * (epochs > 1)} each")
    with running("train") as show:
        records = run(images, counts, epochs, show=show, say=say)
    if as_json:
        show_json(records)
        return
    print()
    titles = ("model", "accuracy", "images/s", "speed-up", "added parameters")
    show_table(titles, ([label(each["n"]), *_shown(each)] for each in records))


def _shown(record: dict[str, float]) -> list[str]:
    accuracy = f"{record['mean']:.1f} ± {record['std']:.1f} %"
    speed = [f"{record['instances_per_second']:,.0f}", f"{record['ratio_to_bare']:.2f}x"]
    return [accuracy, *speed, f"{record['added_parameters']:,}"]
