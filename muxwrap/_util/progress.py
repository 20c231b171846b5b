"""A progress bar, where tqdm is installed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager


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
