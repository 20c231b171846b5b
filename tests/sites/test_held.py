"""Answers that objects hold, such as distributions: their rows count, and are never those of mixtures."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Categorical, Independent, Normal

import muxwrap
from muxwrap import MuxwrapError
from muxwrap._util.held import all_named_tensors


class Answer:
    """A class of the user's own."""

    def __init__(self, **parts: Any) -> None:
        self.__dict__.update(parts)
        self.itself = self


class Policy(nn.Module):
    """Actions of four kinds, and the value of a state."""

    def __init__(self, answer: Callable[[Tensor, Tensor], Any]) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(8, 64), nn.Linear(64, 64)
        self.policy, self.value = nn.Linear(64, 4), nn.Linear(64, 1)
        self.answer = answer

    def forward(self, x: Tensor) -> Any:
        h = torch.tanh(self.two(torch.tanh(self.one(x))))
        return self.answer(self.policy(h), self.value(h).squeeze(-1))


ANSWERS = {
    "distribution": lambda policy, value: (Categorical(logits=policy), value),
    "distribution alone": lambda policy, value: Categorical(logits=policy),
    "nested distribution": lambda policy, value: {
        "policy": [Independent(Normal(policy, policy.exp() + 1), 1)],
        "value": value,
    },
    "namespace": lambda policy, value: SimpleNamespace(policy=policy, value=value),
    "class": lambda policy, value: Answer(policy=policy, value={"of": value}),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_all_rows_are_in_what_objects_hold(name: str) -> None:
    torch.manual_seed(0)
    net, x = Policy(ANSWERS[name]).eval(), torch.randn(5, 8)
    bare = dict(all_named_tensors(net(x)))
    same = muxwrap.wrap(net, 1, "identity", example_input=x).eval()
    for path, answer in all_named_tensors(same(x)):
        torch.testing.assert_close(answer, bare[path])
    muxwrap.unwrap(same)
    model = muxwrap.wrap(net, 2, example_input=x).eval()
    found = dict(all_named_tensors(model(x)))
    assert {path: answer.shape for path, answer in found.items()} == {path: x.shape for path, x in bare.items()}
    assert model.sites.share is not None and model.sites.share > 0.8


def test_what_an_object_holds_of_mixtures_is_refused() -> None:
    x, net = torch.randn(6, 8), Policy(ANSWERS["distribution"])
    with pytest.raises(MuxwrapError, match="some answers have a row per mixture"):
        muxwrap.wrap(net, 2, example_input=x, mux_at="one", demux_at="value")
    net.answer = lambda policy, value: (SimpleNamespace(policy=policy), value) if net.training else value
    model = muxwrap.wrap(net, 2, example_input=x, mux_at="one", demux_at="value").train()
    with pytest.raises(MuxwrapError, match=r"output\[0\].policy has a row for each of the 3 mixtures"):
        model(x)


def test_rows_in_an_object_are_refused() -> None:
    x = torch.randn(3, 8)
    for call in ((SimpleNamespace(rows=x),), (x, Answer(weights=x))):
        with pytest.raises(MuxwrapError, match=r"example_input\[\d\]\.\w+ is a tensor in an object.*dataclasses"):
            muxwrap.wrap(Policy(ANSWERS["class"]), 2, example_input=call)


def test_what_an_object_holds_for_all_rows_is_let_through() -> None:
    class Scaled(Policy):
        def forward(self, x: Tensor, scale: Answer) -> Any:
            return super().forward(x * scale.by)

    call = torch.randn(3, 8), Answer(by=torch.rand(8))
    model = muxwrap.wrap(Scaled(ANSWERS["distribution"]), 2, example_input=call)
    assert model(torch.randn(5, 8), call[1])[0].logits.shape == (5, 4)


def test_sparse_rows_are_refused() -> None:
    with pytest.raises(MuxwrapError, match=r"torch.sparse_coo, whose rows cannot be indexed.*to_dense\(\)"):
        muxwrap.wrap(Policy(ANSWERS["class"]), 2, example_input=torch.eye(8).to_sparse())
