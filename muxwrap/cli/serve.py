"""``muxwrap serve``: a saved model behind HTTP."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def serve(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="What model.save_pretrained wrote.")],
    tokenizer: Annotated[
        Path | None, typer.Option(metavar="DIR", help="The tokenizer's folder; by default that of the model.")
    ] = None,
    backbone: Annotated[
        str | None, typer.Option(metavar="MODEL", help="The bare model, where the folder does not say how to make it.")
    ] = None,
    shape: Annotated[
        str | None, typer.Option(metavar="A,B,C", help="Serve numbers: the shape of a row, without the batch.")
    ] = None,
    dtype: Annotated[str, typer.Option(help="Of these numbers.")] = "float32",
    within: Annotated[
        tuple[float, float] | None, typer.Option("--range", metavar="LOW HIGH", help="Smallest and largest number.")
    ] = None,
    max_length: Annotated[int | None, typer.Option(help="Most tokens of a text.", show_default="at most 512")] = None,
    host: Annotated[str, typer.Option(help="Address to listen at; 0.0.0.0 lets other machines in.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535)] = 8000,
    n_min: Annotated[int | None, typer.Option(help="Smallest n, for a model that was wrapped for several.")] = None,
    n_max: Annotated[int | None, typer.Option(help="Largest n.")] = None,
    mixtures: Annotated[int, typer.Option(help="Most mixtures of a pass.")] = 1,
    max_wait_ms: Annotated[float, typer.Option(help="How long a request waits for others, at most.")] = 10.0,
    max_queue: Annotated[int, typer.Option(help="Requests in progress; more get status 429.")] = 256,
    max_body: Annotated[int, typer.Option(help="Bytes of a request; more get status 413.")] = 10_000_000,
    timeout: Annotated[float, typer.Option(help="Seconds until a request gets status 504.")] = 30.0,
    workers: Annotated[int, typer.Option(help="Processes per device, each with the model.")] = 1,
    threads: Annotated[
        int | None, typer.Option(help="Of a worker, on a processor.", show_default="torch's, shared")
    ] = None,
    accelerator: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    log_level: Annotated[str, typer.Option(help="critical, error, warning, info or debug.")] = "info",
) -> None:
    """Serve a saved model over HTTP: mixtures are filled from concurrent requests.

    A folder with a tokenizer takes text, one with an image processor or a model of timm takes images.

    For example:

        muxwrap serve model --port 8000

        muxwrap serve model --tokenizer my-tokenizer --n-min 2 --max-wait-ms 5

        muxwrap serve model --backbone nets:make --shape 12

    Requests go to POST /predict; GET /health, /metrics and /docs say more.
    """
    import muxwrap
    from muxwrap._util.named_models import model_named
    from muxwrap.errors import MuxwrapError
    from muxwrap.serving import server
    from muxwrap.serving.folders import kind_of_input

    if not folder.is_dir():
        raise MuxwrapError(f"serve {folder}: no folder there; give one that save_pretrained wrote")
    bare = None if backbone is None else model_named(backbone)
    model = muxwrap.from_pretrained(folder, bare)
    made = server(
        model,
        **kind_of_input(folder, model, tokenizer, shape, dtype),
        input_range=within,
        max_length=max_length,
        n_min=n_min,
        n_max=n_max,
        mixtures=mixtures,
        max_wait=max_wait_ms / 1000,
        max_queue=max_queue,
        max_body=max_body,
        timeout=timeout,
        workers=workers,
        threads=threads,
        accelerator=accelerator,
    )
    del model  # the workers get copies
    made.run(host=host, port=port, log_level=log_level)
