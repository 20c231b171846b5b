"""Small models for the machine, and the hooks of others that it puts on them; all can be pickled."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn


class Vectors(nn.Module):
    """Vectors ``[B, 6]`` to 3 classes."""

    classes = 3

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Linear(6, 8)
        self.block = nn.Sequential(nn.LayerNorm(8), nn.Linear(8, 12), nn.GELU(), nn.Linear(12, 8))
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        """Answer."""
        h = self.stem(x)
        return self.head(h + self.block(h))


class Images(nn.Module):
    """Images ``[B, 2, 6, 6]`` to 3 classes, with batch norm."""

    classes = 3

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(2, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.block = nn.Sequential(nn.Conv2d(8, 12, 3, padding=1), nn.BatchNorm2d(12), nn.ReLU())
        self.head = nn.Linear(12, 3)

    def forward(self, x: Tensor) -> Tensor:
        """Answer."""
        return self.head(self.block(self.norm(self.stem(x)).relu()).mean((2, 3)))


class Tokens(nn.Module):
    """Token ids ``[B, 5]`` to 3 classes a token."""

    classes = 3

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(11, 8)
        self.encoder = nn.TransformerEncoderLayer(8, 2, 12, dropout=0.0, batch_first=True)
        self.head = nn.Linear(8, 3)

    def forward(self, ids: Tensor) -> Tensor:
        """Answer."""
        return self.head(self.encoder(self.embed(ids)))


class Subject(NamedTuple):
    """A model's class, a batch for it, and the modules on which others put hooks."""

    make: Callable[[], nn.Module]
    batch: Callable[[int, torch.Generator], Tensor]
    modules: tuple[str, ...]


SUBJECTS = {
    "vectors": Subject(Vectors, lambda rows, rng: torch.randn(rows, 6, generator=rng), ("", "stem", "block", "head")),
    "images": Subject(
        Images, lambda rows, rng: torch.randn(rows, 2, 6, 6, generator=rng), ("", "stem", "norm", "block", "head")
    ),
    "tokens": Subject(
        Tokens, lambda rows, rng: torch.randint(11, (rows, 5), generator=rng), ("", "embed", "encoder", "head")
    ),
}


def made(kind: str, seed: int = 0) -> nn.Module:
    """Return a model in evaluation mode, in float64, with weights of a seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return SUBJECTS[kind].make().double().eval()


class Counter:
    """Somebody else's hook: counts the calls of a module, and changes nothing."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, *_: Any) -> None:
        """Count."""
        self.calls += 1


def counters_of(model: nn.Module) -> list[Counter]:
    """Return the hooks of others on a model and what is in it."""
    kinds = (kind for module in model.modules() for kind in (module._forward_hooks, module._forward_pre_hooks))
    return [hook for hooks in kinds for hook in hooks.values() if isinstance(hook, Counter)]


def without_counters(model: nn.Module) -> None:
    """Take the hooks of others off."""
    for module in model.modules():
        for hooks in (module._forward_hooks, module._forward_pre_hooks):
            for each in [each for each, hook in hooks.items() if isinstance(hook, Counter)]:
                del hooks[each]


def hooks_left(model: nn.Module) -> int:
    """Return how many hooks there are that nobody else has put on."""
    kinds = (kind for module in model.modules() for kind in (module._forward_hooks, module._forward_pre_hooks))
    return sum(not isinstance(hook, Counter) for hooks in kinds for hook in hooks.values())
