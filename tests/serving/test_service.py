"""Requests over HTTP on this machine: the answers are those of the model, and a bad request is refused alone."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import torch
from served import at_once, in_process, listening, mixtures, model, rows

from muxwrap import serving

EXAMPLE = rows(1)


@pytest.fixture(scope="module")
def net() -> Any:
    return model()


@pytest.fixture(scope="module")
def client(net: Any) -> Iterator[httpx.Client]:
    service = serving.service(net, example_input=EXAMPLE, n_min=4, max_wait=3.0, max_body=20_000, metrics=True)
    with listening(service) as client:
        yield client


def bodies(inputs: torch.Tensor, **more: Any) -> list[dict[str, Any]]:
    return [{"input": row.tolist(), **more} for row in inputs]


def counted(client: httpx.Client, name: str) -> float:
    lines = client.get("/metrics").text.splitlines()
    return float(next((line.split()[-1] for line in lines if line.startswith(f"{name} ")), 0))


def check(net: Any, inputs: torch.Tensor, responses: list[httpx.Response]) -> list[dict[str, Any]]:
    """Every response is what the model gives in process for the row in its group."""
    assert [response.status_code for response in responses] == [200] * len(inputs)
    answers = [response.json() for response in responses]
    given = torch.tensor([answer["output"] for answer in answers])
    torch.testing.assert_close(given, in_process(net, inputs, answers), atol=1e-5, rtol=1e-4)
    return answers


def test_full_and_incomplete_groups_answer_as_the_model_does(net: Any, client: httpx.Client) -> None:
    inputs = rows(10)
    answers = check(net, inputs, at_once(client, bodies(inputs)))
    assert {answer["n"] for answer in answers} == {4}
    assert all(len(members) <= 4 for members in mixtures(answers).values()) and len(mixtures(answers)) >= 3


def test_tenants_never_share_a_mixture(net: Any, client: httpx.Client) -> None:
    inputs = rows(9)
    named = [{**body, "tenant": "abc"[k % 3]} for k, body in enumerate(bodies(inputs))]
    answers = check(net, inputs, at_once(client, named))
    assert all(len({k % 3 for k in members}) == 1 for members in mixtures(answers).values())


def test_the_tenant_may_come_from_a_gateway(client: httpx.Client) -> None:
    (body,) = bodies(EXAMPLE)
    assert client.post("/predict", json=body, headers={"X-Tenant": "a"}).status_code == 200
    assert client.post("/predict", json={**body, "tenant": "a"}, headers={"X-Tenant": "a"}).status_code == 200
    for more, headers in (({"tenant": "b"}, {"X-Tenant": "a"}), ({"tenant": 3}, {}), ({}, {"X-Tenant": "a" * 201})):
        response = client.post("/predict", json={**body, **more}, headers=headers)
        assert response.status_code == 422 and "enant" in response.json()["error"]


BAD = {
    "empty": (b"", 400, "the body is not JSON"),
    "no JSON": (b"{'input': 1}", 400, "the body is not JSON"),
    "no text": (b"\xff\xfe\x00", 400, "the body is not JSON"),
    "too deep": (b"[" * 10_000, 400, "the body is not JSON (too deep)"),
    "a long number": (b'{"input": ' + b"1" * 5000 + b"}", 400, "the body is not JSON"),
    "no object": (b"[1, 2]", 400, 'the body is a list; send an object, {"input": ...}'),
    "no field": (b'{"inputs": 1}', 422, "the field 'input' is missing"),
    "another field": (
        b'{"input": 1, "temperature": 2}',
        422,
        "unknown field 'temperature'; the known ones are input, tenant",
    ),
    "no numbers": (b'{"input": ["a", "b"]}', 422, "'input' holds <U1; send numbers of float32"),
    "nothing": (b'{"input": null}', 422, "'input' holds object"),
    "truth": (b'{"input": [true]}', 422, "'input' holds bool"),
    "ragged": (b'{"input": [[1], [1, 2]]}', 422, "'input' is ragged; send shape [12]"),
    "shape": (b'{"input": [1, 2, 3]}', 422, "'input' has shape [3]; send shape [12]"),
    "a batch": (json.dumps({"input": [[0.0] * 12]}).encode(), 422, "'input' has shape [1, 12]"),
    "nan": (b'{"input": [NaN]}', 400, "NaN is no number of JSON"),
    "infinity": (b'{"input": [-Infinity]}', 400, "-Infinity is no number of JSON"),
    "large": (json.dumps({"input": [1e300] * 12}).encode(), 422, "too large for float32"),
    "infinite by size": (b'{"input": [' + b",".join([b"1e999"] * 12) + b"]}", 422, "too large for float32"),
    "too long": (b'{"input": "' + b"a" * 20_000 + b'"}', 413, "longer than 20,000 bytes"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_request_is_refused_alone(name: str, net: Any, client: httpx.Client) -> None:
    body, status, message = BAD[name]
    before = counted(client, 'muxwrap_rows_total{n="4"}')
    bad: list[httpx.Response] = []
    thread = threading.Thread(target=lambda: bad.append(client.post("/predict", content=body)))
    thread.start()
    inputs = rows(4)
    answers = check(net, inputs, at_once(client, bodies(inputs)))
    thread.join()
    assert bad[0].status_code == status and message in bad[0].json()["error"]
    assert counted(client, 'muxwrap_rows_total{n="4"}') == before + 4
    assert len(mixtures(answers)) == 1, "it took a place in the group"


def test_a_body_without_a_length_is_cut_off(client: httpx.Client) -> None:
    endless = (b"a" * 1000 for _ in range(30))
    response = client.post("/predict", content=endless)
    assert response.status_code == 413


def test_clients_that_leave_or_dawdle_hold_nobody_up(net: Any) -> None:
    service = serving.service(net, example_input=EXAMPLE, n_min=4, max_wait=0.2)
    service.body_timeout = 3.0
    with listening(service) as client:
        address = (client.base_url.host, client.base_url.port)
        head = b"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{"
        with socket.create_connection(address) as slow, socket.create_connection(address) as gone:
            for each in (slow, gone):
                each.sendall(head)
            end = time.monotonic() + 2.9
            while service.groups.admitted < 2:
                assert time.monotonic() < end
                time.sleep(0.005)
            gone.close()
            inputs = rows(4)
            check(net, inputs, at_once(client, bodies(inputs)))
            slow.settimeout(30)
            assert b" 408 " in slow.recv(4096)
        assert service.groups.admitted == 0


def test_floods_are_shed_and_the_rest_is_answered(net: Any) -> None:
    service = serving.service(net, example_input=EXAMPLE, n_min=4, max_queue=3, max_wait=3.0)
    with listening(service) as client:
        inputs = rows(12)
        responses = at_once(client, bodies(inputs))
        status = [response.status_code for response in responses]
        assert status.count(200) == 3 and status.count(429) == 9
        assert all(int(response.headers["Retry-After"]) >= 1 for response in responses if response.status_code == 429)
        kept = [k for k in range(12) if status[k] == 200]
        check(net, inputs[kept], [responses[k] for k in kept])
        assert client.post("/predict", json=bodies(EXAMPLE)[0]).status_code == 200


def test_who_was_accepted_is_answered_and_later_ones_are_sent_away(net: Any) -> None:
    service = serving.service(net, example_input=EXAMPLE, n_min=4, max_wait=5.0)
    with listening(service) as client:
        found: list[httpx.Response] = []
        inputs = rows(2)
        thread = threading.Thread(target=lambda: found.extend(at_once(client, bodies(inputs))))
        thread.start()
        end = time.monotonic() + 4.5
        while service.groups.waiting < 2:
            assert time.monotonic() < end
            time.sleep(0.005)
        client.post("/close")
        late = client.post("/predict", json=bodies(EXAMPLE)[0])
        assert late.status_code == 503 and late.headers["Retry-After"] == "1"
        thread.join()
        check(net, inputs, found)


def test_n_follows_the_queue_and_every_answer_names_it(net: Any) -> None:
    handle = net.backbone.hidden.register_forward_pre_hook(lambda *_: time.sleep(0.2))
    try:
        with listening(serving.service(net, example_input=EXAMPLE, max_wait=0.05)) as client:
            alone = client.post("/predict", json=bodies(EXAMPLE)[0]).json()
            inputs = rows(12)
            answers = check(net, inputs, at_once(client, bodies(inputs)))
    finally:
        handle.remove()
    assert alone["n"] == 1
    used = [answer["n"] for answer in answers]
    assert used.count(4) >= 4 and set(used) <= {1, 2, 4}


def test_a_request_gives_up_in_time(net: Any) -> None:
    handle = net.backbone.hidden.register_forward_pre_hook(lambda *_: time.sleep(0.5))
    try:
        with listening(serving.service(net, example_input=EXAMPLE, n_max=1, timeout=0.2)) as client:
            response = client.post("/predict", json=bodies(EXAMPLE)[0])
    finally:
        handle.remove()
    assert response.status_code == 504 and "no answer within 0.2 s" in response.json()["error"]


def test_metrics_count_what_happened(net: Any) -> None:
    with listening(serving.service(net, example_input=EXAMPLE, n_min=4, max_wait=0.5, metrics=True)) as client:
        at_once(client, bodies(rows(6)))
        client.post("/predict", content=b"no")
        wanted = {
            'muxwrap_requests_total{status="200"}': 6,
            'muxwrap_requests_total{status="400"}': 1,
            'muxwrap_rows_total{n="4"}': 6,
            "muxwrap_request_seconds_count": 6,
            "muxwrap_queue_length": 0,
            "muxwrap_requests_in_progress": 0,
        }
        assert {name: counted(client, name) for name in wanted} == wanted
        mixed = counted(client, 'muxwrap_mixtures_total{n="4"}')
        assert 2 <= mixed == counted(client, "muxwrap_mixture_fill_count") < 6
        assert counted(client, "muxwrap_mixture_fill_sum") == 6 / 4
        assert client.get("/metrics").headers["content-type"].startswith("text/plain; version=")


def test_the_page_of_the_interface_names_the_fields(client: httpx.Client) -> None:
    operation = client.get("/openapi.json").json()["paths"]["/predict"]["post"]
    schema = operation["requestBody"]["content"]["application/json"]["schema"]
    assert schema["required"] == ["input"] and set(schema["properties"]) == {"input", "tenant"}
    assert {"200", "413", "422", "429", "503", "504"} <= set(operation["responses"])
    assert client.get("/docs").status_code == 200


def test_a_failure_of_the_server_itself_is_no_secret_told(net: Any) -> None:
    service = serving.service(net, example_input=EXAMPLE)

    def broken(body: bytes, media: str) -> Any:
        raise RuntimeError("secret")

    service.inputs.read = broken  # type: ignore[method-assign]
    with listening(service) as client:
        response = client.post("/predict", json=bodies(EXAMPLE)[0])
    assert (response.status_code, response.json()) == (500, {"error": "the server failed"})
    assert service.groups.admitted == 0
