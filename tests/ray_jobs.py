"""A model and tokenizers for the tests of Ray; its workers import this module by its name, and nothing large beside torch."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import torch
from torch import Tensor, nn

import muxwrap
from muxwrap import Multiplex


class Net(nn.Module):
    """Token ids ``[B, L]`` with a mask to 3 classes."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(256, 16)
        self.encoder = nn.TransformerEncoderLayer(16, 2, 32, dropout=0.0, batch_first=True)
        self.out = nn.Linear(16, 3)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        hidden = self.encoder(self.embed(input_ids), src_key_padding_mask=attention_mask == 0)
        weights = attention_mask.to(hidden.dtype)[..., None]
        return self.out((hidden * weights).sum(1) / weights.sum(1))


def model(n: int = 2) -> Multiplex:
    """The wrapped network, always the same."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = Net().eval()
    ids = torch.ones(1, 5, dtype=torch.long)
    return muxwrap.wrap(net, n, example_input={"input_ids": ids, "attention_mask": ids}, demux_at="out").eval()


class Letters:
    """A tokenizer whose tokens are bytes."""

    def __call__(self, texts: list[str], truncation: bool = True, max_length: int = 32) -> dict[str, list[list[int]]]:
        return {"input_ids": [list(text.encode())[:max_length] for text in texts]}


class Deadly(Letters):
    """Ends its process at the word "deadly", as often as there are marks in a folder; each death takes one away."""

    def __init__(self, marks: Path) -> None:
        self.marks = marks

    def __call__(self, texts: list[str], truncation: bool = True, max_length: int = 32) -> dict[str, list[list[int]]]:
        if any("deadly" in text for text in texts):
            for mark in self.marks.iterdir():
                mark.unlink()
                os.kill(os.getpid(), signal.SIGKILL)
        return super().__call__(texts, truncation, max_length)
