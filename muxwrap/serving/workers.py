"""LitServe's part: processes that hold the model, one a device, started again when they die."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pickle
import signal
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any

from litserve import LitAPI
from litserve.specs.base import LitSpec
from litserve.utils import LitAPIStatus, ResponseBufferItem
from torch import nn

from muxwrap.errors import MuxwrapError
from muxwrap.serving.inputs import Inputs
from muxwrap.serving.parents import end_with_parent
from muxwrap.serving.passes import Passes
from muxwrap.serving.requests import RequestError

PATH = "/predict"
_LOOK = 1.0  # seconds, several times as long as it takes a free worker to begin
_WAITING = "OMP_WAIT_POLICY"


class _Done:
    """What a request of LitServe waits for. It may be set from another thread, as LitServe does when a worker died."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._event, self._set = asyncio.Event(), False

    def set(self) -> None:
        self._set = True
        self._loop.call_soon_threadsafe(self._event.set)

    def is_set(self) -> bool:
        return self._set

    async def wait(self) -> None:
        await self._event.wait()


class Pending(dict[str, ResponseBufferItem]):
    """What waits for workers. LitServe's watch goes through it in a thread of its own, while items come and go."""

    def items(self) -> Any:
        """Return those of now."""
        return list(super().items())


class GroupSpec(LitSpec):
    """Hands groups to the workers, where LitServe's own endpoint would hand on single requests."""

    def __init__(self) -> None:
        super().__init__()
        self.api_path = PATH

    def __getstate__(self) -> dict[str, Any]:
        # A worker needs neither the server nor the requests that wait, and they cannot be pickled.
        return {**super().__getstate__(), "response_buffer": None, "request_queue": None}

    def setup(self, server: Any) -> None:
        """Take nothing of the server's copy: LitServe makes one per worker."""

    async def run(self, mixtures: list[list[Any]], n: int) -> list[list[Any]]:
        """Run a pass in a worker.

        Raises:
            RequestError: the worker died (503), or the pass failed in it (500).
        """
        server, name, item = self._server, uuid.uuid4().hex, ResponseBufferItem(event=_Done())
        queue = server._get_request_queue(PATH)
        server.response_buffer[name] = item
        try:
            message = (server.app.response_queue_id, name, time.monotonic(), (mixtures, n))
            while not item.event.is_set():
                workers = list(server.inference_workers)
                while not await asyncio.to_thread(_put, server, queue, message):
                    await asyncio.sleep(0.05)
                await _taken(item, server, workers)
        finally:
            server.response_buffer.pop(name, None)
        answers, status = item.response
        if status != LitAPIStatus.OK and answers is None:
            raise RequestError(503, "the worker ended before it had answered; send the request again", 1)
        if status != LitAPIStatus.OK:
            raise RequestError(500, "the pass failed")
        return answers


async def _taken(item: ResponseBufferItem, server: Any, workers: list[Any]) -> None:
    """Wait for the answer; or return where nobody began, and a worker died that may have asked the queue for the group.

    Nothing is lost when it is handed over again: of two answers the second finds nobody who waits.
    """
    while item.event.is_set() or item.worker_id is not None or server.inference_workers == workers:
        with contextlib.suppress(asyncio.TimeoutError):
            return await asyncio.wait_for(item.event.wait(), _LOOK)


def _put(server: Any, queue: Any, message: Any) -> bool:
    """Hand a group over if a worker is there: what a dead one has asked the queue for, it would take into its grave."""
    if not server.ready():
        return False
    queue.put(message)
    return True


class GroupAPI(LitAPI):
    """The model in a worker.

    Args:
        model: what is served; it travels as bytes, since shared memory is small in containers.
        inputs: rows of its calls.
        shape: mixtures and n of the largest pass, which is run before the first request.
        threads: of torch in a worker.
        workers: that share the processor's cores, where ``threads`` is not given.
        healthy: whether new requests are taken.

    Raises:
        MuxwrapError: the model cannot be pickled.
    """

    def __init__(
        self,
        model: nn.Module,
        inputs: Inputs,
        shape: tuple[int, int],
        threads: int | None,
        workers: int,
        healthy: Callable[[], bool],
    ) -> None:
        super().__init__(api_path=PATH, spec=GroupSpec())
        self.pickled, self.collate, self.largest = _pickled(model), inputs.collate, inputs.largest()
        self.shape, self.threads, self.workers, self.healthy = shape, threads, workers, healthy

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "healthy": None}

    def setup(self, device: str) -> None:
        """Get ready in a worker: the interrupt of a terminal is the server's, and no worker outlives it."""
        import torch

        signal.signal(signal.SIGINT, signal.SIG_IGN)
        end_with_parent()
        torch.set_num_threads(self.threads or max(1, torch.get_num_threads() // self.workers))
        self.passes = Passes(pickle.loads(self.pickled), self.collate, device)
        self.pickled = b""
        self.passes.try_largest(self.largest, *self.shape)

    def health(self) -> bool:
        """Whether the server takes requests."""
        return self.healthy()

    def decode_request(self, request: Any) -> Any:
        """Return the group as it is."""
        return request

    def predict(self, group: tuple[list[list[Any]], int]) -> list[list[Any]]:
        """Run the pass of a group."""
        return self.passes(*group)

    def encode_response(self, output: Any) -> Any:
        """Return the answers as they are."""
        return output


@contextlib.contextmanager
def threads_sleep() -> Iterator[None]:
    """Let the threads of workers that start in this block sleep while they wait for each other.

    By default they spin. Where a core is not theirs alone, as beside the server itself, the others burn theirs meanwhile,
    and a pass takes several times as long. OpenMP reads this once, when a process loads it.
    """
    given = os.environ.get(_WAITING)
    os.environ.setdefault(_WAITING, "PASSIVE")
    try:
        yield
    finally:
        if given is None:
            os.environ.pop(_WAITING, None)


def _pickled(model: nn.Module) -> bytes:
    try:
        return pickle.dumps(model)
    except Exception as error:
        raise MuxwrapError(
            f"server({type(model).__name__}): a worker gets the model pickled, and it cannot be ({error}); define its classes "
            "and functions at the top of a module"
        ) from error
