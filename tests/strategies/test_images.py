"""Strategies for images and tokens: the cells of a grid, resampling, and what is particular to one of them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from helpers import move_parameters, numbers
from hypothesis import assume, given
from hypothesis import strategies as st
from torch.testing import assert_close

from muxwrap import MuxwrapError, strategies
from muxwrap.strategies import Channels, Circular, Concat, Layout, PixelRotation, Remap, Rotation
from muxwrap.strategies.images._grid import cells, row_counts
from muxwrap.strategies.resampling import area

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


@given(
    n=st.integers(1, 7),
    dim=st.integers(1, 3),
    height=st.integers(7, 11),
    width=st.integers(7, 11),
    seed=st.integers(0, 2**32 - 1),
)
def test_layout_starts_as_remap(n: int, dim: int, height: int, width: int, seed: int) -> None:
    layout, remap = Layout(n, dim, seed=seed).double(), Remap(n, dim)
    x = torch.ones(2, n, dim, height, width, dtype=torch.float64)
    inside = remap(x)
    assert_close(inside, x[:, 0], atol=1e-5, rtol=1e-5)
    assert_close(layout(x), inside, atol=1e-5, rtol=1e-5)
    assume(n in (1, 4))
    even = numbers(seed % 100, 2, n, dim, 8, 8)
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


# What is particular to one strategy


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
    assert strategy.width == 6
    assert torch.equal(strategy.separate(strategy(x)), x)


def test_concat_puts_shortened_sequences_one_after_the_other() -> None:
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
