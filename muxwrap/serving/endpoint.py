"""HTTP around the groups: from a request to a row, from an answer to a response. Any ASGI server can run it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from starlette.requests import ClientDisconnect

from muxwrap.serving.fields import TENANT, tenant_of
from muxwrap.serving.groups import Groups
from muxwrap.serving.inputs import Inputs
from muxwrap.serving.metrics import Metrics
from muxwrap.serving.requests import RequestError

logger = logging.getLogger(__name__)

_STATUS = {
    400: "the body is no JSON object",
    408: "the body came too slowly",
    413: "the body or the image is too large",
    422: "the input is refused; the other requests of its group are answered",
    429: "too many requests wait; `Retry-After` says when to come again",
    500: "the model failed",
    503: "the server is shutting down, or lost the worker that had the request",
    504: "the time is over",
}


class Service:
    """Answers requests for one model.

    Args:
        inputs: what a request holds.
        groups: where its row waits for a pass.
        metrics: what is counted; none where somebody else counts.
        max_body: most bytes of a request's body.
        body_timeout: seconds in which the body has to come: a slow client holds one of the places of the queue.
    """

    def __init__(
        self,
        inputs: Inputs,
        groups: Groups,
        metrics: Metrics | None = None,
        *,
        max_body: int = 10_000_000,
        body_timeout: float = 10.0,
    ) -> None:
        self.inputs, self.groups, self.metrics = inputs, groups, metrics
        self.max_body, self.body_timeout = max_body, body_timeout
        if metrics is not None:
            metrics.watch(groups)

    async def predict(self, request: Request) -> Response:
        """Answer a request: 200 with ``output``, ``n``, ``mixture`` and ``index``, or a status that says why not."""
        began = time.monotonic()
        try:
            response: Response = JSONResponse(await self._answer(request))
        except RequestError as error:
            response = JSONResponse({"error": str(error)}, error.status, error.headers)
        except ClientDisconnect:
            response = Response(status_code=400)  # which nobody reads
        except Exception:
            logger.exception("a request failed")
            response = JSONResponse({"error": "the server failed"}, 500)
        if self.metrics is not None:
            self.metrics.answered(response.status_code, time.monotonic() - began)
        return response

    async def _answer(self, request: Request) -> dict[str, Any]:
        with self.groups.admit():
            try:
                body = await asyncio.wait_for(self._body(request), self.body_timeout)
            except asyncio.TimeoutError:
                raise RequestError(
                    408, f"the body did not come within {self.body_timeout:g} s; send it faster"
                ) from None
            media = request.headers.get("content-type", "").partition(";")[0].strip().lower()
            row, fields = await asyncio.to_thread(self.inputs.read, body, media)
            answer = await self.groups.submit(row, tenant_of(fields, request.headers.get("x-tenant")))
            return {"output": answer.value, "n": answer.n, "mixture": answer.mixture, "index": answer.index}

    async def _body(self, request: Request) -> bytes:
        """Read a body as far as it is allowed to be long."""
        length, parts = request.headers.get("content-length", "0"), []
        size = int(length) if length.isdecimal() else 0
        if size <= self.max_body:
            size = 0
            async for part in request.stream():
                parts.append(part)
                size += len(part)
                if size > self.max_body:
                    break
        if size > self.max_body:
            raise RequestError(413, f"the body is longer than {self.max_body:,} bytes; send a shorter one")
        return b"".join(parts)

    def count(self, request: Request) -> Response:
        """Return the metrics."""
        assert self.metrics is not None
        page, media = self.metrics.page()
        return Response(page, media_type=media)

    def mount(self, app: FastAPI, dependencies: Sequence[Any] = ()) -> None:
        """Add ``POST /predict``, and ``GET /metrics`` where there are any, with their schema on the OpenAPI page."""
        app.add_api_route(
            "/predict",
            self.predict,
            methods=["POST"],
            summary="Answer one input",
            dependencies=list(dependencies),
            openapi_extra={"requestBody": {"required": True, "content": self._content()}},
            responses={status: {"description": text} for status, text in _STATUS.items()},
        )
        if self.metrics is not None:
            app.add_api_route("/metrics", self.count, summary="Counters in Prometheus' format", include_in_schema=True)

    def _content(self) -> dict[str, Any]:
        properties = {
            **self.inputs.schema,
            TENANT: {"type": "string", "description": "never shares a mixture with another"},
        }
        schema = {"type": "object", "required": [self.inputs.field], "properties": properties}
        raw = {media: {"schema": {"type": "string", "format": "binary"}} for media in self.inputs.media}
        return {"application/json": {"schema": schema}, **raw}
