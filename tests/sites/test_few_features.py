"""Where a row has few numbers: they are told apart before the last layer makes them, or the user is told."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import muxwrap


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def perceptron(given: int, made: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(given, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, made))


class Critics(nn.Module):
    """Two critics of an action, of which the smaller value counts most."""

    def __init__(self) -> None:
        super().__init__()
        self.q1, self.q2 = perceptron(10, 1), perceptron(10, 1)

    def forward(self, observation: Tensor, action: Tensor) -> Tensor:
        x = torch.cat([observation, action], -1)
        both = torch.cat([self.q1(x), self.q2(x)], -1)
        return 0.75 * both.amin(-1) + 0.25 * both.amax(-1)


class Dueling(nn.Module):
    """The value of a state, and the advantages of its actions."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.advantage, self.value = nn.Linear(10, 64), perceptron(64, 4), perceptron(64, 1)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.relu(self.body(x))
        advantages = self.advantage(h)
        return self.value(h) + advantages - advantages.mean(1, keepdim=True)


@pytest.mark.parametrize(
    ("kind", "sizes", "separated"),
    [(Critics, (8, 2), ["q1.4", "q2.4"]), (Dueling, (10,), ["advantage.4", "value.4"])],
)
def test_branches_of_one_number_are_separated_before_it_is_made(
    kind: type[nn.Module], sizes: tuple[int, ...], separated: list[str]
) -> None:
    call = tuple(torch.randn(6, size) for size in sizes)
    model = muxwrap.wrap(kind(), 2, example_input=call)  # without a warning of few features
    assert [(site.path, site.side) for site in model.sites.demux] == [(path, "input") for path in separated]
    model(*call).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in model.parameters())


class Slope(nn.Module):
    """A function and its slope, which the model asks of itself."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(2, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 1))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            value = self.body(x)
            return value, torch.autograd.grad(value.sum(), x, create_graph=True)[0]


def test_one_number_is_separated_with_a_warning_and_learns() -> None:
    x = torch.rand(4, 2)
    with pytest.warns(UserWarning, match=r"2 rows share 1 number per position at the output.*demux_at="):
        model = muxwrap.wrap(Slope(), 2, example_input=x, shuffle=False)
    value, _ = model(x)
    value.square().sum().backward()
    added = [p for name, p in model.named_parameters() if name.startswith("demuxers.0")]
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in added)


class Views(nn.Module):
    """Several views of a row, each a row of the network inside, and the mean of what it says of them."""

    def __init__(self, classes: int, one_by_one: bool = False) -> None:
        super().__init__()
        self.net = perceptron(10, classes)
        self.one_by_one = one_by_one

    def forward(self, x: Tensor) -> Tensor:
        if self.one_by_one:
            return torch.stack([self.net(row) for row in x]).mean(1)
        return self.net(x.flatten(0, 1)).unflatten(0, x.shape[:2]).mean(1)


@pytest.mark.parametrize("one_by_one", [False, True])
def test_answers_that_are_separated_themselves_are_told_with_a_way_out(one_by_one: bool) -> None:
    x = torch.randn(4, 3, 10)
    with pytest.warns(
        UserWarning, match=r"answers themselves.*the 5 numbers that 'net\.4' \(Linear\) makes of 64.*alone"
    ):
        muxwrap.wrap(Views(5, one_by_one), 2, example_input=x, shuffle=False)
    net = Views(5, one_by_one)
    net.net = muxwrap.wrap(net.net, 2, example_input=x[0], shuffle=False)  # the way out, without a warning
    assert net.net.sites.demux[0].path == "4"
    assert net(x).shape == (4, 5)


@pytest.mark.parametrize("n", [1, 2])
def test_features_that_are_returned_are_separated_without_a_word(n: int) -> None:
    muxwrap.wrap(Views(64), n, example_input=torch.randn(4, 3, 10), shuffle=False)
    if n == 1:
        muxwrap.wrap(Views(5), n, example_input=torch.randn(4, 3, 10), shuffle=False)


class Bag(nn.Module):
    """A bag of words, and a perceptron that is a module of its own or lies in the model as it is."""

    def __init__(self, named: bool, classes: int = 60) -> None:
        super().__init__()
        self.embed = nn.EmbeddingBag(30, 32)
        if named:
            self.net = nn.Sequential(nn.Linear(32, 64), nn.ReLU(), nn.Linear(64, classes))
        else:
            self.hidden, self.out = nn.Linear(32, 64), nn.Linear(64, classes)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.embed(ids)
        return self.net(x) if hasattr(self, "net") else self.out(torch.relu(self.hidden(x)))


@pytest.mark.parametrize(("named", "path"), [(True, "net.2"), (False, "out")])
def test_answers_are_known_where_a_module_gives_them(named: bool, path: str) -> None:
    ids = torch.randint(30, (4, 3))
    with pytest.warns(UserWarning, match="only 3[0-9] % of the operations"):
        model = muxwrap.wrap(Bag(named), 2, "hadamard", example_input=ids, shuffle=False)
    assert [(site.path, site.side) for site in model.sites.demux] == [(path, "input")]


class Tasks(nn.Module):
    """Two perceptrons that read the same features and do nearly all of the work."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.EmbeddingBag(30, 32)
        self.a, self.b = (nn.Sequential(nn.Linear(32, 64), nn.ReLU(), nn.Linear(64, 60)) for _ in range(2))

    def forward(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        x = self.embed(ids)
        return self.a(x), self.b(x)


def test_answers_that_named_modules_give_are_told() -> None:
    with pytest.warns(UserWarning, match=r"answers themselves are separated, at the output of a .*demux_at= before it"):
        muxwrap.wrap(Tasks(), 2, "hadamard", example_input=torch.randint(30, (4, 3)), shuffle=False)


class Written(nn.Module):
    """A perceptron without a module: its products are written out."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.last = (
            nn.Parameter(torch.randn(a, b) / a**0.5) for a, b in ((8, 32), (32, 32), (32, 3))
        )

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(torch.relu(x @ self.first) @ self.second) @ self.last


def test_answers_of_no_layer_are_told() -> None:
    with pytest.warns(UserWarning, match=r"what the backbone returns is separated.*Make the last layer a module"):
        muxwrap.wrap(Written(), 2, example_input=torch.randn(4, 8), shuffle=False)


class Pyramid(nn.Module):
    """Two maps of features; one head reads both, or every map has a head of its own."""

    def __init__(self, shared: bool) -> None:
        super().__init__()
        self.stem, self.coarse = nn.Conv2d(3, 16, 3, 2, 1), nn.Conv2d(16, 16, 3, 2, 1)
        self.heads = nn.ModuleList([nn.Conv2d(16, 5, 1)] * 2 if shared else [nn.Conv2d(16, 5, 1) for _ in range(2)])

    def forward(self, x: Tensor) -> list[Tensor]:
        fine = torch.relu(self.stem(x))
        return [head(each) for head, each in zip(self.heads, (fine, torch.relu(self.coarse(fine))), strict=True)]


def test_several_answers_of_one_head_are_told_like_one() -> None:
    images = torch.randn(3, 3, 16, 16)
    with pytest.warns(UserWarning, match=r"answers themselves.*the 5 numbers that 'heads\.\d' \(Conv2d\) makes of 16"):
        model = muxwrap.wrap(Pyramid(shared=True), 2, example_input=images)
    assert [site.path for site in model.sites.demux] == ["", ""]
    apart = muxwrap.wrap(Pyramid(shared=False), 2, example_input=images)  # the heads read rows: nothing to tell
    assert {site.path for site in apart.sites.demux} == {"heads.0", "heads.1"}


class Linears(nn.Module):
    """A forecast that is the sum of two: of the trend, and of what is left of the series (DLinear)."""

    def __init__(self) -> None:
        super().__init__()
        self.average = nn.AvgPool1d(5, 1, 2, count_include_pad=False)
        self.season, self.trend = nn.Linear(24, 6), nn.Linear(24, 6)

    def forward(self, x: Tensor) -> Tensor:
        x = x.transpose(1, 2)
        trend = self.average(x)
        return (self.season(x - trend) + self.trend(trend)).transpose(1, 2)


def test_an_answer_that_several_layers_make_is_told_too() -> None:
    with pytest.warns(UserWarning, match=r"answers themselves.*the 6 numbers that '\w+' \(Linear\) makes of 24"):
        muxwrap.wrap(Linears(), 2, example_input=torch.randn(3, 24, 2))


class Committee(nn.Module):
    """The mean of what three networks say, and how far they are apart."""

    def __init__(self, last: type[nn.Module] | None = None) -> None:
        super().__init__()
        self.members = nn.ModuleList([perceptron(10, 5) for _ in range(3)])
        self.norm = nn.Identity() if last is None else last(5)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        said = torch.stack([self.norm(member(x)) for member in self.members])
        return said.mean(0), said.std(0)


def test_statistics_of_several_answers_are_told_and_features_are_not() -> None:
    x = torch.randn(4, 10)
    told = r"answers themselves.*the 5 numbers that 'members\.2\.4' \(Linear\) makes of 64"
    with pytest.warns(UserWarning, match=told):
        model = muxwrap.wrap(Committee(), 2, example_input=x)
    assert [site.path for site in model.sites.mux] == ["members.0.0", "members.1.0", "members.2.0"]
    muxwrap.wrap(Committee(nn.LayerNorm), 2, example_input=x)  # what is scaled at last is an embedding


class TwoHeads(nn.Module):
    """Nothing but two heads on a mean; what one of them says is scaled by no module."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.head, self.other = nn.Embedding(30, 16), nn.Linear(16, 5), nn.Linear(16, 3)

    def forward(self, ids: Tensor, gain: float = 1.0) -> tuple[Tensor, Tensor]:
        mean = self.embed(ids).mean(1)
        return self.head(mean) * gain, self.other(mean)


@pytest.mark.filterwarnings("ignore:.*a row takes:UserWarning")
def test_a_head_alone_is_no_trunk() -> None:
    model = muxwrap.wrap(TwoHeads(), 2, example_input=torch.randint(30, (3, 7)))
    assert [site.path for site in model.sites.mux] == ["embed"]
    assert [answer.shape for answer in model(torch.randint(30, (5, 7)))] == [(5, 5), (5, 3)]
