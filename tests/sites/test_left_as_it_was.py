"""Finding sites leaves a model as it was, whatever its forward writes down; what comes in has the layout that it had."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import muxwrap
from muxwrap import MuxwrapError


class Writing(nn.Module):
    """Counts, queues what it saw, keeps a hidden state, and averages another layer's weights, in evaluation too."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.layer, self.average, self.head = (
            nn.Linear(a, b) for a, b in ((8, 32), (32, 32), (32, 32), (32, 3))
        )
        self.average.requires_grad_(False)
        self.register_buffer("seen", torch.zeros((), dtype=torch.long))
        self.register_buffer("queue", torch.zeros(4, 8))
        self.calls, self.hidden = 0, None

    def forward(self, x: Tensor) -> Tensor:
        self.seen += len(x)
        self.queue = torch.cat([x[:1], self.queue[:-1]])
        self.calls += 1
        self.last: Any = x
        with torch.no_grad():
            self.average.weight.lerp_(self.layer.weight, 0.1)
        h = torch.relu(self.layer(torch.relu(self.stem(x))))
        self.hidden = h.detach()
        return self.head(h)


def test_what_a_forward_writes_is_taken_back() -> None:
    net = Writing()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    with pytest.warns(UserWarning, match=r"keeps tensors on itself that are made between the sites \(hidden\)"):
        muxwrap.unwrap(muxwrap.wrap(net, 2, example_input=torch.randn(3, 8)))
    assert (net.calls, net.hidden, hasattr(net, "last")) == (0, None, False)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    net(torch.randn(2, 8))
    assert (net.calls, int(net.seen)) == (1, 2)


def test_a_hidden_state_of_other_rows_does_not_reach_the_search() -> None:
    class Stateful(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.rnn, self.head = nn.Linear(8, 16), nn.LSTM(16, 32, batch_first=True), nn.Linear(32, 2)
            self.state: Any = None

        def forward(self, x: Tensor) -> Tensor:
            fits = self.state is not None and self.state[0].shape[1] == len(x)
            y, state = self.rnn(self.stem(x), self.state if fits else None)
            self.state = tuple(part.detach() for part in state)
            return self.head(y[:, -1])

    net = Stateful()
    model = muxwrap.wrap(net, 2, example_input=torch.randn(2, 5, 8))
    assert (net.state, model.sites.mux[0].path) == (None, "stem")


class Viewing(nn.Module):
    """Reads feature maps with ``view``, which asks for the order of the axes in memory."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.layer = nn.Conv2d(3, 16, 3), nn.Conv2d(16, 32, 3)
        self.last, self.head = nn.Conv2d(32, 8, 3), nn.Linear(8 * 100, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.relu(self.layer(torch.relu(self.stem(x))))
        h = h.view(len(h), 4, 8, *h.shape[2:]).flatten(1, 2)
        return self.head(torch.relu(self.last(h)).view(len(h), -1))


@pytest.mark.parametrize("strategy", ["slots", "hadamard", "orthogonal"])
def test_maps_come_in_the_order_of_their_axes(strategy: str) -> None:
    x = torch.randn(5, 3, 16, 16)
    model = muxwrap.wrap(Viewing(), 2, strategy, mux_at="stem", demux_at="layer@output", example_input=x)
    assert model(x).shape == (5, 3)


def test_complex_numbers_are_refused_as_such() -> None:
    net = nn.Sequential(*(nn.Linear(a, b, dtype=torch.cfloat) for a, b in ((8, 32), (32, 32), (32, 3))))
    with pytest.raises(MuxwrapError, match=r"holds torch.complex64 values, and strategies mix real ones; mix where"):
        muxwrap.wrap(net, 2, example_input=torch.randn(2, 8, dtype=torch.cfloat))


def test_tables_as_long_as_some_batch_are_not_cut() -> None:
    class Looking(nn.Module):
        """Three tables of numbers in a call of two rows."""

        def __init__(self) -> None:
            super().__init__()
            self.stem, self.layer, self.head = nn.Linear(8, 32), nn.Linear(32, 32), nn.Linear(32, 3)

        def forward(self, x: Tensor, tables: Tensor) -> Tensor:
            h = torch.relu(self.layer(torch.relu(self.stem(x)))) + tables[0] + tables[1] + tables[2]
            return self.head(h)

    model = muxwrap.wrap(Looking(), 2, example_input=(torch.randn(2, 8), torch.randn(3, 32)))
    assert model(torch.randn(5, 8), torch.randn(3, 32)).shape == (5, 3)


def test_bags_of_their_own_count_are_refused_in_terms_of_rows() -> None:
    class Bags(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.bag, self.dense = nn.EmbeddingBag(50, 8), nn.Sequential(nn.Linear(4, 32), nn.ReLU(), nn.Linear(32, 8))
            self.top = nn.Sequential(nn.Linear(16, 64), nn.ReLU(), nn.Linear(64, 1))

        def forward(self, dense: Tensor, ids: Tensor, starts: Tensor) -> Tensor:
            return self.top(torch.cat([self.dense(dense), self.bag(ids, starts[0])], 1))

    call = torch.randn(2, 4), torch.randint(0, 50, (7,)), torch.tensor([[0, 3]])
    with pytest.raises(
        MuxwrapError,
        match=r"runs on 2 rows of the example and not on 3 copies of the first.*wrap the part that is given rows",
    ):
        muxwrap.wrap(Bags(), 2, example_input=call)


def test_a_demuxer_under_no_grad_is_told() -> None:
    class Momentum(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.query, self.key = (
                nn.Sequential(nn.Linear(8, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 16))
                for _ in "qk"
            )

        def forward(self, a: Tensor, b: Tensor) -> Tensor:
            with torch.no_grad():
                key = self.key(b)
            return (self.query(a) * key).sum(1)

    call = tuple(torch.randn(2, 4, 8))
    model = muxwrap.wrap(Momentum(), 2, example_input=call)
    with pytest.warns(UserWarning, match=r"under torch.no_grad\(\) in training.*take that part out of no_grad"):
        model(*call)
    model(*call)  # once


@pytest.mark.parametrize("n", [2, 4])
def test_more_rows_than_features_are_told(n: int) -> None:
    class Series(nn.Module):
        def __init__(self, stem: nn.Module, size: int) -> None:
            super().__init__()
            self.stem, self.rnn, self.head = stem, nn.LSTM(size, 32, batch_first=True), nn.Linear(32, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.rnn(self.stem(x))[0][:, -1])

    x = torch.randn(2, 12, 1)
    with pytest.warns(UserWarning, match=rf"{n} rows share 1 number per position.*nn.Linear\(1, 32\)"):
        muxwrap.wrap(Series(nn.Identity(), 1), n, example_input=x)
    muxwrap.wrap(Series(nn.Linear(1, 32), 32), n, example_input=x)  # the way out


def test_signals_have_their_channels_first() -> None:
    """So that a signal of another length goes through."""
    net = nn.Sequential(
        nn.Conv1d(4, 32, 5), nn.ReLU(), nn.Conv1d(32, 8, 3), nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(8, 3)
    )
    model = muxwrap.wrap(net, 2, mux_at="@input", example_input=torch.randn(2, 4, 40)).eval()
    assert (model.sites.mux[0].axis, model.sites.mux[0].dim) == (1, 4)
    assert model(torch.randn(5, 4, 60)).shape == (5, 3)


class Popping(nn.Module):
    """Takes what it reads out of the batch that it is given, and writes into it."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 3))

    def forward(self, batch: dict[str, Any]) -> dict[str, Any]:
        batch["logits"] = self.net(torch.cat([batch.pop("image"), *batch["tables"]], 1))
        batch["tables"].clear()
        return batch


def test_a_model_may_take_things_out_of_the_batch_that_it_is_given() -> None:
    torch.manual_seed(0)
    bare, x = Popping().eval(), torch.randn(5, 8)

    def batch(rows: int) -> dict[str, Any]:
        return {"image": x[:rows, :6], "tables": [x[:rows, 6:]], "name": "train"}

    example = batch(3)
    one = muxwrap.wrap(Popping().eval(), 1, example_input=(example,))
    one.backbone.load_state_dict(bare.state_dict())
    assert list(example) == ["image", "tables", "name"] and len(example["tables"]) == 1
    assert torch.allclose(one(batch(5))["logits"], bare(batch(5))["logits"], atol=1e-6)
    given = batch(5)
    answer = muxwrap.wrap(bare, 2, example_input=(example,))(given)
    assert answer["logits"].shape == (5, 3) and list(answer) == ["tables", "name", "logits"]
