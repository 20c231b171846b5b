"""Backbones of ids that read how many rows of them there are, as for the first state of a recurrent layer."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import muxwrap

DIM, IDS = 16, 30


class Recurrent(nn.Module):
    """The last state of an LSTM that begins with zeros of the batch's size, or with states that were learned."""

    def __init__(self, learned: bool = False, masks: bool = False) -> None:
        super().__init__()
        self.embed, self.cell = nn.Embedding(IDS, DIM), nn.LSTM(DIM, DIM, 2, batch_first=True)
        self.begin = nn.Parameter(torch.randn(2, 1, DIM), requires_grad=learned)
        self.out, self.masks = nn.Linear(DIM, 3), masks

    def forward(self, ids: Tensor) -> Tensor:
        state = self.begin.expand(-1, ids.size(0), -1).contiguous()
        h, _ = self.cell(self.embed(ids), (state, torch.zeros_like(state)))
        if not self.masks:
            return self.out(h[:, -1])
        kept = (ids != 0).unsqueeze(-1)
        return self.out((h * kept).sum(1) / kept.sum(1).clamp(min=1))


class Prompted(nn.Module):
    """Layers each of which reads a learned token before the others."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.prompt = nn.Embedding(IDS, DIM), nn.Parameter(torch.randn(2, 1, DIM))
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(DIM, 2, 2 * DIM, dropout=0.0, batch_first=True) for _ in range(2)
        )
        self.out = nn.Linear(DIM, 3)

    def forward(self, ids: Tensor) -> Tensor:
        rows, _ = ids.shape
        h = self.embed(ids)
        for prompt, layer in zip(self.prompt, self.layers, strict=True):
            h = layer(torch.cat([prompt.expand(rows, 1, -1), h], 1))[:, 1:]
        return self.out(h.mean(1))


class Queries(nn.Module):
    """Queries that are learned and a text, which read an image (a Q-Former): as many rows of queries as there are images."""

    def __init__(self) -> None:
        super().__init__()
        self.patches, self.embed = nn.Conv2d(3, DIM, 4, 4), nn.Embedding(IDS, DIM)
        self.queries = nn.Parameter(torch.randn(1, 4, DIM))
        self.layer = nn.TransformerDecoderLayer(DIM, 2, 2 * DIM, dropout=0.0, batch_first=True)
        self.out = nn.Linear(DIM, 3)

    def forward(self, images: Tensor, ids: Tensor) -> Tensor:
        patches = self.patches(images).flatten(2).mT
        queries = torch.cat([self.queries.expand(len(images), -1, -1), self.embed(ids)], 1)
        return self.out(self.layer(queries, patches)[:, :4].mean(1))


def test_what_is_mixed_beside_what_is_stood_in_for() -> None:
    torch.manual_seed(0)
    images, ids = torch.randn(5, 3, 8, 8), torch.randint(1, IDS, (5, 7))
    bare = Queries().eval()
    expected = bare(images, ids)
    one = muxwrap.wrap(bare, 1, example_input=(images, ids))
    torch.testing.assert_close(one(images, ids), expected)
    model = muxwrap.wrap(muxwrap.unwrap(one), 2, example_input=(images[:1], ids[:1])).eval()
    assert ({site.path for site in model.sites.mux}, model.sites.mask) == ({"patches", "embed"}, "size")
    answers = model(images, ids)
    for other in ((images.roll(1, 2), ids), (images, ids.roll(1, 1))):
        changed = [torch.cat([own[:4], moved[4:]]) for own, moved in zip((images, ids), other, strict=True)]
        assert ((model(*changed) - answers).abs().sum(1) > 0).tolist() == [False] * 4 + [True]


@pytest.mark.parametrize("net", [Recurrent(), Recurrent(learned=True), Prompted()], ids=["zeros", "learned", "prompts"])
@pytest.mark.parametrize("mux_at", [None, "embed"])
def test_ids_that_are_read_for_their_size_are_stood_in_for(net: nn.Module, mux_at: str | None) -> None:
    ids = torch.randint(1, IDS, (5, 7))
    one = muxwrap.wrap(net.eval(), 1, example_input=ids[:1], mux_at=mux_at)
    torch.testing.assert_close(one(ids), one.backbone(ids))
    model = muxwrap.wrap(muxwrap.unwrap(one), 2, example_input=ids[:1], mux_at=mux_at).eval()
    assert [site.path for site in model.sites.mux] == ["embed"] and (model.sites.share or 0) > 0.9
    answers = model(ids)
    torch.testing.assert_close(answers[:4], torch.cat([model(ids[:2]), model(ids[2:4])]))
    torch.testing.assert_close(answers[4:], model(ids[[4, 0]])[:1])
    assert model(ids[:1]).shape == (1, 3)
    model.train()(ids).sum().backward()
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)
    muxwrap.unwrap(model)


def test_ids_that_are_read_besides_are_not() -> None:
    with pytest.raises(
        muxwrap.MuxwrapError, match=r"reads values of the batch before they are mixed, in (ne|__ne__)\(\)"
    ):
        muxwrap.wrap(Recurrent(masks=True), 2, example_input=torch.randint(1, IDS, (1, 7)))


class Scaled(nn.Module):
    """A class token before tokens ``[B, L, 5]``, scaled if one of them is large: a look at the values by Python."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.first = nn.Linear(5, DIM), nn.Parameter(torch.randn(1, 1, DIM))
        self.cell, self.out = nn.GRU(DIM, DIM, batch_first=True), nn.Linear(DIM, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.cat([self.first.expand(len(x), -1, -1), self.embed(x)], 1)
        return self.out(self.cell(h / 10 if x.abs().max().item() > 10 else h)[0][:, -1])


def test_numbers_that_python_reads_are_not_those_of_a_stand_in() -> None:
    model = muxwrap.wrap(Scaled(), 2, example_input=torch.randn(1, 6, 5))
    assert model.sites.mask == "none"
