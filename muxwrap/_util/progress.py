"""What long work shows: a bar where tqdm is installed, a line on a terminal."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

PATIENCE = 2.0
"""Seconds before :func:`progress_line` shows anything."""


@contextmanager
def progress_bar(total: int, label: str, *, shown: bool = True) -> Iterator[Callable[..., None]]:
    """Show a bar inside a ``with`` block.

    Args:
        total: steps until the bar is full.
        label: stands before the bar.
        shown: False shows nothing.

    Yields:
        A function to call after every step; its keyword arguments, texts, stand behind the bar until the next ones.
    """
    try:
        from tqdm.auto import tqdm
    except ImportError:
        yield lambda **_: None
        return
    with tqdm(total=total, desc=label, disable=not shown) as bar:

        def advance(**shown_values: str) -> None:
            bar.update()
            if shown_values:
                bar.set_postfix(shown_values)

        yield advance


@contextmanager
def progress_line(what: str) -> Iterator[None]:
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
