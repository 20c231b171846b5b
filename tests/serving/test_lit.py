"""The whole server: LitServe's workers behind the groups, a worker that dies, and the end."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
import torch
from litserve.utils import LitAPIStatus
from served import LATE, at_once, in_process, model, rows, slow

from muxwrap import serving
from muxwrap.errors import MuxwrapError
from muxwrap.serving import workers

EXAMPLE = rows(1)


def wait_until(true: Any, seconds: float = 30.0) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


def test_a_worker_that_dies_takes_its_group_with_it_and_no_other() -> None:
    net, x = slow(), rows(9)
    bodies = [{"input": row.tolist()} for row in x]
    server = serving.server(net, example_input=EXAMPLE, n_min=4, max_wait=0.3, threads=1, timeout=60.0)

    def check(responses: list[httpx.Response], x: torch.Tensor) -> None:
        answers = [response.json() for response in responses]
        given = torch.tensor([answer["output"] for answer in answers])
        torch.testing.assert_close(given, in_process(net, x, answers), atol=1e-5, rtol=1e-4)

    with server.running() as address, httpx.Client(base_url=address, timeout=60) as client:
        assert client.get("/health").text == "ok"
        check(at_once(client, bodies), x)
        assert 'muxwrap_rows_total{n="4"} 9.0' in client.get("/metrics").text
        with ThreadPoolExecutor() as threads:
            lost = threads.submit(client.post, "/predict", json={"input": [LATE] * 12})
            wait_until(lambda: not server.groups.waiting and server.groups.admitted == 1)
            time.sleep(0.5)  # the worker has it
            later = threads.submit(at_once, client, bodies[:2])
            wait_until(lambda: server.groups.waiting == 2)
            (worker,) = server.inference_workers
            if os.path.exists(f"/proc/{worker.pid}/environ"):
                assert b"OMP_WAIT_POLICY=PASSIVE" in Path(f"/proc/{worker.pid}/environ").read_bytes()
            began = time.monotonic()
            os.kill(worker.pid, signal.SIGKILL)
            assert lost.result().status_code == 503 and time.monotonic() - began < 10
            assert "the worker ended before it had answered" in lost.result().json()["error"]
            assert client.get("/health").status_code == 503
            check(later.result(), x[:2])
        assert client.get("/health").status_code == 200
        (idle,) = server.inference_workers
        os.kill(idle.pid, signal.SIGKILL)
        check(at_once(client, bodies[:2]), x[:2])  # which waited for the next worker
    assert not any(worker.is_alive() for worker in server.inference_workers)
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{address}/health")


def test_a_group_that_a_dead_worker_asked_for_is_handed_over_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker waits at the queue, dies, and gets the group: nobody began, so the next worker is asked."""
    monkeypatch.setattr(workers, "_LOOK", 0.05)
    spec, sent = workers.GroupSpec(), []

    def put(message: Any) -> None:
        sent.append(message)
        if len(sent) == 1:  # into the grave; the watch starts another worker
            server.inference_workers[0] = "another"
        else:
            item = server.response_buffer[message[1]]
            item.worker_id, item.response = 0, ([["answer"]], LitAPIStatus.OK)
            item.event.set()

    server = SimpleNamespace(
        app=SimpleNamespace(response_queue_id=0),
        inference_workers=["one", "two"],
        ready=lambda: True,
        response_buffer={},
        _get_request_queue=lambda _: SimpleNamespace(put=put),
    )
    spec._server = server
    assert asyncio.run(asyncio.wait_for(spec.run([["row"]], 1), 20)) == [["answer"]]
    assert sent[0] == sent[1] and len(sent) == 2 and not server.response_buffer


def test_the_watch_over_workers_bears_that_requests_come_and_go() -> None:
    server = serving.server(model(), example_input=EXAMPLE)
    server.response_buffer |= {name: None for name in "ab"}
    for name, _ in server.response_buffer.items():
        server.response_buffer.pop(name)
    assert not server.response_buffer and type(server.response_buffer) is workers.Pending


SCRIPT = """
from muxwrap import serving
from nets import batch
from served import model

if __name__ == "__main__":
    server = serving.server(model(n=4), example_input=batch("mlp", 1), max_wait=30.0, timeout=60.0, threads=1)
    server.run(port=0)
"""


@contextmanager
def started(folder: Path) -> Iterator[tuple[subprocess.Popen[bytes], httpx.Client]]:
    """Run the script, wait until its server is there, and kill it at the end."""
    script, written = folder / "script.py", folder / "log"
    script.write_text(SCRIPT)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    with written.open("w") as log:
        process = subprocess.Popen([sys.executable, str(script)], env=environment, stderr=log)

    def address() -> str | None:
        assert process.poll() is None, written.read_text()
        found = re.search(r"Serving at (\S+)\n", written.read_text())
        return found and found[1]

    try:
        wait_until(address, 120)
        with httpx.Client(base_url=address(), timeout=30) as client:

            def up() -> bool:
                try:
                    return client.get("/health").status_code == 200
                except httpx.ConnectError:  # it listens a moment later
                    return False

            wait_until(up)
            yield process, client
    finally:
        process.kill()
        process.wait()


def test_at_a_signal_what_was_accepted_is_answered(tmp_path: Path) -> None:
    """Two rows of four wait for others when the signal comes: they are run at once, and the process ends."""
    with started(tmp_path) as (process, client):
        x = rows(2)
        with ThreadPoolExecutor() as threads:
            asked = threads.submit(at_once, client, [{"input": row.tolist()} for row in x])
            wait_until(lambda: "muxwrap_queue_length 2.0" in client.get("/metrics").text)
            process.send_signal(signal.SIGTERM)
            answers = [response.json() for response in asked.result(20)]
        given = torch.tensor([answer["output"] for answer in answers])
        torch.testing.assert_close(given, in_process(model(n=4), x, answers), atol=1e-5, rtol=1e-4)
        assert process.wait(30) == 0


def children(pid: int) -> list[int]:
    """Return the processes that a process started."""
    found = [int(child) for path in Path(f"/proc/{pid}/task").glob("*/children") for child in path.read_text().split()]
    return sorted(found)


def lives(pid: int) -> bool:
    """Whether a process runs; one that ended may still stand in the list."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.mark.skipif(not os.path.exists("/proc/self/task"), reason="reads the processes of Linux")
def test_no_process_is_left_of_a_server_that_was_killed(tmp_path: Path) -> None:
    with started(tmp_path) as (process, client):
        found = children(process.pid)
        assert len(found) >= 3, "a worker, LitServe's manager and Python's resource tracker"
        process.kill()
        wait_until(lambda: not any(lives(pid) for pid in found), 20)
        wait_until(lambda: can_listen(client.base_url.host, client.base_url.port), 20)


def can_listen(host: str, port: int) -> bool:
    """Whether the next server could listen there."""
    with socket.socket() as again:
        again.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            again.bind((host, port))
        except OSError:  # the system may take a moment
            return False
    return True


def test_servers_that_cannot_start() -> None:
    net = model()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        server = serving.server(net, example_input=EXAMPLE)
        with pytest.raises(
            MuxwrapError, match=r"server: cannot listen at 127\.0\.0\.1:\d+ \(.*\); choose another host"
        ):
            server.run(port=taken.getsockname()[1])
    server.workers_setup_status, server.inference_workers = {"predict_0": "error"}, []
    with pytest.raises(MuxwrapError, match=r"server: a worker ended before it was ready; what it wrote above says why"):
        server._wait_for_workers()
    net.backbone.hidden.act = lambda x: x
    with pytest.raises(
        MuxwrapError, match=r"server\(MLP\): a worker gets the model pickled, and it cannot be .*; define"
    ):
        serving.server(net, example_input=EXAMPLE)


def test_missing_packages_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("muxwrap.serving.lit", "muxwrap.serving.endpoint", "muxwrap.serving.metrics"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    for name in ("litserve", "fastapi", "prometheus_client"):
        monkeypatch.setitem(sys.modules, name, None)
    for make in (serving.server, serving.service):
        with pytest.raises(MuxwrapError, match=r"serv\w+: .*; pip install 'muxwrap\[serve\]'"):
            make(model(), example_input=EXAMPLE)
