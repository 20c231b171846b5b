"""What the tests share: numbers from a seed, drawn sizes, and checks that several modules need."""

import contextlib
import copy
import pickle
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from hypothesis import strategies as st
from torch import Tensor, nn

ROOT = Path(__file__).parent.parent
DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]


def numbers(seed: int, *shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    """Standard normal numbers that depend on ``seed`` alone, so that Hypothesis can replay and shrink a failure."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


@dataclass(frozen=True)
class Sizes:
    """One drawn set of sizes; ``seed`` is for the module and ``data`` for the numbers that go in."""

    n: int
    dim: int
    groups: int
    extra: tuple[int, ...]
    seed: int
    data: int

    def instances(self, dtype: torch.dtype = torch.float64, salt: int = 0) -> Tensor:
        """``[groups, n, *extra, dim]``."""
        return numbers(self.data + salt, self.groups, self.n, *self.extra, self.dim, dtype=dtype)

    def outputs(self, prefix: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
        """What a trunk gives a demuxer: ``[groups, *extra, dim]``, or ``[groups, prefix + L, dim]`` with a prefix."""
        extra = (prefix + sum(self.extra) + 1,) if prefix else self.extra
        return numbers(self.data, self.groups, *extra, self.dim, dtype=dtype)


@st.composite
def sizes(draw: st.DrawFn, min_n: int = 1, max_n: int = 5, min_dim: int = 1, max_dim: int = 20) -> Sizes:
    """Draw sizes with n <= dim, which every strategy has room for."""
    n = draw(st.integers(min_n, max_n))
    return Sizes(
        n=n,
        dim=draw(st.integers(max(n, min_dim), max_dim)),
        groups=draw(st.integers(1, 3)),
        extra=tuple(draw(st.lists(st.integers(1, 3), max_size=2))),
        seed=draw(st.integers(0, 2**32 - 1)),
        data=draw(st.integers(0, 2**32 - 1)),
    )


def assert_same_state(a: nn.Module, b: nn.Module) -> None:
    """Equal names and bitwise equal values of everything that is saved."""
    left, right = a.state_dict(), b.state_dict()
    assert left.keys() == right.keys()
    assert all(torch.equal(left[name], right[name]) and left[name].dtype == right[name].dtype for name in left)


def copies(module: nn.Module) -> list[nn.Module]:
    """A deep copy and a pickled copy."""
    return [copy.deepcopy(module), pickle.loads(pickle.dumps(module))]


def move_parameters(module: nn.Module, seed: int) -> None:
    """Stand in for training: add noise to every parameter."""
    with torch.no_grad():
        for k, parameter in enumerate(module.parameters()):
            parameter += 0.3 * numbers(seed + k, *parameter.shape, dtype=parameter.dtype)


@contextlib.contextmanager
def random_state_untouched() -> Iterator[None]:
    """Fail if the block moves torch's global random state."""
    before = torch.get_rng_state()
    yield
    assert torch.equal(before, torch.get_rng_state())
