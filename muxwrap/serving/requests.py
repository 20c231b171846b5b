"""What becomes of a request that gets no answer: an error with the HTTP status that says whose fault it is."""

from __future__ import annotations

from typing import Any

from muxwrap.errors import MuxwrapError


class RequestError(MuxwrapError):
    """A request that is not answered, alone: the others of its group are.

    Args:
        status: of HTTP; 4xx where the request is to blame.
        message: what is wrong, and what to send instead.
        retry_after: seconds after which it is worth sending it again.
    """

    def __init__(self, status: int, message: str, retry_after: int | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.retry_after = retry_after

    def __reduce__(self) -> Any:
        return type(self), (self.status, str(self), self.retry_after)

    @property
    def headers(self) -> dict[str, str]:
        """Headers of the HTTP response."""
        return {} if self.retry_after is None else {"Retry-After": str(self.retry_after)}
