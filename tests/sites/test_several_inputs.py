"""Backbones with several inputs, in containers of any kind, with losses, without an axis of rows, in several precisions."""

from __future__ import annotations

import dataclasses
from collections import UserDict
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn

import muxwrap
from muxwrap._util.examples import Example, with_rows
from muxwrap._util.nested import tensors_in
from muxwrap.errors import MuxwrapError
from muxwrap.throughput.dtypes import example_in_dtype

DIM = 16


class Branches(nn.Module):
    """An image and a row of a table."""

    def __init__(self, table_first: bool = False) -> None:
        super().__init__()
        layers = [nn.Conv2d(3, DIM, 3, 2, 1), nn.ReLU(), nn.Conv2d(DIM, 32, 3, 2, 1), nn.ReLU()]
        self.image = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.table = nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU())
        self.head = nn.Sequential(nn.Linear(40, DIM), nn.ReLU(), nn.Linear(DIM, 3))
        self.table_first = table_first

    def forward(self, image: Tensor, table: Tensor) -> Tensor:
        if self.table_first:
            b, a = self.table(table), self.image(image)
        else:
            a, b = self.image(image), self.table(table)
        return self.head(torch.cat([a, b], 1))


class Timed(nn.Module):
    """A noisy image and its time step ``[B]``, read before the trunk."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.step = nn.Conv2d(3, DIM, 3, 1, 1), nn.Sequential(nn.Linear(1, 8), nn.SiLU(), nn.Linear(8, DIM))
        self.body = nn.Sequential(nn.Conv2d(DIM, DIM, 3, 1, 1), nn.ReLU(), nn.Conv2d(DIM, DIM, 3, 1, 1), nn.ReLU())
        self.out = nn.Conv2d(DIM, 3, 3, 1, 1)

    def forward(self, image: Tensor, t: Tensor) -> Tensor:
        return self.out(self.body(self.stem(image) + self.step(t[:, None])[:, :, None, None]))


class Table(nn.Module):
    """A column of ids has an embedding of its own; numbers stand beside."""

    def __init__(self) -> None:
        super().__init__()
        self.columns = nn.ModuleList(nn.Embedding(10, 4) for _ in range(6))
        self.norm = nn.BatchNorm1d(5)
        self.mlp = nn.Sequential(nn.Linear(29, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 1))

    def forward(self, ids: Tensor, numbers: Tensor) -> Tensor:
        embedded = [column(ids[:, k]) for k, column in enumerate(self.columns)]
        return self.mlp(torch.cat([*embedded, self.norm(numbers)], 1)).squeeze(-1)


class Recommender(nn.Module):
    """A user ``[B]`` and an item ``[B]``."""

    def __init__(self) -> None:
        super().__init__()
        self.user, self.item = nn.Embedding(50, 8), nn.Embedding(60, 8)
        self.mlp = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, DIM), nn.ReLU())
        self.out = nn.Linear(DIM, 1)

    def forward(self, user: Tensor, item: Tensor) -> Tensor:
        return self.out(self.mlp(torch.cat([self.user(user), self.item(item)], 1)))[:, 0]


class WithLoss(nn.Module):
    """Vectors and their classes to a loss, and the logits if asked for."""

    def __init__(self, reduction: str, alone: bool) -> None:
        super().__init__()
        self.stem, self.hidden, self.head = nn.Linear(6, DIM), nn.Linear(DIM, DIM), nn.Linear(DIM, 3)
        self.reduction, self.alone = reduction, alone

    def forward(self, x: Tensor, labels: Tensor) -> Any:
        logits = self.head(torch.tanh(self.hidden(torch.tanh(self.stem(x)))))
        loss = nn.functional.cross_entropy(logits, labels, reduction=self.reduction)
        return loss if self.alone else {"loss": loss, "logits": logits}


class Halves(nn.Module):
    """A trunk in bfloat16 under a head in float32."""

    def __init__(self) -> None:
        super().__init__()
        layers = [nn.Conv2d(3, DIM, 3, 2, 1), nn.ReLU(), nn.Conv2d(DIM, 32, 3, 2, 1), nn.ReLU()]
        self.trunk = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten()).bfloat16()
        self.head = nn.Linear(32, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.trunk(x.bfloat16()).float())


ROWS = 5
IMAGE, TABLE, T = torch.randn(ROWS, 3, 16, 16), torch.randn(ROWS, 5), torch.rand(ROWS)
IDS = torch.randint(0, 10, (ROWS, 6))
VECTORS, LABELS = torch.randn(ROWS, 6), torch.randint(0, 3, (ROWS,))

SITUATIONS: dict[str, tuple[Any, tuple[Tensor, ...], str]] = {
    "image, table": (Branches, (IMAGE, TABLE), "image.2"),
    "table, image": (lambda: Branches(table_first=True), (IMAGE, TABLE), "image.2"),
    "time step": (Timed, (IMAGE, T), "body.0"),
    "columns": (Table, (IDS, TABLE), "mlp.2"),
    "recommender": (Recommender, (IDS[:, 0], IDS[:, 1]), "mlp.2"),
    "bfloat16 and float32": (Halves, (IMAGE,), "trunk.2"),
}


@pytest.mark.parametrize("name", SITUATIONS)
@pytest.mark.parametrize("rows", [1, ROWS])
@pytest.mark.parametrize("n", [2, 3])
def test_sites_are_found(name: str, rows: int, n: int) -> None:
    make, call, inside = SITUATIONS[name]
    torch.manual_seed(0)
    net = make()
    expected = net.eval()(*call).shape
    model = muxwrap.wrap(net, n, example_input=tuple(value[:rows] for value in call))
    ran: list[int] = []
    net.get_submodule(inside).register_forward_pre_hook(lambda _m, args: ran.append(len(args[0])))
    assert model.eval()(*call).shape == expected
    assert ran == [-(-ROWS // n)]
    model.train()(*call).float().sum().backward()
    assert all(p.grad is not None for p in model.parameters())


@pytest.mark.parametrize("name", SITUATIONS)
def test_one_instance_is_the_bare_model(name: str) -> None:
    make, call, _ = SITUATIONS[name]
    torch.manual_seed(0)
    net = make().eval()
    expected = net(*call)
    sites = muxwrap.find_sites(net, call)
    model = muxwrap.wrap(net, 1, "identity", "unbind", sites=sites).eval()
    torch.testing.assert_close(model(*call), expected)


@pytest.mark.parametrize("alone", [True, False])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_losses(reduction: str, alone: bool) -> None:
    torch.manual_seed(0)
    net = WithLoss(reduction, alone)
    model = muxwrap.wrap(net, 2, example_input=(VECTORS, LABELS))
    assert (model.sites.mux[0].path, model.sites.demux[0].path) == ("stem", "head")
    output = model(VECTORS, LABELS)
    loss = output if alone else output["loss"]
    if not alone:
        torch.testing.assert_close(loss, nn.functional.cross_entropy(output["logits"], LABELS, reduction=reduction))
    assert loss.shape == ()
    loss.backward()
    assert all(p.grad is not None for p in model.parameters())


def test_without_a_trunk_there_is_nothing_to_mix() -> None:
    class Factors(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.user, self.item = nn.Embedding(50, 8), nn.Embedding(60, 8)

        def forward(self, user: Tensor, item: Tensor) -> Tensor:
            return (self.user(user) * self.item(item)).sum(-1)

    with pytest.raises(MuxwrapError, match="less than 5 % of the operations run between"):
        muxwrap.wrap(Factors(), 2, example_input=(IDS[:, 0], IDS[:, 1]))


# -- containers -------------------------------------------------------------------------------------------------------


@dataclasses.dataclass
class Batch:
    ids: Tensor
    padding: Tensor
    scale: float = 2.0


class Pair(NamedTuple):
    x: Tensor
    shift: Tensor


def padded(rows: int) -> Batch:
    ids = torch.randint(1, 30, (rows, 8), generator=torch.Generator().manual_seed(0))
    return Batch(ids, torch.arange(8) >= torch.tensor([8, 5, 6, 3, 7])[:rows, None])


def test_a_dataclass_goes_in_and_out() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = nn.Embedding(30, DIM)
            layer = nn.TransformerEncoderLayer(DIM, 2, 32, dropout=0.0, batch_first=True)
            self.encoder, self.out = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False), nn.Linear(DIM, 3)

        def forward(self, batch: Batch) -> Batch:
            h = self.encoder(self.embed(batch.ids), src_key_padding_mask=batch.padding)
            return Batch(self.out(h[:, 0]) * batch.scale, batch.padding, batch.scale)

    torch.manual_seed(0)
    model = muxwrap.wrap(Net(), 2, example_input=padded(1)).eval()
    output = model(padded(5))
    assert type(output) is Batch and output.ids.shape == (5, 3) and output.scale == 2.0
    changed = padded(5)
    changed.ids[changed.padding] = 7
    torch.testing.assert_close(model(changed).ids, output.ids)


def test_a_named_tuple() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.hidden, self.head = nn.Linear(6, DIM), nn.Linear(DIM, DIM), nn.Linear(DIM, 3)

        def forward(self, pair: Pair) -> Tensor:
            return self.head(torch.tanh(self.hidden(torch.tanh(self.stem(pair.x) + pair.shift))))

    call = (Pair(VECTORS, torch.randn(ROWS, DIM)),)
    assert muxwrap.wrap(Net(), 2, example_input=call)(*call).shape == (ROWS, 3)


def test_rows_are_those_of_every_tensor_with_as_many_as_the_first() -> None:
    table = torch.randn(7, 2)  # no rows
    for example in (
        (Batch(torch.zeros(2, 3), torch.ones(2)), table),
        {"batch": {"x": torch.zeros(2, 3), "masks": [torch.ones(2)]}, "table": table},
        UserDict(x=torch.zeros(2, 3), mask=torch.ones(2), table=table),
        (Pair(torch.zeros(2, 3), torch.ones(2)), table, torch.tensor(1.0), "name"),
    ):
        resized = with_rows(example, 5)
        assert type(resized) is type(example)
        assert [value.shape for value in tensors_in(resized)][:3] == [(5, 3), (5,), (7, 2)]
        assert [value.shape for value in tensors_in(example)][:3] == [(2, 3), (2,), (7, 2)]


def test_a_table_stays_one_when_a_call_has_as_many_rows_as_it_is_long() -> None:
    example = with_rows(Example.of({"x": torch.zeros(5, 2), "table": torch.zeros(3, 4), "mask": torch.ones(5)}), 3)
    example = example_in_dtype(example, torch.bfloat16)  # other tensors in the same places
    assert [tuple(value.shape) for value in tensors_in(with_rows(example, 7))] == [(7, 2), (3, 4), (7,)]
    assert example.map_rows(torch.ones_like).call["table"].sum() == 0
