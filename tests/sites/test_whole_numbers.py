"""Models that answer with classes, indices or masks: sites are found by the scores behind them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import muxwrap
from muxwrap.errors import MuxwrapError
from muxwrap.sites.runs.scores import Scores

X = torch.randn(3, 20, generator=torch.Generator().manual_seed(0))


def trunk(dim: int, out: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(dim, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, out))


class Pairs(nn.Module):
    """Both inputs run through one trunk, one behind the other."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk, self.head = trunk(20, 32), nn.Linear(64, 1)

    def forward(self, x: Tensor) -> Tensor:
        one, other = self.trunk(torch.cat([x, x.flip(1)])).chunk(2)
        return self.head(torch.cat([(one - other).abs(), one * other], -1)).squeeze(-1)


class Experts(nn.Module):
    """A gate weighs what several trunks make of a row."""

    def __init__(self) -> None:
        super().__init__()
        self.experts, self.gate = nn.ModuleList(trunk(20, 32) for _ in range(3)), nn.Linear(20, 3)
        self.head = nn.Linear(32, 4)

    def forward(self, x: Tensor) -> Tensor:
        made = torch.stack([expert(x) for expert in self.experts], 1)
        return self.head((made * self.gate(x).softmax(-1).unsqueeze(-1)).sum(1))


class Crosses(nn.Module):
    """Layers multiply the row itself again and again."""

    def __init__(self) -> None:
        super().__init__()
        self.crosses = nn.ModuleList(nn.Linear(20, 20) for _ in range(3))
        self.trunk, self.head = trunk(20, 64), nn.Linear(84, 4)

    def forward(self, x: Tensor) -> Tensor:
        z = x
        for cross in self.crosses:
            z = x * cross(z) + z
        return self.head(torch.cat([z, self.trunk(x)], 1))


class Deciding(nn.Module):
    """What a model decides: the best class, or whether its score is positive."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        scores = self.net(x)
        return scores.argmax(-1) if scores.ndim > 1 else scores > 0


class Scoring(Deciding):
    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


@pytest.mark.parametrize("kind", [Pairs, Experts, Crosses])
def test_decisions_are_split_where_their_scores_are(kind: type[nn.Module]) -> None:
    torch.manual_seed(0)
    net = kind().eval()
    found = [muxwrap.find_sites(each(net), example_input=X) for each in (Scoring, Deciding)]
    assert found[0].mux == found[1].mux and found[0].demux == found[1].demux


def test_rows_that_depend_on_each_other_are_refused_though_their_classes_are_the_same() -> None:
    class Centred(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.trunk, self.head = trunk(20, 32), nn.Linear(32, 2)

        def forward(self, x: Tensor) -> Tensor:
            scores = self.head(self.trunk(x - 0.1 * x.mean(0)))
            return (scores + torch.tensor([9.0, 0.0])).argmax(-1)  # always the first class

    with pytest.raises(MuxwrapError, match="depend on each other"):
        muxwrap.wrap(Centred(), 2, example_input=X)


def behind(make: Any, *given: Tensor) -> list[Tensor]:
    with Scores() as scores:
        output = make(*given)
    return scores.behind(output)


def test_scores_are_followed_through_what_decoders_do() -> None:
    scores, ids = torch.randn(3, 5), torch.tensor([2, 0, 1])

    def filled(x: Tensor) -> Tensor:
        found = torch.zeros(3, dtype=torch.long)
        found[ids] = x.argmax(-1)
        return found

    makers = (
        lambda x: x.argmax(-1),
        lambda x: x.topk(2).indices.flatten(),
        lambda x: torch.where(x.amax(-1) > 0, ids, 0),
        lambda x: torch.stack([x.argmax(-1), ids], 1).gather(1, ids.unsqueeze(1).clamp(max=1)),
        lambda x: torch.distributions.Categorical(logits=x).sample(),
        lambda x: (x * 10).round().long(),
        filled,
    )
    for make in makers:
        assert all(each.shape[0] == 3 for each in behind(make, scores)) and behind(make, scores)
    assert behind(lambda x: x.argmax(-1), scores)[0] is scores
    assert not behind(lambda x: x + 1, ids)  # made of no floats
    assert not behind(lambda x: (x, x.argmax(-1)), scores)  # an answer itself
