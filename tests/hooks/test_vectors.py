"""Rows of one number each: ids ``[B]`` that are embedded, answers ``[B]``, and what carries them."""

from __future__ import annotations

import dataclasses
from collections import OrderedDict, UserDict
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn

import muxwrap
from muxwrap import Site, Sites
from muxwrap._hooks.axes import feature_size, features_back, features_last
from muxwrap._util.nested import first_tensor, map_first_tensor, map_tensors, named_tensors, replace_object


class Recommender(nn.Module):
    """A user and an item, ids ``[B]``, to a score ``[B]``."""

    def __init__(self) -> None:
        super().__init__()
        self.user, self.item = nn.Embedding(50, 16), nn.Embedding(60, 16)
        self.first, self.second, self.out = nn.Linear(32, 24), nn.Linear(24, 24), nn.Linear(24, 1)
        self.score = nn.Flatten(0)

    def forward(self, user: Tensor, item: Tensor) -> Tensor:
        x = torch.cat([self.user(user), self.item(item)], -1)
        return self.score(self.out(torch.tanh(self.second(torch.tanh(self.first(x))))))


USER, ITEM = torch.tensor([1, 2, 3, 4, 5]), torch.tensor([6, 7, 8, 9, 10])
MIXED = Site("first", "input", -1, 32)


@pytest.mark.parametrize("n", [1, 2, 3])
def test_ids_and_answers_of_one_number_a_row(n: int) -> None:
    torch.manual_seed(0)
    model = muxwrap.wrap(Recommender(), n, sites=Sites((MIXED,), (Site("out", "input", -1, 24),)))
    seen: list[int] = []
    model.backbone.second.register_forward_pre_hook(lambda m, args: seen.append(len(args[0])))
    answer = model(USER, ITEM)
    assert (answer.shape, seen) == ((5,), [-(-5 // n)])
    answer.sum().backward()
    assert all(p.grad is not None for p in model.parameters())


@pytest.mark.parametrize("axis", [-1, None])
def test_one_number_a_row_is_separated_where_a_site_holds_that(axis: int | None) -> None:
    torch.manual_seed(0)
    net = Recommender().eval()
    site = Site("score", "output", axis, 1)
    model = muxwrap.wrap(net, 2, "identity", "unbind", sites=Sites((MIXED,), (site,))).eval()
    user, item = USER[:4].repeat_interleave(2), ITEM[:4].repeat_interleave(2)  # copies of one row share a mixture
    model.strategy.factor = 0.5
    bare = net(user, item)
    torch.testing.assert_close(model(user, item) / model(user, item)[0] * bare[0], bare)


@pytest.mark.parametrize("axis", [-1, None])
def test_one_number_a_row_is_a_feature_axis_of_one(axis: int | None) -> None:
    x = torch.arange(6.0)
    assert feature_size(tuple(x.shape), axis) == 1
    laid = features_last(x, axis, lead=1)
    assert laid.shape == (6, 1)
    assert torch.equal(features_back(laid, tuple(x.shape), axis, lead=1), x)
    grouped = features_last(x.view(3, 2), axis, lead=2)
    assert grouped.shape == (3, 2, 1)
    assert torch.equal(features_back(grouped, (3,), axis, lead=2), x.view(3, 2))


def test_a_tensor_of_more_axes_comes_first() -> None:
    steps, images = torch.arange(3), torch.zeros(3, 2)
    assert first_tensor((steps, {"x": images})) is images
    assert first_tensor((torch.tensor(1.0), steps)) is steps
    assert first_tensor(torch.tensor(1.0)) is None


# -- what carries tensors ---------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Batch:
    name: str
    ids: Tensor
    more: Any = None


class Pair(NamedTuple):
    left: Tensor
    right: Tensor


A, B = torch.zeros(2, 3), torch.ones(2, 3)
CARRIERS = [
    (Batch("x", A, {"masks": [B]}), ".ids", ".more['masks'][0]"),
    (OrderedDict({("a", 1): A, "b": B}), "[('a', 1)]", "['b']"),
    (UserDict({"a": A, "b": (B,)}), "['a']", "['b'][0]"),
    (Pair(A, B), ".left", ".right"),
]


@pytest.mark.parametrize(("carrier", "first", "second"), CARRIERS)
def test_containers_come_back_as_they_were(carrier: Any, first: str, second: str) -> None:
    assert [path for path, _ in named_tensors(carrier)] == [first, second]
    assert first_tensor(carrier) is A
    changed = map_first_tensor(carrier, lambda x: x + 5)
    assert type(changed) is type(carrier)
    assert [float(x.mean()) for _, x in named_tensors(changed)] == [5, 1]
    assert [float(x.mean()) for _, x in named_tensors(map_tensors(carrier, lambda x: x + 5))] == [5, 6]
    assert [x is y for (_, x), y in zip(named_tensors(carrier), (A, B), strict=True)] == [True, True]  # left as it was


def test_a_dataclass_without_the_tensor_stays_the_same_object() -> None:
    settings = Batch("x", A)
    assert replace_object((settings, B), B, A)[0] is settings


def test_the_grouped_view_reaches_every_tensor() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.head = nn.Linear(6, 16), nn.Linear(16, 3)

        def forward(self, batch: Batch, temperature: Tensor) -> dict[str, Any]:
            logits = self.head(torch.tanh(self.stem(batch.ids) + batch.more["shift"])) / temperature
            return {"logits": (logits, logits[:, 0]), "loss": logits.mean()}

    torch.manual_seed(0)
    sites = Sites((Site("stem", "input", -1, 6),), (Site("stem", "output", -1, 16),))
    model = muxwrap.wrap(Net(), 3, sites=sites)
    x, shift, temperature = torch.randn(2, 3, 6), torch.randn(2, 3, 16), torch.tensor(2.0)
    output = model.grouped()(Batch("x", x, {"shift": shift}), temperature)
    flat = model(Batch("x", x.flatten(0, 1), {"shift": shift.flatten(0, 1)}), temperature)
    assert [a.shape for a in output["logits"]] == [(2, 3, 3), (2, 3)]
    for grouped, rows in zip(output["logits"], flat["logits"], strict=True):
        assert torch.equal(grouped.flatten(0, 1), rows)
    assert torch.equal(output["loss"], flat["loss"])


def test_a_network_that_takes_and_gives_dataclasses() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.hidden, self.head = nn.Linear(6, 16), nn.Linear(16, 16), nn.Linear(16, 3)

        def forward(self, batch: Batch) -> Batch:
            return Batch(batch.name, self.head(torch.tanh(self.hidden(torch.tanh(self.stem(batch.ids))))))

    torch.manual_seed(0)
    whole = Site("", "input", -1, 6)
    for mux in (whole, Site("stem", "output", -1, 16)):
        model = muxwrap.wrap(Net(), 2, sites=Sites((mux,), (Site("", "output", -1, 3),)))
        output = model(Batch("x", torch.randn(5, 6)))
        assert type(output) is Batch
        assert (output.name, output.ids.shape) == ("x", (5, 3))
