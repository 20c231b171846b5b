"""What is particular to one strategy: its formula against a plain one, its limits, and its properties."""

from functools import partial

import pytest
import torch
from helpers import Sizes, numbers, sizes
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

from muxwrap import list_strategies, strategies
from muxwrap.demuxers import MLP
from muxwrap.errors import MuxwrapError
from muxwrap.strategies import (
    Binary,
    Circular,
    Hadamard,
    Identity,
    LowRank,
    Orthogonal,
    Permutation,
    Sign,
    Slots,
    Strategy,
    Walsh,
)

# name: (sees, invertible, isometric, disjoint, scale, learnable) with default options
PROPERTIES = {
    "binary": ("features", False, False, True, "sum", False),
    "channels": ("image", True, True, True, "sum", False),
    "circular": ("features", True, True, False, "sqrt", False),
    "concat": ("tokens", False, False, True, "sum", True),
    "contextual": ("tokens", False, False, False, "sqrt", True),
    "hadamard": ("features", True, False, False, "sqrt", False),
    "identity": ("features", True, True, False, "sqrt", False),
    "kernels": ("image", False, False, False, "sqrt", False),
    "layout": ("image", False, False, True, "sum", True),
    "low_rank": ("features", False, False, True, "sqrt", False),
    "nonlinear": ("image", False, False, False, "sqrt", True),
    "orthogonal": ("features", True, True, False, "sqrt", False),
    "permutation": ("features", True, True, False, "sqrt", False),
    "pixel_rotation": ("image", True, True, False, "sqrt", False),
    "pool": ("tokens", False, False, True, "sum", False),
    "remap": ("image", False, False, True, "sum", False),
    "reversible": ("features", False, False, False, "sum", True),
    "rotation": ("image", False, False, False, "sqrt", False),
    "sign": ("features", True, True, False, "sqrt", False),
    "slots": ("features", False, False, True, "sum", True),
    "walsh": ("features", True, True, False, "sqrt", False),
}


@pytest.mark.parametrize("name", PROPERTIES)
def test_properties(name):
    made = strategies.registry.build(name, n=3, dim=12, size=(4, 5))
    found = (made.sees, made.invertible, made.isometric, made.disjoint, made.scale, made.learnable)
    assert found == PROPERTIES[name]
    assert made.name == name


def test_every_strategy_has_its_properties_here():
    assert list(PROPERTIES) == strategies.registry.names()


def test_learning_changes_the_properties_that_it_breaks():
    assert not Orthogonal(2, 8, learnable=True).invertible
    assert not any(cls(2, 8, learnable=True).isometric for cls in (Orthogonal, Sign, Walsh))
    assert Circular(2, 8, learnable=True).isometric


def dense_maps(strategy: Strategy) -> torch.Tensor:
    """φ_i as matrices ``[n, dim, dim]``: row k is φ_i of the k-th unit vector."""
    units = torch.eye(strategy.dim, dtype=torch.float64)[:, None].expand(-1, strategy.n, -1)
    return strategy.double().bind(units).movedim(0, 1)


# identity


@given(s=sizes(min_n=2), data=st.data())
def test_identity_cannot_tell_instances_apart(s, data):
    order = data.draw(st.permutations(range(s.n)))
    x = s.instances()
    assert_close(Identity(s.n, s.dim)(x[:, order]), Identity(s.n, s.dim)(x))
    assert_close(Identity(s.n, s.dim, scale="mean")(x), x.mean(1))


# elementwise


@given(s=sizes(), norm=st.floats(0.1, 30))
def test_hadamard_is_a_product_with_keys_of_one_norm(s, norm):
    for length, strategy in {norm: Hadamard(s.n, s.dim, norm=norm), s.dim**0.5: Hadamard(s.n, s.dim)}.items():
        assert_close(strategy.keys.norm(dim=1), torch.full((s.n,), length))
        maps = dense_maps(strategy)
        assert_close(maps, torch.diag_embed(strategy.keys))


def test_hadamard_keys_are_gaussian_in_shape():
    keys = Hadamard(4, 4096).keys
    assert abs(keys.mean()) < 0.03
    assert abs(keys.std() - 1) < 0.03
    assert 0.65 < (keys.abs() < 1).float().mean() < 0.72  # 0.683 for a normal distribution


@pytest.mark.parametrize("norm", [0, -1.0, float("nan")])
def test_hadamard_refuses_a_norm_that_is_not_positive(norm):
    with pytest.raises(MuxwrapError, match=r"hadamard\(norm=.*must be positive"):
        Hadamard(2, 8, norm=norm)


def test_sign_keys_are_even():
    keys = Sign(4, 4096).keys
    assert set(keys.unique().tolist()) == {-1.0, 1.0}
    assert keys.mean().abs() < 0.03
    assert (keys @ keys.T / 4096 - torch.eye(4)).abs().max() < 0.06


@pytest.mark.parametrize(
    ("n", "dim", "overlap", "chunks"),
    [
        (1, 5, 0, [(0, 5)]),
        (1, 5, 3, [(0, 5)]),
        (2, 8, 0, [(0, 4), (4, 8)]),
        (3, 8, 0, [(0, 2), (2, 4), (4, 8)]),
        (3, 8, 1, [(0, 3), (2, 5), (4, 8)]),
        (3, 8, 2, [(0, 4), (2, 6), (4, 8)]),
        (4, 4, 1, [(0, 2), (1, 3), (2, 4), (3, 4)]),
    ],
)
def test_binary_chunks(n, dim, overlap, chunks):
    strategy = Binary(n, dim, overlap=overlap)
    expected = [[float(a <= k < b) for k in range(dim)] for a, b in chunks]
    assert strategy.keys.tolist() == expected
    assert strategy.disjoint == (overlap == 0 or n == 1)
    assert_close(strategy(torch.ones(1, n, dim))[0], torch.tensor(expected).sum(0))


@pytest.mark.parametrize("overlap", [-1, 3])
def test_binary_refuses_an_overlap_beyond_the_next_chunk(overlap):
    with pytest.raises(MuxwrapError, match=r"overlap=.* take 0 <= overlap <= 2"):
        Binary(4, 9, overlap=overlap)


# dense


@given(s=sizes())
def test_orthogonal_maps_are_orthogonal_and_sum_up(s):
    strategy = Orthogonal(s.n, s.dim, seed=s.seed)
    maps = dense_maps(strategy)
    assert_close(maps @ maps.mT, torch.eye(s.dim, dtype=torch.float64).expand_as(maps), atol=1e-5, rtol=0)
    x = s.instances()
    plain = sum(x[:, i] @ strategy.keys[i] for i in range(s.n)) * s.n**-0.5
    assert_close(strategy(x), plain)


def test_orthogonal_maps_are_haar_distributed():
    traces = torch.stack([m.trace() for m in Orthogonal(400, 4).keys])
    assert abs(traces.mean()) < 0.15  # of a Haar matrix: mean 0, variance 1; a bare QR has a trace far below 0
    assert abs(traces.var() - 1) < 0.25
    determinants = torch.linalg.det(Orthogonal(400, 4).keys)
    assert 0.4 < (determinants > 0).float().mean() < 0.6


@given(s=sizes())
def test_low_rank_maps_do_not_meet(s):
    maps = dense_maps(LowRank(s.n, s.dim, seed=s.seed)).mT  # G_i
    for i in range(s.n):
        for j in range(s.n):
            for product in (maps[i].mT @ maps[j], maps[i] @ maps[j].mT):
                if i != j:
                    assert product.abs().max() < 1e-5
                else:  # a projection of rank dim // n
                    assert_close(product @ product, product, atol=1e-5, rtol=0)
                    assert round(product.trace().item(), 3) == s.dim // s.n


def test_low_rank_reads_and_writes_in_unrelated_directions():
    strategy = LowRank(2, 64)
    assert (strategy.left.mT @ strategy.right).abs().max() < 0.75  # 1 where U and H are the same


@given(s=sizes())
def test_slots_writes_into_slots_of_its_own(s):
    strategy = Slots(s.n, s.dim, seed=s.seed)
    assert sum(strategy.slot_sizes) == s.dim
    assert max(strategy.slot_sizes) - min(strategy.slot_sizes) <= 1
    with torch.no_grad():
        maps = dense_maps(strategy).mT  # [n, out, in]
    start = 0
    for i, size in enumerate(strategy.slot_sizes):
        rows = maps[i, start : start + size]
        assert_close(rows @ rows.T, torch.eye(size, dtype=torch.float64), atol=1e-5, rtol=0)
        assert maps[i].abs().sum() == rows.abs().sum()  # nothing outside the slot
        start += size
    rows = maps.sum(0)
    assert_close(rows @ rows.T, torch.eye(s.dim, dtype=torch.float64), atol=1e-5, rtol=0)


def test_slots_keep_the_mean_energy_of_the_instances():
    x = numbers(0, 64, 4, 128, dtype=torch.float32)
    ratio = Slots(4, 128)(x).square().sum(-1).mean() / x.square().sum(-1).mean()
    assert abs(ratio - 1) < 0.05


@pytest.mark.parametrize("cls", [Orthogonal, LowRank, Slots])
def test_dense_strategies_name_the_structured_ones_at_large_sizes(cls):
    match = rf"{cls.name}\(dim=8193\) needs a dense 8193 x 8193 .* limit is dim=8192; 'sign', 'permutation', 'walsh'"
    with pytest.raises(MuxwrapError, match=match):
        cls(2, 8193)


@pytest.mark.parametrize("cls", [Sign, Permutation, Walsh, Circular, Hadamard, Binary])
def test_the_others_have_no_such_limit(cls):
    assert cls(2, 8193)(torch.ones(1, 2, 8193)).isfinite().all()


@pytest.mark.parametrize("cls", [Binary, LowRank, Slots])
def test_more_instances_than_coordinates_are_refused(cls):
    cls(4, 4)
    match = rf"{cls.name}\(n=5, dim=4\) gives every instance .* take n <= 4 or a strategy that adds full-size codes"
    with pytest.raises(MuxwrapError, match=match):
        cls(5, 4)


@pytest.mark.parametrize("cls", [Identity, Permutation])
def test_nothing_to_learn(cls):
    with pytest.raises(MuxwrapError, match=rf"{cls.name}\(learnable=True\): .* nothing to learn"):
        cls(2, 8, learnable=True)


# structured


@given(s=sizes())
def test_permutation_only_reorders(s):
    maps = dense_maps(Permutation(s.n, s.dim, seed=s.seed))
    assert set(maps.unique().tolist()) <= {0.0, 1.0}
    assert (maps.sum(1) == 1).all()
    assert (maps.sum(2) == 1).all()


def test_permutation_keys_stay_integers_in_a_cast_model():
    strategy = Permutation(3, 1000)
    kept = strategy.keys.clone()
    assert strategy.half().keys.dtype == torch.int64
    assert torch.equal(strategy.to(torch.bfloat16).keys, kept)


def dense_walsh(dim: int) -> torch.Tensor:
    """The block-diagonal orthonormal Walsh-Hadamard matrix, from the definition: (-1)^popcount(row & column)."""
    blocks = []
    for size in (2**k for k in reversed(range(10)) if dim & 2**k):
        entries = [[(-1.0) ** (row & column).bit_count() for column in range(size)] for row in range(size)]
        blocks.append(torch.tensor(entries, dtype=torch.float64) / size**0.5)
    return torch.block_diag(*blocks)


@given(dim=st.integers(1, 80), seed=st.integers(0, 99))
def test_walsh_is_signs_around_the_transform(dim, seed):
    strategy = Walsh(2, dim, seed=seed).double()
    x = numbers(seed, 3, dim)
    dense = dense_walsh(dim)
    assert_close(strategy.transform(x), x @ dense)
    expected = [strategy.outer[i] * ((strategy.inner[i] * x) @ dense) for i in range(2)]
    assert_close(strategy.bind(torch.stack([x, x], 1)), torch.stack(expected, 1))
    assert set(strategy.inner.unique().tolist()) | set(strategy.outer.unique().tolist()) <= {-1.0, 1.0}


def test_walsh_matrices_are_not_saved():
    assert Walsh(2, 48).state_dict().keys() == {"inner", "outer"}


def test_walsh_stays_within_half_precision():
    # Unscaled, the first output is 30 * 4096 = 122,880, and float16 ends at 65,504; scaled it is 1,920.
    strategy = Walsh(1, 4096).half()
    x = torch.full((1, 4096), 30.0, dtype=torch.float16)
    assert_close(strategy.transform(x)[0, 0].item(), 1920.0, rtol=1e-2, atol=0)
    assert strategy.transform(x).isfinite().all()


@given(s=sizes())
def test_circular_is_the_convolution(s):
    strategy = Circular(s.n, s.dim, seed=s.seed).double()
    x = s.instances()
    at = torch.arange(s.dim)
    shifts = strategy.keys[:, (at[None] - at[:, None]) % s.dim]  # circulant [n, in, out]: key[out - in]
    assert_close(strategy.bind(x), torch.einsum("gn...d,nde->gn...e", x, shifts), atol=1e-5, rtol=1e-5)


@given(s=sizes())
def test_circular_keys_are_unitary_whatever_is_stored(s):
    strategy = Circular(s.n, s.dim, learnable=True, seed=s.seed)
    assert_close(torch.fft.rfft(strategy.keys).abs(), torch.ones(s.n, s.dim // 2 + 1), atol=1e-4, rtol=0)
    with torch.no_grad():
        strategy.double().keys.copy_(numbers(s.data, s.n, s.dim) * 7)
    x = s.instances()
    assert_close(strategy.bind(x).norm(dim=-1), x.norm(dim=-1))
    with torch.no_grad():
        strategy.keys.zero_()  # no phase to keep: the neutral key, and no division by zero
    assert_close(strategy.bind(x), x)


# how well instances are told apart, untrained


def retrieved(strategy: Strategy, tokens: int = 100, positions: int = 200) -> float:
    """Share of tokens that a matched filter reads back from their mixture, by the nearest entry of a random table."""
    table = numbers(0, tokens, strategy.dim, dtype=torch.float32)
    drawn = torch.randint(tokens, (positions, strategy.n), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        read = (strategy.separate(strategy(table[drawn])) @ table.T).argmax(-1)
    return (read == drawn).float().mean().item()


EVERYWHERE = list_strategies("features")
KEYED = [name for name in EVERYWHERE if strategies.registry.get(name)(2, 8).isometric and name != "identity"]


@pytest.mark.parametrize("name", KEYED)
def test_random_keys_find_tokens_again(name):
    assert retrieved(strategies.registry.build(name, n=4, dim=256)) >= 0.99


@pytest.mark.parametrize("name", ["binary", "low_rank", "slots"])
def test_disjoint_parts_find_tokens_again(name):
    assert retrieved(strategies.registry.build(name, n=4, dim=256)) >= 0.99


@pytest.mark.parametrize("n", [2, 4, 8])
def test_identity_finds_one_in_n(n):
    assert abs(retrieved(Identity(n, 256)) - 1 / n) < 0.5 / n


def test_capacity_ends():
    # N_max ~ dim / (2 ln V): 64 / 9.2 = 7; far past it little comes back, so the tests above measure something.
    assert retrieved(Orthogonal(40, 64)) < 0.5


# strategies of one's own


@pytest.fixture
def registered():
    """Let a test register strategies and forget them afterwards."""
    before = dict(strategies.registry._classes)
    yield strategies.registry
    strategies.registry._classes.clear()
    strategies.registry._classes.update(before)


def test_a_strategy_of_ones_own_works_by_name(registered):
    @registered.register("negate_odd")
    class NegateOdd(Strategy):
        invertible = True

        def __init__(self, n, dim, *, strength=1.0, learnable=False, scale="sqrt", seed=0):
            super().__init__(n, dim, learnable=learnable, scale=scale, seed=seed)
            self.strength = strength
            self.set_keys("keys", strength * (-1.0) ** torch.arange(n))

        def bind(self, x):
            return torch.einsum("gn...,n->gn...", x, self.keys)

        def unbind(self, z):
            return torch.einsum("gn...,n->gn...", z, 1 / self.keys)

    assert "negate_odd" in registered.names()
    built = registered.build("negate_odd", n=2, dim=3, seed=5, not_an_argument=1)
    assert (built.name, built.n, built.dim, built.seed) == ("negate_odd", 2, 3, 5)
    x = Sizes(n=2, dim=3, groups=2, extra=(4,), seed=0, data=0).instances(torch.float32)
    assert_close(built(x), (x[:, 0] - x[:, 1]) / 2**0.5)
    assert_close(built.unbind(built.bind(x)), x)
    stronger = registered.build(partial(NegateOdd, strength=2.0, seed=9), n=2, dim=3, seed=5)
    assert (stronger.strength, stronger.seed) == (2.0, 9)  # what the user set wins
    assert_close(stronger(x), 2 * built(x))
    assert registered.build(stronger, n=7) is stronger
    assert isinstance(registered.build(NegateOdd, n=2, dim=3), NegateOdd)


def test_names_are_taken_once(registered):
    with pytest.raises(MuxwrapError, match=r"register\('sign'\): the strategy Sign has that name"):
        registered.register("sign")(Hadamard)
    assert registered.get("sign") is Sign


def test_unknown_choices_name_the_known_ones():
    with pytest.raises(MuxwrapError, match=r"unknown strategy 'hadamrd'; did you mean 'hadamard'.*'walsh'"):
        strategies.registry.build("hadamrd", n=2, dim=4)
    with pytest.raises(MuxwrapError, match=r"strategy=3 is not a muxwrap.Strategy; give a name, a subclass"):
        strategies.registry.build(3, n=2, dim=4)
    with pytest.raises(MuxwrapError, match=r"strategy=<class .*MLP'> is not a muxwrap.Strategy"):
        strategies.registry.build(MLP, n=2, dim=4)
