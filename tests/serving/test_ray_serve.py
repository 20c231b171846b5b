"""The example of Ray Serve answers as the model does, and the Dockerfile's words are those of the command."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import ROOT
from served import bert, mixtures, tokenizer

EXAMPLES = ROOT / "examples" / "serve"
TEXTS = ["a b c", "d", "e f g h", "b b", "c d e"]


def request(text: str) -> Any:
    from starlette.requests import Request

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": json.dumps({"text": text}).encode(), "more_body": False}

    return Request({"type": "http", "method": "POST", "path": "/predict", "headers": []}, receive)


def test_ray_serve_answers_as_the_model_does(tmp_path: Path) -> None:
    """In the mode that Ray Serve has for tests: a replica in this process, no cluster."""
    serve = pytest.importorskip("ray.serve")
    net, words = bert(n=4), tokenizer()
    net.save_pretrained(tmp_path)
    words.save_pretrained(tmp_path)
    spec = importlib.util.spec_from_file_location("ray_serve", EXAMPLES / "ray_serve.py")
    assert spec is not None and spec.loader is not None
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    app = example.Multiplexed.bind(str(tmp_path), max_wait=2.0)
    handle = serve.run(app, _local_testing_mode=True)
    waiting = [handle.remote(request(text)) for text in TEXTS]
    answers = [json.loads(each.result(timeout_s=30).body) for each in waiting]
    assert max(len(members) for members in mixtures(answers).values()) > 1
    for members in mixtures(answers).values():
        filled = [TEXTS[members[k % len(members)]] for k in range(4)]
        with torch.inference_mode():
            logits = net(**words(filled, padding=True, return_tensors="pt")).logits
        given = torch.tensor([answers[k]["output"]["logits"] for k in members])
        torch.testing.assert_close(given, logits[: len(members)], atol=1e-5, rtol=1e-4)
    assert json.loads(handle.remote(request("a " * 99)).result(timeout_s=30).body)["error"].startswith(
        "the text has 101"
    )


def test_the_dockerfile_starts_the_command_as_it_is() -> None:
    words = json.loads(re.findall(r"^CMD (\[.*\])$", (EXAMPLES / "Dockerfile").read_text(), re.MULTILINE)[-1])
    assert words[:2] == ["muxwrap", "serve"]
    command = (ROOT / "muxwrap" / "cli" / "serve.py").read_text()
    for option in (word for word in words if word.startswith("--")):
        assert f"{option[2:].replace('-', '_')}: Annotated" in command
