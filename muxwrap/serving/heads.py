"""Heads of requests that are bounded in time and size: uvicorn and its parser bound neither."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol


class BoundedHeads(HttpToolsProtocol):
    """A connection that is closed where the head of a request is not whole in time, or too long.

    It begins with its first byte, and that of the first request with the connection; between two requests uvicorn's
    ``timeout_keep_alive`` holds.

    Attributes:
        seconds: until a head has to be whole.
        longest: bytes that an unfinished head may have.
    """

    seconds = 10.0
    longest = 65_536
    _timer: asyncio.TimerHandle | None = None
    _size = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:  # noqa: D102
        super().connection_made(transport)
        self._begin()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: D102
        self._end()
        super().connection_lost(exc)

    def on_message_begin(self) -> None:  # noqa: D102
        self._begin()
        super().on_message_begin()

    def on_headers_complete(self) -> None:  # noqa: D102
        self._end()
        super().on_headers_complete()

    def data_received(self, data: bytes) -> None:  # noqa: D102
        if self._timer is not None:
            self._size += len(data)
        super().data_received(data)
        if self._timer is not None and self._size > self.longest:
            self.transport.close()

    def _begin(self) -> None:
        self._end()
        self._size, self._timer = 0, self.loop.call_later(self.seconds, self._late)

    def _end(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _late(self) -> None:
        cycle: Any = self.cycle
        if cycle is None or cycle.response_complete:
            self.transport.close()
        else:  # a head behind a request that is not answered yet, until when nothing more is read
            self._begin()
