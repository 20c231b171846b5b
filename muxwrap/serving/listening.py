"""Listening, and an end that leaves nobody without an answer."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from typing import Any

import uvicorn

from muxwrap.errors import MuxwrapError
from muxwrap.serving.groups import Groups


class Http(uvicorn.Server):
    """Uvicorn, which at the first signal lets the groups finish before it stops to listen."""

    def __init__(self, config: uvicorn.Config, groups: Groups) -> None:
        super().__init__(config)
        self.groups, self.stopping = groups, False

    def handle_exit(self, sig: int, frame: Any) -> None:
        """Begin to end; told a second time, end at once."""
        if self.stopping:
            super().handle_exit(sig, frame)
        self.stopping = True

    async def on_tick(self, counter: int) -> bool:
        """Return whether to stop listening, ten times a second."""
        if self.stopping and not self.groups.closing:
            self.groups.close()
        return await super().on_tick(counter) or (self.groups.closing and self.groups.admitted == 0)


@contextlib.contextmanager
def bound(host: str, port: int) -> Iterator[socket.socket]:
    """Take the address before anything else, since loading a model takes time."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
        except (OSError, OverflowError) as error:
            raise MuxwrapError(
                f"server: cannot listen at {host}:{port} ({error}); choose another host or port"
            ) from error
        yield listener
