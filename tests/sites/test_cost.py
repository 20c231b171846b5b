"""What a row costs beside a bare one: counted in the first run, shown, and warned of where it is more."""

from __future__ import annotations

import copy

import pytest
import texts
import torch
from torch import Tensor, nn

import muxwrap
from muxwrap.sites.tracing.operations import OperationCounter


def perceptron() -> nn.Module:
    return nn.Sequential(nn.Linear(96, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 3))


def operations(model: nn.Module, x: Tensor) -> float:
    with torch.no_grad(), OperationCounter() as counter:
        model.eval()(x)
    return counter.count


def shown(model: nn.Module) -> float:
    """Return the multiple that ``print(model)`` shows."""
    (line,) = [line for line in repr(model).splitlines() if line.startswith("  cost ")]
    return float(line.split(" takes ")[1].split(" times ")[0])


@pytest.mark.parametrize("n", [2, 5, 8])
@pytest.mark.parametrize("strategy", ["slots", "hadamard", "orthogonal"])
def test_cost_is_that_of_full_groups(n: int, strategy: str) -> None:
    x = torch.randn(3 * n, 96)
    bare = operations(perceptron(), x)
    model = muxwrap.wrap(perceptron(), n, strategy, example_input=x[:1])
    assert shown(model) == pytest.approx(operations(model, x) / bare, abs=0.011)


def test_cost_of_a_transformer() -> None:
    backbone, n = texts.tiny("sequence", "bert"), 4
    ids = torch.randint(3, 20, (2 * n, 16))
    bare = operations(copy.deepcopy(backbone), ids)
    model = muxwrap.wrap(backbone, n)
    assert shown(model) == pytest.approx(operations(model, ids) / bare, abs=0.011)


def test_a_row_that_costs_more_is_warned_of() -> None:
    x = torch.zeros(1, 96)
    with pytest.warns(UserWarning, match=r"a row takes \d\.\d\d times the operations .*strategy='hadamard'"):
        dear = muxwrap.wrap(perceptron(), 2, "orthogonal", example_input=x)
    assert shown(dear) > 1


@pytest.mark.filterwarnings("error")
def test_one_that_costs_less_is_not() -> None:
    cheap = muxwrap.wrap(perceptron(), 8, "hadamard", example_input=torch.zeros(1, 96))
    assert shown(cheap) < 1


def test_it_is_that_of_the_largest_n() -> None:
    model = muxwrap.wrap(perceptron(), (1, 2, 4), "hadamard", example_input=torch.zeros(1, 96))
    assert 0 < shown(model) < 1
    model.n = 2
    assert "  cost " not in repr(model)


def test_it_is_not_known_of_sites_that_are_given() -> None:
    found = muxwrap.find_sites(perceptron(), torch.zeros(1, 96))
    assert "  cost " not in repr(muxwrap.wrap(perceptron(), 2, sites=found))
