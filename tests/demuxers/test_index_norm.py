"""With ``hide_index`` what comes out has the same mean and variance at every index."""

from __future__ import annotations

import copy
from functools import partial

import pytest
import torch
from nets import CNN, MLP
from torch import Tensor, nn

import muxwrap
from muxwrap import demuxers
from muxwrap.demuxers import IndexNorm
from muxwrap.strategies import registry

NAMES = ["index", "key", "mlp", "unbind"]


def made(name: str, n: int = 3, dim: int = 6, hide_index: bool = True) -> demuxers.Demuxer:
    strategy = registry.build("slots", n=n, dim=dim, seed=0)
    demux = partial(demuxers.registry.get(name), hide_index=hide_index)
    return demuxers.registry.build(demux, n=n, dim=dim, seed=0, strategy=strategy, mux_dim=dim)


def trunk_output(name: str, groups: int) -> Tensor:
    """What a trunk gives, with a large part in common."""
    rng = torch.Generator().manual_seed(1)
    return 3 * torch.ones(6) + torch.randn(groups, 3 + 4, 6, generator=rng)[:, : 7 if name == "index" else 4]


@pytest.mark.parametrize("name", NAMES)
def test_every_index_has_the_same_mean_and_variance(name: str) -> None:
    h = trunk_output(name, 50)
    shown, hidden = (made(name, hide_index=hide).train()(h).movedim(1, 0).flatten(1, 2) for hide in (False, True))
    assert (shown.mean(1) - shown.mean((0, 1))).abs().max() > 0.02
    torch.testing.assert_close(hidden.mean(1), torch.zeros(3, 6), atol=1e-5, rtol=0)
    torch.testing.assert_close(hidden.std(1, correction=0), torch.ones(3, 6), atol=1e-2, rtol=0)


@pytest.mark.parametrize("name", NAMES)
def test_in_evaluation_the_running_statistics_count_and_rows_are_independent(name: str) -> None:
    demux, h = made(name), trunk_output(name, 40)
    torch.optim.swa_utils.update_bn([h], demux)
    demux.eval()
    out = demux(h)
    torch.testing.assert_close(demux(h[:5]), out[:5])
    torch.testing.assert_close(out.movedim(1, 0).flatten(1, 2).mean(1), torch.zeros(3, 6), atol=1e-4, rtol=0)


def test_layouts_with_and_without_positions() -> None:
    norm = IndexNorm(2, 3).train()
    x = torch.randn(5, 2, 4, 7, 3) * 4 + 1
    expected = (x - x.mean((0, 2, 3), keepdim=True)) / x.std((0, 2, 3), keepdim=True, correction=0)
    torch.testing.assert_close(norm(x), expected, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(norm(x[:, :, 0, 0]).mean(0), torch.zeros(2, 3), atol=1e-5, rtol=0)


def test_one_instance_has_no_index_to_hide_and_the_default_shows_it() -> None:
    assert made("mlp", n=1).index_norm is None
    assert muxwrap.wrap(MLP(), 2, example_input=torch.zeros(1, 12)).demuxer.index_norm is None


def test_conversion_to_statistics_over_ranks_finds_it() -> None:
    model = muxwrap.wrap(CNN(), 2, demux=partial(demuxers.MLP, hide_index=True), example_input=torch.zeros(1, 2, 8, 8))
    converted = nn.SyncBatchNorm.convert_sync_batchnorm(model.demuxer)
    assert isinstance(converted.index_norm.norm, nn.SyncBatchNorm)
    h = torch.randn(4, 20)
    torch.testing.assert_close(converted.eval()(h), copy.deepcopy(model.demuxer).eval()(h))


def test_it_is_saved_and_loaded_with_its_statistics(tmp_path: object) -> None:
    demux = partial(demuxers.MLP, hide_index=True)
    model = muxwrap.wrap(MLP(), 2, demux=demux, example_input=torch.zeros(1, 12)).train()
    x = torch.randn(16, 12)
    model(x)
    model.save_pretrained(str(tmp_path))
    loaded = muxwrap.load(str(tmp_path), MLP())
    assert torch.equal(loaded.eval()(x), model.eval()(x))


def test_one_mixture_is_refused_in_training_in_plain_words() -> None:
    model = muxwrap.wrap(
        MLP(), 4, demux=partial(demuxers.MLP, hide_index=True), example_input=torch.zeros(1, 12)
    ).train()
    with pytest.raises(muxwrap.MuxwrapError, match="give more than 4 rows"):
        model(torch.randn(4, 12))
