"""Rows that share a mixture have to be independent: those of the bare model are tried, and noise is told apart."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import muxwrap
from muxwrap import MuxwrapError
from muxwrap._util.examples import Example
from muxwrap.sites.runs.rows import OWN, another_beside, nearly_alike


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


class Between(nn.Module):
    """A layer, what the test puts in, a layer."""

    def __init__(self, inside: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.stem, self.layer, self.head = nn.Linear(6, 32), nn.Linear(32, 32), nn.Linear(32, 3)
        self.inside = inside

    def forward(self, x: Tensor) -> Tensor:
        h = self.inside(torch.relu(self.layer(torch.relu(self.stem(x)))))
        return self.head(h[0] if isinstance(h, tuple) else h)


class OverRows(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.softmax(x @ x.T / 6, -1) @ x


SEQUENCES, VECTORS = torch.randn(5, 4, 6), torch.randn(5, 6)


@pytest.mark.parametrize(
    ("inside", "example", "told"),
    [
        (nn.LSTM(32, 32), SEQUENCES, r"first in 'inside' \(LSTM\).*with batch_first=True"),
        (nn.GRU(32, 32), SEQUENCES[:1], r"first in 'inside' \(GRU\).*with batch_first=True"),
        (nn.TransformerEncoderLayer(32, 2, 64), SEQUENCES, r"\(MultiheadAttention\).*with batch_first=True"),
        (nn.BatchNorm1d(32, track_running_stats=False), VECTORS, r"\(BatchNorm1d\).*track_running_stats=True"),
        (OverRows(), VECTORS, r"first in 'inside' \(OverRows\).*each row alone"),
        (OverRows(), torch.zeros(1, 6), r"first in 'inside' \(OverRows\)"),
    ],
)
@pytest.mark.parametrize("where", [{}, {"mux_at": "stem", "demux_at": "head"}])
def test_rows_that_depend_on_each_other(inside: Any, example: Tensor, told: str, where: dict[str, Any]) -> None:
    told = rf"the rows of Between depend on each other.*moved by \d+\.\d%.*{told}"
    with pytest.raises(MuxwrapError, match=told):
        muxwrap.wrap(Between(inside), 2, example_input=example, **where)


def test_independent_rows_of_the_same_layers() -> None:
    for inside in (nn.LSTM(32, 32, batch_first=True), nn.TransformerEncoderLayer(32, 2, 64, batch_first=True)):
        assert muxwrap.wrap(Between(inside), 2, example_input=SEQUENCES)(SEQUENCES).shape == (5, 4, 3)


@pytest.mark.parametrize("noise", ["of torch", "of its own"])
def test_noise_is_no_dependence(noise: str) -> None:
    own = torch.Generator().manual_seed(0)

    def noisy(x: Tensor) -> Tensor:
        return x + torch.randn(x.shape, generator=None if noise == "of torch" else own)

    model = muxwrap.wrap(Between(noisy), 2, example_input=VECTORS)
    assert (model.sites.mux[0].path, model.sites.demux[0].path) == ("stem", "head")


def test_rows_compared_with_each_other() -> None:
    class Similarity(nn.Sequential):
        def forward(self, x: Tensor) -> Tensor:
            x = super().forward(x)
            return x @ x.T

    net = Similarity(nn.Linear(6, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 16))
    with pytest.raises(MuxwrapError, match=r"2 rows get an answer \[2, 2\].*one embedding per row"):
        muxwrap.wrap(net, 2, example_input=VECTORS)


class NearRows(nn.Module):
    """Rows that look at each other where they are nearly the same; further apart it is less than rounding."""

    def forward(self, x: Tensor) -> Tensor:
        x = nn.functional.normalize(x, dim=-1)
        return torch.softmax(500 * x @ x.T, -1) @ x


@pytest.mark.parametrize("where", [{}, {"mux_at": "stem", "demux_at": "head"}], ids=["found", "named"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_rows_that_depend_on_those_nearly_the_same(where: dict[str, str], dtype: torch.dtype) -> None:
    net = Between(NearRows()).to(dtype).eval()
    other = 3 * VECTORS.to(dtype)
    assert torch.allclose(net(other)[:1], net(other[:1]), rtol=0, atol=1e-6)  # nothing to be seen in these rows
    with pytest.raises(MuxwrapError, match=r"depend on each other.*first in 'inside' \(NearRows\)"):
        muxwrap.wrap(net, 2, example_input=other, **where)


def test_texts_that_depend_on_those_nearly_the_same() -> None:
    class Texts(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed, self.net = nn.Embedding(30, 6), Between(NearRows())

        def forward(self, ids: Tensor) -> Tensor:
            return self.net(self.embed(ids).mean(1))

    with pytest.raises(MuxwrapError, match=r"depend on each other.*first in 'net.inside' \(NearRows\)"):
        muxwrap.wrap(Texts(), 2, example_input=torch.randint(30, (3, 9)))


def test_a_pair_of_ids_that_depends_on_those_nearly_the_same() -> None:
    """Of two ids that a row has, another row may share one."""

    class Pairs(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.users, self.items, self.head = nn.Embedding(30, 16), nn.Embedding(30, 16), nn.Linear(16, 5)

        def forward(self, user: Tensor, item: Tensor, gain: Tensor) -> Tensor:
            h = self.users(user) + self.items(item)
            return self.head(h + torch.softmax(h @ h.T, -1) @ h) * gain[:, None]

    torch.manual_seed(3)
    net, ids = Pairs().double(), torch.randperm(30)[:6].view(2, 3)
    with pytest.raises(MuxwrapError, match="depend on each other"):
        muxwrap.wrap(net, 2, example_input=(*ids, torch.rand(3).double()))


class NoisyTimeFirst(nn.Module):
    """Noise in every call, and a recurrent layer that reads time steps first."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.rnn = nn.Embedding(30, 16), nn.GRU(16, 16)
        self.weight = nn.Parameter(torch.randn(5, 16))

    def forward(self, ids: Tensor) -> Tensor:
        h = self.embed(ids)
        h = h + 0.1 * torch.randn_like(h)
        return nn.functional.linear(self.rnn(h.transpose(0, 1))[0].transpose(0, 1), self.weight).mean(1)


@pytest.mark.parametrize("length", [4, 6])  # as many time steps as two rows of several parts could have
def test_time_steps_are_not_taken_for_rows_where_answers_are_noisy(length: int) -> None:
    model = muxwrap.wrap(NoisyTimeFirst(), 2, example_input=torch.randint(30, (2, length))).eval()
    seen: list[Tensor] = []
    model.backbone.rnn.register_forward_pre_hook(lambda _module, args: seen.append(args[0]))
    with torch.no_grad():
        assert model(torch.randint(30, (7, length))).shape == (7, 5)
    assert [list(x.shape[:2]) for x in seen] == [[length, 4]]


class NoisyTokens(nn.Module):
    """Noise in every call, and a layer that reads the tokens of all rows one after the other."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.layer = nn.Embedding(30, 16), nn.Linear(16, 16)

    def forward(self, ids: Tensor) -> Tensor:
        h = self.embed(ids)
        h = h + self.layer(h.reshape(-1, 16)).reshape(h.shape)
        return nn.functional.linear((h + 0.1 * torch.randn_like(h)).mean(1), self.embed.weight)


def test_tokens_folded_into_rows_are_not_taken_for_rows_where_answers_are_noisy() -> None:
    """The mixtures would be of a row's own tokens."""
    with pytest.raises(MuxwrapError, match="the first axis of what passes there is not that of rows"):
        muxwrap.wrap(
            NoisyTokens(), 2, example_input=torch.randint(30, (3, 6)), mux_at="layer@input", demux_at="layer@output"
        )


def test_time_first() -> None:
    class TimeFirst(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn, self.head = nn.LSTM(6, 32), nn.Linear(32, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.rnn(x)[0][-1])

    with pytest.raises(MuxwrapError, match=r"2 rows in, \[4, 3\] out.*not time first"):
        muxwrap.wrap(TimeFirst(), 2, example_input=SEQUENCES)


@pytest.mark.parametrize("length", [2, 5])  # where it is 2, an answer has as many rows as the call by chance
@pytest.mark.parametrize("where", [{}, {"mux_at": "embed", "demux_at": "head"}], ids=["found", "named"])
def test_a_list_of_answers_as_long_as_the_rows(length: int, where: dict[str, str]) -> None:
    class Lists(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed, self.rnn, self.head = nn.Embedding(30, 16), nn.LSTM(16, 32, batch_first=True), nn.Linear(32, 3)

        def forward(self, ids: Tensor, lengths: Tensor) -> list[Tensor]:
            scores = self.head(self.rnn(self.embed(ids))[0])
            return [row[: int(many)] for row, many in zip(scores, lengths, strict=True)]

    ids = torch.randint(30, (3, 6), generator=torch.Generator().manual_seed(0))
    with pytest.raises(
        MuxwrapError, match=r"do not come back: 2 rows in, .*return the one tensor that they are made of"
    ):
        muxwrap.wrap(Lists(), 2, example_input=(ids, torch.tensor([length, 4, 3])), **where)


def test_rows_that_are_several_rows_of_the_trunk() -> None:
    class Documents(nn.Module):
        """Ids of sentences, ``[B, K, L]``: an encoder runs on B·K sentences, of which those of a document share mixtures."""

        def __init__(self) -> None:
            super().__init__()
            self.embed, self.head = nn.Embedding(30, 32), nn.Linear(32, 3)
            layer = nn.TransformerEncoderLayer(32, 2, 64, dropout=0.0, batch_first=True)
            self.sentences = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)

        def forward(self, ids: Tensor) -> Tensor:
            flat = ids.flatten(0, 1)
            states = self.sentences(self.embed(flat), src_key_padding_mask=flat == 0).mean(1)
            return self.head(states.unflatten(0, ids.shape[:2]).amax(1))

    model, ids = Documents().eval(), torch.randint(1, 30, (5, 3, 7), generator=torch.Generator().manual_seed(0))
    with pytest.raises(
        MuxwrapError, match=r"'sentences' runs on 3 rows per row of the call.*model.sentences = muxwrap.wrap"
    ):
        muxwrap.wrap(model, 2, example_input=ids[:3])
    bare, given = (
        model(ids),
        {"src": torch.randn(3, 7, 32), "src_key_padding_mask": torch.zeros(3, 7, dtype=torch.bool)},
    )
    model.sentences = muxwrap.wrap(model.sentences, 2, example_input=given)  # type: ignore[assignment]
    assert model(ids).shape == bare.shape


def test_nodes_of_a_graph() -> None:
    class Graph(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers, self.head = nn.ModuleList([nn.Linear(6, 32), nn.Linear(32, 32)]), nn.Linear(32, 3)

        def forward(self, x: Tensor, edges: Tensor) -> Tensor:
            for layer in self.layers:
                h = layer(x)
                x = torch.relu(h.new_zeros(h.shape).index_add(0, edges[1], h[edges[0]]))
            return self.head(x)

    nodes, edges = torch.randn(20, 6), torch.randint(20, (2, 60))
    with pytest.raises(MuxwrapError, match=r"runs on 20 rows of the example and not on 2 \(IndexError.*edges"):
        muxwrap.wrap(Graph(), 2, example_input=(nodes, edges))
    with pytest.raises(MuxwrapError, match=r"the rows of Graph depend on each other"):
        muxwrap.wrap(Graph(), 2, example_input=(nodes, torch.tensor([[0, 1, 0, 1], [1, 0, 0, 1]])))


def test_a_loss_is_not_a_row() -> None:
    class WithLoss(Between):
        def forward(self, x: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
            logits = super().forward(x)
            return nn.functional.cross_entropy(logits, labels, reduction=self.reduction), logits

    for reduction in ("mean", "sum"):
        net = WithLoss(nn.Identity())
        net.reduction = reduction
        labels = torch.tensor([0, 1, 2, 0, 1])
        model = muxwrap.wrap(net, 2, example_input=(VECTORS, labels)).eval()
        loss, logits = model(VECTORS, labels)
        torch.testing.assert_close(loss, nn.functional.cross_entropy(logits, labels, reduction=reduction))


@pytest.mark.parametrize(
    "example",
    [
        torch.zeros(3, 2, 4, 4),
        torch.ones(1, 6),
        torch.full((3, 7), 5),
        torch.full((3,), 5),
        torch.arange(7)[None],
        {"ids": torch.arange(5).expand(3, 5), "mask": torch.ones(3, 5, dtype=torch.bool)},
        (torch.randn(3, 4), torch.randn(7, 2)),
    ],
)
def test_the_other_row(example: Any) -> None:
    parts = (
        example if isinstance(example, tuple) else tuple(example.values()) if isinstance(example, dict) else (example,)
    )
    pair = another_beside(Example(example)).call
    pairs = pair if isinstance(pair, tuple) else tuple(pair.values()) if isinstance(pair, dict) else (pair,)
    assert pairs[0].shape == (2, *parts[0].shape[1:])
    assert torch.equal(pairs[0][OWN], parts[0][0]) and not torch.equal(pairs[0][0], parts[0][0])
    assert pairs[0].min() >= 0 or parts[0].min() < 0
    if len(parts) > 1 and len(parts[1]) != len(parts[0]):
        assert pairs[1] is parts[1]
    near = nearly_alike(another_beside(Example(example))).call
    nearly = near if isinstance(near, tuple) else tuple(near.values()) if isinstance(near, dict) else (near,)
    assert torch.equal(nearly[0][OWN], pairs[0][OWN])
    if pairs[0].is_floating_point():
        apart = (nearly[0][0] - nearly[0][OWN]).abs().max()
        assert 0 < apart < 0.1 * (pairs[0][0] - pairs[0][OWN]).abs().max()
    else:
        assert torch.equal(nearly[0][0], nearly[0][OWN])
