"""Small models to serve, an ASGI server on this machine, and what the same model answers in process."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import httpx
import nets
import torch
import uvicorn
from fastapi import FastAPI
from torch import Tensor, nn

import muxwrap
from muxwrap.serving.endpoint import Service

SIZES = (1, 2, 4)


LATE = 1000.0


class Slow(nets.MLP):
    """A network that sleeps for a minute where an input says so."""

    def forward(self, x: Tensor) -> Tensor:
        if (x == LATE).any():
            time.sleep(60)
        return super().forward(x)


def model(net: str = "mlp", n: Any = SIZES) -> muxwrap.Multiplex:
    return muxwrap.wrap(nets.make(net), n, "slots", "mlp", example_input=nets.batch(net, 1)).eval()


def slow() -> muxwrap.Multiplex:
    backbone = Slow()
    backbone.load_state_dict(nets.make("mlp").state_dict())
    return muxwrap.wrap(backbone, SIZES, "slots", "mlp", example_input=rows(1)).eval()


def rows(count: int, seed: int = 0) -> Tensor:
    return nets.batch("mlp", count, seed)


def tokenizer(words: str = "a b c d e f g h", **options: Any) -> Any:
    """A tokenizer of single words, with a token before and one after a text."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    ids = {word: k for k, word in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *words.split()])}
    made = Tokenizer(models.WordLevel(ids, "[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    ends = [(token, ids[token]) for token in ("[CLS]", "[SEP]")]
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=ends
    )
    names = ["input_ids", "token_type_ids", "attention_mask"]
    return PreTrainedTokenizerFast(
        tokenizer_object=made, pad_token="[PAD]", unk_token="[UNK]", model_input_names=names, **options
    )


def bert(kind: str = "BertForSequenceClassification", n: Any = SIZES, **options: Any) -> muxwrap.Multiplex:
    import transformers

    sizes = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    config = transformers.BertConfig(**{"vocab_size": 20, "max_position_embeddings": 40, **sizes, **options})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return muxwrap.wrap(getattr(transformers, kind)(config), n).eval()


class Small(nn.Module):
    """Images ``[B, 3, 8, 8]`` to 5 classes."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, padding=1)
        self.layer = nn.Conv2d(16, 20, 3, stride=2, padding=1)
        self.fc = nn.Linear(20, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(torch.relu(self.layer(torch.relu(self.stem(x)))).mean((2, 3)))


@contextmanager
def listening(service: Service, **options: Any) -> Iterator[httpx.Client]:
    """Serve on 127.0.0.1 as long as the block runs; the options are of ``uvicorn.Config``."""
    app = FastAPI()
    service.mount(app)

    async def close() -> None:  # as a signal does, in the loop of the server
        service.groups.close()

    app.add_api_route("/close", close, methods=["POST"])
    server = uvicorn.Server(uvicorn.Config(app, log_level="critical", lifespan="off", **options))
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        address = "http://{}:{}".format(*listener.getsockname())
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        try:
            while not server.started:
                time.sleep(0.005)
            with httpx.Client(base_url=address, timeout=10) as client:
                yield client
        finally:
            server.should_exit = True
            thread.join()


def at_once(client: httpx.Client, bodies: Sequence[Mapping[str, Any]], **options: Any) -> list[httpx.Response]:
    """Send requests side by side."""
    with ThreadPoolExecutor(len(bodies)) as threads:
        return list(threads.map(lambda body: client.post("/predict", json=body, **options), bodies))


def mixtures(answers: Sequence[Mapping[str, Any]]) -> dict[int, list[int]]:
    """Return the numbers of the answers by mixture, in the order of their indices."""
    found: dict[int, list[int]] = {}
    for k in sorted(range(len(answers)), key=lambda k: answers[k]["index"]):
        found.setdefault(answers[k]["mixture"], []).append(k)
    return found


def in_process(model: Any, inputs: Tensor, answers: Sequence[Mapping[str, Any]]) -> Tensor:
    """Return what the model gives for the groups that the answers were made in: ``[rows, ...]``."""
    made: dict[int, Tensor] = {}
    for members in mixtures(answers).values():
        n = answers[members[0]]["n"]
        filled = [members[k % len(members)] for k in range(n)]
        with torch.inference_mode():
            outputs = model.fixed(n)(inputs[filled])
        made.update(zip(members, outputs, strict=False))
    return torch.stack([made[k] for k in range(len(answers))])
