"""Queries that a model has learned, and expands to the batch: they are the same for every row, and so for every mixture."""

from __future__ import annotations

import warnings
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

import muxwrap

DIM = 16


@pytest.fixture(autouse=True)
def _torch_says_that_nested_tensors_are_new() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*nested tensors")
        yield


class Reading(nn.Module):
    """Attention of queries over tokens, and a layer."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(DIM, 2, batch_first=True)
        self.layer = nn.Sequential(nn.Linear(DIM, 2 * DIM), nn.ReLU(), nn.Linear(2 * DIM, DIM))

    def forward(self, queries: Tensor, tokens: Tensor, padding: Tensor | None = None) -> Tensor:
        h = queries + self.attention(queries, tokens, tokens, key_padding_mask=padding)[0]
        return h + self.layer(h)


class Points(nn.Module):
    """Sets of points ``[B, L, 5]``, those of zeros are padding, read by inducing points and a seed (Set Transformer)."""

    def __init__(self, told: bool = True) -> None:
        super().__init__()
        self.embed = nn.Linear(5, DIM)
        self.inducing, self.seed = nn.Parameter(torch.randn(1, 4, DIM)), nn.Parameter(torch.randn(1, 1, DIM))
        self.gather, self.spread, self.pool = Reading(), Reading(), Reading()
        self.out, self.told = nn.Linear(DIM, 3), told

    def forward(self, x: Tensor, padding: Tensor | None = None) -> Tensor:
        if padding is None and self.told:
            padding = (x == 0).all(-1)
        h, rows = self.embed(x), len(x)
        h = self.spread(h, self.gather(self.inducing.expand(rows, -1, -1), h, padding))
        return self.out(self.pool(self.seed.repeat(rows, 1, 1), h, padding)[:, 0])


class Words(nn.Module):
    """Ids ``[B, L]`` that latents read (Perceiver)."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.at = nn.Embedding(30, DIM), nn.Parameter(torch.randn(1, 8, DIM))
        self.latents = nn.Parameter(torch.randn(4, DIM))
        self.read, self.between, self.out = Reading(), nn.Linear(DIM, DIM), nn.Linear(DIM, 3)

    def forward(self, ids: Tensor) -> Tensor:
        h = self.read(self.latents.expand(ids.shape[0], -1, -1), self.embed(ids) + self.at)
        return self.out(self.between(h).mean(1))


class Objects(nn.Module):
    """Tokens ``[B, L, 5]``, an encoder, and queries of a decoder (DETR)."""

    def __init__(self) -> None:
        super().__init__()
        sizes = {"nhead": 2, "dim_feedforward": 2 * DIM, "dropout": 0.0, "batch_first": True}
        self.embed, self.queries = nn.Linear(5, DIM), nn.Embedding(4, DIM)
        self.encoder = nn.TransformerEncoderLayer(DIM, **sizes)
        self.decoder = nn.TransformerDecoder(nn.TransformerDecoderLayer(DIM, **sizes), 2)
        self.out = nn.Linear(DIM, 3)

    def forward(self, x: Tensor) -> Tensor:
        queries = self.queries.weight.unsqueeze(0).expand(len(x), -1, -1)
        return self.out(self.decoder(queries, self.encoder(self.embed(x))))


def points(rows: int) -> Tensor:
    """Return sets of 6 points, and of 5 and 4 in turns."""
    x = torch.randn(rows, 6, 5)
    for row in range(rows):
        x[row, 6 - row % 3 :] = 0
    return x


@pytest.mark.parametrize(
    ("net", "call"),
    [
        (Points(told=False), (points(5),)),
        (Points(), (points(5),)),
        (Points(), (points(5), torch.arange(6) >= torch.tensor([[6], [5], [4], [6], [5]]))),
        (Words(), (torch.randint(0, 30, (5, 8)),)),
        (Objects(), (torch.randn(5, 6, 5),)),
    ],
    ids=["points", "padding-of-values", "padding", "words", "objects"],
)
def test_the_trunk_is_all_between_the_embedding_and_the_head(net: nn.Module, call: tuple[Tensor, ...]) -> None:
    example, net = tuple(value[:1] for value in call), net.eval()
    one = muxwrap.wrap(net, 1, example_input=example)
    torch.testing.assert_close(one(*call), one.backbone(*call))
    model = muxwrap.wrap(muxwrap.unwrap(one), 2, example_input=example)
    assert model.sites.share is not None and model.sites.share > 0.9
    answers = model(*call)
    assert answers.shape == net(*call).shape
    alone = torch.cat([model(*(value[start : start + 2] for value in call)) for start in (0, 2)])
    torch.testing.assert_close(answers[:4], alone)
    model(*call).sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_what_padding_holds_changes_no_answer_of_a_set() -> None:
    x, padding = points(6), torch.arange(6) >= torch.tensor([[4], [4], [5], [5], [6], [3]])
    model = muxwrap.wrap(Points().eval(), 2, example_input=(x[:1], padding[:1])).eval()
    moved = x + torch.randn_like(x) * padding.unsqueeze(-1)
    torch.testing.assert_close(model(moved, padding)[:4], model(x, padding)[:4])


def test_a_mask_that_is_made_of_values_is_not_made_of_a_stand_in() -> None:
    x = points(4)[[1, 1, 2, 2]]  # rows that share a mixture have the same padding
    model = muxwrap.wrap(Points().eval(), 2, example_input=torch.randn(1, 6, 5)).eval()  # the example has none
    assert model.sites.mask == "none"
    seen: list[Tensor] = []
    model.backbone.pool.register_forward_pre_hook(lambda _, args: seen.append(args[2]))
    model(x)
    assert torch.equal(seen[0], (x[::2] == 0).all(-1))


def test_no_answer_to_a_query_is_taken_for_that_of_a_prefix() -> None:
    x = torch.randn(5, 6, 5)
    model = muxwrap.wrap(Objects().eval(), 2, demux="index", example_input=x[:1])
    assert model(x).shape == (5, 4, 3)
