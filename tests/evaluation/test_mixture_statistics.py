"""Numbers of instances and mixtures, against those that are computed by hand."""

from __future__ import annotations

import pytest
import texts
import torch
from nets import batch, make

import muxwrap
from muxwrap import MuxwrapError
from muxwrap.evaluation import mixture_statistics


def test_they_are_those_of_the_stems_output() -> None:
    model = muxwrap.wrap(make("mlp"), 2, "hadamard", example_input=batch("mlp", 1)).eval()
    x = batch("mlp", 6)
    x[0] *= 30
    with torch.no_grad():
        stem = model.backbone.stem(x)
        mixtures = model.strategy(stem.unflatten(0, (3, 2)))
    found = mixture_statistics(model.train(), [x[:4], x[4:]])
    assert model.training and not model.strategy._forward_hooks
    sizes = stem.square().mean(1).sqrt()
    expected = {
        "rows": 6,
        "largest": stem.abs().max(),
        "instance": stem.square().mean().sqrt(),
        "mixture": mixtures.square().mean().sqrt(),
        "largest_mixture": mixtures.abs().max(),
        "headroom": torch.finfo(torch.float32).max / mixtures.abs().max(),
        "uneven": sizes.max() / sizes.median(),
        "not_finite": 0,
    }
    assert found.to_dict() == pytest.approx({name: float(value) for name, value in expected.items()}, rel=1e-5)


def test_rows_that_are_not_finite_are_counted_and_left_out() -> None:
    model = muxwrap.wrap(make("mlp"), 2, example_input=batch("mlp", 1))
    x = batch("mlp", 6)
    x[1] = torch.nan
    found = mixture_statistics(model, [x])
    assert (found.not_finite, found.rows) == (1, 6)
    assert found.largest == pytest.approx(mixture_statistics(model, [x[2:], x[[0, 0]]]).largest)


def test_a_stem_that_is_run_some_rows_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    model = muxwrap.wrap(texts.tiny("sequence", "bert"), 2)
    whole = mixture_statistics(model, [texts.sentences((5, 3, 4, 2))])
    monkeypatch.setattr("muxwrap._hooks.chunks.ELEMENTS", 1)
    assert mixture_statistics(model, [texts.sentences((5, 3, 4, 2))]) == whole


def test_refusals() -> None:
    model = muxwrap.wrap(make("mlp"), 2, example_input=batch("mlp", 1))
    with pytest.raises(MuxwrapError, match="no row that is finite; give batches"):
        mixture_statistics(model, [])
    with pytest.raises(MuxwrapError, match="give a model with another strategy"):
        mixture_statistics(muxwrap.wrap(texts.tiny("sequence", "bert"), 2, "pool"), [])
