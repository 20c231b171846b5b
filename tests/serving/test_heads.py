"""Heads of requests that dribble, or never end, and those that are fine."""

from __future__ import annotations

import json
import socket
import time
from http.client import HTTPResponse

import pytest
from served import listening, model, rows

from muxwrap import serving
from muxwrap.serving.heads import BoundedHeads


class Hasty(BoundedHeads):
    seconds = 2.0
    longest = 3000


def request(path: str = "/predict", body: bytes = b"") -> bytes:
    return f"POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


def status(connection: socket.socket) -> int:
    """Read one answer whole, which may come in several pieces, and return its status."""
    connection.settimeout(30)
    with HTTPResponse(connection) as response:
        response.begin()
        response.read()
        return response.status


def closed(connection: socket.socket) -> bool:
    """Whether the server has closed a connection without a word."""
    connection.settimeout(30)
    try:
        return connection.recv(100) == b""
    except ConnectionResetError:
        return True


def test_heads_that_do_not_end_are_closed_and_others_are_answered() -> None:
    service = serving.service(model(), example_input=rows(1), n_max=1)
    good = json.dumps({"input": rows(1)[0].tolist()}).encode()
    with listening(service, http=Hasty) as client:
        address = (client.base_url.host, client.base_url.port)
        with socket.create_connection(address) as silent, socket.create_connection(address) as second:
            began = time.monotonic()
            second.sendall(request(body=good))  # the first of this connection is fine, and its next head dribbles
            assert status(second) == 200
            second.sendall(b"POST /predict HT")
            assert closed(silent) and closed(second)
            assert 1.5 < time.monotonic() - began < 8
        with socket.create_connection(address) as endless, pytest.raises(OSError):
            endless.sendall(b"GET / HTTP/1.1\r\n")
            for k in range(2000):
                endless.sendall(f"X-{k}: {'a' * 1000}\r\n".encode())
                time.sleep(0.0005)
        with socket.create_connection(address) as large:  # a long body behind a short head, in one piece
            large.sendall(request(body=b" " * 20_000 + good))
            assert status(large) == 200


def test_a_head_behind_a_request_that_takes_longer_is_waited_for() -> None:
    net = model()
    net.backbone.hidden.register_forward_pre_hook(lambda *_: time.sleep(2.5))
    service = serving.service(net, example_input=rows(1), n_max=1)
    good = json.dumps({"input": rows(1)[0].tolist()}).encode()
    with listening(service, http=Hasty) as client:
        pipelined = socket.create_connection((client.base_url.host, client.base_url.port))
        with pipelined:
            both = request(body=good) * 2
            pipelined.sendall(both[: len(both) // 2 + 10])
            assert status(pipelined) == 200
            pipelined.sendall(both[len(both) // 2 + 10 :])
            assert status(pipelined) == 200
