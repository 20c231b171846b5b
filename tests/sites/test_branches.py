"""Models that read several inputs in branches of their own: all branches are mixed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import muxwrap


class Recommender(nn.Module):
    """A user and an item, each a token id per row, to a score."""

    def __init__(self, together: Callable[[Tensor, Tensor], Tensor], width: int) -> None:
        super().__init__()
        self.users, self.items = nn.Embedding(30, 16), nn.Embedding(40, 16)
        self.together = together
        self.layer, self.out = nn.Linear(width, 32), nn.Linear(32, 1)

    def forward(self, user: Tensor, item: Tensor) -> Tensor:
        h = torch.relu(self.layer(self.together(self.users(user), self.items(item))))
        return self.out(h).squeeze(-1)


class ImageAndTable(nn.Module):
    """An image and five numbers beside it to 3 classes."""

    def __init__(self) -> None:
        super().__init__()
        self.eye = nn.Sequential(
            nn.Conv2d(3, 16, 3), nn.ReLU(), nn.Conv2d(16, 16, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()
        )
        self.numbers = nn.Sequential(nn.Linear(5, 16), nn.ReLU(), nn.Linear(16, 16))
        self.layer, self.out = nn.Linear(32, 32), nn.Linear(32, 3)

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        h = torch.cat([self.eye(batch["image"]), self.numbers(batch["table"])], -1)
        return self.out(torch.relu(self.layer(h)))


def ids(rows: int) -> tuple[Tensor, Tensor]:
    return torch.randint(30, (rows,)), torch.randint(40, (rows,))


def images(rows: int) -> tuple[dict[str, Tensor]]:
    return ({"image": torch.randn(rows, 3, 8, 8), "table": torch.randn(rows, 5)},)


@pytest.mark.parametrize(
    ("net", "call", "paths"),
    [
        (lambda: Recommender(torch.add, 16), ids, ["users", "items"]),
        (lambda: Recommender(lambda a, b: torch.cat([a, b], -1), 32), ids, ["users", "items"]),
    ],
)
def test_every_branch_is_mixed(net: Callable[[], nn.Module], call: Callable[[int], Any], paths: list[str]) -> None:
    torch.manual_seed(0)
    model = muxwrap.wrap(net().eval(), 2, "hadamard", example_input=call(2))
    assert [site.path for site in model.sites.mux] == paths
    rows_seen = []
    model.backbone.layer.register_forward_pre_hook(lambda _module, args: rows_seen.append(len(args[0])))
    for rows in (1, 4, 5):
        args = call(rows)
        answers = model(*args)
        assert answers.shape == model.backbone(*args).shape
        assert rows_seen[-2:] == [-(-rows // 2), rows]
        assert torch.equal(model(*args), answers)


def test_the_dearest_branch_is_mixed_where_it_is_most_of_the_work() -> None:
    torch.manual_seed(0)
    model = muxwrap.wrap(ImageAndTable().eval(), 2, "hadamard", example_input=images(2))
    assert [site.path for site in model.sites.mux] == ["eye.0"] and model.sites.share > 0.5
    rows_seen = []
    model.backbone.eye[1].register_forward_pre_hook(lambda _module, args: rows_seen.append(len(args[0])))
    (batch,) = images(5)
    answers = model(batch)
    assert rows_seen == [3] and answers.shape == model.backbone(batch).shape
    moved = (model({**batch, "table": batch["table"] + torch.eye(5)}) - answers).abs().sum(1)
    assert bool((moved > 0).all())


def test_branches_of_other_widths_meet_before_they_are_mixed() -> None:
    net = Recommender(torch.add, 16)
    net.items = nn.Sequential(nn.Embedding(40, 8), nn.Linear(8, 16))  # type: ignore[assignment]
    found = muxwrap.wrap(net, 2, "hadamard", example_input=ids(2))
    assert [str(site) for site in found.sites.mux] == ["input of layer (axis -1, dim 16)"]
    muxwrap.unwrap(found)
    model = muxwrap.wrap(net, 2, "hadamard", mux_at=["users", "items"], demux_at="out", example_input=ids(2))
    assert model(*ids(5)).shape == (5,)


class Around(nn.Module):
    """A block with something that goes around its first layer."""

    def __init__(self, given: int, width: int = 32) -> None:
        super().__init__()
        self.around, self.layer = nn.Linear(given, width), nn.Linear(given, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.around(x) + torch.tanh(self.layer(x))


class Forecaster(nn.Module):
    """What is known of a row, and its past: a recurrent network begins in a state that is made of the one."""

    def __init__(self) -> None:
        super().__init__()
        self.known, self.past = Around(3), Around(4)
        self.rnn, self.out = nn.LSTM(32, 32, batch_first=True), nn.Linear(32, 2)

    def forward(self, known: Tensor, past: Tensor) -> Tensor:
        state = self.known(known)
        h, _ = self.rnn(self.past(past), (state[None], torch.zeros_like(state)[None]))
        return self.out(h + state[:, None])


def test_branches_that_are_blocks_are_mixed_after_them() -> None:
    torch.manual_seed(0)
    net = Forecaster().eval()
    model = muxwrap.wrap(net, 2, "hadamard", example_input=(torch.randn(2, 3), torch.randn(2, 6, 4)))
    assert [str(site) for site in model.sites.mux] == [
        f"output of {name} (axis -1, dim 32)" for name in ("known", "past")
    ]
    known, past = torch.randn(5, 3), torch.randn(5, 6, 4)
    rows_seen = []
    net.rnn.register_forward_pre_hook(lambda _module, args: rows_seen.append(len(args[0])))
    answers = model(known, past)
    assert rows_seen == [3] and answers.shape == (5, 6, 2)
    moved = (model(known + torch.eye(5, 3), past) - answers).abs().sum((1, 2))
    assert bool((moved > 0).all())


class Points(nn.Module):
    """Points are turned by what a small network says of them all, and read one by one."""

    def __init__(self) -> None:
        super().__init__()
        self.turn = nn.Sequential(
            nn.Conv1d(3, 16, 1), nn.ReLU(), nn.AdaptiveMaxPool1d(1), nn.Flatten(), nn.Linear(16, 9)
        )
        self.read = nn.Sequential(nn.Conv1d(3, 64, 1), nn.ReLU(), nn.Conv1d(64, 64, 1), nn.ReLU())
        self.out = nn.Linear(64, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = x.transpose(1, 2)
        return self.out(self.read(torch.bmm(self.turn(x).unflatten(1, (3, 3)), x)).amax(-1))


def test_few_numbers_that_are_joined_are_mixed_after_the_layer_that_makes_more_of_them() -> None:
    torch.manual_seed(0)
    x = torch.randn(6, 20, 3)
    model = muxwrap.wrap(Points().eval(), 2, example_input=x)
    assert [str(site) for site in model.sites.mux] == ["output of read.0 (axis 1, dim 64)"]
    assert model.sites.share is not None and model.sites.share > 0.75
    own = torch.autograd.functional.jacobian(lambda given: model(given).sum(-1), x).flatten(2).abs().sum(-1)
    pairs = torch.arange(6)[:, None] // 2 == torch.arange(6) // 2
    assert torch.equal(own > 0, pairs)


class WideAndDeep(nn.Module):
    """A linear model of the first ten columns of a table or of one beside it, and a perceptron that does the work."""

    def __init__(self, deep: nn.Module) -> None:
        super().__init__()
        self.wide = nn.Linear(20, 1)
        self.deep = nn.Sequential(deep, nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 1))

    def forward(self, wide: Tensor, deep: Tensor | None = None) -> Tensor:
        return (self.wide(wide) + self.deep(wide[:, :10] if deep is None else deep)).squeeze(-1)


@pytest.mark.parametrize("sizes", [(20,), (20, 10)])
def test_the_branch_that_does_the_work_is_mixed_after_its_first_layer(sizes: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    call = tuple(torch.randn(6, size) for size in sizes)
    model = muxwrap.wrap(WideAndDeep(nn.Linear(10, 64)).eval(), 2, "hadamard", example_input=call)
    assert [str(site) for site in model.sites.mux] == ["output of deep.0 (axis -1, dim 64)"]
    moved = torch.autograd.functional.jacobian(lambda x: model(*call[:-1], x), call[-1]).abs().sum(-1)
    assert torch.equal(moved > 0, torch.arange(6)[:, None] // 2 == torch.arange(6) // 2)


def test_the_input_of_a_branch_that_is_mixed_itself_is_told() -> None:
    torch.manual_seed(0)
    with pytest.warns(UserWarning, match="inputs themselves are mixed, at the input of deep .*share the 10 numbers"):
        muxwrap.wrap(WideAndDeep(Around(10, 64)), 2, "hadamard", example_input=torch.randn(4, 20))


class Patches(nn.Module):
    """Embeds the patches of an image behind a token that is the same for as many rows as there are images."""

    def __init__(self) -> None:
        super().__init__()
        self.project, self.token = nn.Conv2d(3, 32, 4, 4), nn.Parameter(torch.randn(1, 1, 32))
        self.norm = nn.LayerNorm(32)

    def forward(self, image: Tensor) -> Tensor:
        return self.norm(torch.cat([self.token.expand(len(image), -1, -1), self.project(image).flatten(2).mT], 1))


class ImageAndWords(nn.Module):
    """A transformer of an image does the work, and words beside it are read in passing."""

    def __init__(self) -> None:
        super().__init__()
        layers = [nn.TransformerEncoderLayer(32, 2, 64, dropout=0.0, batch_first=True) for _ in range(2)]
        self.words, self.small = nn.EmbeddingBag(30, 32), nn.ModuleList(nn.Linear(32, 32) for _ in range(4))
        self.image = nn.Sequential(Patches(), *layers, nn.LayerNorm(32))
        self.out = nn.Linear(64, 3)

    def forward(self, ids: Tensor, image: Tensor) -> Tensor:
        words = self.words(ids)
        for layer in self.small:
            words = words + layer(torch.relu(words))
        return self.out(torch.cat([words, self.image(image)[:, 0]], -1))


def test_the_branch_that_does_the_work_is_mixed_after_the_block_that_it_begins_with() -> None:
    torch.manual_seed(0)
    ids, image = torch.randint(30, (6, 4)), torch.randn(6, 3, 16, 16)
    model = muxwrap.wrap(ImageAndWords().eval(), 2, "hadamard", example_input=(ids, image))
    assert [str(site) for site in model.sites.mux] == ["output of image.0 (axis -1, dim 32)"]
    other = image.clone()
    other[2] = 0
    moved = (model(ids, other) - model(ids, image)).abs().amax(-1) > 0
    assert moved.tolist() == [False, False, True, True, False, False]


def tower(channels: int) -> nn.Sequential:
    """Return an encoder of images."""
    layers = [nn.Conv2d(channels, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 16, 3, padding=1), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())


class Streams(nn.Module):
    """Images and their motion, or words, each in an encoder of its own, whose features are joined."""

    def __init__(self, words: bool) -> None:
        super().__init__()
        sizes = {"nhead": 2, "dim_feedforward": 64, "dropout": 0.0, "batch_first": True}
        self.seen = tower(3)
        self.other: nn.Module = tower(2)
        if words:
            self.seen = nn.Sequential(
                nn.Conv2d(3, 16, 4, 4), nn.Flatten(2), _Turned(), nn.TransformerEncoderLayer(16, **sizes)
            )
            self.other = nn.Sequential(nn.Embedding(30, 16), nn.TransformerEncoderLayer(16, **sizes))
        self.out = nn.Linear(32, 3)

    def forward(self, image: Tensor, other: Tensor) -> Tensor:
        both = [self.seen(image), self.other(other)]
        return self.out(torch.cat([h if h.ndim == 2 else h.mean(1) for h in both], 1))


class _Turned(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.mT


@pytest.mark.parametrize("words", [False, True])
def test_towers_that_are_alike_are_both_mixed_though_one_is_half_of_the_work(words: bool) -> None:
    other = torch.randint(30, (4, 50)) if words else torch.randn(4, 2, 28, 28)
    call = (torch.randn(4, 3, 28, 28), other)
    one = muxwrap.wrap(Streams(words).eval(), 1, example_input=(call[0][:1], other[:1]))
    torch.testing.assert_close(one(*call), one.backbone(*call))
    model = muxwrap.wrap(muxwrap.unwrap(one), 2, example_input=(call[0][:1], other[:1]))
    assert [site.path for site in model.sites.mux] == ["seen.0", "other.0"]
    assert model.sites.share is not None and model.sites.share > 0.8
    assert model(*call).shape == (4, 3)
