"""Packed sequences: instances of different lengths in one mixture, which is as long as the longest."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

import muxwrap

DIM = 16
LENGTHS = torch.tensor([4, 7, 2, 6, 3])


class Reader(nn.Module):
    """Ids and their lengths, packed for an LSTM; read at the end, as a mean, or at the lengths that were given."""

    def __init__(self, read: str = "last", cell: type[nn.RNNBase] = nn.LSTM) -> None:
        super().__init__()
        self.embed, self.rnn, self.out = nn.Embedding(30, DIM), cell(DIM, DIM, batch_first=True), nn.Linear(DIM, 3)
        self.read = read

    def forward(self, ids: Tensor, lengths: Tensor) -> Tensor:
        packed = pack_padded_sequence(self.embed(ids), lengths, batch_first=True, enforce_sorted=False)
        states, last = self.rnn(packed)
        if self.read == "last":
            return self.out((last[0] if isinstance(last, tuple) else last)[-1])
        states, own = pad_packed_sequence(states, batch_first=True)
        if self.read == "mean":
            return self.out(states.sum(1) / own[:, None])
        return self.out(states[torch.arange(len(lengths)), lengths - 1])


def ids(seed: int = 0) -> Tensor:
    x, other = (torch.randint(30, (5, 7), generator=torch.Generator().manual_seed(k)) for k in (0, seed))
    return torch.where(torch.arange(7) < LENGTHS[:, None], x, other)


def lengths_seen(model: muxwrap.Multiplex) -> list[int]:
    seen: list[PackedSequence] = []
    handle = model.backbone.rnn.register_forward_pre_hook(lambda _m, args: seen.append(args[0]))
    model(ids(), LENGTHS)
    handle.remove()
    return pad_packed_sequence(seen[0])[1].tolist()


@pytest.mark.parametrize("cell", [nn.LSTM, nn.GRU])
@pytest.mark.parametrize("read", ["last", "mean", "given"])
@pytest.mark.parametrize("n", [1, 2, 3])
def test_a_mixture_is_as_long_as_its_longest_instance(read: str, cell: type[nn.RNNBase], n: int) -> None:
    torch.manual_seed(0)
    demux_at = "rnn@output" if read == "given" else None
    model = muxwrap.wrap(Reader(read, cell), n, demux_at=demux_at, example_input=(ids(), LENGTHS)).eval()
    assert (model.sites.mux[0].path, model.sites.mux[0].side) == ("rnn", "input")
    assert lengths_seen(model) == {1: LENGTHS.tolist(), 2: [7, 6, 4], 3: [7, 6]}[n]
    answer = model(ids(), LENGTHS)
    assert answer.shape == (5, 3)
    torch.testing.assert_close(model(ids(1), LENGTHS), answer)  # what is beyond a length is not read
    answer.sum().backward()
    assert all(p.grad is not None for p in model.parameters())


@pytest.mark.parametrize("read", ["last", "mean", "given"])
def test_one_instance_is_the_bare_model(read: str) -> None:
    torch.manual_seed(0)
    net = Reader(read).eval()
    expected = net(ids(), LENGTHS)
    sites = muxwrap.find_sites(net, (ids(), LENGTHS), demux_at="rnn@output" if read == "given" else None)
    torch.testing.assert_close(muxwrap.wrap(net, 1, "identity", "unbind", sites=sites)(ids(), LENGTHS), expected)


def test_states_beside_a_packed_sequence_stay_those_of_mixtures_and_are_refused() -> None:
    net = Reader("last")
    example = (ids(), LENGTHS)
    with pytest.raises(muxwrap.MuxwrapError, match=r"rows in, .* rows out"):
        muxwrap.wrap(net, 2, mux_at="rnn@input", demux_at="rnn@output", example_input=example)


class Conditioned(nn.Module):
    """A packed sequence that a recurrent layer reads after a state that is made of other numbers of the row."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.begin = nn.Embedding(30, DIM), nn.Linear(5, DIM)
        self.rnn, self.out = nn.GRU(DIM, DIM, batch_first=True), nn.Linear(DIM, 3)

    def forward(self, ids: Tensor, lengths: Tensor, condition: Tensor | None = None) -> Tensor:
        packed = pack_padded_sequence(self.embed(ids), lengths, batch_first=True, enforce_sorted=False)
        state = None if condition is None else torch.tanh(self.begin(condition))[None]
        return self.out(self.rnn(packed, state)[1][-1])


def test_a_state_beside_a_packed_sequence_is_mixed() -> None:
    torch.manual_seed(0)
    x = (ids(), LENGTHS, torch.randn(5, 5))
    bare = Conditioned().eval()
    expected = bare(*x)
    one = muxwrap.wrap(bare, 1, "identity", "unbind", example_input=x)
    torch.testing.assert_close(one(*x), expected)
    model = muxwrap.wrap(muxwrap.unwrap(one), 2, example_input=x).eval()
    assert [(site.path, site.side) for site in model.sites.mux] == [("rnn", "input"), ("begin", "output")]
    for row, companions in enumerate(([0, 1], [0, 1], [2, 3], [2, 3], [4])):
        other = x[2].clone()
        other[row] += 1
        moved = (model(*x[:2], other) - model(*x)).abs().sum(1) > 0
        assert moved[row] and set(moved.nonzero().flatten().tolist()) <= {*companions, *([4] if row == 0 else [])}


def test_a_state_of_the_rows_beside_a_packed_sequence_is_refused() -> None:
    torch.manual_seed(0)
    model = muxwrap.wrap(Conditioned(), 2, example_input=(ids(), LENGTHS)).eval()
    assert model(ids(), LENGTHS).shape == (5, 3)
    with pytest.raises(muxwrap.MuxwrapError, match=r"the states \[1, 5, 16\] beside it are those of the rows; mix"):
        model(ids(), LENGTHS, torch.randn(5, 5))


def test_what_was_not_packed_when_it_was_mixed_is_refused() -> None:
    class Late(Reader):
        def forward(self, ids: Tensor, lengths: Tensor) -> Tensor:
            x = torch.tanh(self.embed(ids))
            packed = pack_padded_sequence(x, torch.full((len(x),), 7), batch_first=True)
            return self.out(pad_packed_sequence(self.rnn(packed)[0], batch_first=True)[0].mean(1))

    with pytest.raises(muxwrap.MuxwrapError, match="what was mixed was not packed"):
        muxwrap.wrap(Late(), 2, mux_at="embed", demux_at="rnn@output", example_input=(ids(), LENGTHS))
