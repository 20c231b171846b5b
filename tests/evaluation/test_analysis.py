"""Analysis: what must be found in models whose crosstalk and states are known beforehand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from helpers import random_state_untouched
from matplotlib.figure import Figure
from nets import batch, make
from torch import Tensor, nn

import muxwrap
from muxwrap import MuxwrapError, evaluation


class Echo(nn.Module):
    """A trunk that keeps everything: what separation finds is what the strategy leaves."""

    def __init__(self, dim: int = 16) -> None:
        super().__init__()
        self.stem, self.body, self.head = nn.Identity(), nn.Identity(), nn.Identity()
        self.dim = dim

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(self.stem(x)))


def echo(n: int, strategy: str, dim: int = 16) -> muxwrap.Multiplex:
    return muxwrap.wrap(
        Echo(dim), n, strategy, "unbind", mux_at="stem", demux_at="body", example_input=torch.zeros(1, dim)
    )


def rows(count: int, dim: int = 16, seed: int = 0) -> Tensor:
    return torch.randn(count, dim, generator=torch.Generator().manual_seed(seed))


def test_slots_have_no_crosstalk() -> None:
    found = evaluation.crosstalk(echo(4, "slots"), rows(8))
    assert found.matrix.shape == (4, 4)
    assert found.matrix.diagonal().min() > 0.1 and found.relative < 1e-6


def test_crosstalk_of_dense_codes_is_as_large_as_the_answer() -> None:
    """Orthogonal φ: x_i comes back whole, and every other instance rotated, of the same norm."""
    assert evaluation.crosstalk(echo(4, "orthogonal"), rows(40)).relative == pytest.approx(1, rel=0.05)
    assert evaluation.crosstalk(echo(1, "orthogonal"), rows(4)).relative == 0


def test_a_network_learns_none_of_it_by_itself() -> None:
    model = muxwrap.wrap(make("tagger"), 3, example_input=batch("tagger", 1)).train()
    found = evaluation.crosstalk(model, batch("tagger", 6))
    assert found.relative > 0 and model.training and model.backbone.encoder.training


def test_distance_is_what_the_slots_lose() -> None:
    """n slots of d/n of d dimensions: a projection, which keeps 1/n of the energy (muxwrap.theory.full_rank_error)."""
    found = evaluation.state_distance(echo(4, "slots", 64), rows(200, 64))
    assert found.relative.mean().item() == pytest.approx((1 - 1 / 4) ** 0.5, rel=0.03)
    assert found.cosine.mean().item() == pytest.approx((1 / 4) ** 0.5, rel=0.05)
    alone = evaluation.state_distance(echo(1, "identity"), rows(3))
    assert alone.relative.max() < 1e-6


def test_distance_at_the_input_of_a_head() -> None:
    model = muxwrap.wrap(make("mlp"), 2, example_input=batch("mlp", 1), demux_at="head")
    found = evaluation.state_distance(model, batch("mlp", 6))
    assert found.relative.shape == (2,) and found.relative.min() > 0


def test_companions_do_not_matter_in_slots() -> None:
    found = evaluation.companion_similarity(echo(4, "slots"), rows(6), rows(20, seed=1), index=2)
    assert found.same.shape == (6,) and found.same.min() > 1 - 1e-5
    assert found.different.abs().max() < 0.9


def test_companions_of_dense_codes() -> None:
    """x_i beside n - 1 independent rotated instances of its norm: a cosine of 1/n between two draws."""
    model, anchors, pool = echo(4, "orthogonal", 256), rows(20, 256), rows(400, 256, seed=1)
    with random_state_untouched():
        found = evaluation.companion_similarity(model, anchors, pool, draws=6)
    assert found.same.mean().item() == pytest.approx(1 / 4, abs=0.04)
    assert found.different.mean().item() == pytest.approx(0, abs=0.03)


def test_hugging_face_inputs() -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.BertConfig(
        vocab_size=30, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=20, num_labels=3
    )
    model = muxwrap.wrap(transformers.BertForSequenceClassification(config), 2)
    ids = torch.randint(30, (6, 5), generator=torch.Generator().manual_seed(0))
    inputs: dict[str, Any] = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    assert evaluation.crosstalk(model, inputs).matrix.shape == (2, 2)
    assert evaluation.companion_similarity(model, inputs, inputs).same.shape == (6,)
    assert evaluation.state_distance(model, inputs).cosine.shape == (2,)


def test_every_plot_draws_on_the_axes_it_is_given() -> None:
    model, x = echo(2, "slots"), rows(4)
    results = [
        evaluation.crosstalk(model, x),
        evaluation.state_distance(model, x),
        evaluation.companion_similarity(model, x, x),
    ]
    for result in results:
        ax = Figure().add_subplot()
        assert result.plot(ax) is ax and ax.has_data() and ax.get_xlabel() and ax.get_ylabel()
        assert result.plot().has_data()


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda m: evaluation.crosstalk(m, rows(2)), "whole groups, 2 or more"),
        (lambda m: evaluation.crosstalk(m, rows(5)), "5 rows in mixtures of n=2"),
        (lambda m: evaluation.crosstalk(m.backbone, rows(4)), "not a wrapped model"),
        (lambda m: evaluation.state_distance(m, rows(3)), "3 rows in mixtures of n=2"),
        (lambda m: evaluation.companion_similarity(m, rows(1), rows(4)), "1 anchors"),
        (lambda m: evaluation.companion_similarity(m, rows(3), rows(4), draws=1), "draws=1"),
        (lambda m: evaluation.companion_similarity(m, rows(3), rows(4), index=2), "index=2 in mixtures of n=2"),
        (lambda m: evaluation.companion_similarity(m, rows(3), rows(4, 8)), "not of the anchors' shapes"),
        (lambda m: evaluation.companion_similarity(m.backbone, rows(3), rows(4)), "not a wrapped model"),
    ],
)
def test_refusals(call: Callable[[Any], object], said: str) -> None:
    with pytest.raises(MuxwrapError, match=said):
        call(echo(2, "slots"))
