"""Models that are given a condition beside their input (a time step), and make something of it before a layer reads it."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import muxwrap


class Denoiser(nn.Module):
    """Blocks that each get the row and what was made of waves of its time step; the one or the other comes first."""

    def __init__(self, time_first: bool, width: int = 32) -> None:
        super().__init__()
        self.embed = nn.Linear(6, 32)
        self.time = nn.Sequential(nn.Linear(16, width), nn.SiLU(), nn.Linear(width, 32))
        self.blocks = nn.ModuleList(nn.Sequential(nn.Linear(32, 64), nn.SiLU(), nn.Linear(64, 32)) for _ in range(3))
        self.out = nn.Linear(32, 6)
        self.time_first = time_first

    def forward(self, x: Tensor, step: Tensor) -> Tensor:
        waves = step[:, None] * torch.exp(-torch.arange(8.0))
        waves = torch.cat([waves.sin(), waves.cos()], -1)
        if self.time_first:
            condition, h = self.time(waves), self.embed(x)
        else:
            h, condition = self.embed(x), self.time(waves)
        for block in self.blocks:
            h = h + block(h + condition)
        return self.out(h)


@pytest.mark.parametrize("time_first", [False, True])
def test_a_condition_is_mixed_beside_the_input(time_first: bool) -> None:
    torch.manual_seed(0)
    net = Denoiser(time_first).eval()
    x, step = torch.randn(6, 6), torch.randint(1000, (6,))
    model = muxwrap.wrap(net, 2, "hadamard", example_input=(x, step))
    assert sorted(site.path for site in model.sites.mux) == ["embed", "time"]
    assert model.sites.share is not None and model.sites.share > 0.75
    rows_seen = []
    net.blocks[0].register_forward_pre_hook(lambda _module, args: rows_seen.append(len(args[0])))
    answers = model(x, step)
    assert rows_seen == [3]
    later, other = step.clone(), x.clone()
    later[2], other[2] = 7, 0
    pair = torch.tensor([False, False, True, True, False, False])
    assert torch.equal((model(x, later) - answers).abs().amax(-1) > 0, pair)
    assert torch.equal((model(other, step) - answers).abs().amax(-1) > 0, pair)


def test_one_instance_is_the_bare_model() -> None:
    torch.manual_seed(0)
    net = Denoiser(True).eval()
    call = torch.randn(5, 6), torch.randint(1000, (5,))
    wanted = net(*call)
    assert torch.allclose(muxwrap.wrap(net, 1, example_input=call)(*call), wanted, atol=1e-6)


class Towers(nn.Module):
    """Two towers, whose first layers are of other widths."""

    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Sequential(nn.Linear(6, 64), nn.ReLU(), nn.Linear(64, 32))
        self.two = nn.Sequential(nn.Linear(6, 48), nn.ReLU(), nn.Linear(48, 32))
        self.out = nn.Linear(32, 3)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return self.out(torch.relu(self.one(a) * self.two(b)))


def test_towers_of_other_widths_are_mixed_where_they_are_as_wide() -> None:
    torch.manual_seed(0)
    call = torch.randn(4, 6), torch.randn(4, 6)
    with pytest.warns(UserWarning, match="inputs themselves are mixed"):
        model = muxwrap.wrap(Towers().eval(), 2, "hadamard", example_input=call)
    assert [str(site) for site in model.sites.mux] == [f"input of {name} (axis -1, dim 6)" for name in ("one", "two")]
    assert model(*call).shape == (4, 3)


class EachReads(nn.Module):
    """Blocks that each read the row's language, or other numbers of it, with a layer of their own."""

    class Block(nn.Module):
        def __init__(self, reader: nn.Module) -> None:
            super().__init__()
            self.layer, self.reader = nn.Linear(32, 32), reader

        def forward(self, h: Tensor, condition: Tensor) -> Tensor:
            return torch.relu(self.layer(h) + self.reader(condition))

    def __init__(self, ids: bool) -> None:
        super().__init__()
        self.stem, self.head = nn.Linear(6, 32), nn.Linear(32, 3)
        self.blocks = nn.ModuleList(EachReads.Block(nn.Embedding(4, 32) if ids else nn.Linear(5, 32)) for _ in range(3))

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        h = self.stem(x)
        for block in self.blocks:
            h = block(h, condition)
        return self.head(h)


@pytest.mark.parametrize("ids", [True, False])
@pytest.mark.parametrize("rows", [1, 5])
def test_a_condition_is_mixed_after_every_layer_that_reads_it(ids: bool, rows: int) -> None:
    torch.manual_seed(0)
    net = EachReads(ids).eval()
    x, condition = torch.randn(5, 6), torch.tensor([0, 1, 2, 3, 0]) if ids else torch.randn(5, 5)
    expected = net(x, condition)
    one = muxwrap.wrap(net, 1, "identity", "unbind", example_input=(x[:rows], condition[:rows]))
    torch.testing.assert_close(one(x, condition), expected)
    model = muxwrap.wrap(muxwrap.unwrap(one), 2, example_input=(x[:rows], condition[:rows])).eval()
    assert [site.path for site in model.sites.mux] == ["stem", *(f"blocks.{k}.reader" for k in range(3))]
    assert [site.path for site in model.sites.demux] == ["head"]
    other = condition.clone()
    other[4] = 3
    moved = (model(x, other) - model(x, condition)).abs().sum(1) > 0
    assert moved.tolist() == [False] * 4 + [True]
