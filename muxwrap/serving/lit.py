"""A server of a wrapped model: LitServe's workers, the groups, and an end that leaves nobody without an answer."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
import warnings
from collections.abc import Iterator
from multiprocessing.connection import wait
from typing import Any

import uvicorn
from fastapi import Depends
from litserve import LitServer
from litserve.utils import WorkerSetupStatus, wrap_litserve_start
from torch import nn

from muxwrap.errors import MuxwrapError
from muxwrap.serving.endpoint import Service
from muxwrap.serving.groups import Groups
from muxwrap.serving.heads import BoundedHeads
from muxwrap.serving.inputs import Inputs
from muxwrap.serving.listening import Http, bound
from muxwrap.serving.metrics import Metrics
from muxwrap.serving.parents import end_with_parent  # noqa: F401 - which the manager is asked for
from muxwrap.serving.workers import GroupAPI, Pending, threads_sleep


class Server(LitServer):
    """LitServe's server with groups in front of its workers.

    Requests are read, refused and grouped in the process of the server, and only whole groups go to a worker. So a bad
    request never reaches a group, all workers draw on one queue, and a worker that dies takes one group with it.

    Args:
        model: what is served.
        inputs: what a request holds.
        sizes: the n to choose from.
        workers: per device.
        accelerator: LitServe's: ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"mps"``.
        devices: likewise.
        threads: of torch in a worker; by default torch's own number, shared among the workers.
        max_body: most bytes of a request's body.
        queue: arguments of :class:`~muxwrap.serving.Groups`.
    """

    def __init__(
        self,
        model: nn.Module,
        inputs: Inputs,
        sizes: Any,
        *,
        workers: int = 1,
        accelerator: str = "auto",
        devices: Any = "auto",
        threads: int | None = None,
        max_body: int = 10_000_000,
        **queue: Any,
    ) -> None:
        shape = (queue.get("mixtures", 1), sizes[-1])
        self.groups: Groups | None = None
        healthy = lambda: self.groups is not None and not self.groups.closing  # noqa: E731
        api = GroupAPI(model, inputs, shape, threads, workers, healthy)
        timeout = queue.get("timeout", 30.0)
        super().__init__(
            api,
            accelerator=accelerator,
            devices=devices,
            workers_per_device=workers,
            timeout=timeout,
            restart_workers=True,
        )
        self.response_buffer = Pending()
        self.monitor_internal = 0.25  # seconds; LitServe looks after its workers so often
        metrics = Metrics()
        slots = len(self.devices) * workers
        self.groups = Groups(api.spec.run, sizes, slots=slots, observe=metrics.passed, **queue)
        self.service = Service(inputs, self.groups, metrics, max_body=max_body)
        self.service.mount(self.app, [Depends(self.setup_auth(api))])

    def run(self, host: str = "127.0.0.1", port: int | str = 8000, **options: Any) -> None:
        """Serve until the process is told to end (SIGTERM, Ctrl-C): new requests get 503, those accepted are answered.

        Args:
            host: address to listen at; by default only this machine reaches it.
            port: likewise; 0 takes a free one.
            options: of ``uvicorn.Config``.

        Raises:
            MuxwrapError: the workers could not start, or the address is taken.
        """
        with bound(host, int(port)) as listener, self._workers():
            http = self._http(**options)
            logging.getLogger("uvicorn.error").info("Serving at http://%s:%s", *listener.getsockname()[:2])
            http.run([listener])

    @contextlib.contextmanager
    def running(self, host: str = "127.0.0.1", port: int = 0) -> Iterator[str]:
        """Serve in the background as long as a block runs.

        Yields:
            The server's address, such as ``http://127.0.0.1:8000``.

        Raises:
            MuxwrapError: as :meth:`run`.
        """
        with bound(host, port) as listener, self._workers():
            address = "http://{}:{}".format(*listener.getsockname()[:2])
            http = self._http(log_level="warning")
            thread = threading.Thread(target=http.run, args=([listener],), name="muxwrap-http")
            thread.start()
            try:
                while not http.started and thread.is_alive():
                    time.sleep(0.01)
                yield address
            finally:
                http.stopping = True
                thread.join()

    def ready(self) -> bool:
        """Whether a worker could run a pass."""
        states = zip(self.workers_setup_status.values(), self.inference_workers, strict=True)
        return any(state == WorkerSetupStatus.READY and not wait([worker.sentinel], 0) for state, worker in states)

    def _init_manager(self, num_api_servers: int) -> Any:
        """Start LitServe's manager, a process of its own, which is to end when this one is killed."""
        manager = super()._init_manager(num_api_servers)
        manager.end_with_parent()
        return manager

    def _http(self, **options: Any) -> Http:
        assert self.groups is not None
        options = {
            "access_log": False,
            "http": BoundedHeads,
            "timeout_graceful_shutdown": round(self.groups.timeout) + 1,
            **options,
        }
        return Http(uvicorn.Config(self.app, **options), self.groups)

    @contextlib.contextmanager
    def _workers(self) -> Iterator[None]:
        """Run the workers, and LitServe's watch over them, as long as a block runs."""
        with threads_sleep(), contextlib.ExitStack() as stack:
            with warnings.catch_warnings():  # LitServe's manager is forked, and it uses no lock of our threads
                warnings.filterwarnings("ignore", ".*use of fork", DeprecationWarning)
                stack.enter_context(wrap_litserve_start(self))
            self._wait_for_workers()
            before = set(threading.enumerate())
            self._start_worker_monitoring(self.manager, {})
            watch = set(threading.enumerate()) - before
            try:
                yield
            finally:
                self._shutdown_event.set()
                for each in watch:  # before the workers end, lest it starts them again
                    each.join()

    def _wait_for_workers(self) -> None:
        while not all(status == WorkerSetupStatus.READY for status in self.workers_setup_status.values()):
            failed = WorkerSetupStatus.ERROR in self.workers_setup_status.values()
            if failed or not all(worker.is_alive() for worker in self.inference_workers):
                raise MuxwrapError(
                    "server: a worker ended before it was ready; what it wrote above says why. The model has to fit into its "
                    "memory, and a script that starts a server needs `if __name__ == '__main__':`"
                )
            time.sleep(0.02)
