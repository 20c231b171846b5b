"""The server under load, in a process of its own: ``python -m benchmarks.serving.app '{"port": 8000, ...}'``."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import httpx

from benchmarks.serving.subject import Subject
from muxwrap.serving.listening import bound


def main(words: str) -> None:
    from muxwrap.serving import server

    asked = json.loads(words)
    subject = Subject(**asked["subject"])
    made = server(subject.model(asked["wrapped"]), tokenizer=subject.tokenizer(), **asked["options"])
    made.run(port=asked["port"], log_level="warning")


@contextlib.contextmanager
def serving(subject: Subject, wrapped: bool, **options: Any) -> Iterator[tuple[str, int]]:
    """Run the server as long as the block runs, and yield its address and the id of its process."""
    with bound("127.0.0.1", 0) as free:
        port = free.getsockname()[1]
    asked = {"subject": asdict(subject), "wrapped": wrapped, "port": port, "options": options}
    process = subprocess.Popen([sys.executable, "-m", "benchmarks.serving.app", json.dumps(asked)])
    address = f"http://127.0.0.1:{port}"
    try:
        with httpx.Client() as client:
            while True:
                if process.poll() is not None:
                    raise RuntimeError(f"the server ended with {process.returncode} before it was ready")
                with contextlib.suppress(httpx.HTTPError):
                    if client.get(f"{address}/health").status_code == 200:
                        break
                time.sleep(0.2)
        yield address, process.pid
        process.terminate()
        if process.wait(60) != 0:
            raise RuntimeError(f"the server ended with {process.returncode}")
    finally:
        process.kill()


if __name__ == "__main__":
    main(sys.argv[1])
