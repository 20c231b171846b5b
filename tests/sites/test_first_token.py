"""Where only the first token is separated: the head reads no other one, in evaluation nor in training."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import muxwrap

IDS = torch.randint(30, (5, 7), generator=torch.Generator().manual_seed(0))


class FirstToken(nn.Module):
    """Ids ``[B, L]`` to the classes of the first token; in training, by weights of no module, to those of the mean as well."""

    def __init__(self, auxiliary: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embed = nn.Embedding(30, 16)
        self.layer = nn.TransformerEncoderLayer(16, 2, 32, dropout=0.0, batch_first=True)
        self.norm, self.head = nn.BatchNorm1d(16), nn.Linear(16, 5)
        self.mean = nn.Parameter(torch.randn(5, 16))
        self.auxiliary = auxiliary

    def forward(self, ids: Tensor) -> Any:
        h = self.layer(self.embed(ids))
        answer = self.head(self.norm(h[:, 0]))
        return (answer, h.mean(1) @ self.mean.T) if self.auxiliary and self.training else answer


WHERE: list[dict[str, Any]] = [
    {"mux_at": "embed", "demux_at": "layer@output"},
    {"mux_at": "embed", "demux_at": "layer@output", "strategy": "identity"},
]


@pytest.mark.parametrize("where", WHERE, ids=["default", "identity"])
@pytest.mark.parametrize("auxiliary", [False, True])
def test_what_reads_other_tokens_in_training_gets_them(auxiliary: bool, where: dict[str, Any]) -> None:
    backbone = FirstToken(auxiliary).train()
    statistics = {name: value.clone() for name, value in backbone.named_buffers()}
    model = muxwrap.wrap(backbone, 2, example_input=IDS[:1], **where)
    assert model.sites.demux[0].first_token is not auxiliary
    assert all(torch.equal(value, statistics[name]) for name, value in backbone.named_buffers())
    assert all(module.training for module in backbone.modules())


def test_the_auxiliary_answer_is_that_of_all_tokens() -> None:
    backbone = FirstToken(auxiliary=True).train()
    copies = IDS[:1].expand(4, -1)
    with torch.no_grad():
        _, bare = backbone(copies)
        model = muxwrap.wrap(backbone, 1, "identity", demux="unbind", example_input=IDS[:1], **WHERE[0])
        _, wrapped = model.train()(copies)
    torch.testing.assert_close(wrapped, bare)


def test_a_model_that_does_not_run_in_training_keeps_all_tokens() -> None:
    class NeedsLabels(FirstToken):
        def forward(self, ids: Tensor, labels: Tensor | None = None) -> Any:
            if self.training and labels is None:
                raise ValueError("labels are needed in training")
            return super().forward(ids)

    model = muxwrap.wrap(NeedsLabels(False).train(), 2, example_input=IDS[:1], **WHERE[0])
    assert not model.sites.demux[0].first_token
    assert model.eval()(IDS).shape == (5, 5)


class BestTags(nn.Module):
    """Ids ``[B, L]`` to the best tag of every token, ``[B, L]`` whole numbers, in which NaN does not show."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embed, self.layer = nn.Embedding(30, 16), nn.LSTM(16, 32, batch_first=True)
        self.head = nn.Linear(32, 5)

    def forward(self, ids: Tensor) -> Tensor:
        return self.head(self.layer(self.embed(ids))[0]).argmax(-1)


class BestClass(BestTags):
    """Ids ``[B, L]`` to the class of the largest mean score, ``[B]`` whole numbers."""

    def forward(self, ids: Tensor) -> Tensor:
        return self.head(self.layer(self.embed(ids))[0]).mean(1).argmax(-1)


@pytest.mark.parametrize("made", [BestTags, BestClass])
@pytest.mark.parametrize("where", [{}, {"mux_at": "embed", "demux_at": "head@input"}], ids=["found", "named"])
def test_all_tokens_are_separated_where_answers_are_whole_numbers(made: type[BestTags], where: dict[str, Any]) -> None:
    model = made().eval()
    bare = model(IDS)
    wrapped = muxwrap.wrap(model, 1, "identity", "unbind", example_input=IDS[:1], **where).eval()
    assert not wrapped.sites.demux[0].first_token
    assert torch.equal(wrapped(IDS), bare)


class Told(FirstToken):
    """The token that the ids tell: the one with the largest, as in CLIP, or the last that is not 0."""

    def __init__(self, last: bool) -> None:
        super().__init__(auxiliary=False)
        self.last = last

    def forward(self, ids: Tensor) -> Any:
        h, rows = self.layer(self.embed(ids)), torch.arange(len(ids))
        return self.head(h[rows, (ids != 0).sum(1) - 1 if self.last else ids.argmax(1)])


@pytest.mark.parametrize(
    ("last", "example"),
    [
        (False, torch.zeros(1, 7)),
        (False, torch.tensor([[9, 1, 2, 3, 4, 5, 6]])),
        (True, torch.tensor([[9, 0, 0, 0, 0, 0, 0]])),
    ],
)
def test_a_token_that_the_ids_tell_is_the_first_by_chance_alone(last: bool, example: Tensor) -> None:
    model = muxwrap.wrap(
        Told(last).eval(), 2, example_input=example.long(), mux_at="embed", demux_at="layer@output"
    ).eval()
    assert not model.sites.demux[0].first_token
    one = muxwrap.wrap(
        Told(last).eval(), 1, example_input=example.long(), mux_at="embed", demux_at="layer@output"
    ).eval()
    torch.testing.assert_close(one(IDS), one.backbone(IDS))
    assert model(IDS).shape == (5, 5)
