"""Laws that every registered strategy obeys; one that is registered in the package joins by itself."""

from functools import partial

import pytest
import safetensors.torch
import torch
from helpers import DTYPES, Sizes, assert_same_state, copies, move_parameters, numbers, random_state_untouched, sizes
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from muxwrap import strategies
from muxwrap.errors import MuxwrapError
from muxwrap.registry import options_of
from muxwrap.strategies import Strategy
from muxwrap.strategies.base import list_strategies

# Options beside the defaults that deserve all the laws; learned and fixed keys are added below.
OPTIONS = {"hadamard": [{"norm": 3.0}], "binary": [{"overlap": 1}]}
SAME_FOR_EVERY_INDEX = {"identity"}
SAME_FOR_EVERY_SEED = {"identity", "binary"}
FACTS = ("n", "dim")
NEAR = {"atol": 1e-5, "rtol": 1e-5}  # keys are drawn in float32, so that rotations are orthogonal to that precision


class Variant:
    """A strategy's name and options of its own."""

    def __init__(self, name, **options):
        self.name, self.options = name, options

    def build(self, n, dim, **more):
        return strategies.registry.build(
            partial(strategies.registry.get(self.name), **self.options, **more), n=n, dim=dim
        )

    def of(self, s: Sizes, **more) -> Strategy:
        """Build for drawn sizes, in float64, learned keys moved away from where they started."""
        strategy = self.build(s.n, s.dim, seed=s.seed, **more).double()
        move_parameters(strategy, s.seed)
        return strategy

    def __repr__(self):
        return "-".join([self.name, *(f"{key}={value}" for key, value in self.options.items())])


def variants():
    for name in list_strategies("features"):
        for options in [{}, *OPTIONS.get(name, [])]:
            default = Variant(name, **options)
            yield default
            other = Variant(name, **options, learnable=not default.build(2, 8).learnable)
            try:
                other.build(2, 8)
            except MuxwrapError:  # nothing to learn; test_strategies.py says for which
                continue
            yield other


VARIANTS = list(variants())


def every(keep=lambda strategy: True):
    """Parametrise over the variants for which ``keep`` holds."""
    kept = [v for v in VARIANTS if keep(v.build(2, 8))]
    assert kept
    return pytest.mark.parametrize("variant", kept, ids=repr)


def each_name():
    """Parametrise over the names alone, for what is slow and does not depend on options."""
    return pytest.mark.parametrize("variant", [Variant(name) for name in list_strategies("features")], ids=repr)


# The algebra of binding


@every()
@given(s=sizes())
def test_shapes(variant, s):
    strategy = variant.of(s)
    x = s.instances()
    assert strategy.bind(x).shape == x.shape
    assert strategy.unbind(x).shape == x.shape
    assert strategy(x).shape == (s.groups, *s.extra, s.dim)
    assert strategy.separate(strategy(x)).shape == x.shape


@every(lambda strategy: strategy.name != "circular")  # torch.fft refuses an empty batch where it is built with MKL
def test_no_groups_give_no_mixtures(variant):
    strategy = variant.build(3, 8)
    assert strategy(torch.zeros(0, 3, 5, 8)).shape == (0, 5, 8)


@every()
@given(s=sizes())
def test_mix_is_combine_of_bind(variant, s):
    strategy = variant.of(s)
    x = s.instances()
    assert_close(strategy(x), strategy.combine(strategy.bind(x)))
    assert_close(strategy.combine(x), x.sum(1) * strategy.factor)


@every()
@given(s=sizes())
def test_separate_unbinds_every_index_from_the_mixture(variant, s):
    strategy = variant.of(s)
    mixture = strategy(s.instances())
    spread = torch.stack([mixture] * s.n, dim=1)
    assert_close(strategy.separate(mixture), strategy.unbind(spread) / strategy.factor)


@every(lambda strategy: strategy.invertible)
@given(s=sizes())
def test_unbind_is_the_inverse_at_any_keys(variant, s):
    strategy = variant.of(s)
    x = s.instances()
    assert_close(strategy.unbind(strategy.bind(x)), x, **NEAR)
    assert_close(strategy.bind(strategy.unbind(x)), x, **NEAR)


@every(lambda strategy: not strategy.invertible)
@given(s=sizes())
def test_unbind_is_the_adjoint_where_there_is_no_inverse(variant, s):
    strategy = variant.of(s)
    x, z = s.instances(), s.instances(salt=1)
    assert_close((strategy.bind(x) * z).sum(-1), (x * strategy.unbind(z)).sum(-1))


@every(lambda strategy: strategy.isometric)
@given(s=sizes())
def test_isometric_strategies_keep_norms(variant, s):
    strategy = variant.of(s)
    x = s.instances()
    assert_close(strategy.bind(x).norm(dim=-1), x.norm(dim=-1), **NEAR)


@every()
@given(s=sizes(min_n=2), data=st.data())
def test_an_index_sees_its_own_instance_only(variant, s, data):
    strategy = variant.of(s)
    j = data.draw(st.integers(0, s.n - 1), label="changed")
    x = s.instances()
    other = x.clone()
    other[:, j] = s.instances(salt=1)[:, j]
    kept = [i for i in range(s.n) if i != j]
    assert_close(strategy.bind(x)[:, kept], strategy.bind(other)[:, kept])
    assert_close(strategy.unbind(x)[:, kept], strategy.unbind(other)[:, kept])


@every()
@given(s=sizes(min_n=2), data=st.data())
def test_permuting_instances_with_their_indices_permutes_the_outputs(variant, s, data):
    strategy = variant.of(s)
    order = data.draw(st.permutations(range(s.n)), label="order")
    x = s.instances()
    # φ_i of every instance, from groups in which all indices hold the same one.
    tables = [strategy.bind(torch.stack([x[:, k]] * s.n, dim=1)) for k in range(s.n)]
    expected = torch.stack([tables[k][:, i] for i, k in enumerate(order)], dim=1)
    assert_close(strategy.bind(x[:, order]), expected)


@every(lambda strategy: strategy.name not in SAME_FOR_EVERY_INDEX)
def test_every_index_has_a_map_of_its_own(variant):
    bound = variant.build(4, 32, seed=3).bind(numbers(5, 32, dtype=torch.float32).expand(1, 4, 32))[0]
    distances = torch.cdist(bound, bound) + torch.eye(4) * 1e6
    assert distances.min() > 0.1 * bound.norm(dim=-1).min()


@every()
@given(s=sizes(), a=st.floats(-3, 3), b=st.floats(-3, 3))
def test_binding_and_mixing_are_linear(variant, s, a, b):
    strategy = variant.of(s)
    x, y = s.instances(), s.instances(salt=1)
    assert_close(strategy.bind(a * x + b * y), a * strategy.bind(x) + b * strategy.bind(y))
    assert_close(strategy(a * x + b * y), a * strategy(x) + b * strategy(y))
    assert_close(strategy.unbind(a * x + b * y), a * strategy.unbind(x) + b * strategy.unbind(y), **NEAR)


@every(lambda strategy: strategy.disjoint)
@given(s=sizes())
def test_disjoint_strategies_lose_nothing_more_in_the_mixture(variant, s):
    strategy = variant.build(s.n, s.dim, seed=s.seed).double()
    x = s.instances()
    kept = strategy.unbind(strategy.bind(x))
    assert_close(strategy.separate(strategy(x)), kept, **NEAR)  # no crosstalk from the others, ...
    assert_close(
        strategy.separate(strategy(kept)), kept, **NEAR
    )  # ... and an instance in its subspace comes back exactly
    assert kept.norm() > 0


@every()
@given(s=sizes(), number=st.floats(0.1, 10) | st.floats(-10, -0.1))
def test_scale(variant, s, number):
    x = s.instances()
    plain = variant.of(s, scale="sum")
    total = plain(x)
    for scale, factor in {"mean": 1 / s.n, "sqrt": s.n**-0.5, number: number}.items():
        strategy = variant.of(s, scale=scale)
        assert_close(strategy(x), total * factor)
        assert_close(strategy.separate(strategy(x)), plain.separate(total), **NEAR)


# Keys


@every()
@given(s=sizes())
def test_keys_come_from_the_seed_alone(variant, s):
    with random_state_untouched():
        first = variant.build(s.n, s.dim, seed=s.seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(s.data)
        assert_same_state(first, variant.build(s.n, s.dim, seed=s.seed))


@every()
def test_keys_do_not_depend_on_the_default_device_and_dtype(variant):
    plain = variant.build(3, 12)
    torch.set_default_dtype(torch.float64)
    try:
        with torch.device("meta"):
            other = variant.build(3, 12)
    finally:
        torch.set_default_dtype(torch.float32)
    assert_same_state(plain, other)
    assert all(value.device.type == "cpu" for value in other.buffers())


@every(lambda strategy: strategy.name not in SAME_FOR_EVERY_SEED)
def test_other_seeds_give_other_keys(variant):
    x = numbers(1, 1, 3, 24, dtype=torch.float32)
    mixtures = [variant.build(3, 24, seed=seed)(x) for seed in range(4)]
    assert all(not torch.allclose(mixtures[a], mixtures[b]) for a in range(4) for b in range(a))


@every()
def test_only_learned_keys_are_parameters(variant):
    strategy = variant.build(3, 12)
    assert bool(list(strategy.parameters())) == strategy.learnable
    floating = [value for value in strategy.state_dict().values() if value.is_floating_point()]
    assert all(value.dtype == torch.float32 for value in floating)
    assert strategy.isometric <= strategy.norm_preserving


@every(lambda strategy: strategy.learnable)
@settings(max_examples=5)
@given(s=sizes(max_n=3, max_dim=5))
def test_gradients_of_learned_keys(variant, s):
    strategy = variant.of(s)
    names, keys = zip(*strategy.named_parameters(), strict=True)

    def mixed(x, *values):
        return torch.func.functional_call(strategy, dict(zip(names, values, strict=True)), (x,))

    assert torch.autograd.gradcheck(mixed, (s.instances().requires_grad_(), *keys), fast_mode=True)


@every()
@settings(max_examples=5)
@given(s=sizes(max_n=3, max_dim=5))
def test_gradients_of_instances(variant, s):
    strategy = variant.of(s).requires_grad_(False)
    x = s.instances().requires_grad_()
    for function in (strategy, strategy.bind, strategy.unbind):
        assert torch.autograd.gradcheck(function, (x,), fast_mode=True)


# What models do with modules


@every()
@given(s=sizes(min_dim=4), dtype=st.sampled_from(DTYPES))
def test_dtypes(variant, s, dtype):
    exact = variant.of(s)
    x = s.instances(dtype)
    bound = exact.bind(x.double())
    tolerance = 64 * torch.finfo(dtype).eps * bound.norm() * exact.factor
    for strategy in (variant.of(s).to(dtype), variant.of(s)):  # a cast model, and keys that were left as they are
        mixture = strategy(x)
        assert mixture.dtype == strategy.bind(x).dtype == strategy.unbind(x).dtype == dtype
        assert strategy.separate(mixture).dtype == dtype
        assert (mixture.double() - exact(x.double())).norm() <= tolerance


@every()
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_autocast(variant, dtype):
    strategy = variant.build(3, 24)
    x = numbers(0, 2, 3, 5, 24, dtype=torch.float32)
    for instances in (x, x.to(dtype)):  # after a layer norm or a linear layer
        with torch.autocast("cpu", dtype=dtype):
            mixture = strategy(instances)
            separated = strategy.separate(mixture)
        assert_close(mixture.float(), strategy(x), atol=0.1, rtol=0.05)
        assert separated.isfinite().all()


@every()
@settings(max_examples=5)
@given(s=sizes())
def test_copies_and_saved_keys_mix_the_same(variant, s):
    strategy = variant.of(s)
    x = s.instances()
    loaded = variant.build(s.n, s.dim, seed=s.seed + 1).double()
    loaded.load_state_dict(safetensors.torch.load(safetensors.torch.save(strategy.state_dict())))
    for other in [*copies(strategy), loaded]:
        assert_same_state(strategy, other)
        assert torch.equal(other(x), strategy(x))
        assert torch.equal(other.unbind(x), strategy.unbind(x))


@every()
@settings(max_examples=5)
@given(s=sizes())
def test_options_rebuild_the_strategy(variant, s):
    strategy = variant.build(s.n, s.dim, seed=s.seed, scale=0.7)
    options = options_of(strategy, FACTS)
    assert options.items() >= {**variant.options, "seed": s.seed, "scale": 0.7}.items()
    assert_same_state(strategy, type(strategy)(s.n, s.dim, **options))


@each_name()
def test_compiles_in_one_graph_for_changing_batches(variant):
    torch._dynamo.reset()
    strategy = variant.build(3, 14).requires_grad_(False)

    def there_and_back(x):
        mixture = strategy(x)
        return mixture, strategy.separate(mixture)

    compiled = torch.compile(there_and_back, fullgraph=True, backend="eager")
    for groups in (2, 5, 3):
        x = numbers(groups, groups, 3, 4, 14, dtype=torch.float32)
        assert_close(compiled(x), there_and_back(x))


@each_name()
def test_exports_with_a_free_number_of_groups(variant):
    strategy = variant.build(3, 14)
    free = {0: torch.export.Dim("groups")}
    program = torch.export.export(strategy, (torch.zeros(2, 3, 4, 14),), dynamic_shapes=(free,)).module()
    for groups in (1, 6):
        x = numbers(groups, groups, 3, 4, 14, dtype=torch.float32)
        assert_close(program(x), strategy(x))


# What is refused


@every()
@pytest.mark.parametrize("shape", [(2, 4, 8), (2, 3, 7), (2, 5, 3, 8), (3, 8), (8,)], ids=str)
def test_forward_refuses_other_sizes(variant, shape):
    with pytest.raises(MuxwrapError, match=r"\(n=3, dim=8\) got .* it mixes \[groups, 3, \.\.\., 8\]"):
        variant.build(3, 8)(torch.zeros(shape))


@every()
@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"n": 0}, "n=0 is below 1"),
        ({"n": 2.0}, "n=2.0 is a float"),
        ({"n": True}, "n=True is a bool"),
        ({"dim": 0}, r"dim=0 \(int\); dim is the size of the feature axis"),
        ({"dim": 8.0}, r"dim=8.0 \(float\)"),
        ({"scale": "meen"}, "scale='meen' is unknown; did you mean 'mean'"),
        ({"scale": 0}, "scale=0 is not a finite number other than 0"),
        ({"scale": float("inf")}, "scale=inf is not a finite"),
        ({"scale": None}, "scale=None is not a finite"),
    ],
    ids=str,
)
def test_constructor_refuses(variant, wrong, message):
    with pytest.raises(MuxwrapError, match=message):
        variant.build(**{"n": 2, "dim": 8, **wrong})
