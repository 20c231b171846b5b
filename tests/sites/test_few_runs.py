"""Finding sites runs the backbone a few times only, and keeps nothing of a run in memory but its answers."""

from __future__ import annotations

import io
import weakref
from typing import Any

import pytest
import timm
import torch
from nets import batch, make
from texts import tiny
from torch import Tensor, nn

import muxwrap
from muxwrap._util import progress
from muxwrap.sites.tracing.recording import trace


def rows_of_calls(backbone: nn.Module) -> list[int]:
    rows: list[int] = []

    def see(_module: nn.Module, args: Any, kwargs: Any) -> None:
        rows.append(len(next(value for value in (*args, *kwargs.values()) if isinstance(value, Tensor))))

    backbone.register_forward_pre_hook(see, with_kwargs=True)
    return rows


def test_an_image_model_is_called_three_times() -> None:
    backbone = timm.create_model("test_resnet")
    rows = rows_of_calls(backbone)
    muxwrap.wrap(backbone, 2)
    assert rows == [2, 3, 3]  # the trace, the first candidates, the wrapped model


def test_a_model_of_ones_own_is_called_twice_more() -> None:
    """Whether rows that are nearly the same move each other; and as no module is known to pool, what reaches an answer."""
    backbone = make("cnn")
    rows = rows_of_calls(backbone)
    muxwrap.wrap(backbone, 2, "layout", mux_at="@input", example_input=batch("cnn", 1))
    assert rows == [2, 3, 2, 3, 2]


@pytest.mark.parametrize(("model_type", "most"), [("bert", 7), ("t5", 18), ("deberta-v2", 12), ("gpt2", 25)])
def test_text_models(model_type: str, most: int) -> None:
    """One of them is in training mode: whether a head that runs there alone reads more than the first token."""
    backbone = tiny("sequence", model_type)
    rows = rows_of_calls(backbone)
    muxwrap.wrap(backbone, 2)
    assert len(rows) <= most


def test_a_trace_keeps_no_activation() -> None:
    net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    made: list[weakref.ref[Tensor]] = []
    net[1].register_forward_hook(lambda _module, _args, output: made.append(weakref.ref(output)))
    seen = trace(net, torch.ones(3, 4))
    assert made[0]() is None
    assert seen.at("1").output is seen.at("2").input  # and still knows what is the same tensor
    assert seen.at("0").output is not seen.at("1").output
    assert seen.at("1").output.shape == (3, 8)


def test_wrapping_holds_no_more_than_a_run_does() -> None:
    net = nn.Sequential(
        *(layer for _ in range(20) for layer in (nn.Conv2d(4, 4, 3, padding=1), nn.ReLU())),
        nn.Flatten(),
        nn.Linear(144, 5),
    )
    made: list[weakref.ref[Tensor]] = []
    alive: list[int] = []

    def count(_module: nn.Module, _args: Any, output: Tensor) -> None:
        made.append(weakref.ref(output))
        alive.append(sum(reference() is not None for reference in made))

    handles = [layer.register_forward_hook(count) for layer in net]
    muxwrap.wrap(net, 2, example_input=torch.zeros(1, 4, 6, 6))
    for handle in handles:
        handle.remove()
    assert len(made) == 4 * len(net) + 2  # so many runs, and the stem for two rows and the same exchanged
    assert max(alive) <= 6  # what runs now, and the answers of earlier runs
    assert not any(reference() is not None for reference in made)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_line_appears_on_a_terminal_if_it_takes_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr", Terminal())
    monkeypatch.setattr(progress, "PATIENCE", 0.01)
    shown = progress.threading.Event()
    written = progress.sys.stderr.write
    monkeypatch.setattr(progress.sys.stderr, "write", lambda text: (written(text), shown.set()))
    with progress.progress_line("finding"):
        assert shown.wait(10)
    text = progress.sys.stderr.getvalue()
    assert text.startswith("\rfinding: 0 s") and text.endswith(" \r")


def test_nothing_appears_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr", io.StringIO())
    monkeypatch.setattr(progress, "PATIENCE", 0.0)
    with progress.progress_line("finding"):
        pass
    assert progress.sys.stderr.getvalue() == ""
