"""What is particular to one demuxer: its formula against a plain one, and what it refuses."""

import copy
import pickle
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from helpers import numbers, sizes
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.testing import assert_close

from muxwrap import demuxers, list_strategies, strategies
from muxwrap.demuxers import MLP, Demuxer, Index, Key, Unbind
from muxwrap.errors import MuxwrapError
from muxwrap.strategies import Circular, Hadamard, Sign

# mlp


def plain_layers(mlp: MLP) -> list[nn.Module]:
    """The same parameters in n separate networks of torch's own modules."""
    networks = []
    for i in range(mlp.n):
        network = nn.Sequential(nn.Linear(mlp.dim, mlp.dim), nn.GELU(), nn.LayerNorm(mlp.dim)).double()
        values = [mlp.weight[i], mlp.bias[i], mlp.norm_weight[i], mlp.norm_bias[i]]
        network.load_state_dict(dict(zip(network.state_dict(), values, strict=True)))
        networks.append(network)
    return networks


@given(s=sizes(min_dim=4))
def test_mlp_is_one_network_an_index(s):
    mlp = MLP(s.n, s.dim, seed=s.seed).double()
    with torch.no_grad():
        mlp.norm_weight.copy_(numbers(s.data, s.n, s.dim))
        mlp.norm_bias.copy_(numbers(s.data + 1, s.n, s.dim))
    h = s.outputs()
    assert_close(mlp(h), torch.stack([network(h) for network in plain_layers(mlp)], dim=1))


@pytest.mark.parametrize("dim", [1, 2, 3])
@pytest.mark.parametrize("cls", [MLP, Key, partial(Key, inner_norm=True), partial(Index, mux_dim=5)])
def test_few_features_stay_apart(cls, dim):
    demuxer = cls(2, dim).double()
    rows = torch.tensor([-3.0, -2.0, 0.0, 1.0, 5.0]).double()[:, None, None].expand(5, 3, dim)  # prefix and token
    out = demuxer(rows)[:, 0, -1]
    steps = (out[1:] - out[:-1]) / (rows[1:, 0] - rows[:-1, 0])
    assert_close(steps, steps[:1].expand_as(steps))  # linear, where a norm of one number is the same for all
    assert steps.abs().min() > 1e-6


def test_mlp_starts_like_linear_layers():
    mlp, linear = MLP(3, 64), nn.Linear(64, 64)
    for ours, theirs in ((mlp.weight, linear.weight), (mlp.bias, linear.bias)):
        assert abs(ours.std() / theirs.std() - 1) < 0.2
        assert 0.11 < ours.abs().max() <= 0.125
    assert sum(p.numel() for p in mlp.parameters()) == 3 * (64**2 + 3 * 64)


def test_mlp_drops_features_in_training_only():
    mlp = MLP(2, 512, dropout=0.5)
    h = numbers(0, 3, 512, dtype=torch.float32)
    expected = MLP(2, 512)(h)
    assert_close(mlp.eval()(h), expected)
    with torch.random.fork_rng(devices=[]):
        assert not torch.allclose(mlp.train()(h), expected)
    assert_close(MLP(2, 512).train()(h), expected)


@pytest.mark.parametrize("dropout", [-0.1, 1.0, 7])
def test_mlp_refuses_what_is_no_probability(dropout):
    with pytest.raises(MuxwrapError, match=r"mlp\(dropout=.*0 <= dropout < 1"):
        MLP(2, 8, dropout=dropout)


# key


@pytest.mark.parametrize("layers", [0, 1, 3])
@given(s=sizes(min_dim=4))
def test_key_is_the_plain_concatenation(layers, s):
    key = Key(s.n, s.dim, layers=layers, seed=s.seed).double()
    h = s.outputs()
    separated = []
    for i in range(s.n):
        u = F.gelu(key.join(torch.cat([h, key.keys[i].expand_as(h)], dim=-1)))
        for block in key.blocks:
            u = u + F.gelu(block(u))
        separated.append(key.norm(u))
    assert_close(key(h), torch.stack(separated, dim=1))
    assert len(key.blocks) == layers


@pytest.mark.parametrize("layers", [-1, 1.0, True])
def test_key_refuses_what_is_no_number_of_layers(layers):
    with pytest.raises(MuxwrapError, match=r"key\(layers=.*int >= 0"):
        Key(2, 8, layers=layers)


@pytest.mark.parametrize(("cls", "shared"), [(MLP, ()), (Key, ("join", "blocks", "norm"))])
@given(s=sizes(min_dim=2), data=st.data())
def test_permuting_the_indices_permutes_the_outputs(cls, shared, s, data):
    """Everything but what is shared belongs to one index, and an index uses nothing of the others."""
    order = data.draw(st.permutations(range(s.n)), label="order")
    demuxer = cls(s.n, s.dim, seed=s.seed).double()
    h = s.outputs()
    before = demuxer(h)
    with torch.no_grad():
        for name, parameter in demuxer.named_parameters():
            if name.split(".")[0] not in shared:
                parameter.copy_(parameter[order].clone())
    assert_close(demuxer(h), before[:, order])


# index


@given(s=sizes(min_dim=4), tokens=st.integers(1, 4))
def test_index_joins_every_token_with_the_prefix_of_its_index(s, tokens):
    index = Index(s.n, s.dim, seed=s.seed).double()
    h = numbers(s.data, s.groups, s.n + tokens, s.dim)
    separated = index(h)
    for i in range(s.n):
        for j in range(tokens):
            joined = index.join(torch.cat([h[:, i], h[:, s.n + j]], dim=-1))
            assert_close(separated[:, i, j], index.out(index.norm(F.gelu(joined))))
    # A site that needs the first token only hands over that one.
    assert_close(index(h[:, : s.n + 1]), separated[:, :, :1])


def test_index_prefix_has_the_size_of_the_mixture():
    index = Index(4, 8, mux_dim=300)
    assert index.prefix_length == 4
    assert index.prefix.shape == (4, 300)
    assert abs(index.prefix.std() / 0.02 - 1) < 0.1
    mixture = numbers(0, 2, 5, 300, dtype=torch.float32)
    assert_close(index.extend(mixture), torch.cat([index.prefix.expand(2, 4, 300), mixture], dim=1))
    assert index.half().extend(mixture).dtype == mixture.dtype
    assert Index(4, 8).mux_dim == 8


@pytest.mark.parametrize("shape", [(2, 8), (2, 5, 5, 8), (2, 5, 7)], ids=str)
def test_index_extends_sequences_only(shape):
    with pytest.raises(MuxwrapError, match=r"puts 3 tokens before .* got .* demuxers 'key', 'mlp' and 'unbind'"):
        Index(3, 8).extend(torch.zeros(shape))


@pytest.mark.parametrize("shape", [(2, 8), (2, 4, 4, 8), (2, 5, 7), (2, 3, 8)], ids=str)
def test_index_separates_sequences_only(shape):
    with pytest.raises(MuxwrapError, match=r"3 prefix tokens \+ tokens, 8\] and got .* the prefix is lost: .*'key'"):
        Index(3, 8)(torch.zeros(shape))


def test_index_refuses_a_bad_mux_dim():
    with pytest.raises(MuxwrapError, match=r"dim=0 \(int\)"):
        Index(3, 8, mux_dim=0)


# unbind


def test_unbind_refuses_a_strategy_with_a_way_back_of_its_own():
    with pytest.raises(MuxwrapError, match=r"Unbind\(n=2, dim=8\) cannot undo Reversible.*take the demuxer"):
        Unbind(2, 8, strategy=strategies.registry.build("reversible", n=2, dim=8))


@pytest.mark.parametrize("name", [name for name in list_strategies("features") if name != "reversible"])
@given(s=sizes())
def test_unbind_separates_with_the_strategy(name, s):
    strategy = strategies.registry.build(name, n=s.n, dim=s.dim, seed=s.seed).double()
    h = s.outputs()
    assert_close(Unbind(s.n, s.dim, strategy=strategy)(h), strategy.separate(h))


class Parent(nn.Module):
    def __init__(self, strategy):
        super().__init__()
        self.demuxer = Unbind(strategy.n, strategy.dim, strategy=strategy)  # before the strategy, the harder order
        self.strategy = strategy

    def forward(self, h):
        return self.demuxer(h)


def test_unbind_has_the_strategy_outside_its_tree():
    parent = Parent(Hadamard(3, 8, learnable=True))
    assert parent.state_dict().keys() == {"strategy.keys"}
    assert list(parent.demuxer.parameters()) == []
    assert parent.demuxer.strategy is parent.strategy


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))], ids=["deepcopy", "pickle"])
def test_a_copy_unbinds_with_its_own_strategy(copied):
    parent = Parent(Hadamard(3, 8, learnable=True))
    other = copied(parent)
    assert other.demuxer.strategy is other.strategy
    assert other.strategy is not parent.strategy
    h = numbers(0, 2, 8, dtype=torch.float32)
    before = parent(h)
    with torch.no_grad():
        other.strategy.keys.mul_(2)
    assert_close(other(h), before / 2)
    assert torch.equal(parent(h), before)


def test_unbind_follows_the_model_to_another_dtype_and_gets_gradients():
    parent = Parent(Circular(2, 8, learnable=True)).to(torch.bfloat16)
    separated = parent(numbers(0, 2, 8, dtype=torch.bfloat16))
    assert separated.dtype == torch.bfloat16
    (separated * numbers(1, 2, 2, 8, dtype=torch.bfloat16)).sum().backward()
    assert parent.strategy.keys.grad.any()


@pytest.mark.parametrize(("n", "dim"), [(3, 16), (2, 8)])
def test_unbind_refuses_keys_of_another_size(n, dim):
    match = rf"Unbind\(n={n}, dim={dim}\) cannot undo Sign\(n=3, dim=8\): .* demuxer 'key' or 'mlp'"
    with pytest.raises(MuxwrapError, match=match):
        Unbind(n, dim, strategy=Sign(3, 8))


def test_unbind_after_an_empty_trunk_is_exact_for_disjoint_strategies():
    strategy = strategies.registry.build("slots", n=4, dim=32).double()
    x = strategy.unbind(strategy.bind(numbers(0, 2, 4, 5, 32)))
    assert_close(Unbind(4, 32, strategy=strategy)(strategy(x)), x, atol=1e-5, rtol=1e-5)


# demuxers of one's own


@pytest.fixture
def registered():
    """Let a test register demuxers and forget them afterwards."""
    before = dict(demuxers.registry._classes)
    yield demuxers.registry
    demuxers.registry._classes.clear()
    demuxers.registry._classes.update(before)


def test_a_demuxer_of_ones_own_works_by_name(registered):
    @registered.register("bare_linear")
    class BareLinear(Demuxer):
        def __init__(self, n, dim, *, bias=True, seed=0):
            super().__init__(n, dim, seed=seed)
            self.bias = bias
            with self.seeded():
                self.layer = nn.Linear(dim, n * dim, bias=bias)

        def forward(self, h):
            return self.layer(h).unflatten(-1, (self.n, self.dim)).movedim(-2, 1)

    built = registered.build("bare_linear", n=3, dim=4, seed=7, strategy=Sign(3, 4), mux_dim=9)
    assert (built.name, built.n, built.dim, built.seed, built.prefix_length) == ("bare_linear", 3, 4, 7, 0)
    h = numbers(0, 2, 5, 4, dtype=torch.float32)
    assert built(h).shape == (2, 3, 5, 4)
    assert built.extend(h) is h
    assert_close(built(h)[:, 1], F.linear(h, built.layer.weight[4:8], built.layer.bias[4:8]))
    assert registered.build(partial(BareLinear, bias=False), n=3, dim=4).layer.bias is None
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        assert torch.equal(nn.Linear(4, 12).weight, built.layer.weight)


def test_unknown_names_are_answered_with_the_known_ones():
    with pytest.raises(MuxwrapError, match=r"unknown demuxer 'indx'; did you mean 'index'\? Known names: 'index', "):
        demuxers.registry.build("indx", n=2, dim=4)
