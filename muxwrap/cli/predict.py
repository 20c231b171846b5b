"""``muxwrap predict``: answers for files of rows, written as Parquet."""

from __future__ import annotations

import dataclasses
import sys
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer

from muxwrap.cli._options import Json
from muxwrap.cli._output import show_json


class Dtype(str, Enum):
    """Of weights and inputs."""

    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"
    FLOAT16 = "float16"


def predict(
    folder: Annotated[
        str, typer.Argument(metavar="FOLDER", help="A wrapped model that save_pretrained wrote.", show_default=False)
    ],
    inputs: Annotated[
        list[Path],
        typer.Argument(
            metavar="INPUT...", help="Parquet, CSV, TSV, JSON lines and images, or folders.", show_default=False
        ),
    ],
    out: Annotated[Path, typer.Option(metavar="DIR", help="A new folder, or one to go on with.", show_default=False)],
    text: Annotated[
        list[str] | None, typer.Option(metavar="COLUMN", help="The texts; twice for pairs. By default text.")
    ] = None,
    image: Annotated[str, typer.Option(metavar="COLUMN", help="The images of a table.")] = "image",
    key: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="What names a row; by default its file and number.")
    ] = None,
    group_by: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="Rows of different values never share a mixture.")
    ] = None,
    tokenizer: Annotated[
        str | None, typer.Option(metavar="FOLDER", help="Where the tokenizer is, if not beside the model.")
    ] = None,
    processor: Annotated[
        str | None, typer.Option(metavar="FOLDER", help="Where the image processor is, if not beside the model.")
    ] = None,
    max_length: Annotated[int | None, typer.Option(min=1, help="In tokens; longer texts are cut.")] = None,
    n: Annotated[int | None, typer.Option("-n", min=1, help="Rows per mixture, one of the model's numbers.")] = None,
    batch: Annotated[int | None, typer.Option(min=1, help="Rows of a call; by default 32 mixtures.")] = None,
    part: Annotated[
        int | None, typer.Option(min=1, help="Rows of a file of answers; by default 8192 texts or 512 images.")
    ] = None,
    dtype: Annotated[Dtype | None, typer.Option(help="Of the model; by default as it was saved.")] = None,
    label: Annotated[bool, typer.Option("--label", help="Add the likeliest class and its probability.")] = False,
    ray: Annotated[bool, typer.Option("--ray", help="Spread the parts over a Ray cluster, or over all cores.")] = False,
    workers: Annotated[int | None, typer.Option(min=1, help="Of Ray; by default a GPU or a core each.")] = None,
    as_json: Json = False,
) -> None:
    """Answer every row of files and write the answers as Parquet, a row for a row; the same command goes on where it stopped.

    For example:

        muxwrap predict my-model reviews.parquet --out answers --key id --label

        muxwrap predict my-model pairs.jsonl --out answers --text question --text passage

        muxwrap predict my-model photos/ --out answers --dtype bfloat16

        muxwrap predict my-model reviews/ --out answers --group-by tenant --ray --workers 8
    """
    import torch

    import muxwrap
    from muxwrap.inference import predict as answer
    from muxwrap.inference.beside import encoder_beside

    model: Any = muxwrap.from_pretrained(folder)
    if n is not None:
        model.n = n
    if dtype is not None:
        model.to(getattr(torch, dtype.value))
    if not ray and torch.accelerator.is_available():
        model.to(torch.accelerator.current_accelerator())
    options: dict[str, Any] = {"tokenizer": tokenizer, "processor": processor, "max_length": max_length, "image": image}
    encoder = encoder_beside(folder, model, text=tuple(text or ["text"]), **options)
    summary = answer(
        model,
        inputs,
        out,
        encoder,
        key=key,
        group_by=group_by,
        batch=batch,
        part=part,
        label=label,
        ray=ray,
        workers=workers,
        progress=sys.stderr.isatty(),
    )
    if as_json:
        show_json(dataclasses.asdict(summary))
    else:
        print(summary)
    raise typer.Exit(int(summary.errors == summary.rows))
