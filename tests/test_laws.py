"""The laws of a wrapped model, over backbones, strategies, demuxers, group and batch sizes."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from nets import NETS, batch, make
from torch import nn

import muxwrap

STRATEGIES = muxwrap.list_strategies("features")
GENERAL_DEMUXERS = [name for name in muxwrap.list_demuxers() if name not in ("index", "unbind", "uncouple")]
nets = st.sampled_from(sorted(NETS))
rows = st.integers(1, 11)
counts = st.integers(1, 5)
seeds = st.integers(0, 2**16)


def wrapped(
    net: str, n: int, strategy: str | None = None, demux: str | None = None, seed: int = 0
) -> muxwrap.Multiplex:
    return muxwrap.wrap(make(net), n, strategy, demux, example_input=batch(net, 1), seed=seed).eval()


@given(net=nets, n=counts, rows=rows, strategy=st.sampled_from(STRATEGIES), demux=st.sampled_from(GENERAL_DEMUXERS))
def test_as_many_rows_come_back_as_the_bare_model_gives(net: str, n: int, rows: int, strategy: str, demux: str) -> None:
    model = wrapped(net, n, strategy, demux)
    x = batch(net, rows)
    answer = model(x)
    assert answer.shape == model.backbone(x).shape
    assert answer.isfinite().all()


@given(net=nets, n=counts, rows=rows, seed=seeds)
def test_rows_keep_their_order(net: str, n: int, rows: int, seed: int) -> None:
    """Changing one row changes the answers of its own group and no others, its own most of all."""
    model, x = wrapped(net, n, "slots"), batch(net, rows, seed)
    row = seed % rows
    changed = x.clone()
    changed[row] = batch(net, 1, seed + 1)[0]
    groups = torch.arange(rows) // n
    moved = (model(x) - model(changed)).flatten(1).abs().amax(1) > 0
    # The last group is filled with the batch's first rows, so those reach it too.
    filled = groups == groups[-1] if row < -rows % n else torch.zeros(rows, dtype=torch.bool)
    assert not moved[(groups != groups[row]) & ~filled].any()
    if not torch.equal(x[row], changed[row]):
        assert moved[row]


@given(net=nets, rows=rows, demux=st.sampled_from(["unbind", None]))
def test_one_instance_with_identity_is_the_bare_model(net: str, rows: int, demux: str | None) -> None:
    model = wrapped(net, 1, "identity", demux)
    x = batch(net, rows)
    torch.testing.assert_close(model(x), model.backbone(x))


@given(net=nets, n=counts, strategy=st.sampled_from(STRATEGIES), demux=st.sampled_from(GENERAL_DEMUXERS))
def test_unwrap_gives_the_backbone_back(net: str, n: int, strategy: str, demux: str) -> None:
    backbone = make(net)
    before = {key: value.clone() for key, value in backbone.state_dict().items()}
    attributes = {path: set(vars(module)) for path, module in backbone.named_modules()}
    x = batch(net, 4)
    answer = backbone.eval()(x)
    model = muxwrap.wrap(backbone, n, strategy, demux, example_input=x)
    assert muxwrap.unwrap(model) is backbone
    assert list(backbone.state_dict()) == list(before)
    assert all(torch.equal(value, before[key]) for key, value in backbone.state_dict().items())
    assert {path: set(vars(module)) for path, module in backbone.named_modules()} == attributes
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in backbone.modules())
    torch.testing.assert_close(backbone(x), answer, rtol=0, atol=0)


@pytest.mark.parametrize("net", sorted(NETS))
@pytest.mark.parametrize("strategy", ["hadamard", "orthogonal", "circular", "sign", "walsh", "permutation"])
def test_permuting_instances_with_their_indices_permutes_the_answers(net: str, strategy: str) -> None:
    model = wrapped(net, 4, strategy, "mlp").double()
    order = torch.tensor([2, 0, 3, 1])
    x = batch(net, 8)
    x = x.double() if x.is_floating_point() else x
    answer = model(x).unflatten(0, (2, 4))
    # What is saved are keys; the constant matrices of fast transforms are not.
    per_index = [*model.strategy.state_dict().values(), *model.demuxer.state_dict().values()]
    with torch.no_grad():
        for value in per_index:
            if value.shape[0] == 4:
                value.copy_(value[order].clone())
    permuted = model(x.unflatten(0, (2, 4))[:, order].flatten(0, 1)).unflatten(0, (2, 4))
    torch.testing.assert_close(permuted, answer[:, order])
    assert not torch.allclose(permuted, answer)


@given(net=nets, n=st.integers(2, 5), seed=seeds)
def test_identity_cannot_tell_instances_apart(net: str, n: int, seed: int) -> None:
    """The negative control: with no code the mixture is the same in any order."""
    model, x = wrapped(net, n, "identity", "mlp").double(), batch(net, n, seed)
    x = x.double() if x.is_floating_point() else x
    torch.testing.assert_close(model(x), model(x.flip(0)))


@given(net=nets, n=counts, seed=seeds, strategy=st.sampled_from(STRATEGIES), demux=st.sampled_from(GENERAL_DEMUXERS))
def test_equal_seeds_give_equal_models(net: str, n: int, seed: int, strategy: str, demux: str) -> None:
    state = torch.get_rng_state()
    one, two = wrapped(net, n, strategy, demux, seed), wrapped(net, n, strategy, demux, seed)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, two.state_dict()[key]) for key, value in one.state_dict().items())


@given(net=nets, n=counts, rows=rows)
def test_the_trunk_runs_on_mixtures(net: str, n: int, rows: int) -> None:
    model, seen = wrapped(net, n), []
    trunk = {"mlp": "hidden", "cnn": "layer", "tagger": "encoder"}[net]
    handle = model.backbone.get_submodule(trunk).register_forward_hook(lambda _m, args, _out: seen.append(len(args[0])))
    model(batch(net, rows))
    handle.remove()
    assert seen == [-(-rows // n)]


@given(net=nets, rows=rows, strategy=st.sampled_from(STRATEGIES))
def test_the_backbone_itself_stays_bare(net: str, rows: int, strategy: str) -> None:
    x = batch(net, rows)
    bare = make(net).eval()(x)
    model = wrapped(net, 3, strategy, "mlp")
    model(x)
    torch.testing.assert_close(model.backbone(x), bare, rtol=0, atol=0)


@given(net=nets, n=counts, rows=rows)
def test_every_added_parameter_and_every_backbone_parameter_learns(net: str, n: int, rows: int) -> None:
    model = wrapped(net, n, "hadamard", "mlp").train()
    model(batch(net, max(rows, 2 * n))).square().sum().backward()
    without = [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert without == []


@pytest.mark.parametrize("demux", ["index", "key", "mlp"])
def test_prefix_and_other_demuxers_on_tokens(demux: str) -> None:
    model = wrapped("tagger", 3, "hadamard", demux)
    answer = model(batch("tagger", 7))
    assert answer.shape == (7, 7, 5)
    assert (answer[0] - answer[1]).abs().max() > 1e-3


@given(rows=rows, n=st.integers(2, 4))
def test_raw_images_are_mixed_as_a_whole(rows: int, n: int) -> None:
    x = batch("cnn", rows)
    model = muxwrap.wrap(make("cnn"), n, "sign", mux_at="@input", example_input=x).eval()
    assert model.sites.mux[0].axis is None
    assert model.strategy.dim == 2 * 6 * 6
    assert model(x).shape == (rows, 5)


def test_loss_is_the_mean_over_exactly_the_rows() -> None:
    """Labels are seen by the backbone's own loss, and filling rows do not count."""

    class WithLoss(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = make("mlp")

        def forward(self, x: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            logits = self.net(x)
            return nn.functional.cross_entropy(logits, labels), logits

    x, labels = batch("mlp", 5), torch.tensor([0, 1, 2, 3, 4])
    model = muxwrap.wrap(WithLoss(), 4, mux_at="net.stem", demux_at="net.head", example_input=(x, labels)).eval()
    loss, logits = model(x, labels)
    assert logits.shape == (5, 5)
    torch.testing.assert_close(loss, nn.functional.cross_entropy(logits, labels))
