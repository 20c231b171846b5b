"""Strategies that see an image, or a sequence of tokens: laws over sizes and strategies, and the cells of a grid."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest
import torch
from helpers import DTYPES, assert_same_state, copies, move_parameters, numbers, random_state_untouched
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from muxwrap import MuxwrapError, list_strategies, strategies
from muxwrap.registry import options_of
from muxwrap.strategies import (
    Channels,
    Circular,
    Concat,
    Layout,
    PixelRotation,
    Remap,
    Rotation,
    Spatial,
    Strategy,
)
from muxwrap.strategies.images.grid import area, cells, row_counts

OPTIONS: dict[str, list[dict[str, Any]]] = {
    "layout": [{"channels": 5, "reach": 0}, {"hidden": (3, 2), "reach": 1}, {"learnable": False}],
    "kernels": [{"kind": "graded"}, {"learnable": True}],
    "pixel_rotation": [{"learnable": True}],
    "nonlinear_expand": [{"channels": 3, "hidden": 4}],
    "rotation": [{"signs": False}],
    "concat": [{"learnable": False}],
}
NAMES = [*list_strategies("image"), *list_strategies("tokens")]
VARIANTS = [(name, options) for name in NAMES for options in [{}, *OPTIONS.get(name, [])]]
HALF = {torch.bfloat16: 0.1, torch.float16: 0.02, torch.float32: 1e-4, torch.float64: 1e-6}


@dataclass(frozen=True)
class Images:
    """Drawn sizes: n images of ``[dim, height, width]``, or n sequences of height·width tokens."""

    n: int
    dim: int
    groups: int
    height: int
    width: int
    seed: int

    def build(self, variant: tuple[str, dict[str, Any]], moved: bool = True, **more: Any) -> Strategy:
        name, options = variant
        facts = {"n": self.n, "dim": self.dim, "size": (self.height, self.width), "seed": self.seed}
        made = strategies.registry.build(
            partial(strategies.registry.get(name), **{**options, **more}), **facts
        ).double()
        if moved:
            move_parameters(made, self.seed)
        return made

    def rows(self, strategy: Strategy, salt: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
        inner = (self.dim, self.height, self.width)
        if strategy.sees == "tokens":
            inner = (self.height * self.width, self.dim)
        return numbers(self.seed % 1000 + salt, self.groups, self.n, *inner, dtype=dtype)


@st.composite
def images(draw: st.DrawFn, min_n: int = 1) -> Images:
    n = draw(st.integers(min_n, 7))
    return Images(
        n=n,
        dim=draw(st.integers(1, 3)),
        groups=draw(st.integers(1, 2)),
        height=draw(st.integers(7, 11)),  # a pixel for each of up to 7 cells in a row
        width=draw(st.integers(7, 11)),
        seed=draw(st.integers(0, 2**32 - 1)),
    )


def every(keep: Any = lambda strategy: True) -> Any:
    one = Images(2, 2, 1, 8, 8, 0)
    kept = [variant for variant in VARIANTS if keep(one.build(variant))]
    assert kept
    return pytest.mark.parametrize(
        "variant", kept, ids=lambda v: "-".join([v[0], *(f"{k}={o}" for k, o in v[1].items())])
    )


def has_way_back(strategy: Strategy) -> bool:
    return type(strategy).unbind is not Spatial.unbind


def is_linear(strategy: Strategy) -> bool:
    return not strategy.name.startswith("nonlinear") and not getattr(strategy, "hidden", ())


# Laws


@every()
@given(s=images())
def test_shapes_and_mix_is_combine_of_bind(variant: Any, s: Images) -> None:
    strategy = s.build(variant)
    x = s.rows(strategy)
    bound, mixture = strategy.bind(x), strategy(x)
    if strategy.sees == "image":
        assert bound.shape == (s.groups, s.n, strategy.width, s.height, s.width)
    assert mixture.shape == (s.groups, *bound.shape[2:])
    assert_close(mixture, strategy.combine(bound))


@every(is_linear)
@given(s=images())
def test_what_is_not_a_net_is_linear(variant: Any, s: Images) -> None:
    strategy = s.build(variant)
    x, y = s.rows(strategy), s.rows(strategy, salt=1)
    assert_close(strategy(2 * x - y), 2 * strategy(x) - strategy(y), atol=1e-6, rtol=1e-6)


@every(lambda strategy: not is_linear(strategy))
def test_a_net_is_not_linear(variant: Any) -> None:
    s = Images(3, 2, 2, 9, 8, 0)
    strategy = s.build(variant)
    x = s.rows(strategy)
    assert not torch.allclose(strategy(-x), -strategy(x), atol=1e-3)


@every(lambda strategy: has_way_back(strategy) and not strategy.invertible)
@given(s=images())
def test_unbind_is_the_adjoint(variant: Any, s: Images) -> None:
    strategy = s.build(variant)
    x, z = s.rows(strategy), s.rows(strategy, salt=1)
    inner = tuple(range(2, x.ndim))
    left, right = (strategy.bind(x) * z).sum(inner), (x * strategy.unbind(z)).sum(inner)
    assert_close(left, right, atol=1e-5, rtol=1e-5)


@every(lambda strategy: has_way_back(strategy) and strategy.invertible)
@given(s=images())
def test_unbind_is_the_inverse(variant: Any, s: Images) -> None:
    strategy = s.build(variant)
    x = s.rows(strategy)
    assert_close(strategy.unbind(strategy.bind(x)), x, atol=1e-5, rtol=1e-5)
    if strategy.isometric:
        assert_close(strategy.bind(x).flatten(2).norm(dim=2), x.flatten(2).norm(dim=2), atol=1e-5, rtol=1e-5)


@every(lambda strategy: strategy.disjoint)
@given(s=images(min_n=2))
def test_disjoint_parts_do_not_meet(variant: Any, s: Images) -> None:
    strategy = s.build(variant)
    touched = (strategy.bind(s.rows(strategy)) != 0).any(0).int()  # an entry for each index
    assert touched.sum(0).max() <= 1
    if has_way_back(strategy) and not strategy.learnable:
        x = s.rows(strategy)
        assert_close(strategy.separate(strategy(x)), strategy.unbind(strategy.bind(x)), atol=1e-5, rtol=1e-5)


@every()
@given(s=images(min_n=2), data=st.data())
def test_an_index_sees_its_own_instance_only(variant: Any, s: Images, data: st.DataObject) -> None:
    strategy = s.build(variant)
    changed = data.draw(st.integers(0, s.n - 1))
    x = s.rows(strategy)
    other = x.clone()
    other[:, changed] += 1
    kept = [i for i in range(s.n) if i != changed]
    assert_close(strategy.bind(x)[:, kept], strategy.bind(other)[:, kept])


@every()
def test_every_index_has_a_map_of_its_own(variant: Any) -> None:
    s = Images(4, 2, 1, 8, 8, 3)
    strategy = s.build(variant)
    bound = strategy.bind(s.rows(strategy)[:, :1].expand(-1, 4, -1, *[-1] * (1 if strategy.sees == "tokens" else 2)))[0]
    distances = torch.cdist(bound.flatten(1), bound.flatten(1)) + 1e6 * torch.eye(4)
    assert distances.min() > 0.05 * bound.flatten(1).norm(dim=1).min()


# Modules


@every()
def test_keys_come_from_the_seed_alone(variant: Any) -> None:
    s = Images(3, 2, 1, 8, 8, 5)
    with random_state_untouched():
        first = s.build(variant, moved=False)
    torch.set_default_dtype(torch.float64)
    try:
        assert_same_state(first, s.build(variant, moved=False))
    finally:
        torch.set_default_dtype(torch.float32)
    assert bool(list(first.parameters())) == first.learnable
    for other in copies(first):
        assert_same_state(first, other)


@every()
def test_options_rebuild_the_strategy(variant: Any) -> None:
    first = Images(3, 2, 1, 8, 8, 5).build(variant, moved=False, scale=0.7)
    options = options_of(first, ("n", "dim"))
    assert options.items() >= {**variant[1], "scale": 0.7, "seed": 5}.items()
    assert_same_state(first, type(first)(3, 2, **options).double())


@every()
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_dtypes(variant: Any, dtype: torch.dtype) -> None:
    s = Images(3, 2, 2, 9, 8, 1)
    exact = s.build(variant)
    x = s.rows(exact, dtype=dtype)
    expected = exact(x.double())
    for strategy in (s.build(variant).to(dtype), s.build(variant)):
        mixture = strategy(x)
        assert mixture.dtype == dtype
        assert (mixture.double() - expected).abs().max() <= HALF[dtype] * (1 + expected.abs().max())


@every()
def test_autocast(variant: Any) -> None:
    s = Images(3, 2, 2, 9, 8, 1)
    strategy = s.build(variant).float()
    x = s.rows(strategy, dtype=torch.float32)
    for rows in (x, x.bfloat16()):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            mixture = strategy(rows)
        assert_close(mixture.float(), strategy(x), atol=0.2, rtol=0.1)


@every()
@settings(max_examples=3)
@given(s=images())
def test_gradients(variant: Any, s: Images) -> None:
    strategy = s.build(variant)
    names = [name for name, _ in strategy.named_parameters()]
    values = [value.detach().clone().requires_grad_() for value in strategy.parameters()]
    x = s.rows(strategy)[:1].clone().requires_grad_()

    def mixed(x: Tensor, *keys: Tensor) -> Tensor:
        return torch.func.functional_call(strategy, dict(zip(names, keys, strict=True)), (x,))

    assert torch.autograd.gradcheck(mixed, (x, *values), fast_mode=True)


@pytest.mark.parametrize("name", NAMES)
def test_compiles_in_one_graph_and_exports_with_free_groups(name: str) -> None:
    torch._dynamo.reset()
    s = Images(5, 2, 2, 8, 8, 0)
    strategy = s.build((name, {}), moved=False).float().requires_grad_(False)
    compiled = torch.compile(strategy, fullgraph=True, backend="eager")
    x = s.rows(strategy, dtype=torch.float32)
    program = torch.export.export(strategy, (x,), dynamic_shapes=({0: torch.export.Dim("groups")},)).module()
    for rows in (x, x.repeat(3, *[1] * (x.ndim - 1))):
        assert_close(compiled(rows), strategy(rows))
        assert_close(program(rows), strategy(rows))


# The grid


@given(n=st.integers(1, 40), height=st.integers(40, 80), width=st.integers(40, 80))
def test_cells_cover_the_image_once_and_evenly(n: int, height: int, width: int) -> None:
    counts = row_counts(n)
    covered = torch.zeros(height, width)
    places = cells(counts, height, width)
    for top, left, h, w in places:
        covered[top : top + h, left : left + w] += 1
    assert len(places) == n
    assert (covered == 1).all()
    for cell in places:  # even but for whole pixels
        assert abs(cell.height * cell.width - height * width / n) <= cell.height + cell.width + 1
    assert max(counts) - min(counts) <= 1


def test_products_are_grids() -> None:
    assert [row_counts(n) for n in (1, 2, 4, 7, 8, 16)] == [[1], [1, 1], [2, 2], [3, 2, 2], [2] * 4, [4] * 4]


@given(out=st.integers(1, 20), size=st.integers(1, 20))
def test_area_is_adaptive_pooling_where_it_divides_and_keeps_means(out: int, size: int) -> None:
    matrix = area(out, size, torch.zeros(1, dtype=torch.float64))
    assert_close(matrix.sum(1), torch.ones(out, dtype=torch.float64), atol=1e-5, rtol=0)
    assert_close(matrix.sum(0), torch.full((size,), out / size, dtype=torch.float64), atol=1e-5, rtol=0)
    x = numbers(0, 1, size)
    if size % out == 0:
        assert_close((matrix @ x[0])[None], torch.nn.functional.adaptive_avg_pool1d(x, out), atol=1e-5, rtol=1e-5)


@given(s=images())
def test_layout_starts_as_remap(s: Images) -> None:
    layout, remap = Layout(s.n, s.dim, seed=s.seed).double(), Remap(s.n, s.dim)
    x = torch.ones_like(s.rows(remap))
    inside = remap(x)
    assert_close(inside, x[:, 0], atol=1e-5, rtol=1e-5)
    assert_close(layout(x), inside, atol=1e-5, rtol=1e-5)
    assume(s.n in (1, 4))
    even = numbers(s.seed % 100, s.groups, s.n, s.dim, 8, 8)
    assert_close(layout(even), remap(even), atol=1e-5, rtol=1e-5)


def test_hidden_layers_start_at_nothing_and_learn() -> None:
    x = numbers(0, 2, 4, 1, 8, 8, dtype=torch.float32)
    plain, deep = Layout(4, 1), Layout(4, 1, hidden=(6, 3))
    assert_close(deep(x), plain(x))
    deep(x).square().mean().backward()
    assert deep.get_parameter("filters_1").grad.abs().max() > 0
    move_parameters(deep, 0)
    assert_close(plain(2 * x), 2 * plain(x))
    assert not torch.allclose(deep(2 * x), 2 * deep(x), atol=0.1)  # offsets and ReLU
    changed = x.clone()
    changed[:, 1] += 1
    assert_close(deep(changed)[..., 4:, :], deep(x)[..., 4:, :])  # every cell is its own instance's


# Facts of single strategies


def test_rotation_turns_by_the_angle_of_the_index() -> None:
    x = numbers(0, 1, 1, 1, 6, 6).expand(1, 4, 1, 6, 6)
    bound = Rotation(4, 1, signs=False).bind(x)
    for i in range(4):
        turned = [torch.rot90(x[:, i], k, (-2, -1)) for k in (i, -i)]
        assert any(torch.allclose(bound[:, i], t, atol=1e-6) for t in turned)
    wide = torch.zeros(1, 2, 1, 6, 10)
    wide[..., :2, :3] = 1
    turned = Rotation(2, 1).bind(wide)[:, 1]
    assert_close(turned, -torch.rot90(wide[:, 1], 2, (-2, -1)), atol=1e-5, rtol=0)


def test_pixel_rotations_are_proper() -> None:
    keys = PixelRotation(4, 1, size=(3, 4)).keys
    assert_close(torch.linalg.det(keys), torch.ones(4))


def test_channels_come_back_exactly() -> None:
    x = numbers(0, 2, 3, 2, 4, 5)
    strategy = Channels(3, 2)
    assert torch.equal(strategy.separate(strategy(x)), x)


def test_concat_puts_shortened_sequences_one_behind_the_other() -> None:
    x = numbers(0, 2, 3, 12, 5)
    mixture = Concat(3, 5).double()(x)
    means = x.unflatten(2, (4, 3)).mean(3)
    assert_close(mixture, means.flatten(1, 2), atol=1e-6, rtol=1e-6)


def test_the_penalty_of_keys_falls_where_they_part() -> None:
    apart, alike = Circular(3, 64, learnable=True), Circular(3, 64, learnable=True)
    with torch.no_grad():
        alike.keys.copy_(alike.keys[:1].expand(3, -1))
    assert apart.key_penalty() < 0.1
    assert_close(alike.key_penalty(), torch.tensor(1.0))
    with torch.no_grad():
        apart.keys *= 3
    assert apart.key_penalty() > 3.9
    apart.key_penalty().backward()
    assert apart.keys.grad.abs().max() > 0


# What is refused


@pytest.mark.parametrize("name", NAMES)
def test_other_shapes_are_refused(name: str) -> None:
    strategy = Images(3, 2, 1, 8, 8, 0).build((name, {}), moved=False)
    for shape in ((2, 4, 2, 8, 8), (2, 3, 5, 8, 8), (2, 3, 2), (2, 3, 8, 5), (3, 2, 8, 8)):
        with pytest.raises(MuxwrapError, match=r"n=3, dim=2\) got .*; it mixes (images|tokens) \[groups, 3, "):
            strategy(torch.zeros(shape))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Layout(4, 1, reach=-1), "reach=-1"),
        (lambda: Layout(4, 1, hidden=16), r"hidden=16\): give the widths"),
        (lambda: Layout(4, 1, channels=0), "dim=0"),
        (lambda: PixelRotation(4, 1, size=(3,)), r"size=\(3,\)\): give the height and width"),
        (lambda: PixelRotation(4, 1, size=(224, 224)), "dense 50176 x 50176"),
        (lambda: PixelRotation(4, 1, size=(3, 4))(torch.zeros(1, 4, 1, 4, 3)), r"got images of \(4, 3\)"),
        (lambda: strategies.registry.get("kernels")(4, 1, kind="grade"), "did you mean 'graded'"),
        (lambda: Rotation(4, 1, learnable=True), "nothing to learn"),
        (lambda: Layout(4, 1).unbind(torch.zeros(1, 4, 1, 8, 8)), "no unbind"),
        (lambda: Remap(16, 1)(torch.zeros(1, 16, 1, 3, 3)), "n=16 cells .* do not fit into 3 x 3 pixels"),
        (lambda: Concat(5, 2)(torch.zeros(1, 5, 4, 2)), "has 4 of them"),
    ],
)
def test_constructors_and_sizes_refuse(make: Any, message: str) -> None:
    with pytest.raises(MuxwrapError, match=message):
        make()


@pytest.mark.parametrize("name", list_strategies("image"))
def test_memory_with_channels_last(name: str) -> None:
    phi = strategies.registry.build(name, n=3, dim=4, size=(8, 8), seed=0)
    x = torch.randn(2, 3, 4, 8, 8)
    expected = phi.mix(x)
    assert_close(phi.to(memory_format=torch.channels_last).mix(x), expected)
