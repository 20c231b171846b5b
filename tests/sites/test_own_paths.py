"""Models that go ways of their own: layers called often, several inputs and answers, rows read by their places."""

from __future__ import annotations

import copy
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


class Pairs(Triplet):
    """The same for pairs that come in one tensor, after a step without a module."""

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:  # type: ignore[override]
        return self.encoder(x[:, 0] / 2), self.encoder(x[:, 1] / 2)


@pytest.mark.parametrize("net", [Triplet(), Pairs()], ids=["triplet", "pairs"])
def test_every_input_of_a_shared_encoder_is_mixed_inside_of_it(net: Triplet) -> None:
    """As if it were wrapped alone: its first layer makes more features than an input has, its last one fewer."""
    three = type(net) is Triplet
    calls = tuple(torch.randn(3, 6, 8)) if three else (torch.randn(6, 2, 8),)
    inputs = calls if three else (calls[0][:, 0] / 2, calls[0][:, 1] / 2)
    assert is_bare_with_one(net, calls)
    model = muxwrap.wrap(net, 2, example_input=calls).eval()
    assert rows_seen(model, net.encoder[2], *calls) == [3] * len(inputs)
    assert (model.sites.mux[0].path, model.sites.demux[0].path) == ("encoder.0", "encoder.4")
    assert f"{len(inputs)} times" in repr(model)
    assert model.sites.share == pytest.approx(64 * 64 / (8 * 64 + 64 * 64 + 64 * 16), abs=0.01)
    alone = muxwrap.wrap(copy.deepcopy(muxwrap.unwrap(model).encoder), 2, example_input=inputs[0]).eval()
    alone.load_state_dict({name.replace("backbone.encoder.", "backbone."): x for name, x in model.state_dict().items()})
    model.attach()
    for answer, x in zip(model(*calls), inputs, strict=True):
        torch.testing.assert_close(answer, alone(x))


def test_a_block_of_maps_that_is_called_often_leaves_raw_images_to_be_mixed() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.head = nn.Conv2d(3, 16, 3, 2, 1), nn.Linear(16, 5)
            self.block = nn.Sequential(nn.Conv2d(16, 16, 3, 1, 1), nn.ReLU())

        def forward(self, x: Tensor) -> Tensor:
            h = self.stem(x)
            for _ in range(4):
                h = h + 0.5 * self.block(h * 0.9)
            return self.head(h.mean((2, 3)))

    model = muxwrap.wrap(Tied(), 2, example_input=torch.randn(1, 3, 32, 32))
    assert (model.sites.mux[0].path, model.strategy.name, model.sites.demux[0].path) == ("", "layout", "head")


def test_inputs_that_are_put_together_are_mixed_before_and_that_is_told() -> None:
    class Together(Triplet):
        def forward(self, a: Tensor, b: Tensor) -> tuple[Tensor, ...]:  # type: ignore[override]
            return self.encoder(torch.cat([a, b])).chunk(2)

    a, b = torch.randn(2, 6, 8)
    with pytest.warns(UserWarning, match=r"the inputs themselves are mixed.*or wrap the parts that do the work alone"):
        model = muxwrap.wrap(Together(), 2, example_input=(a, b))
    assert [answer.shape for answer in model(a, b)] == [(6, 16)] * 2
    net = Together()
    net.encoder = muxwrap.wrap(net.encoder, 2, example_input=a)
    assert rows_seen(net, net.encoder.backbone[2], a, b) == [6]


def test_a_block_that_goes_on_from_its_own_answer_is_no_encoder() -> None:
    class Refined(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.block, self.head = perceptron(32, 64, 32), nn.Linear(32, 3)

        def forward(self, x: Tensor) -> Tensor:
            for _ in range(3):
                x = x + self.block(x * 0.5)
            return self.head(x)

    with pytest.warns(UserWarning, match=r"share the 32 numbers"):
        model = muxwrap.wrap(Refined(), 2, example_input=torch.randn(5, 32))
    assert (model.sites.mux[0].path, model.sites.demux[0].path) == ("", "head")


def test_a_shared_encoder_may_be_called_more_often_than_in_the_example() -> None:
    class Views(Triplet):
        def forward(self, views: list[Tensor]) -> Tensor:  # type: ignore[override]
            return torch.stack([self.encoder(view) for view in views]).mean(0)

    views = [*torch.randn(3, 4, 8)]
    model = muxwrap.wrap(Views(), 2, example_input=(views,))
    alone = [model([view]) for view in views]
    torch.testing.assert_close(model([*views, views[0]]), (sum(alone) + alone[0]) / 4)


def test_frames_are_mixed_one_by_one_and_separated_after_what_remembers_them() -> None:
    class Film(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.frames, self.memory, self.head = perceptron(8, 64, 32), nn.GRUCell(32, 32), nn.Linear(32, 3)

        def forward(self, x: Tensor) -> Tensor:
            h = x.new_zeros(1, 32)
            for t in range(x.shape[1]):
                seen = self.frames(x[:, t])
                h = self.memory(seen, h.expand(len(seen), -1))
            return self.head(h)

    net = Film()
    assert is_bare_with_one(net, (torch.randn(5, 3, 8),))
    model = muxwrap.wrap(net, 2, example_input=torch.randn(1, 3, 8)).eval()
    assert (model.sites.mux[0].path, model.sites.demux[0].path) == ("frames.0", "head")
    for length in (1, 3, 7):
        assert rows_seen(model, net.memory, torch.randn(5, length, 8)) == [3] * length


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
    with pytest.warns(UserWarning, match=r"share the 24 numbers that each is given in.*nn\.Linear\(24, 96\)"):
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


def test_edges_are_read_before_the_head() -> None:
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


class Pooled(nn.Module):
    """A recurrent trunk, whose answers the model itself pools by what came with the rows."""

    def __init__(self, by_length: bool) -> None:
        super().__init__()
        self.embedding, self.trunk = nn.Embedding(30, 32), nn.GRU(32, 32, 2, batch_first=True)
        self.head = perceptron(32, 16, 3)
        self.by_length = by_length

    def forward(self, ids: Tensor, lengths: Tensor) -> Tensor:
        h, _ = self.trunk(self.embedding(ids))
        if self.by_length:
            return self.head(h[torch.arange(len(ids)), lengths - 1])
        kept = (torch.arange(ids.shape[1]) < lengths[:, None]).unsqueeze(-1)
        return self.head((h * kept).sum(1) / kept.sum(1))


@pytest.mark.parametrize("by_length", [True, False])
def test_what_the_model_pools_itself_is_separated_before(by_length: bool) -> None:
    ids, lengths = torch.randint(30, (5, 7)), torch.randint(1, 8, (5,))
    net = Pooled(by_length)
    assert is_bare_with_one(net, (ids, lengths))
    model = muxwrap.wrap(net, 2, example_input=(ids, lengths)).eval()
    assert (model.sites.demux[0].path, model.sites.demux[0].side) == ("trunk", "output")
    assert rows_seen(model, net.trunk, ids, lengths) == [3]
    assert rows_seen(model, net.head, ids, lengths) == [5]
    shorter = lengths.clone()
    shorter[1] = 8 - lengths[1] or 1  # it is read for its row alone
    changed = (model(ids, shorter) != model(ids, lengths)).any(1)
    assert changed.tolist() == [False, bool(shorter[1] != lengths[1]), False, False, False]


class Weighted(nn.Module):
    """Features that a weight of the row may multiply, or in training noise that is drawn per row."""

    def __init__(self, noisy: bool) -> None:
        super().__init__()
        self.one, self.two, self.head = nn.Linear(8, 64), nn.Linear(64, 64), nn.Linear(64, 3)
        self.noisy = noisy

    def forward(self, x: Tensor, weight: Tensor | None = None) -> Tensor:
        h = torch.relu(self.two(torch.relu(self.one(x))))
        if self.noisy and self.training:
            weight = torch.rand(len(x), 1)
        return self.head(h if weight is None else h * weight)


@pytest.mark.parametrize("rows", [2, 5])
def test_rows_that_meet_their_mixtures_are_named(rows: int) -> None:
    x, weight = torch.randn(rows, 8), torch.rand(rows, 1)
    model = muxwrap.wrap(Weighted(noisy=False), 2, example_input=torch.randn(3, 8)).eval()
    with pytest.raises(MuxwrapError, match=r"Of the rows are x, weight: .*has to be in the example_input=") as caught:
        model(x, weight)
    assert "squeeze" not in str(caught.value) and "In training" not in str(caught.value)
    model = muxwrap.wrap(Weighted(noisy=True), 2, example_input=torch.randn(3, 8)).train()
    with pytest.raises(MuxwrapError, match=r"runs in training only.*number of rows from the features.*h.shape\[0\]"):
        model(x)
    assert model.eval()(x).shape == (rows, 3)
