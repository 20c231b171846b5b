"""Serving: groups filled from concurrent requests, every answer sent to its own."""

from __future__ import annotations

from muxwrap.serving.arrays import Arrays as Arrays
from muxwrap.serving.front import server as server
from muxwrap.serving.front import service as service
from muxwrap.serving.groups import Answer as Answer
from muxwrap.serving.groups import Groups as Groups
from muxwrap.serving.images import Images as Images
from muxwrap.serving.requests import RequestError as RequestError
from muxwrap.serving.texts import Text as Text
