"""What comes back has the batch's rows, or the call says which answer has not; and what a batch of one mixture says."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import muxwrap
from muxwrap import MuxwrapError, Site, Sites


class Heads(nn.Module):
    """An answer, and beside it what the test asks for; the second head runs in training, or if an argument asks for it."""

    def __init__(self, what: str = "head") -> None:
        super().__init__()
        self.stem, self.hidden, self.norm = nn.Linear(6, 16), nn.Linear(16, 16), nn.BatchNorm1d(16)
        self.attention = nn.MultiheadAttention(16, 2, dropout=0.2, batch_first=True)
        self.head, self.second = nn.Linear(16, 5), nn.Linear(16, 3)
        self.register_buffer("prototypes", torch.randn(2, 16))
        self.what = what

    def forward(self, x: Tensor, both: bool = False) -> Any:
        h = self.stem(x)
        h, weights = self.attention(h, h, h, average_attn_weights=False)
        h = self.norm(torch.tanh(self.hidden(h.mean(1))))
        if not (self.training or both):
            return {"out": self.head(h)}
        others = {
            "head": lambda: self.second(h),
            "attention": lambda: weights,
            "constant": lambda: self.prototypes * 2,
            "loss": lambda: h.square().mean(),
            "hidden_states": lambda: (h, h),
        }
        name = self.what if self.what == "hidden_states" else "others"
        return {"out": self.head(h), name: [others[self.what]()]}


def wrapped(what: str, n: int = 2) -> muxwrap.Multiplex:
    torch.manual_seed(0)
    return muxwrap.wrap(Heads(what), n, mux_at="stem", demux_at="head", example_input=torch.zeros(1, 4, 6))


X = torch.randn(4, 4, 6, generator=torch.Generator().manual_seed(0))


def test_a_head_that_runs_in_training_only_is_named() -> None:
    model = wrapped("head")
    assert model.eval()(X)["out"].shape == (4, 5)
    with pytest.raises(
        MuxwrapError, match=r"output\['others'\]\[0\] has a row for each of the 2 mixtures and not .* 4 rows"
    ):
        model.train()(X)


def test_a_head_that_an_argument_chooses_is_named() -> None:
    with pytest.raises(MuxwrapError, match=r"output\['others'\]\[0\].*demux_at= the module"):
        wrapped("head").eval()(X, both=True)


class Beside(nn.Module):
    """Returns in training what the test asks for, made of what the trunk gives."""

    def __init__(self, what: str) -> None:
        super().__init__()
        self.stem, self.rnn = nn.Linear(6, 16), nn.LSTM(16, 16, 2, batch_first=True)
        self.second, self.head, self.what = nn.Linear(16, 3), nn.Linear(16, 5), what

    def forward(self, x: Tensor) -> Any:
        h, (state, _) = self.rnn(self.stem(x))
        others = {
            "rows second": lambda: torch.stack([h.mean(1), h[:, 0]]),
            "rows last": lambda: h.mean(1).T,
            "classes of tokens": lambda: self.second(h).softmax(-1),
            "list of rows": lambda: list(h),
            "tuple of rows": lambda: h.unbind(),
            "numbers": lambda: h.mean((1, 2)).tolist(),
            "array": lambda: h.mean(1).detach().numpy(),
            "array in a list": lambda: [h.mean(1).detach().numpy()],
            "names": lambda: [f"row {k}" for k in range(len(h))],
            "layers": lambda: [h, h, h],
            "constant list": lambda: [0.1, 0.2, 0.3],
            "one number": lambda: self.second(h).mean((1, 2)),
            "states": lambda: state,
            "attention": lambda: (h @ h.transpose(1, 2)).softmax(-1),
        }
        answer = self.head(h.mean(1))
        return (answer, others[self.what]()) if self.training else answer


def beside(what: str) -> Any:
    torch.manual_seed(0)
    model = muxwrap.wrap(Beside(what), 2, mux_at="stem", demux_at="head", example_input=torch.zeros(1, 4, 6))
    return model.train()(torch.randn(6, 4, 6))


@pytest.mark.parametrize("what", ["rows second", "rows last", "classes of tokens", "one number"])
def test_rows_are_missed_on_every_axis(what: str) -> None:
    with pytest.raises(MuxwrapError, match=r"output\[1\] has a row for each of the 3 mixtures"):
        beside(what)


@pytest.mark.parametrize("what", ["list of rows", "tuple of rows", "numbers", "array", "array in a list", "names"])
def test_rows_are_missed_in_lists_and_arrays(what: str) -> None:
    with pytest.raises(MuxwrapError, match=r"output\[1\](\[0\])? has a row for each of the 3 mixtures"):
        beside(what)


def test_a_list_that_is_as_long_in_the_bare_model_comes_back() -> None:
    assert beside("constant list")[1] == [0.1, 0.2, 0.3]
    with pytest.raises(MuxwrapError, match=r"output\[1\]\[0\] has a row"):  # of its three parts, not of the list
        beside("layers")


@pytest.mark.parametrize(("what", "shape"), [("states", (2, 3, 16)), ("attention", (3, 4, 4))])
def test_states_and_attention_belong_to_mixtures(what: str, shape: tuple[int, ...]) -> None:
    assert beside(what)[1].shape == shape


SECOND = Sites((Site("stem", "output", -1, 16),), (Site("head", "input", -1, 16), Site("second", "input", -1, 16)))


@pytest.mark.parametrize(
    "where", [{"sites": SECOND}, {"mux_at": "stem", "demux_at": "norm@output", "example_input": torch.zeros(1, 4, 6)}]
)
def test_the_ways_out_separate_both_heads(where: dict[str, Any]) -> None:
    torch.manual_seed(0)
    output = muxwrap.wrap(Heads(), 2, **where).train()(X)
    assert (output["out"].shape, output["others"][0].shape) == ((4, 5), (4, 3))


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("what", ["attention", "constant", "loss", "hidden_states"])
def test_what_belongs_to_mixtures_or_to_no_row_comes_back(what: str, training: bool) -> None:
    """Attention maps and hidden states are of mixtures, and a tensor that has two rows in the bare model as well is not."""
    model = wrapped(what).train(training)
    output = model(X, both=True)
    assert output["out"].shape == (4, 5)
    assert len(output) == 2


def test_looking_at_the_bare_model_leaves_no_trace() -> None:
    states = []
    for what in ("loss", "constant"):  # the second is looked at, once
        model = wrapped(what).train()
        torch.manual_seed(1)
        for _ in range(2):
            output = model(X)["out"]
        output.square().sum().backward()
        states.append(
            ([p.grad for p in model.parameters()], [v.clone() for v in model.buffers()], torch.get_rng_state())
        )
    assert len(model._attachment._answers._known) == 1
    states[0][1].pop(), states[1][1].pop()
    torch.testing.assert_close(states[0], states[1])


def test_looking_at_the_bare_model_leaves_no_attribute() -> None:
    class Counting(Beside):
        calls = 0

        def forward(self, x: Tensor) -> Any:
            self.calls, self.rows = self.calls + 1, len(x)
            return super().forward(x)

    torch.manual_seed(0)
    net = Counting("constant list")
    model = muxwrap.wrap(net, 2, mux_at="stem", demux_at="head", example_input=torch.zeros(1, 4, 6)).train()
    model(torch.randn(6, 4, 6))
    assert net.calls == 1


def test_one_row_is_one_mixture_and_nothing_is_missing() -> None:
    assert wrapped("head").eval()(X[:1], both=True)["others"][0].shape == (1, 3)
    assert wrapped("head", n=1).train()(X)["others"][0].shape == (4, 3)


# -- a batch of one mixture -------------------------------------------------------------------------------------------


class Squeezed(nn.Module):
    def __init__(self, after: nn.Module) -> None:
        super().__init__()
        self.conv, self.pool, self.after, self.fc = (
            nn.Conv2d(3, 16, 3, 2, 1),
            nn.AdaptiveAvgPool2d(1),
            after,
            nn.Linear(16, 5),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.after(self.pool(torch.relu(self.conv(x))).squeeze()))


@pytest.mark.parametrize("demux_at", [None, "fc", "fc@output"])
def test_squeeze_of_one_mixture(demux_at: str | None) -> None:
    torch.manual_seed(0)
    images = torch.randn(3, 3, 8, 8)
    model = muxwrap.wrap(Squeezed(nn.Tanh()), 2, mux_at="conv@input", demux_at=demux_at, example_input=images).eval()
    answer = model(images)
    assert answer.shape == (3, 5)
    torch.testing.assert_close(model(images[:2]), answer[:2])
    torch.testing.assert_close(model(images[2:]), model(images[[2, 2]])[:1])


def test_one_mixture_of_fewer_axes_than_in_the_example_was_not_squeezed() -> None:
    torch.manual_seed(0)
    layers = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 3))
    model = muxwrap.wrap(layers, 2, example_input=torch.zeros(2, 5, 8)).eval()
    x = torch.randn(7, 8)
    answer = model(x)
    assert answer.shape == (7, 3)
    assert model(x[:2]).shape == (2, 3)
    torch.testing.assert_close(model(x[:2]), answer[:2])


def test_squeeze_of_one_mixture_before_a_layer_that_needs_the_rows() -> None:
    net = Squeezed(nn.BatchNorm1d(16))
    model = muxwrap.wrap(net, 2, mux_at="conv", demux_at="fc", example_input=torch.zeros(1, 3, 8, 8)).eval()
    with pytest.raises(MuxwrapError, match=r"2 rows make one mixture of 2.*squeeze.*more than 2 rows"):
        model(torch.zeros(2, 3, 8, 8))


def test_batch_norm_of_one_mixture_in_training() -> None:
    net = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 32), nn.BatchNorm1d(32), nn.Linear(32, 3))
    model = muxwrap.wrap(net, 4, mux_at="0", demux_at="4", example_input=torch.zeros(1, 8)).train()
    assert model(torch.randn(5, 8)).shape == (5, 3)
    for rows, phrase in ((4, "4 rows make"), (1, "1 row makes")):
        with pytest.raises(MuxwrapError, match=rf"more than 1 value per channel.*{phrase} one mixture.*drop_last=True"):
            model(torch.randn(rows, 8))


def test_other_errors_say_nothing_of_mixtures() -> None:
    class Picky(nn.Sequential):
        def forward(self, x: Tensor) -> Tensor:
            x = self[0](x)
            if x.isnan().any():
                raise RuntimeError("not these")
            return self[1](x)

    model = muxwrap.wrap(
        Picky(nn.Linear(8, 4), nn.Linear(4, 3)), 4, mux_at="0", demux_at="1", example_input=torch.zeros(1, 8)
    )
    with pytest.raises(RuntimeError, match=r"^not these$"):
        model(torch.full((4, 8), torch.nan))


class Sparse(nn.Module):
    """Answers in a sparse tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 6))

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.net(x)).to_sparse()


def test_sparse_answers_are_compared_and_come_back_sparse() -> None:
    bare, x = Sparse().eval(), torch.randn(5, 8)
    expected = bare(x).to_dense()
    one = muxwrap.wrap(bare, 1, example_input=x)
    assert torch.allclose(one(x).to_dense(), expected, atol=1e-6)
    model = muxwrap.wrap(muxwrap.unwrap(one), 2, example_input=x)
    assert model(x).layout == torch.sparse_coo and model(x).shape == (5, 6)
    assert model.sites.demux[0].path == "net.4"
