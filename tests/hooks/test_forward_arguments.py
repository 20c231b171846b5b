"""What a module's forward takes is read once for a class, and anew where the forward is another one."""

from __future__ import annotations

import gc
import inspect
import weakref
from functools import partial
from typing import Any

import pytest
from torch import Tensor, nn

from muxwrap._util.forwards import forward_arguments


def made() -> nn.Module:
    class Net(nn.Module):
        def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
            return x

    return Net()


def other(x: Tensor, *, length: int = 0, **rest: Any) -> Tensor:
    return x


def test_a_signature_is_read_once_for_all_modules_of_a_class(monkeypatch: pytest.MonkeyPatch) -> None:
    net = made()
    assert list(forward_arguments(net)) == ["x", "mask"]
    monkeypatch.setattr(inspect, "signature", None)
    assert list(forward_arguments(type(net)())) == ["x", "mask"]


def test_a_forward_that_was_replaced_is_read_anew() -> None:
    net = made()
    forward_arguments(net)
    net.forward = other  # type: ignore[method-assign]
    assert list(forward_arguments(net)) == ["x", "length", "rest"]
    net.forward = partial(other, length=2)  # type: ignore[method-assign]
    assert list(forward_arguments(net)) == list(inspect.signature(net.forward).parameters)
    del net.forward
    assert list(forward_arguments(net)) == ["x", "mask"]
    type(net).forward = lambda self, y: y  # type: ignore[method-assign, assignment]
    assert list(forward_arguments(net)) == ["y"]


def test_nothing_outlives_the_class() -> None:
    net = made()
    forward_arguments(net)
    function = weakref.ref(type(net).forward)
    del net
    gc.collect()
    assert function() is None
