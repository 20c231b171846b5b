"""What a split is worth: operations counted in the trace, useless splits refused, small ones announced."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
import torch
from nets import batch, make
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

import muxwrap
from muxwrap import MuxwrapError, Sites
from muxwrap.sites.tracing.operations import OperationCounter

X = torch.randn(3, 9, 6, generator=torch.Generator().manual_seed(0))


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def rows_inside(model: nn.Module, module: nn.Module, *call: Any) -> list[int]:
    """Rows that a module gets in one call."""
    seen: list[int] = []
    handle = module.register_forward_pre_hook(lambda _, args: seen.append(args[0].shape[0]))
    model(*call)
    handle.remove()
    return seen


class Recurrent(nn.Module):
    """A time series ``[B, T, 6]`` to 3 classes."""

    def __init__(self, kind: type[nn.RNNBase], hidden: int = 0, states: bool = False) -> None:
        super().__init__()
        self.rnn = kind(6, 32, 2, batch_first=True)
        self.hidden = nn.Linear(32, hidden) if hidden else nn.Identity()
        self.out = nn.Linear(hidden or 32, 3)
        self.states = states

    def forward(self, x: Tensor) -> Any:
        y, states = self.rnn(x)
        answer = self.out(torch.relu(self.hidden(y[:, -1])))
        return (answer, states) if self.states else answer


# -- counting ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("layer", "given", "least"),
    [
        (nn.Linear(8, 16), (3, 8), 2 * 3 * 8 * 16),
        (nn.Conv2d(2, 4, 3, padding=1), (3, 2, 5, 5), 2 * 3 * 25 * 2 * 9 * 4),
        (nn.LSTM(6, 32, batch_first=True), (3, 9, 6), 2 * 3 * 9 * 4 * 32 * (6 + 32)),
        (nn.GRU(6, 32, batch_first=True), (3, 9, 6), 2 * 3 * 9 * 3 * 32 * (6 + 32)),
        (nn.RNN(6, 32, batch_first=True), (3, 9, 6), 2 * 3 * 9 * 32 * (6 + 32)),
        (nn.TransformerEncoderLayer(32, 2, 64, batch_first=True), (3, 9, 32), 2 * 3 * 9 * (4 * 32 * 32 + 2 * 32 * 64)),
    ],
)
@pytest.mark.parametrize("inference", [False, True])
def test_layers_cost_their_products(layer: nn.Module, given: tuple[int, ...], least: int, inference: bool) -> None:
    with torch.inference_mode(inference), torch.set_grad_enabled(not inference), OperationCounter() as counter:
        layer.eval()(torch.randn(given))
    assert least <= counter.count <= 1.3 * least


def test_attention_costs_its_products() -> None:
    q, k, v = torch.randn(3, 2, 4, 9, 16)
    with OperationCounter() as counter:
        nn.functional.scaled_dot_product_attention(q, k, v)
    assert 4 * 8 * 9 * 9 * 16 <= counter.count <= 1.3 * 4 * 8 * 9 * 9 * 16


def test_products_are_those_of_torch_and_views_are_free() -> None:
    net, x = make("cnn").eval(), batch("cnn", 3)
    with OperationCounter() as counter, FlopCounterMode(display=False) as torchs:
        net(x)
    assert torchs.get_total_flops() <= counter.count <= 1.2 * torchs.get_total_flops()
    with OperationCounter() as counter:
        x.flatten(1).t()[0].unsqueeze(0).expand(3, -1)
    assert counter.count == 0


# -- what is shown ----------------------------------------------------------------------------------------------------


def test_the_share_is_found_printed_and_saved() -> None:
    net = nn.Sequential(*(layer for _ in range(9) for layer in (nn.Linear(32, 32), nn.ReLU())), nn.Linear(32, 32))
    model = muxwrap.wrap(net, 2, example_input=torch.zeros(1, 32))
    share = model.sites.share
    assert share == pytest.approx(0.8, abs=0.01)  # eight layers of ten
    assert f"{100 * share:.0f} % of the operations run once per mixture" in repr(model)
    saved = json.loads(json.dumps(model.sites.to_dict()))
    assert Sites.from_dict(saved).share == share
    assert Sites.from_dict({**saved, "share": 0.1}) == model.sites
    by_hand = muxwrap.wrap(muxwrap.unwrap(model), 2, sites=Sites(model.sites.mux, model.sites.demux))
    assert "operations" not in repr(by_hand)  # nothing ran that could be counted


def test_nearly_all_is_not_shown_as_all() -> None:
    shares = {0.98: "98 %", 0.996: "99.6 %", 0.99999: "over 99.9 %", 1.0: "100 %"}
    assert [muxwrap.site.percent(share) for share in shares] == list(shares.values())


# -- what is taken ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
@pytest.mark.parametrize("hidden", [0, 256])
def test_a_recurrent_layer_that_comes_first_runs_on_mixtures(kind: type[nn.RNNBase], hidden: int) -> None:
    model = muxwrap.wrap(Recurrent(kind, hidden), 4, example_input=X[:1]).eval()
    assert model.sites.share is not None and model.sites.share > 0.9
    assert rows_inside(model, model.backbone.rnn, torch.randn(8, 9, 6)) == [2]


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU])
def test_states_of_recurrent_layers_belong_to_mixtures(kind: type[nn.RNNBase]) -> None:
    model = muxwrap.wrap(Recurrent(kind, states=True), 4, example_input=X[:1]).eval()
    answer, states = model(torch.randn(8, 9, 6))
    assert answer.shape == (8, 3)
    assert (states[0] if isinstance(states, tuple) else states).shape == (2, 2, 32)


class Attentive(nn.Module):
    """Also returns its attention, of a layer or made by hand."""

    def __init__(self, by_hand: bool = False, first: bool = False) -> None:
        super().__init__()
        self.stem, self.norm, self.head = nn.Linear(6, 32), nn.LayerNorm(32), nn.Linear(32, 5)
        self.layer = nn.Linear(32, 32) if by_hand else nn.MultiheadAttention(32, 2, batch_first=True)
        self.by_hand, self.first = by_hand, first

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        h = self.stem(x)
        if self.by_hand:
            weights = torch.softmax(self.layer(h) @ h.transpose(1, 2), -1)
            mixed = weights @ h
        else:
            mixed, weights = self.layer(h, h, h)
        answers = self.head(self.norm(h + mixed).mean(1)), weights
        return answers[::-1] if self.first else answers


@pytest.mark.parametrize("by_hand", [True, False])
@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("where", [{}, {"mux_at": "stem", "demux_at": "head"}])
def test_attention_that_is_returned_runs_on_mixtures(by_hand: bool, first: bool, where: dict[str, Any]) -> None:
    model = muxwrap.wrap(Attentive(by_hand, first), 2, example_input=X[:1], **where).eval()
    assert (model.sites.mux[0].path, model.sites.demux[0].path) == ("stem", "head")
    x = torch.randn(8, 9, 6)
    assert rows_inside(model, model.backbone.layer, x) == [4]
    shapes = sorted(tuple(answer.shape) for answer in model(x))
    assert shapes == [(4, 9, 9), (8, 5)]


NORMS = [nn.utils.parametrizations.weight_norm, nn.utils.parametrizations.spectral_norm]


@pytest.mark.parametrize("norm", NORMS)
def test_parametrized_layers_are_layers(norm: Any) -> None:
    layers = [norm(nn.Linear(*sizes)) for sizes in ((6, 32), (32, 32), (32, 3))]
    net = nn.Sequential(layers[0], nn.ReLU(), layers[1], nn.ReLU(), layers[2])
    model = muxwrap.wrap(net, 2, example_input=torch.zeros(1, 6)).eval()
    assert (model.sites.mux[0].path, model.sites.demux[0].path) == ("0", "4")
    assert rows_inside(model, net[2], torch.randn(8, 6)) == [4]


@pytest.mark.filterwarnings("ignore")  # torch announces the move of its quantisation to another package
def test_quantised_layers_are_layers() -> None:
    net = nn.Sequential(nn.Linear(6, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 3)).eval()
    low = torch.ao.quantization.quantize_dynamic(net, {nn.Linear})
    model = muxwrap.wrap(low, 2, example_input=torch.randn(1, 6))
    assert (model.sites.mux[0].path, model.sites.demux[0].path) == ("0", "4")
    assert rows_inside(model, low[2], torch.randn(8, 6)) == [4]


class Block(nn.Module):
    """Holds its weights itself and calls a layer, beside which it adds what it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.weight, self.layer = nn.Parameter(torch.randn(6, 64) / 3), nn.Linear(64, 6)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layer(torch.relu(x @ self.weight))


def test_a_block_that_comes_first_is_mixed_before() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.block, self.head = Block(), nn.Linear(6, 3)

        def forward(self, x: dict[str, Tensor]) -> Tensor:
            return self.head(self.block(x["a"] + x["b"]))

    a, b = torch.randn(2, 8, 6)
    model = muxwrap.wrap(Net(), 2, example_input=({"a": a, "b": b},)).eval()
    assert (str(model.sites.mux[0]).split(" (")[0], model.sites.demux[0].path) == ("input of block", "head")
    assert rows_inside(model, model.backbone.block, {"a": a, "b": b}) == [4]


class Siamese(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.EmbeddingBag(50, 64), nn.ReLU(), nn.Linear(64, 64))
        self.head = nn.Linear(128, 2)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return self.head(torch.cat([self.encoder(a), self.encoder(b)], -1))


class Beside(Siamese):
    """The encoder also runs for something that is not a row's."""

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return super().forward(a, b) + self.encoder(torch.zeros(1, 6, dtype=torch.long)).mean()


def test_a_siamese_encoder_is_mixed_inside() -> None:
    calls = (torch.randint(0, 50, (3, 6)), torch.randint(0, 50, (3, 6)))
    model = muxwrap.wrap(Siamese(), 2, example_input=calls)
    assert (model.sites.mux[0].path, model.sites.demux[0].path) == ("encoder.0", "head")
    assert rows_inside(model, model.backbone.encoder[2], *calls) == [2, 2]


def test_a_part_that_runs_several_times_is_named_with_the_way_out() -> None:
    calls = (torch.randint(0, 50, (3, 6)), torch.randint(0, 50, (3, 6)))
    with pytest.raises(
        MuxwrapError, match=r"run once per call.*'encoder.2' \(Linear\) \d\d % in 3 calls.*alone"
    ) as told:
        muxwrap.wrap(Beside(), 2, example_input=calls)
    assert "mix output of head" not in str(told.value)  # the answers are never mixed
    net = Beside()
    net.encoder = muxwrap.wrap(net.encoder, 2, mux_at="0", demux_at="2", example_input=calls[0])
    assert net(*calls).shape == (3, 2)


def test_nothing_of_weight_between() -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(600, 600), nn.ReLU(), nn.Linear(600, 2))
    with pytest.raises(
        MuxwrapError, match=r"less than 5 % of the operations.*'1' \(Linear\) \d\d(\.\d)? %.*'path@input'"
    ):
        muxwrap.wrap(net, 2, mux_at="1", example_input=torch.zeros(1, 600))
    model = muxwrap.wrap(net, 2, mux_at="1", demux_at="3", example_input=torch.zeros(1, 600))  # taken as named
    assert model(torch.zeros(5, 600)).shape == (5, 2)


# -- what is told -----------------------------------------------------------------------------------------------------


class Tagged(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed, self.body, self.out = nn.Embedding(40, 16), nn.Linear(16, 16), nn.Linear(16, 40)

    def forward(self, ids: Tensor) -> Tensor:
        return self.out(torch.tanh(self.body(self.embed(ids))))


IDS = torch.arange(7)[None]


def test_less_than_half_is_told() -> None:
    told = r"wrap\(Tagged, n=2\): only (\d\d) % of the operations run once per mixture.*'out' \(Linear\) 71 %"
    with pytest.warns(UserWarning, match=told) as caught:
        model = muxwrap.wrap(Tagged(), 2, example_input=IDS)
    found = re.search(told, str(caught[0].message))
    assert found is not None and float(found[1]) == pytest.approx(100 * (model.sites.share or 0), abs=0.5)
    assert caught[0].filename == __file__


def test_what_the_user_names_is_not_told_and_neither_is_one_instance() -> None:
    muxwrap.wrap(Tagged(), 2, mux_at="embed", example_input=IDS)  # a warning would be an error here
    muxwrap.wrap(Tagged(), 1, example_input=IDS)


def test_the_place_that_would_raise_the_share_is_named() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.c = nn.Linear(32, 64), nn.Linear(64, 64), nn.Linear(64, 600)

        def forward(self, x: Tensor) -> Tensor:
            return self.c(torch.relu(self.b(torch.relu(self.a(x)))))

    with pytest.warns(UserWarning, match=r"To raise the share, name mux_at='@input': 1\d %"):
        muxwrap.wrap(Net(), 2, example_input=torch.randn(1, 32))
    model = muxwrap.wrap(Net(), 2, mux_at="@input", example_input=torch.randn(1, 32))
    assert model(torch.randn(5, 32)).shape == (5, 600)


def test_features_that_are_pooled_from_a_map_are_separated_where_the_last_layer_would_leave_little() -> None:
    made = (nn.Conv2d(3, 32, 3, 2, 1), nn.Conv2d(32, 64, 3, 2, 1), nn.Conv2d(64, 64, 3, padding=1))
    net = nn.Sequential(*made, nn.AdaptiveAvgPool2d(1), nn.Flatten())
    sites = muxwrap.wrap(net, 2, example_input=torch.randn(3, 3, 32, 32)).sites
    assert sites.demux[0].path == "" and sites.demux[0].dim == 64 and sites.share is not None and sites.share > 0.9


class Films(nn.Module):
    """Films ``[B, T, 3, H, W]`` whose frames are encoded one by one."""

    def __init__(self) -> None:
        super().__init__()
        layers = [nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1), nn.AdaptiveAvgPool2d(1)]
        self.frames, self.out = nn.Sequential(*layers, nn.Flatten()), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.frames(x.flatten(0, 1)).unflatten(0, x.shape[:2]).mean(1))


class Texts(nn.Module):
    """Texts ``[B, S, L]`` of sentences, each of which is read by itself, and then all of them."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.sentences = nn.Embedding(30, 16), nn.GRU(16, 16, batch_first=True)
        self.text, self.out = nn.GRU(16, 16, batch_first=True), nn.Linear(16, 3)

    def forward(self, ids: Tensor) -> Tensor:
        read, _ = self.sentences(self.embed(ids.flatten(0, 1)))
        return self.out(self.text(read[:, -1].unflatten(0, ids.shape[:2]))[0][:, -1])


@pytest.mark.parametrize(
    ("net", "example", "part"),
    [(Films(), torch.randn(1, 4, 3, 12, 12), "frames"), (Texts(), torch.randint(30, (1, 4, 6)), "sentences")],
)
def test_the_part_that_takes_several_rows_per_row_is_named(net: nn.Module, example: Tensor, part: str) -> None:
    with pytest.warns(UserWarning, match=rf"'{part}' runs on 4 rows per row .*: model.{part} = muxwrap.wrap\("):
        muxwrap.wrap(net, 2, example_input=example)
