"""In training the trunk's gradient has no part that is common to all mixtures; nothing else changes."""

from __future__ import annotations

import copy
from functools import partial

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

import muxwrap
from muxwrap import demuxers
from muxwrap.demuxers.centering import centered

EXAMPLE = torch.zeros(1, 6)


def net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 12), nn.Tanh(), nn.Linear(12, 12), nn.Tanh(), nn.Linear(12, 3))


def wrapped(n: int = 3, demux: str = "mlp", **options: object) -> muxwrap.Multiplex:
    demuxer = partial(demuxers.registry.get(demux), **options)
    return muxwrap.wrap(net(), n, demux=demuxer, example_input=EXAMPLE, demux_at="4")


def gradients(model: nn.Module, x: Tensor, weight: Tensor) -> dict[str, Tensor]:
    model.zero_grad()
    (model(x) * weight).sum().backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


@given(st.integers(2, 5), st.integers(1, 4), st.lists(st.integers(1, 4), max_size=2))
def test_the_identity_with_a_gradient_that_sums_to_zero(g: int, n: int, inner: list[int]) -> None:
    x = torch.randn(g, n, *inner, 2, dtype=torch.float64, requires_grad=True)
    out = centered(x)
    assert torch.equal(out, x)
    upstream = torch.randn_like(out)
    out.backward(upstream)
    assert x.grad is not None
    torch.testing.assert_close(x.grad.sum(0), torch.zeros_like(x[0]))
    torch.testing.assert_close(x.grad + upstream.mean(0), upstream)


def test_what_is_the_same_for_all_rows_does_not_reach_the_trunk_but_the_head() -> None:
    torch.manual_seed(1)
    model = wrapped(demux="unbind").train()
    x, alike = torch.randn(12, 6), torch.ones(12, 3)
    found = gradients(model, x, alike)
    for name in ("backbone.0.weight", "backbone.2.weight", "backbone.2.bias", "strategy.keys"):
        torch.testing.assert_close(found[name], torch.zeros_like(found[name]), atol=1e-5, rtol=0)
    torch.testing.assert_close(found["backbone.4.bias"], torch.full((3,), 12.0))
    whole = gradients(wrapped(demux="unbind", center_gradients=False).train(), x, alike)
    assert whole["backbone.2.bias"].abs().max() > 0.1


def test_what_tells_rows_apart_reaches_it_whole() -> None:
    """A loss whose gradient has no common part is differentiated as without centering."""
    torch.manual_seed(1)
    x, weight = torch.randn(12, 6), torch.randn(4, 3, 3)
    weight = (weight - weight.mean(0)).view(12, 3)  # sums to zero over the mixtures at every index
    found = gradients(wrapped().train(), x, weight)
    whole = gradients(wrapped(center_gradients=False).train(), x, weight)
    assert found.keys() == whole.keys()
    for name, value in whole.items():
        torch.testing.assert_close(found[name], value, msg=name)


@pytest.mark.parametrize("change", ["eval", "one mixture", "n=1"])
def test_where_nothing_is_centered(change: str) -> None:
    torch.manual_seed(1)
    n = 1 if change == "n=1" else 3
    x = torch.randn(3 if change == "one mixture" else 9, 6)
    model, whole = wrapped(n), wrapped(n, center_gradients=False)
    for each in (model, whole):
        each.train(change != "eval")
    weight = torch.ones(len(x), 3)
    expected = gradients(whole, x, weight)
    for name, value in gradients(model, x, weight).items():
        assert torch.equal(value, expected[name]), name


def test_training_and_evaluation_compute_the_same() -> None:
    model, x = wrapped(), torch.randn(7, 6)
    assert torch.equal(model.train()(x), model.eval()(x))


def test_a_demuxer_that_adds_a_term_keeps_the_whole_gradient() -> None:
    """The key of an index is the same for all mixtures: from their common gradient it learns."""
    torch.manual_seed(1)
    found = gradients(wrapped(demux="key").train(), torch.randn(12, 6), torch.ones(12, 3))
    assert found["demuxers.0.keys"].abs().max() > 0.1


def test_per_sample_gradients_and_second_derivatives() -> None:
    x = torch.randn(5, 4, 3, 2, dtype=torch.float64, requires_grad=True)
    each = torch.func.vmap(lambda one: torch.func.grad(lambda v: (centered(v) ** 2).sum())(one))(x)
    torch.testing.assert_close(each, 2 * (x - x.mean(1, keepdim=True)))
    first = torch.autograd.grad((centered(x) ** 3).sum(), x, create_graph=True)[0]
    assert torch.autograd.grad(first.sum(), x)[0].shape == x.shape


def test_compiled_in_one_graph() -> None:
    model = wrapped().train()
    x, weight = torch.randn(6, 6), torch.randn(6, 3)
    expected = gradients(model, x, weight)
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    model.zero_grad()
    (compiled(x) * weight).sum().backward()
    for name, p in model.named_parameters():
        if p.grad is not None:
            torch.testing.assert_close(p.grad, expected[name], msg=name)


def test_the_option_is_saved_loaded_and_copied(tmp_path: object) -> None:
    model = wrapped(center_gradients=False)
    model.save_pretrained(str(tmp_path))
    assert not muxwrap.load(str(tmp_path), net()).demuxer.center_gradients
    assert not copy.deepcopy(model).demuxer.center_gradients
    assert wrapped().demuxer.center_gradients


def test_it_learns_from_two_mixtures_a_step() -> None:
    torch.manual_seed(0)
    x = torch.randn(512, 6)
    y = (x[:, 0] > x[:, 1]).long()
    model = wrapped(2).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(8):
        for rows in torch.randperm(512).split(4):
            loss = nn.functional.cross_entropy(model(x[rows]), y[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    assert (model(x).argmax(1) == y).float().mean() > 0.9
