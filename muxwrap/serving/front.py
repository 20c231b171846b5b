"""The two calls: a server with worker processes, and a service inside of another server."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from torch import nn

from muxwrap.errors import MuxwrapError
from muxwrap.serving.choices import inputs_for, sizes_for
from muxwrap.serving.groups import Groups
from muxwrap.serving.inputs import Inputs
from muxwrap.serving.passes import Passes

if TYPE_CHECKING:
    from muxwrap.serving.endpoint import Service
    from muxwrap.serving.lit import Server


def server(
    model: nn.Module,
    *,
    tokenizer: Any = None,
    transform: Callable[[Any], Any] | None = None,
    example_input: Any = None,
    input_range: tuple[float, float] | None = None,
    max_length: int | None = None,
    n_min: int | None = None,
    n_max: int | None = None,
    mixtures: int = 1,
    max_wait: float = 0.01,
    max_queue: int = 256,
    max_body: int = 10_000_000,
    timeout: float = 30.0,
    workers: int = 1,
    threads: int | None = None,
    accelerator: str = "auto",
    devices: Any = "auto",
) -> Server:
    """Make a server that fills mixtures from concurrent requests; ``run`` serves, ``running`` serves in the background.

    Args:
        model: a wrapped model; it is put into evaluation mode. A bare model is served with n=1: batches without mixtures.
        tokenizer: of Transformers, for a model of text.
        transform: from a ``PIL.Image`` to a row ``[C, H, W]``, for a model of images.
        example_input: a batch, for a model of numbers; its rows' shape and dtype are those of every request.
        input_range: smallest and largest number of a request, for ``example_input``; needed for integers.
        max_length: most tokens of a request, for ``tokenizer``; by default what it and the model allow, at most 512.
        n_min: smallest n. Where the model was wrapped for several n, n follows the queue between the bounds.
        n_max: largest n.
        mixtures: most mixtures of a pass.
        max_wait: seconds that a request waits for others while a worker is free.
        max_queue: requests that are accepted and not answered yet; more get status 429.
        max_body: most bytes of a request's body; more get status 413.
        timeout: seconds until a request gets status 504.
        workers: processes per device; each has the model.
        threads: of torch in a worker; by default torch's own number, shared among the workers.
        accelerator: LitServe's: ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"mps"``.
        devices: likewise.

    Raises:
        MuxwrapError: LitServe is not installed, an argument does not fit the model, or the model fails on the largest row
            that is allowed.

    Example:
        >>> server = muxwrap.serving.server(model, tokenizer=tokenizer)
        >>> server.run(port=8000)
    """
    try:
        from muxwrap.serving.lit import Server
    except ImportError as error:
        raise MuxwrapError(f"server: {error}; pip install 'muxwrap[serve]'") from error
    inputs, sizes, _ = _prepared(
        model,
        tokenizer=tokenizer,
        transform=transform,
        example_input=example_input,
        input_range=input_range,
        max_length=max_length,
        n_min=n_min,
        n_max=n_max,
    )
    return Server(
        model,
        inputs,
        sizes,
        workers=workers,
        accelerator=accelerator,
        devices=devices,
        threads=threads,
        max_body=max_body,
        mixtures=mixtures,
        max_wait=max_wait,
        max_queue=max_queue,
        timeout=timeout,
    )


def service(model: nn.Module, *, metrics: bool = False, max_body: int = 10_000_000, **options: Any) -> Service:
    """Make what answers requests inside of another server (Ray Serve, a FastAPI app); the model runs in a thread.

    ``await service.predict(request)`` answers a request of Starlette; ``service.mount(app)`` adds the routes to an app.

    Args:
        model: as for :func:`server`; it stays on its device.
        metrics: whether to count for Prometheus.
        max_body: most bytes of a request's body.
        options: of :func:`server`: the kind of input, ``n_min``, ``n_max``, ``mixtures``, ``max_wait``, ``max_queue`` and
            ``timeout``.

    Raises:
        MuxwrapError: as for :func:`server`.
    """
    try:
        from muxwrap.serving.endpoint import Service
        from muxwrap.serving.metrics import Metrics
    except ImportError as error:
        raise MuxwrapError(f"service: {error}; pip install 'muxwrap[serve]'") from error
    kind = {name: options.pop(name) for name in _KIND if name in options}
    inputs, sizes, passes = _prepared(model, **kind)
    thread = ThreadPoolExecutor(1, "muxwrap-pass")

    async def run(mixtures: list[list[Any]], n: int) -> list[list[Any]]:
        return await asyncio.get_running_loop().run_in_executor(thread, passes, mixtures, n)

    counted = Metrics() if metrics else None
    if counted is not None:
        options["observe"] = counted.passed
    return Service(inputs, Groups(run, sizes, **options), counted, max_body=max_body)


_KIND = ("tokenizer", "transform", "example_input", "input_range", "max_length", "n_min", "n_max")


def _prepared(
    model: nn.Module, *, n_min: int | None = None, n_max: int | None = None, **kind: Any
) -> tuple[Inputs, Any, Passes]:
    """Return the inputs, the n to choose from and what runs a pass, which has run the largest row once."""
    sizes = sizes_for(model, n_min, n_max)
    inputs = inputs_for(model, **kind)
    device = next((parameter.device for parameter in model.parameters()), "cpu")
    passes = Passes(model, inputs.collate, device)
    passes.try_largest(inputs.largest(), 1, sizes[-1])
    return inputs, sizes, passes
