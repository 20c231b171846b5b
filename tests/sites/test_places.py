"""Where heads, modules in a row and joined maps are separated."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import muxwrap


class TwoHeads(nn.Module):
    """Two heads of different widths read one tensor; no layer makes the first answer."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.trunk = nn.Linear(12, 32), nn.Linear(32, 32)
        self.head, self.other = nn.Linear(32, 5), nn.Linear(32, 3)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        h = torch.tanh(self.trunk(torch.tanh(self.stem(x))))
        return self.head(h) * 2, self.other(h)


def test_heads_that_read_one_tensor_are_separated_before_both() -> None:
    model = muxwrap.wrap(TwoHeads(), 2, example_input=torch.randn(1, 12))
    assert [(site.path, site.side) for site in model.sites.demux] == [("head", "input"), ("other", "input")]
    first, second = model(torch.randn(5, 12))
    assert first.shape == (5, 5) and second.shape == (5, 3)


class InARow(nn.Module):
    """Two blocks, one after the other, whose sums no module makes, as no module makes the answer."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Linear(12, 16)
        self.one, self.two = (nn.Sequential(nn.LayerNorm(16), nn.Linear(16, 64), nn.Linear(64, 16)) for _ in range(2))
        self.head = nn.Parameter(torch.randn(5, 16) / 4)

    def forward(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        h = torch.tanh(self.stem(x))
        h = h + self.one(h)
        h = h + self.two(h)
        answer = nn.functional.linear(h, self.head)
        return answer, (answer.mean(1) - y).square().mean()


@pytest.mark.filterwarnings("ignore:wrap:UserWarning")  # little of it can be mixed at all
def test_rows_are_not_mixed_again_after_they_were_separated() -> None:
    net = InARow()
    model = muxwrap.wrap(net, 2, example_input=(torch.randn(1, 12), torch.randn(1)))
    order: list[str] = []
    for kind, sites in (("mix", model.sites.mux), ("separate", model.sites.demux)):
        for site in sites:
            module = net.get_submodule(site.path)
            if site.side == "input":
                module.register_forward_pre_hook(lambda *_, kind=kind: order.append(kind))
            else:
                module.register_forward_hook(lambda *_, kind=kind: order.append(kind))
    model(torch.randn(6, 12), torch.randn(6))
    assert order == sorted(order)


class Joined(nn.Module):
    """Maps of two convolutions, joined: the channels are as many as the columns, or a convolution's as the rows."""

    def __init__(self, convolution: type[nn.Module], channels: int) -> None:
        super().__init__()
        self.stem = convolution(2, 2 * channels, 3, padding=1)
        self.near, self.far = convolution(2 * channels, channels, 1), convolution(2 * channels, channels, 5, padding=2)

    def forward(self, x: Tensor) -> Tensor:
        h = self.stem(x).relu()
        return torch.cat([self.near(h), self.far(h)], 1)


@pytest.mark.parametrize("channels", [4, 8, 16])
@pytest.mark.parametrize(("convolution", "size"), [(nn.Conv1d, (8,)), (nn.Conv2d, (8, 8)), (nn.Conv3d, (8, 8, 8))])
def test_features_of_joined_maps_are_the_channels(
    convolution: type[nn.Module], size: tuple[int, ...], channels: int
) -> None:
    class Pooled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder, self.head = Joined(convolution, channels), nn.Parameter(torch.randn(5, 2 * channels))

        def forward(self, x: Tensor) -> Tensor:
            return self.encoder(x).flatten(2).mean(-1) @ self.head.T

    example = torch.randn(1, 2, *size)
    sites = muxwrap.find_sites(Pooled(), example, mux_at="encoder.stem", demux_at="encoder@output")
    assert [(site.axis, site.dim) for site in sites.demux] == [(1, 2 * channels)]


class EarlyHead(nn.Module):
    """In training an auxiliary head reads the embeddings, before the padding that the trunk is told of."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(30, 16)
        layer = nn.TransformerEncoderLayer(16, 2, 32, dropout=0.0, batch_first=True)
        self.trunk = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.auxiliary, self.head = nn.Linear(16, 5), nn.Linear(16, 5)

    def forward(self, ids: Tensor, attention_mask: Tensor) -> tuple[Tensor, Tensor | None]:
        h = self.embed(ids)
        early = self.auxiliary(h.mean(1)) if self.training else None
        return self.head(self.trunk(h, src_key_padding_mask=attention_mask == 0).mean(1)), early


def test_a_head_before_mixing_reads_rows() -> None:
    ids, mask = torch.randint(30, (5, 7)), torch.ones(5, 7, dtype=torch.long)
    net = EarlyHead().train()
    expected = net(ids, mask)[1]
    model = muxwrap.wrap(net, 2, example_input=(ids[:2], mask[:2]))
    answer, early = model(ids, mask)
    torch.testing.assert_close(early, expected)
    (answer.sum() + early.sum()).backward()
    assert [name for name, p in model.named_parameters() if p.grad is None] == []


class MaskTaken(nn.Module):
    """Takes a mask, and reads it for the mean alone or not at all: the last state is that of padding as well."""

    def __init__(self, averaged: bool) -> None:
        super().__init__()
        self.embed, self.rnn, self.averaged = nn.Embedding(30, 16), nn.GRU(16, 16, batch_first=True), averaged
        self.trunk, self.head = nn.Sequential(nn.Linear(16, 64), nn.ReLU(), nn.Linear(64, 16)), nn.Linear(16, 5)

    def forward(self, ids: Tensor, attention_mask: Tensor) -> Tensor:
        h = self.trunk(self.rnn(self.embed(ids))[0])
        mean = (h * attention_mask[..., None]).sum(1) / attention_mask.sum(1, keepdim=True)
        return self.head(mean if self.averaged else h[:, -1])


@pytest.mark.parametrize("ends", [False, True], ids=["whole example", "padded example"])
@pytest.mark.parametrize(("averaged", "read"), [(True, False), (False, True)])
def test_padding_that_is_read_is_mixed(averaged: bool, read: bool, ends: bool) -> None:
    torch.manual_seed(0)
    ids, mask = torch.randint(1, 30, (6, 8)), torch.ones(6, 8, dtype=torch.long)
    mask[2, 5:] = 0
    net = MaskTaken(averaged).eval()
    if ends:
        ids[0, 4:], mask[0, 4:] = 0, 0
        net.embed.weight.data[0] = 0  # as padding_idx=0 makes it
    model = muxwrap.wrap(net, 2, example_input={"ids": ids[:2], "attention_mask": mask[:2]}, mux_at="rnn@input")
    assert model.sites.padding_read is read
    assert muxwrap.Sites.from_dict(model.sites.to_dict()).padding_read is read
    other = ids.clone()
    other[2, -1] = (ids[2, -1] + 1) % 30  # a padded token
    with torch.no_grad():
        moved = (model(ids, attention_mask=mask) - model(other, attention_mask=mask))[2].abs().max() > 1e-6
    assert bool(moved) is read


class Looked(nn.Module):
    """Nothing but a table and the layers that make the answers."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.head, self.other = nn.Embedding(9, 16), nn.Linear(16, 5), nn.Linear(16, 3)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        h = self.table(x)
        return self.head(h), self.other(h)


@pytest.mark.parametrize(
    ("net", "example"),
    [
        (Looked(), torch.randint(9, (2,))),
        (Looked(), torch.randint(9, (2, 7))),
        (nn.Sequential(nn.Flatten(), nn.Linear(64, 5)), torch.randn(2, 1, 8, 8)),
    ],
)
def test_answers_alone_are_not_mixed(net: nn.Module, example: Tensor) -> None:
    with pytest.raises(
        muxwrap.MuxwrapError, match=r"a layer that makes the answers does not count.*\(Linear\).*mux_at="
    ):
        muxwrap.wrap(net, 2, example_input=example)


class TokenHeads(nn.Module):
    """Two heads answer for every token, and what they read is returned as well."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head, self.other = nn.Linear(6, 16), nn.Linear(16, 5), nn.Linear(16, 3)
        self.trunk = nn.TransformerEncoderLayer(16, 2, 64, dropout=0.0, batch_first=True)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        h = self.trunk(self.stem(x))
        return self.head(h), self.other(h), h


def test_answers_for_tokens_are_not_taken_for_maps() -> None:
    model = muxwrap.wrap(TokenHeads(), 2, example_input=torch.randn(1, 7, 6))
    assert not any(site.path == "" and site.dim in (3, 5) for site in model.sites.demux)
    assert [x.shape for x in model(torch.randn(5, 7, 6))] == [(5, 7, 5), (5, 7, 3), (5, 7, 16)]
