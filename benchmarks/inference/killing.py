"""Ending a worker of Ray while it answers a part."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

TASK = "ray::_run"
"""How Ray calls a process while it runs the function of :mod:`muxwrap.inference.spread`."""


class Killer(threading.Thread):
    """Kills one worker of this process's own cluster once some parts are written.

    Args:
        out: the folder of the answers.
        parts: that are written before.
    """

    def __init__(self, out: Path, parts: int) -> None:
        super().__init__(daemon=True)
        self.out, self.parts = out, parts
        self.killed: int | None = None
        self.ended = threading.Event()

    def run(self) -> None:
        while not self.ended.wait(0.01) and self.killed is None:
            if len(list(self.out.glob("part-*.parquet"))) >= self.parts:
                self.killed = kill_one(TASK)


def kill_one(task: str) -> int | None:
    """Kill a descendant of this process that runs a task, and return its number; None where none does."""
    for folder in Path("/proc").glob("[0-9]*"):
        pid = int(folder.name)
        if command(pid).startswith(task) and os.getpid() in _ancestors(pid):
            os.kill(pid, signal.SIGKILL)
            return pid
    return None


def command(pid: int) -> str:
    """Return the command line of a process, with spaces between its words; empty where there is none."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:  # it has ended
        return ""


def _ancestors(pid: int) -> list[int]:
    found: list[int] = []
    while pid > 1:
        try:
            pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            break
        found.append(pid)
    return found


def wait_until_gone(pid: int, seconds: float) -> bool:
    """Whether a process ends in time; one that has ended and is not yet collected counts as gone."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if not command(pid):
            return True
        time.sleep(0.01)
    return False
