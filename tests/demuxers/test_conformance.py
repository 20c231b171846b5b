"""Laws that every registered demuxer obeys; one that is registered in the package joins by itself."""

from functools import partial

import pytest
import safetensors.torch
import torch
from helpers import DTYPES, Sizes, assert_same_state, copies, move_parameters, numbers, random_state_untouched, sizes
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.testing import assert_close

from muxwrap import demuxers
from muxwrap.demuxers import Demuxer
from muxwrap.errors import MuxwrapError
from muxwrap.registry import options_of
from muxwrap.strategies import Sign

# Options beside the defaults that deserve all the laws.
OPTIONS = {"key": [{"layers": 0}, {"layers": 2}], "mlp": [{"dropout": 0.5}]}
FACTS = ("n", "dim", "strategy", "mux_dim")


class Model(nn.Module):
    """The least that a demuxer sits in: the strategy and the demuxer, in evaluation mode."""

    def __init__(self, name, n, dim, seed, **options):
        super().__init__()
        self.strategy = Sign(n, dim, seed=seed)
        choice = partial(demuxers.registry.get(name), **options)
        self.demuxer = demuxers.registry.build(choice, n=n, dim=dim, mux_dim=dim, seed=seed, strategy=self.strategy)
        self.eval()

    def forward(self, h):
        return self.demuxer(h)


class Variant:
    """A demuxer's name and options of its own."""

    def __init__(self, name, **options):
        self.name, self.options = name, options

    def build(self, n, dim, seed=0, **more) -> Demuxer:
        return Model(self.name, n, dim, seed, **self.options, **more).demuxer

    def of(self, s: Sizes) -> Model:
        """Build for drawn sizes, in float64, parameters moved away from where they started."""
        model = Model(self.name, s.n, s.dim, s.seed, **self.options).double()
        move_parameters(model, s.seed)
        return model

    def __repr__(self):
        return "-".join([self.name, *(f"{key}={value}" for key, value in self.options.items())])


every = pytest.mark.parametrize(
    "variant",
    [Variant(name, **options) for name in demuxers.registry.names() for options in [{}, *OPTIONS.get(name, [])]],
    ids=repr,
)
each_name = pytest.mark.parametrize("variant", [Variant(name) for name in demuxers.registry.names()], ids=repr)


def outputs(s: Sizes, demuxer: Demuxer, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return s.outputs(demuxer.prefix_length, dtype)


# The map


@every
@given(s=sizes(), dtype=st.sampled_from(DTYPES))
def test_shapes_and_dtypes(variant, s, dtype):
    exact = variant.of(s)
    model = variant.of(s).to(dtype)
    h = outputs(s, exact.demuxer, dtype)
    positions = (h.shape[1] - exact.demuxer.prefix_length, *h.shape[2:-1]) if h.ndim > 2 else ()
    separated = model(h)
    assert separated.dtype == dtype
    assert separated.shape == (s.groups, s.n, *positions, s.dim)
    assert separated.isfinite().all()


@every
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_precision(variant, dtype):
    s = Sizes(n=3, dim=32, groups=2, extra=(4,), seed=0, data=0)
    exact = variant.of(s)
    h = outputs(s, exact.demuxer, dtype)
    expected = exact(h.double())
    error = (variant.of(s).to(dtype)(h).double() - expected).norm() / expected.norm()
    assert error < 16 * torch.finfo(dtype).eps


@every
@given(s=sizes(), data=st.data())
def test_groups_do_not_see_each_other(variant, s, data):
    model = variant.of(s)
    h = outputs(s, model.demuxer)
    one = data.draw(st.integers(0, s.groups - 1), label="group")
    assert_close(model(h)[one : one + 1], model(h[one : one + 1]))


@every
def test_indices_get_outputs_of_their_own(variant):
    demuxer = variant.build(4, 32, seed=1)
    separated = demuxer(numbers(0, 1, demuxer.prefix_length + 1, 32, dtype=torch.float32))[0, :, 0]
    distances = torch.cdist(separated, separated) + torch.eye(4) * 1e6
    assert distances.min() > 0.05 * separated.norm(dim=-1).max()


@every
@given(s=sizes())
def test_extend_puts_the_prefix_and_forward_takes_it_off(variant, s):
    demuxer = variant.of(s).demuxer
    mixture = numbers(s.data, s.groups, 3, s.dim)
    extended = demuxer.extend(mixture)
    assert extended.shape == (s.groups, demuxer.prefix_length + 3, s.dim)
    assert torch.equal(extended[:, demuxer.prefix_length :], mixture)
    assert demuxer(extended).shape == (s.groups, s.n, 3, s.dim)


# Parameters


@every
@given(s=sizes())
def test_initial_values_come_from_the_seed_alone(variant, s):
    with random_state_untouched():
        first = variant.build(s.n, s.dim, seed=s.seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(s.data)
        assert_same_state(first, variant.build(s.n, s.dim, seed=s.seed))


@every
@settings(max_examples=5)
@given(s=sizes())
def test_initial_values_come_back(variant, s):
    first = variant.build(s.n, s.dim, seed=s.seed)
    other = variant.of(s).demuxer.float()
    with random_state_untouched():
        other.reset_parameters()
    assert_same_state(first, other)


@every
def test_the_random_state_comes_back_after_an_error(variant):
    demuxer = variant.build(2, 4)
    with random_state_untouched(), pytest.raises(KeyError), demuxer.seeded():
        torch.rand(3)
        raise KeyError


@every
def test_initial_values_do_not_depend_on_the_default_device(variant):
    plain = variant.build(3, 12)
    with torch.device("meta"):
        other = variant.build(3, 12)
    assert_same_state(plain, other)
    assert all(value.device.type == "cpu" for value in other.state_dict().values())


@every
def test_other_seeds_give_other_parameters(variant):
    outputs = []
    for seed in range(3):
        demuxer = variant.build(3, 24, seed=seed)
        outputs.append(demuxer(numbers(0, 1, demuxer.prefix_length + 2, 24, dtype=torch.float32)))
    assert all(not torch.allclose(outputs[a], outputs[b]) for a in range(3) for b in range(a))


@every
def test_every_parameter_is_used(variant):
    """A parameter without a gradient stops DistributedDataParallel."""
    demuxer = variant.build(3, 8)
    mixture = numbers(0, 2, 4, 8, dtype=torch.float32).requires_grad_()
    demuxer(demuxer.extend(mixture)).square().sum().backward()
    assert mixture.grad.any()
    assert [name for name, p in demuxer.named_parameters() if p.grad is None or not p.grad.any()] == []


@every
@settings(max_examples=5)
@given(s=sizes(max_n=3, min_dim=2, max_dim=5))
def test_gradients(variant, s):
    model = variant.of(s)
    h = outputs(s, model.demuxer).requires_grad_()
    named = dict(model.named_parameters())

    def separated(h, *values):
        return torch.func.functional_call(model, dict(zip(named, values, strict=True)), (h,))

    assert torch.autograd.gradcheck(separated, (h, *named.values()), fast_mode=True)


# What models do with modules


@every
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_autocast(variant, dtype):
    demuxer = variant.build(3, 24)
    h = numbers(0, 2, demuxer.prefix_length + 4, 24, dtype=torch.float32)
    for given_h in (h, h.to(dtype)):
        with torch.autocast("cpu", dtype=dtype):
            separated = demuxer(given_h)
            extended = demuxer.extend(given_h)
        assert_close(separated.float(), demuxer(h), atol=0.1, rtol=0.05)
        assert extended.dtype == given_h.dtype


@every
@settings(max_examples=5)
@given(s=sizes())
def test_copies_and_saved_parameters_separate_the_same(variant, s):
    model = variant.of(s)
    h = outputs(s, model.demuxer)
    loaded = Model(variant.name, s.n, s.dim, s.seed + 1, **variant.options).double()
    loaded.load_state_dict(safetensors.torch.load(safetensors.torch.save(model.state_dict())))
    for other in [*copies(model), loaded]:
        assert_same_state(model, other)
        assert torch.equal(other(h), model(h))


@every
@settings(max_examples=5)
@given(s=sizes())
def test_options_rebuild_the_demuxer(variant, s):
    demuxer = variant.build(s.n, s.dim, seed=s.seed)
    options = options_of(demuxer, FACTS)
    assert options.items() >= {**variant.options, "seed": s.seed}.items()
    choice = partial(type(demuxer), **options)
    assert_same_state(
        demuxer,
        demuxers.registry.build(choice, n=s.n, dim=s.dim, strategy=Sign(s.n, s.dim, seed=s.seed), mux_dim=s.dim),
    )


@each_name
def test_compiles_in_one_graph_for_changing_batches(variant):
    torch._dynamo.reset()
    model = Model(variant.name, 3, 8, 0)

    def there_and_back(mixture):
        return model(model.demuxer.extend(mixture))

    compiled = torch.compile(there_and_back, fullgraph=True, backend="eager")
    for groups in (2, 5, 3):
        mixture = numbers(groups, groups, 4, 8, dtype=torch.float32)
        assert_close(compiled(mixture), there_and_back(mixture))


@each_name
def test_exports_with_free_numbers_of_groups_and_tokens(variant):
    model = Model(variant.name, 3, 8, 0)
    prefix = model.demuxer.prefix_length
    # At least two tokens: torch specialises a size of one.
    free = {0: torch.export.Dim("groups"), 1: torch.export.Dim("tokens", min=prefix + 2)}
    program = torch.export.export(model, (torch.zeros(2, prefix + 4, 8),), dynamic_shapes=(free,)).module()
    for groups, tokens in ((1, 4), (6, 2), (2, 9)):
        h = numbers(groups, groups, prefix + tokens, 8, dtype=torch.float32)
        assert_close(program(h), model(h))


# What is refused


@every
@pytest.mark.parametrize("shape", [(2, 9, 7), (8,)], ids=str)
def test_forward_refuses_other_sizes(variant, shape):
    with pytest.raises(MuxwrapError, match=r"separates .*\b8\] ?.*") as error:
        variant.build(3, 8)(torch.zeros(shape))
    assert f"got {list(shape)}" in str(error.value)


@every
@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"n": 0}, "n=0 is below 1"),
        ({"n": "4"}, "n='4' is a str"),
        ({"dim": 0}, r"dim=0 \(int\)"),
        ({"dim": None}, r"dim=None \(NoneType\)"),
    ],
    ids=str,
)
def test_constructor_refuses(variant, wrong, message):
    facts = {"n": 2, "dim": 8, "strategy": Sign(2, 8), **wrong}
    with pytest.raises(MuxwrapError, match=message):
        demuxers.registry.build(variant.name, **facts)
