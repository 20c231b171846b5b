"""Measuring and predicting speed: what is counted, not how long it takes."""

from __future__ import annotations

import json

import matplotlib
import pytest
import torch
from nets import batch, make
from torch import nn

import muxwrap
from muxwrap.throughput import Configuration, Machine, compare, measure, predict

matplotlib.use("Agg")
QUICK = {"mixtures": (1, 2), "rounds": 2, "seconds": 0.0}


class Deep(nn.Module):
    """A cheap stem and head around a trunk that is nearly all of the cost."""

    def __init__(self, width: int = 64, layers: int = 20) -> None:
        super().__init__()
        self.stem, self.head = nn.Linear(8, width), nn.Linear(width, 2)
        self.trunk = nn.Sequential(*(nn.Linear(width, width) for _ in range(layers)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.trunk(self.stem(x)))


def test_a_report_has_the_bare_model_first_and_counts_operations() -> None:
    backbone = make("cnn")
    report = measure(backbone, (2, 4), example_input=batch("cnn", 1), **QUICK)
    assert [cell.name for cell in report.cells] == ["bare", "n=2", "n=4"]
    bare = report.cells[0]
    assert bare.ratio_to_bare == 1.0
    stem, layer = 2 * 36 * 16 * 2 * 9, 2 * 9 * 20 * 16 * 9
    assert bare.flops == stem + layer + 2 * 20 * 5
    model = muxwrap.wrap(backbone, 4, example_input=batch("cnn", 1))
    slots, demux = 2 * 36 * 16 * 4, 2 * 20 * 20
    assert report[4].flops == stem + layer / 4 + 2 * 20 * 5 + slots + demux
    assert report[4].added_parameters == model.added_parameters()
    assert all(cell.rows % cell.n == 0 and cell.rounds == 2 for cell in report.cells)
    assert report[4].activation_bytes < bare.activation_bytes


def test_measuring_leaves_the_backbone_bare_and_in_its_mode() -> None:
    backbone = make("mlp").train()
    backbone.hidden.eval()
    measure(backbone, (2,), example_input=batch("mlp", 1), **QUICK)
    measure(backbone, (2,), example_input=batch("mlp", 1), train=True, **QUICK)
    assert backbone.training
    assert not backbone.hidden.training
    assert all(p.grad is None for p in backbone.parameters())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in backbone.modules())


def test_models_are_compared_with_the_first() -> None:
    x = batch("mlp", 1)
    wrapped = muxwrap.wrap(make("mlp"), 3, example_input=x)
    report = compare([Configuration("small", make("mlp"), x), Configuration("wrapped", wrapped, x)], **QUICK)
    assert [cell.strategy for cell in report.cells] == [None, "slots"]
    assert wrapped.attached
    records = report.records(study="x", length=1)
    assert records[1]["study"] == "x"
    assert json.loads(json.dumps(records)) == records
    assert len(str(report).splitlines()) == 4
    assert report.plot().get_xlabel().startswith("n ")


@pytest.mark.parametrize("n", [2, 4, 8])
def test_prediction_where_only_operations_cost(n: int) -> None:
    """With memory and starting for free the prediction is the ratio of operations."""
    backbone, x = Deep(layers=200), torch.randn(1, 8)
    rates = Machine(flops=1.0, traffic=((1.0, 0.0), (2.0, 0.0)))
    cells = measure(backbone, (n,), example_input=x, **QUICK).cells
    expected = cells[0].flops / cells[1].flops
    assert predict(backbone, n, example_input=x, machine=rates) == pytest.approx(expected)
    assert 0.9 * n < expected < n


def test_prediction_where_only_starting_costs() -> None:
    """Then multiplexing gains nothing but for the rows of a call: the same operations are started."""
    rates = Machine(flops=float("inf"), traffic=((1.0, 1.0), (2.0, 1.0)))
    found = predict(Deep(layers=200), 4, example_input=torch.randn(1, 8), machine=rates)
    assert found == pytest.approx(4, rel=0.15)


def test_memory_traffic_is_read_off_the_measured_sizes() -> None:
    machine = Machine(flops=10.0, traffic=((10.0, 1.0), (20.0, 3.0), (40.0, 4.0)))
    assert [machine.seconds(0, moved) for moved in (0, 10, 15, 20, 30, 60)] == [1.0, 1.0, 2.0, 3.0, 3.5, 5.0]
    assert machine.seconds(45, 10) == 4.5  # the larger of the two sides


def test_a_table_costs_what_is_looked_up() -> None:
    rates = Machine(flops=float("inf"), traffic=((0.0, 0.0), (1.0, 1.0)))
    found = []
    for tokens in (100, 10_000):
        backbone = nn.Sequential(nn.Embedding(tokens, 8), *[nn.Linear(8, 8) for _ in range(20)])
        found.append(predict(backbone, 4, example_input=torch.zeros(1, 5, dtype=torch.long), machine=rates))
    assert found[0] == pytest.approx(found[1])
