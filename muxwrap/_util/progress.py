"""A line on a terminal about work that takes longer than it should, gone when the work is done."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

PATIENCE = 2.0
"""Seconds before the line appears."""


@contextmanager
def progress(what: str) -> Iterator[None]:
    """Show ``what`` and the seconds on standard error from two seconds on, if that is a terminal."""
    if not sys.stderr.isatty():
        yield
        return
    done = threading.Event()
    thread = threading.Thread(target=_show, args=(what, done), daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def _show(what: str, done: threading.Event) -> None:
    start, width, wait = time.monotonic(), 0, PATIENCE
    while not done.wait(wait):
        line = f"{what}: {time.monotonic() - start:.0f} s"
        width, wait = max(width, len(line)), 1.0
        print(f"\r{line}", end="", file=sys.stderr, flush=True)
    if width:
        print(f"\r{' ' * width}\r", end="", file=sys.stderr, flush=True)
