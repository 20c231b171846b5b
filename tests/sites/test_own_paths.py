"""Models that go ways of their own: layers called often, several inputs and answers, rows read by their places."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import muxwrap
from muxwrap import MuxwrapError


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def perceptron(*sizes: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for given, made in pairwise(sizes):
        layers += [nn.Linear(given, made), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def rows_seen(model: nn.Module, module: nn.Module, *call: Any) -> list[int]:
    seen: list[int] = []
    handle = module.register_forward_pre_hook(lambda _, args: seen.append(args[0].shape[0]))
    model(*call)
    handle.remove()
    return seen


def is_bare_with_one(net: nn.Module, call: tuple[Any, ...]) -> bool:
    """Whether the same sites without mixing give the bare model's answers."""
    net.eval()
    bare = net(*call)
    model = muxwrap.wrap(net, 1, "identity", example_input=call).eval()
    same = all(map(torch.equal, *(list(muxwrap._util.nested.tensors_in(value)) for value in (bare, model(*call)))))
    muxwrap.unwrap(model)
    return same


class Triplet(nn.Module):
    """One encoder for three inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = perceptron(8, 64, 64, 16)

    def forward(self, anchor: Tensor, positive: Tensor, negative: Tensor) -> tuple[Tensor, ...]:
        return self.encoder(anchor), self.encoder(positive), self.encoder(negative)


def test_all_inputs_of_a_shared_encoder_are_mixed() -> None:
    calls = tuple(torch.randn(3, 6, 8))
    net = Triplet()
    assert is_bare_with_one(net, calls)
    model = muxwrap.wrap(net, 2, example_input=calls).eval()
    assert rows_seen(model, net.encoder, *calls) == [3, 3, 3]
    assert [answer.shape for answer in model(*calls)] == [(6, 16)] * 3
    assert model.sites.share == 1


def test_what_runs_for_every_row_besides_is_not_in_the_share() -> None:
    class Pair(nn.Module):
        """The second input has another number of features, and is not mixed with the first."""

        def __init__(self) -> None:
            super().__init__()
            self.first, self.wide, self.encoder = nn.Linear(8, 32), nn.Linear(9, 32), perceptron(32, 128, 128, 16)

        def forward(self, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
            return self.encoder(torch.relu(self.first(a))), self.encoder(
                torch.relu(self.wide(b)).detach().flip(0).flip(0)
            )

    calls = torch.randn(4, 8), torch.randn(4, 9)
    model = muxwrap.wrap(Pair(), 2, example_input=calls, mux_at="@input", demux_at="@output")
    assert model.sites.share == pytest.approx(0.5, abs=0.05)


class Towers(nn.Module):
    """A user and an item meet after a tower each."""

    def __init__(self) -> None:
        super().__init__()
        self.users, self.items = nn.Embedding(30, 16), nn.Embedding(40, 16)
        self.user_tower, self.item_tower = perceptron(16, 64, 32), perceptron(16, 64, 32)

    def forward(self, user: Tensor, item: Tensor) -> Tensor:
        return (self.user_tower(self.users(user)) * self.item_tower(self.items(item))).sum(-1)


def test_two_towers_are_separated_before_they_meet() -> None:
    call = torch.randint(0, 30, (6,)), torch.randint(0, 40, (6,))
    net = Towers()
    assert is_bare_with_one(net, call)
    model = muxwrap.wrap(net, 3, example_input=call).eval()
    assert rows_seen(model, net.user_tower, *call) == rows_seen(model, net.item_tower, *call) == [2]
    assert model(*call).shape == (6,)


class Residual(nn.Module):
    """Blocks that each take a part of the input away and add to a forecast; neither answer is made by a layer."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(perceptron(24, 64, 30) for _ in range(3))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        forecast = x.new_zeros(len(x), 6)
        for block in self.blocks:
            back, ahead = block(x).split([24, 6], -1)
            x, forecast = x - back, forecast + ahead
        return x, forecast


def test_answers_that_a_pair_leaves_to_mixtures_are_separated_as_they_are_returned() -> None:
    x = torch.randn(5, 24)
    net = Residual()
    assert is_bare_with_one(net, (x,))
    model = muxwrap.wrap(net, 2, example_input=x)
    assert rows_seen(model, net.blocks[2], x) == [3]
    assert [answer.shape for answer in model(x)] == [(5, 24), (5, 6)]
    sum(answer.square().mean() for answer in model(x)).backward()
    assert all(p.grad is not None for p in model.parameters())


class Codes(nn.Module):
    """An autoencoder that also returns which code is nearest, as whole numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.decoder = perceptron(12, 64, 64, 8), perceptron(8, 16, 12)
        self.register_buffer("codes", torch.randn(16, 8))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        z = self.encoder(x)
        nearest = torch.cdist(z, self.codes).argmin(1)
        return self.decoder(z + (self.codes[nearest] - z).detach()), nearest


def test_whole_numbers_have_the_rows_too() -> None:
    """Separated after them, each call would be refused."""
    model = muxwrap.wrap(Codes(), 2, example_input=torch.randn(2, 12)).eval()
    out, nearest = model(torch.randn(5, 12))
    assert (out.shape, nearest.shape) == ((5, 12), (5,))


class ByPlace(nn.Module):
    """Means over lengths that are read row by row."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.layer, self.head = nn.Linear(8, 32), nn.Linear(32, 32), nn.Linear(32, 2)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        h = torch.relu(self.layer(torch.relu(self.stem(x))))
        return self.head(torch.stack([h[k, : int(lengths[k])].mean(0) for k in range(len(h))]))


@pytest.mark.parametrize("lengths", [[2, 5], [4, 4], [4]])
def test_a_mixture_is_not_read_with_the_length_of_another_row(lengths: list[int]) -> None:
    net = ByPlace()
    model = muxwrap.wrap(
        net, 2, "identity", "unbind", example_input=(torch.randn(len(lengths), 6, 8), torch.tensor(lengths))
    )
    x, n = torch.randn(2, 6, 8).repeat_interleave(2, 0), torch.tensor([2, 2, 5, 5])
    model.eval()
    alone = [model(x[k : k + 2], n[k : k + 2]) for k in (0, 2)]
    torch.testing.assert_close(model(x, n), torch.cat(alone))


def test_experts_that_get_no_row() -> None:
    class Experts(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.gate, self.head = nn.Linear(8, 32), nn.Linear(32, 4), nn.Linear(32, 3)
            self.experts = nn.ModuleList(perceptron(32, 64, 32) for _ in range(4))

        def forward(self, x: Tensor) -> Tensor:
            h = self.stem(x)
            to, out = self.gate(h).argmax(-1), torch.zeros_like(h)
            for k, expert in enumerate(self.experts):
                out = out.index_add(0, (to == k).nonzero()[:, 0], expert(h[to == k]))
            return self.head(h + out)

    model = muxwrap.wrap(Experts(), 2, example_input=torch.randn(2, 8))
    assert model(torch.randn(5, 8)).shape == (5, 3)


class Graphs(nn.Module):
    """Features of nodes and weights of edges, one graph a row."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.head = nn.Linear(8, 32), nn.Linear(32, 32), nn.Linear(32, 3)

    def forward(self, x: Tensor, edges: Tensor) -> Tensor:
        h = torch.relu(edges @ self.one(x))
        return self.head(torch.relu(edges @ self.two(h)).mean(1))


def test_edges_are_merged_before_the_head() -> None:
    call = torch.randn(2, 6, 8), (torch.rand(2, 6, 6) > 0.5).float()
    assert muxwrap.find_sites(Graphs(), call).demux[0].path == "head"


def test_weights_of_edges_are_no_mask() -> None:
    """The larger of two weights is that of neither graph."""
    with pytest.raises(MuxwrapError, match=r"given args\[0\] and args\[1\].*a module of its own"):
        muxwrap.wrap(Graphs(), 2, example_input=(torch.randn(2, 6, 8), torch.rand(2, 6, 6)))


class Reader(nn.Module):
    """Attention that the model itself asks of a mask, or a module of its own."""

    def __init__(self, own_module: bool) -> None:
        super().__init__()
        self.embedding, self.head = nn.Embedding(50, 32), nn.Linear(32, 3)
        self.layer = Attention()
        self.own_module = own_module

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        h = self.embedding(ids)
        h = self.layer(h, mask) if self.own_module else self.layer.forward(h, mask)  # which no hook sees
        return self.head((h * mask[..., None]).sum(1) / mask.sum(1, keepdim=True))


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.project = nn.Linear(32, 96)

    def forward(self, h: Tensor, mask: Tensor) -> Tensor:
        q, k, v = self.project(h).chunk(3, -1)
        return h + nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=mask[:, None, :].bool())


def test_a_mask_that_the_backbone_reads_itself() -> None:
    call = torch.randint(0, 50, (2, 8)), torch.ones(2, 8)
    with pytest.raises(MuxwrapError, match=r"put that part into a module of its own and give it the tensor"):
        muxwrap.wrap(Reader(own_module=False), 2, example_input=call)
    model = muxwrap.wrap(Reader(own_module=True), 2, example_input=call)
    assert model(torch.randint(0, 50, (5, 8)), torch.ones(5, 8)).shape == (5, 3)


class Translator(nn.Module):
    """Source and target in one vocabulary."""

    def __init__(self, shared: bool) -> None:
        super().__init__()
        self.source = nn.Embedding(50, 32)
        self.target = self.source if shared else nn.Embedding(50, 32)
        self.target.weight = self.source.weight
        self.body = nn.Transformer(32, 4, 1, 1, 64, batch_first=False)
        self.out = nn.Linear(32, 50)

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        h = self.body(self.source(source).transpose(0, 1), self.target(target).transpose(0, 1))
        return self.out(h).transpose(0, 1)


@pytest.mark.filterwarnings("ignore:enable_nested_tensor")
def test_an_embedding_of_two_inputs_is_named_with_the_way_out() -> None:
    call = torch.randint(0, 50, (2, 8)), torch.randint(0, 50, (2, 6))
    with pytest.raises(MuxwrapError, match=r"'source' \(Embedding\) in 2 calls.*the same weight"):
        muxwrap.wrap(Translator(shared=True), 2, example_input=call)
    model = muxwrap.wrap(Translator(shared=False), 2, example_input=call)
    assert model(*call).shape == (2, 6, 50)


def test_a_head_that_is_called_twice_reads_what_is_separated() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.head = nn.Linear(8, 64), nn.Linear(64, 64), nn.Linear(64, 3)

        def forward(self, x: Tensor) -> dict[str, Tensor]:
            h = torch.relu(self.b(torch.relu(self.a(x))))
            return {"logits": self.head(h), "smooth": self.head(h / 2).softmax(-1)}

    sites = muxwrap.find_sites(Twice(), torch.randn(2, 8))
    assert (sites.demux[0].path, sites.demux[0].side) == ("b", "output")


def test_tasks_of_one_number_each() -> None:
    class Tasks(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.mean, self.spread = perceptron(8, 64, 64), nn.Linear(64, 1), perceptron(64, 8, 1)

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            h = torch.relu(self.body(x))
            return self.mean(h).squeeze(-1), self.spread(h).squeeze(-1)

    model = muxwrap.wrap(Tasks(), 2, example_input=torch.randn(2, 8)).eval()
    assert [site.path for site in model.sites.demux] == ["mean", "spread.2"]
    assert [answer.shape for answer in model(torch.randn(5, 8))] == [(5,), (5,)]


class Relating(nn.Module):
    """Layers of attention that are given a bias of the mask and, besides, what was made of the row's own ids."""

    def __init__(self) -> None:
        super().__init__()
        self.embeddings, self.relations = nn.Embedding(50, 16), nn.Embedding(50, 16)
        self.layer = nn.ModuleList([RelatingLayer() for _ in range(2)])
        self.out = nn.Linear(16, 3)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        h, relations = self.embeddings(input_ids), self.relations(input_ids)
        bias = (1 - attention_mask[:, None].float()) * torch.finfo(torch.float32).min
        for layer in self.layer:
            h = layer(h, bias, relations)
        return self.out(h[:, 0])


class RelatingLayer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.queries, self.back = nn.Linear(16, 48), perceptron(16, 64, 16)

    def forward(self, h: Tensor, bias: Tensor, relations: Tensor) -> Tensor:
        q, k, v = self.queries(h + relations).chunk(3, -1)
        return h + self.back(nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=bias))


class Layers(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.ModuleList([RelatingLayer() for _ in range(2)])

    def forward(self, h: Tensor, bias: Tensor, relations: Tensor) -> Tensor:
        for layer in self.layer:
            h = layer(h, bias, relations)
        return h


class RelatingEncoder(Relating):
    """The same with an encoder, beside which ids are embedded again."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = Layers()

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        bias = (1 - attention_mask[:, None].float()) * torch.finfo(torch.float32).min
        return self.out(self.layer(self.embeddings(input_ids), bias, self.relations(input_ids))[:, 0])


@pytest.mark.parametrize(
    ("cls", "layer", "problem"),
    [
        (Relating, "layer.0", "of the rows, which is no mask and differs"),
        (RelatingEncoder, "layer.layer.0", "are given more of every row than a mask"),
    ],
)
def test_what_rows_differ_in_and_is_no_mask_is_not_merged(cls: type[nn.Module], layer: str, problem: str) -> None:
    net, ids, mask = cls(), torch.randint(50, (6, 7)), torch.ones(6, 7)
    mask[1, 4:] = 0
    call = {"input_ids": ids, "attention_mask": mask}
    with pytest.raises(MuxwrapError, match=rf"{problem}.* mux_at=\["):
        muxwrap.wrap(net, 2, example_input=call)
    model = muxwrap.wrap(net, 2, example_input=call, mux_at=["embeddings", "relations"]).eval()
    assert rows_seen(model, net.get_submodule(layer), ids, mask) == [3]  # the padding mask is merged as before
