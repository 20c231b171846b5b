"""Laws that every registered strategy obeys, on features, tokens and images alike.

A strategy that is registered in the package joins by itself.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest
import safetensors.torch
import torch
from helpers import DTYPES, assert_same_state, copies, move_parameters, numbers, random_state_untouched
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from muxwrap.errors import MuxwrapError
from muxwrap.registry import options_of
from muxwrap.strategies import Strategy, registry

# Options beside the defaults that deserve all the laws; learned and fixed keys are added below.
OPTIONS: dict[str, list[dict[str, Any]]] = {
    "binary": [{"overlap": 1}],
    "contextual": [{"padding": "attended"}],
    "hadamard": [{"norm": 3.0}],
    "kernels": [{"kind": "graded"}],
    "layout": [{"channels": 5, "reach": 0}, {"hidden": (3, 2), "reach": 1}],
    "nonlinear": [{"channels": 3, "hidden": 4}],
    "reversible": [{"hidden": 3}],
    "rotation": [{"signs": False}],
}
SAME_FOR_EVERY_INDEX = {"identity"}
NOTHING_DRAWN = {"binary", "channels", "concat", "identity", "pool", "remap", "rotation"}
# Torch refuses an empty batch here: FFTs where it is built with MKL, transformer layers, affine grids.
NO_EMPTY_BATCH = {"circular", "contextual", "rotation"}
SITE = ("n", "dim")  # arguments that come from the place where instances are mixed
NEAR = {"atol": 1e-5, "rtol": 1e-5}  # keys are drawn in float32, so that rotations are orthogonal to that precision
HALF = {torch.bfloat16: 0.1, torch.float16: 0.02, torch.float32: 1e-4, torch.float64: 1e-6}
OTHER_SHAPES = {  # for n=3 and dim=8, and what the message shows instead
    "features": ([(2, 4, 8), (2, 3, 7), (2, 5, 3, 8), (3, 8), (8,)], r"\[groups, 3, \.\.\., 8\]"),
    "tokens": ([(2, 4, 5, 8), (2, 3, 5, 7), (2, 3, 8), (2, 3, 5, 5, 8), (3, 8)], r"tokens \[groups, 3, L, 8\]"),
    "image": (
        [(2, 4, 8, 8, 8), (2, 3, 5, 8, 8), (2, 3, 8), (2, 3, 8, 5), (3, 8, 8, 8)],
        r"images \[groups, 3, 8, H, W\]",
    ),
}


@dataclass(frozen=True)
class Example:
    """Sizes of one example; ``seed`` is for the strategy and ``data`` for the numbers that go in."""

    n: int
    dim: int
    groups: int
    inner: tuple[int, ...]  # axes of an instance: [..., dim], [L, dim] or [dim, H, W]
    seed: int = 0
    data: int = 0

    def instances(self, dtype: torch.dtype = torch.float64, salt: int = 0) -> Tensor:
        """``[groups, n, *inner]``."""
        return numbers(self.data + salt, self.groups, self.n, *self.inner, dtype=dtype)


@st.composite
def examples(draw: st.DrawFn, sees: str, min_n: int, min_dim: int, small: bool) -> Example:
    """Draw sizes that every strategy of a kind has room for: n <= dim features, n <= L tokens, a pixel for every cell."""
    n = draw(st.integers(min_n, 3 if small else {"features": 5}.get(sees, 7)))
    if sees == "features":
        dim = draw(st.integers(max(n, min_dim), 5 if small else 20))
        inner = (*draw(st.lists(st.integers(1, 3), max_size=2)), dim)
    else:
        dim, height, width = draw(st.integers(1, 3)), draw(st.integers(7, 11)), draw(st.integers(7, 11))
        inner = (dim, height, width) if sees == "image" else (height * width, dim)
    seed, data = draw(st.integers(0, 2**32 - 1)), draw(st.integers(0, 2**32 - 1))
    groups = draw(st.integers(1, 1 if small and sees != "features" else 3))
    return Example(n, dim, groups, inner, seed, data)


class Variant:
    """A strategy's name and options of its own."""

    def __init__(self, name: str, **options: Any) -> None:
        self.name, self.options = name, options
        self.sees = registry.get(name).sees

    def __repr__(self) -> str:
        return "-".join([self.name, *(f"{key}={value}" for key, value in self.options.items())])

    def build(self, n: int, dim: int, size: tuple[int, ...] = (9, 8), **more: Any) -> Strategy:
        """Build as a wrapped model does, which fills in the size of its images."""
        choice = partial(registry.get(self.name), **self.options, **more)
        return registry.build(choice, n=n, dim=dim, size=size, seed=0)

    def of(self, s: Example, moved: bool = True, **more: Any) -> Strategy:
        """Build for an example, in float64, learned keys moved away from where they started."""
        strategy = self.build(s.n, s.dim, s.inner[1:], seed=s.seed, **more).double()
        if moved:
            move_parameters(strategy, s.seed)
        return strategy

    def draw(self, data: st.DataObject, min_n: int = 1, min_dim: int = 1, small: bool = False) -> Example:
        return data.draw(examples(self.sees, min_n, min_dim, small), label="example")

    def example(self, n: int = 3, groups: int = 2, dim: int = 24) -> Example:
        """One example of usual sizes; ``dim`` counts features, images have two channels and tokens four features."""
        dim, inner = {"features": (dim, (5, dim)), "tokens": (4, (72, 4)), "image": (2, (2, 9, 8))}[self.sees]
        return Example(n, dim, groups, inner)


def variants() -> list[Variant]:
    found = []
    for name in registry.names():
        for options in [{}, *OPTIONS.get(name, [])]:
            default = Variant(name, **options)
            found.append(default)
            other = Variant(name, **options, learnable=not default.build(2, 8).learnable)
            try:
                other.build(2, 8)
            except MuxwrapError:  # nothing to learn, or nothing without; the tests of single strategies name them
                continue
            found.append(other)
    return found


VARIANTS = variants()
Law = Callable[[Strategy], bool]


def every(keep: Law = lambda strategy: True) -> Any:
    """Parametrise over the variants for which ``keep`` holds."""
    kept = [v for v in VARIANTS if keep(v.build(2, 8))]
    assert kept
    return pytest.mark.parametrize("variant", kept, ids=repr)


# For what is slow and does not depend on options.
each_name = pytest.mark.parametrize("variant", [Variant(name) for name in registry.names()], ids=repr)


def has_way_back(strategy: Strategy) -> bool:
    return type(strategy).unbind is not Strategy.unbind


def is_linear(strategy: Strategy) -> bool:
    return not getattr(strategy, "hidden", ()) and strategy.name != "reversible"  # layers between nonlinearities


def lies_apart(strategy: Strategy) -> bool:
    """Whether the instances lie at numbers of their own, and not only in directions of their own."""
    return strategy.disjoint and strategy.name != "low_rank"


def draws_what_mixes(strategy: Strategy) -> bool:
    """Whether the mixture depends on the seed: layout starts as area interpolation in its first channels."""
    fixed = getattr(strategy, "kind", "") == "graded" or (strategy.name == "layout" and strategy.width == strategy.dim)
    return strategy.name not in NOTHING_DRAWN and not fixed


def inner_axes(variant: Variant, x: Tensor) -> tuple[int, ...]:
    """The axes on which φ acts: the features of every position, or all of an instance."""
    return (-1,) if variant.sees == "features" else tuple(range(2, x.ndim))


class TestAlgebra:
    """Binding, combining and the way back."""

    @every()
    @given(data=st.data())
    def test_shapes(self, variant: Variant, data: st.DataObject) -> None:
        s = variant.draw(data)
        strategy, x = variant.of(s), s.instances()
        inner = s.inner if variant.sees != "image" else (strategy.width, *s.inner[1:])
        if variant.sees == "tokens":
            inner = (strategy.length(s.inner[0]), s.dim)
        bound, mixture = strategy.bind(x), strategy(x)
        assert bound.shape == (s.groups, s.n, *inner)
        assert mixture.shape == (s.groups, *inner)
        if has_way_back(strategy):
            assert strategy.unbind(bound).shape == strategy.separate(mixture).shape == x.shape

    @every(lambda strategy: strategy.name not in NO_EMPTY_BATCH)
    def test_no_groups_give_no_mixtures(self, variant: Variant) -> None:
        s = variant.example()
        strategy = variant.build(s.n, s.dim)
        x = s.instances(torch.float32)
        assert strategy(x[:0]).shape == (0, *strategy(x).shape[1:])

    @every()
    @given(data=st.data())
    def test_mix_is_combine_of_bind(self, variant: Variant, data: st.DataObject) -> None:
        s = variant.draw(data)
        strategy, x = variant.of(s), s.instances()
        bound = strategy.bind(x)
        assert_close(strategy(x), strategy.combine(bound))
        if type(strategy).combine is Strategy.combine:
            assert_close(strategy.combine(bound), bound.sum(1) * strategy.factor)

    @every(has_way_back)
    @given(data=st.data())
    def test_separate_unbinds_every_index_from_the_mixture(self, variant: Variant, data: st.DataObject) -> None:
        s = variant.draw(data)
        strategy = variant.of(s)
        mixture = strategy(s.instances())
        spread = torch.stack([mixture] * s.n, dim=1)
        assert_close(strategy.separate(mixture), strategy.unbind(spread) / strategy.factor)

    @every(lambda strategy: not has_way_back(strategy))
    def test_without_a_way_back_unbind_says_so(self, variant: Variant) -> None:
        s = variant.example()
        strategy = variant.build(s.n, s.dim)
        assert not strategy.invertible
        with pytest.raises(MuxwrapError, match=r"has no unbind; take a demuxer that learns"):
            strategy.unbind(s.instances(torch.float32))

    @every(lambda strategy: strategy.invertible)
    @given(data=st.data())
    def test_unbind_is_the_inverse_at_any_keys(self, variant: Variant, data: st.DataObject) -> None:
        s = variant.draw(data)
        strategy, x = variant.of(s), s.instances()
        assert_close(strategy.unbind(strategy.bind(x)), x, **NEAR)
        if strategy.width == strategy.dim:
            assert_close(strategy.bind(strategy.unbind(x)), x, **NEAR)

    @every(lambda strategy: has_way_back(strategy) and not strategy.invertible)
    @given(data=st.data())
    def test_unbind_is_the_adjoint_where_there_is_no_inverse(self, variant: Variant, data: st.DataObject) -> None:
        s = variant.draw(data)
        strategy, x = variant.of(s), s.instances()
        bound = strategy.bind(x)
        z = numbers(s.data + 1, *bound.shape)
        axes = inner_axes(variant, x)
        near = {} if variant.sees == "features" else NEAR
        assert_close((bound * z).sum(axes), (x * strategy.unbind(z)).sum(axes), **near)

    @every(lambda strategy: strategy.isometric)
    @given(data=st.data())
    def test_isometric_strategies_keep_norms(self, variant: Variant, data: st.DataObject) -> None:
        s = variant.draw(data)
        strategy, x = variant.of(s), s.instances()
        axes = inner_axes(variant, x)
        norms = [y.square().sum(axes).sqrt() for y in (strategy.bind(x), x)]
        assert_close(*norms, **NEAR)

    @every()
    @given(data=st.data())
    def test_an_index_sees_its_own_instance_only(self, variant: Variant, data: st.DataObject) -> None:
        s = variant.draw(data, min_n=2)
        strategy, x = variant.of(s), s.instances()
        j = data.draw(st.integers(0, s.n - 1), label="changed")
        others = [i for i in range(s.n) if i != j]
        changed = x.clone()
        changed[:, j] = s.instances(salt=1)[:, j]
        bound, other = strategy.bind(x), strategy.bind(changed)
        assert_close(bound[:, others], other[:, others])
        if has_way_back(strategy):
            other = bound.clone()
            other[:, j] += 1
            assert_close(strategy.unbind(bound)[:, others], strategy.unbind(other)[:, others])

    @every()
    @given(data=st.data())
    def test_permuting_instances_with_their_indices_permutes_the_outputs(
        self, variant: Variant, data: st.DataObject
    ) -> None:
        s = variant.draw(data, min_n=2)
        strategy, x = variant.of(s), s.instances()
        order = data.draw(st.permutations(range(s.n)), label="order")
        # φ_i of every instance, from groups in which all indices hold the same one.
        tables = [strategy.bind(torch.stack([x[:, k]] * s.n, dim=1)) for k in range(s.n)]
        expected = torch.stack([tables[k][:, i] for i, k in enumerate(order)], dim=1)
        assert_close(strategy.bind(x[:, order]), expected)

    @every(lambda strategy: strategy.name not in SAME_FOR_EVERY_INDEX)
    def test_every_index_has_a_map_of_its_own(self, variant: Variant) -> None:
        s = variant.example(n=4, groups=1, dim=32)
        x = s.instances(torch.float32)
        bound = variant.build(s.n, s.dim, seed=3).bind(torch.stack([x[:, 0]] * 4, dim=1))[0].flatten(1)
        distances = torch.cdist(bound, bound) + torch.eye(4) * 1e6
        assert distances.min() > (0.1 if variant.sees == "features" else 0.05) * bound.norm(dim=-1).min()

    @every(is_linear)
    @given(data=st.data(), a=st.floats(-3, 3), b=st.floats(-3, 3))
    def test_binding_and_mixing_are_linear(self, variant: Variant, data: st.DataObject, a: float, b: float) -> None:
        s = variant.draw(data)
        strategy = variant.of(s)
        x, y = s.instances(), s.instances(salt=1)
        bound, other = strategy.bind(x), strategy.bind(y)
        assert_close(strategy.bind(a * x + b * y), a * bound + b * other)
        assert_close(strategy(a * x + b * y), a * strategy(x) + b * strategy(y))
        if has_way_back(strategy):
            expected = a * strategy.unbind(bound) + b * strategy.unbind(other)
            assert_close(strategy.unbind(a * bound + b * other), expected, **NEAR)

    @every(lambda strategy: strategy.learnable and not is_linear(strategy))  # layout's net starts at zero effect
    def test_a_net_is_not_linear(self, variant: Variant) -> None:
        s = variant.example()
        strategy, x = variant.of(s), s.instances()
        assert not torch.allclose(strategy(-x), -strategy(x), atol=1e-3)

    @every(lambda strategy: strategy.disjoint and has_way_back(strategy))
    @given(data=st.data())
    def test_disjoint_strategies_lose_nothing_more_in_the_mixture(self, variant: Variant, data: st.DataObject) -> None:
        s = variant.draw(data)
        strategy, x = variant.of(s, moved=False), s.instances()
        own = strategy.unbind(strategy.bind(x))
        assert own.norm() > 0
        assert_close(strategy.separate(strategy(x)), own, **NEAR)  # no crosstalk from the others, ...
        if variant.sees == "features" or strategy.invertible:  # ... and what lies in its subspace comes back exactly
            assert_close(strategy.separate(strategy(own)), own, **NEAR)

    @every(lies_apart)
    @given(data=st.data())
    def test_disjoint_instances_do_not_meet(self, variant: Variant, data: st.DataObject) -> None:
        s = variant.draw(data, min_n=2)
        strategy = variant.of(s, moved=variant.sees != "features")  # learned chunks of binary may grow into each other
        touched = (strategy.bind(s.instances()) != 0).any(0).int()  # an entry for each index
        assert touched.sum(0).max() <= 1

    @every()
    @given(data=st.data(), number=st.floats(0.1, 10) | st.floats(-10, -0.1))
    def test_scale(self, variant: Variant, data: st.DataObject, number: float) -> None:
        s = variant.draw(data)
        x = s.instances()
        plain = variant.of(s, scale="sum")
        total = plain(x)
        for scale, factor in {"mean": 1 / s.n, "sqrt": s.n**-0.5, number: number}.items():
            strategy = variant.of(s, scale=scale)
            assert_close(strategy(x), total * factor)
            if has_way_back(strategy):
                assert_close(strategy.separate(strategy(x)), plain.separate(total), **NEAR)

    @every(lambda strategy: strategy.additive)
    @given(data=st.data())
    def test_mixtures_of_some_instances_add_up(self, variant: Variant, data: st.DataObject) -> None:
        s = variant.draw(data)
        strategy, x = variant.of(s), s.instances()
        at = data.draw(st.integers(0, s.n), label="cut")
        added = [strategy.mix(x[:, a:b], a) for a, b in ((0, at), (at, s.n)) if a < b]
        assert all(each.shape == strategy(x).shape for each in added)
        assert_close(torch.stack(added).sum(0), strategy(x))


class TestKeys:
    """Where keys come from, and what learns."""

    @every()
    @given(data=st.data())
    def test_keys_come_from_the_seed_alone(self, variant: Variant, data: st.DataObject) -> None:
        s = variant.draw(data)
        with random_state_untouched():
            first = variant.of(s, moved=False)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(s.data)
            assert_same_state(first, variant.of(s, moved=False))

    @every()
    def test_they_can_be_drawn_again(self, variant: Variant) -> None:
        s = variant.example()
        first, other = variant.of(s, moved=False), variant.of(s)
        with random_state_untouched():
            other.to_empty(device="cpu").reset_parameters()
        assert_same_state(first, other)

    @every()
    def test_keys_do_not_depend_on_the_default_device_and_dtype(self, variant: Variant) -> None:
        s = variant.example()
        plain = variant.build(s.n, s.dim)
        torch.set_default_dtype(torch.float64)
        try:
            with torch.device("meta"):
                other = variant.build(s.n, s.dim)
        finally:
            torch.set_default_dtype(torch.float32)
        assert_same_state(plain, other)
        assert all(value.device.type == "cpu" for value in other.buffers())

    @every(draws_what_mixes)
    def test_other_seeds_give_other_keys(self, variant: Variant) -> None:
        s = variant.example()
        x = s.instances(torch.float32)
        mixtures = [variant.build(s.n, s.dim, seed=seed)(x) for seed in range(4)]
        assert all(not torch.allclose(mixtures[a], mixtures[b]) for a in range(4) for b in range(a))

    @every()
    def test_only_learned_keys_are_parameters(self, variant: Variant) -> None:
        s = variant.example()
        strategy = variant.build(s.n, s.dim)
        assert bool(list(strategy.parameters())) == strategy.learnable
        floating = [value for value in strategy.state_dict().values() if value.is_floating_point()]
        assert all(value.dtype == torch.float32 for value in floating)
        assert strategy.isometric <= type(strategy).isometric

    @every(lambda strategy: strategy.learnable)
    @settings(max_examples=5)
    @given(data=st.data())
    def test_gradients_of_learned_keys(self, variant: Variant, data: st.DataObject) -> None:
        s = variant.draw(data, small=True)
        strategy = variant.of(s)
        names, keys = zip(*strategy.named_parameters(), strict=True)
        keys = tuple(key.detach().clone().requires_grad_() for key in keys)

        def mixed(x: Tensor, *values: Tensor) -> Tensor:
            return torch.func.functional_call(strategy, dict(zip(names, values, strict=True)), (x,))

        assert torch.autograd.gradcheck(mixed, (s.instances().requires_grad_(), *keys), fast_mode=True)

    @every()
    @settings(max_examples=5)
    @given(data=st.data())
    def test_gradients_of_instances(self, variant: Variant, data: st.DataObject) -> None:
        s = variant.draw(data, small=True)
        strategy = variant.of(s).requires_grad_(False)
        x = s.instances().requires_grad_()
        for function in (strategy, strategy.bind):
            assert torch.autograd.gradcheck(function, (x,), fast_mode=True)
        if has_way_back(strategy):
            bound = strategy.bind(x).detach().requires_grad_()
            assert torch.autograd.gradcheck(strategy.unbind, (bound,), fast_mode=True)


class TestModule:
    """What models do with modules."""

    @every()
    @given(data=st.data(), dtype=st.sampled_from(DTYPES))
    def test_dtypes(self, variant: Variant, data: st.DataObject, dtype: torch.dtype) -> None:
        s = variant.draw(data, min_dim=4) if is_linear(variant.build(2, 8)) else variant.example()
        exact = variant.of(s)
        x = s.instances(dtype)
        expected, bound = exact(x.double()), exact.bind(x.double())
        for strategy in (variant.of(s).to(dtype), variant.of(s)):  # a cast model, and keys that were left as they are
            mixture = strategy(x)
            assert mixture.dtype == strategy.bind(x).dtype == dtype
            if has_way_back(strategy):
                assert strategy.unbind(strategy.bind(x)).dtype == strategy.separate(mixture).dtype == dtype
            error = mixture.double() - expected
            if variant.sees == "features":
                assert error.norm() <= 64 * torch.finfo(dtype).eps * bound.norm() * exact.factor
            else:
                assert error.abs().max() <= HALF[dtype] * (1 + expected.abs().max())

    @every()
    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
    def test_autocast(self, variant: Variant, dtype: torch.dtype) -> None:
        s = variant.example()
        strategy = variant.build(s.n, s.dim)
        x = s.instances(torch.float32)
        for instances in (x, x.to(dtype)):  # after a layer norm or a linear layer
            with torch.autocast("cpu", dtype=dtype):
                mixture = strategy(instances)
                separated = strategy.separate(mixture) if has_way_back(strategy) else mixture
            assert_close(mixture.float(), strategy(x), atol=0.1, rtol=0.05)
            assert separated.isfinite().all()

    @every()
    @settings(max_examples=5)
    @given(data=st.data())
    def test_copies_and_saved_keys_mix_the_same(self, variant: Variant, data: st.DataObject) -> None:
        s = variant.draw(data)
        strategy, x = variant.of(s), s.instances()
        loaded = variant.build(s.n, s.dim, s.inner[1:], seed=s.seed + 1).double()
        loaded.load_state_dict(safetensors.torch.load(safetensors.torch.save(strategy.state_dict())))
        bound = strategy.bind(x)
        for other in [*copies(strategy), loaded]:
            assert_same_state(strategy, other)
            assert torch.equal(other(x), strategy(x))
            if has_way_back(strategy):
                assert torch.equal(other.unbind(bound), strategy.unbind(bound))

    @every()
    @settings(max_examples=5)
    @given(data=st.data())
    def test_options_rebuild_the_strategy(self, variant: Variant, data: st.DataObject) -> None:
        s = variant.draw(data)
        strategy = variant.build(s.n, s.dim, s.inner[1:], seed=s.seed, scale=0.7)
        options = options_of(strategy, SITE)
        assert options.items() >= {**variant.options, "seed": s.seed, "scale": 0.7}.items()
        assert_same_state(strategy, type(strategy)(s.n, s.dim, **options))

    @each_name
    def test_compiles_in_one_graph_for_changing_batches(self, variant: Variant) -> None:
        torch._dynamo.reset()
        s = variant.example(n=5)
        strategy = variant.build(s.n, s.dim).requires_grad_(False)

        def there_and_back(x: Tensor) -> tuple[Tensor, ...]:
            mixture = strategy(x)
            return (mixture, strategy.separate(mixture)) if has_way_back(strategy) else (mixture,)

        compiled = torch.compile(there_and_back, fullgraph=True, backend="eager")
        for groups in (2, 5, 3):
            x = variant.example(n=5, groups=groups).instances(torch.float32)
            assert_close(compiled(x), there_and_back(x))

    @each_name
    def test_exports_with_a_free_number_of_groups(self, variant: Variant) -> None:
        s = variant.example(n=5)
        strategy = variant.build(s.n, s.dim).requires_grad_(False)
        free = {0: torch.export.Dim("groups")}
        program = torch.export.export(strategy, (s.instances(torch.float32),), dynamic_shapes=(free,)).module()
        for groups in (1, 6):
            x = variant.example(n=5, groups=groups).instances(torch.float32)
            assert_close(program(x), strategy(x))

    @every(lambda strategy: strategy.sees == "image")
    def test_memory_with_channels_last(self, variant: Variant) -> None:
        s = variant.example()
        strategy, x = variant.build(s.n, s.dim), s.instances(torch.float32)
        expected = strategy(x)
        assert_close(strategy.to(memory_format=torch.channels_last)(x), expected)


class TestRefusals:
    """What is refused, and with which words."""

    @every()
    def test_forward_refuses_other_sizes(self, variant: Variant) -> None:
        shapes, layout = OTHER_SHAPES[variant.sees]
        strategy = variant.build(3, 8)
        for shape in shapes:
            with pytest.raises(MuxwrapError, match=rf"\(n=3, dim=8\) got .* it mixes {layout}"):
                strategy(torch.zeros(shape))

    @every()
    @pytest.mark.parametrize(
        ("wrong", "message"),
        [
            ({"n": 0}, "n=0 is below 1"),
            ({"n": 2.0}, r"n=2.0 is an? float"),
            ({"n": True}, r"n=True is an? bool"),
            ({"dim": 0}, r"dim=0 \(int\); dim is the size of the feature axis"),
            ({"dim": 8.0}, r"dim=8.0 \(float\)"),
            ({"scale": "meen"}, "scale='meen' is unknown; did you mean 'mean'"),
            ({"scale": 0}, "scale=0 is not a finite number other than 0"),
            ({"scale": float("inf")}, "scale=inf is not a finite"),
            ({"scale": None}, "scale=None is not a finite"),
        ],
        ids=str,
    )
    def test_constructor_refuses(self, variant: Variant, wrong: dict[str, Any], message: str) -> None:
        with pytest.raises(MuxwrapError, match=message):
            variant.build(**{"n": 2, "dim": 8, **wrong})
