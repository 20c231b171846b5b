"""Batch norms in a multiplexed network: what their statistics are of, and how they are measured anew."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from nets import CNN
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, update_bn
from torch.utils.data import DataLoader, TensorDataset

import muxwrap

SIDE = 8


class Normed(nn.Module):
    """Batch norm in the stem, in the trunk and on vectors."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(2, 16, 3, padding=1)
        self.before = nn.BatchNorm2d(16)
        self.trunk = nn.Conv2d(16, 12, 3, stride=2, padding=1)
        self.inside = nn.BatchNorm2d(12)
        self.flat = nn.BatchNorm1d(12)
        self.head = nn.Linear(12, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.before(self.stem(x))
        return self.head(self.flat(self.inside(self.trunk(torch.relu(x))).mean((2, 3))))


def images(rows: int, seed: int = 0) -> Tensor:
    return 2 + torch.randn(rows, 2, SIDE, SIDE, generator=torch.Generator().manual_seed(seed))


def wrapped(n: int = 4, strategy: str = "slots", mux_at: str = "before") -> muxwrap.Multiplex:
    torch.manual_seed(0)
    return muxwrap.wrap(Normed(), n, strategy, mux_at=mux_at, demux_at="head@input", example_input=images(1))


def seen_by(model: muxwrap.Multiplex, path: str, batches: list[Tensor]) -> list[Tensor]:
    """Return what reaches a module of the backbone, call by call."""
    seen: list[Tensor] = []
    handle = model.backbone.get_submodule(path).register_forward_pre_hook(lambda _m, args: seen.append(args[0]))
    with torch.no_grad():
        for batch in batches:
            model(batch)
    handle.remove()
    return seen


def test_statistics_are_of_rows_in_the_stem_and_of_mixtures_in_the_trunk() -> None:
    model = wrapped().train()
    assert [len(x) for x in seen_by(model, "before", [images(8)])] == [8]
    for path in ("inside", "flat"):
        assert [len(x) for x in seen_by(model, path, [images(8)])] == [2]


def test_the_filling_counts_in_the_trunk_and_not_in_the_stem() -> None:
    model, x = wrapped().train(), images(6)
    rows, mixtures = (seen_by(model, path, [x])[0] for path in ("before", "inside"))
    assert (len(rows), len(mixtures)) == (6, 2)
    model = wrapped().train()
    model.backbone.before.eval()  # so that both calls are normalised alike before they are mixed
    filled = seen_by(model, "inside", [x])[0]
    whole = seen_by(model, "inside", [torch.cat([x, x[:2]])])[0]
    torch.testing.assert_close(filled, whole)


@pytest.mark.parametrize("strategy", ["slots", "layout", "hadamard"])
def test_complete_groups_do_not_notice_an_incomplete_one(strategy: str) -> None:
    model = wrapped(strategy=strategy)
    update_bn([images(32, seed) for seed in range(4)], model)
    model.eval()
    whole = model(images(11))
    torch.testing.assert_close(whole[:8], model(images(11)[:8]))
    alone = torch.cat([model(row.unsqueeze(0)) for row in images(3)])  # a group of one, filled with itself
    assert alone.shape == (3, 5) and alone.isfinite().all()


@pytest.mark.parametrize("strategy", ["slots", "layout", "hadamard"])
def test_real_rows_fill_a_group_closer_to_the_statistics_than_zeros(strategy: str) -> None:
    model = wrapped(n=8, strategy=strategy)
    update_bn([images(64, seed) for seed in range(8)], model)
    model.eval()

    def distance(groups: Tensor) -> float:
        """Of the mixtures' mean features from the statistics, in deviations."""
        (x,) = seen_by(model, "inside", [groups.flatten(0, 1)])
        return model.backbone.inside(x).mean((0, 2, 3)).abs().mean().item()

    groups = images(64 * 8, seed=100).unflatten(0, (64, 8))
    own = torch.cat([groups[:, :3], groups[:, :3], groups[:, :2]], dim=1)  # three rows and what fills their group up
    zeros = torch.cat([groups[:, :3], torch.zeros_like(groups[:, 3:])], dim=1)
    assert max(distance(groups), distance(own)) < distance(zeros) / 2


def test_update_bn_measures_the_statistics_of_mixtures() -> None:
    model = wrapped().eval()
    batches = [images(16, seed) for seed in range(3)]
    update_bn(batches, model)
    assert not model.training
    model.train()
    expected = torch.stack([x.mean((0, 2, 3)) for x in seen_by(model, "inside", batches)]).mean(0)
    model = wrapped()
    update_bn(batches, model)
    torch.testing.assert_close(model.backbone.inside.running_mean, expected)
    assert model.backbone.inside.momentum == 0.1
    rows = torch.stack([x.mean((0, 2, 3)) for x in seen_by(model.train(), "before", batches)]).mean(0)
    update_bn(batches, model)
    torch.testing.assert_close(model.backbone.before.running_mean, rows)


def test_update_bn_after_another_n_or_strategy() -> None:
    model = wrapped(n=2, strategy="hadamard")
    batches = [images(32, seed) for seed in range(8)]
    update_bn(batches, model)
    inside = model.backbone.inside

    def mismatch(changed: muxwrap.Multiplex) -> float:
        (x,) = seen_by(changed.eval(), "inside", [images(256, seed=99)])
        return float((x.mean((0, 2, 3)) - inside.running_mean).abs().div(inside.running_var.sqrt()).mean())

    assert mismatch(model) < 0.1
    for n, strategy in ((8, "hadamard"), (4, "slots")):
        muxwrap.unwrap(model)
        model = muxwrap.wrap(
            model.backbone, n, strategy, mux_at="before", demux_at="head@input", example_input=images(1), seed=n
        )
        assert mismatch(model) > 0.2
        update_bn(batches, model)
        assert mismatch(model) < 0.1


def test_update_bn_of_averaged_weights() -> None:
    model = wrapped().train()
    averaged = AveragedModel(model)
    batches = [images(16, seed) for seed in range(3)]
    for batch in batches:
        model(batch)
    averaged.update_parameters(model)  # the statistics are those of the last weights
    torch.testing.assert_close(averaged.module.backbone.inside.running_mean, model.backbone.inside.running_mean)
    update_bn(batches, averaged)
    update_bn(batches, model)
    torch.testing.assert_close(averaged.module.backbone.inside.running_mean, model.backbone.inside.running_mean)
    assert averaged.eval()(images(5)).shape == (5, 5)


def test_a_batch_of_one_mixture_cannot_be_normalised_in_training() -> None:
    model = wrapped().train()
    with pytest.raises(
        muxwrap.MuxwrapError, match=r"Expected more than 1 value per channel.*4 rows make one mixture of 4"
    ):
        model(images(4))
    model(images(5))  # two mixtures
    model.eval()(images(4))


def test_the_ways_out_of_a_small_last_batch() -> None:
    model = wrapped().train()
    rows = TensorDataset(images(12))
    with pytest.raises(muxwrap.MuxwrapError, match=r"4 rows make one mixture of 4.*drop_last=True"):
        [model(x) for (x,) in DataLoader(rows, batch_size=8)]
    for loader in (DataLoader(rows, batch_size=8, drop_last=True), DataLoader(rows, batch_size=7)):
        assert all(model(x).shape == (len(x), 5) for (x,) in loader)  # batches of 8, and of 7 and 5


@pytest.fixture
def process_group(tmp_path: Path) -> Iterator[None]:
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/rendezvous", rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


@pytest.mark.parametrize("reduce", [True, False])
def test_timm_distributes_the_statistics_of_mixtures(process_group: None, reduce: bool) -> None:
    utils = pytest.importorskip("timm.utils")
    model = wrapped().train()
    model(images(16))
    before = {name: value.clone() for name, value in model.named_buffers() if "running" in name}
    assert len(before) == 6
    touched: list[Tensor] = []
    reached = torch.distributed.all_reduce if reduce else torch.distributed.broadcast
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            torch.distributed, reached.__name__, lambda x, *args, **kw: (touched.append(x), reached(x, *args, **kw))
        )
        utils.distribute_bn(model, world_size=1, reduce=reduce)
    assert {id(each) for each in touched} == {id(v) for name, v in model.named_buffers() if "running" in name}
    for name, value in model.named_buffers():
        if name in before:
            torch.testing.assert_close(value, before[name])


@pytest.mark.parametrize("mux_at", ["stem", "before", "before@input", "trunk"])
def test_sync_batch_norm_keeps_mixing_and_separating(mux_at: str) -> None:
    model = wrapped(mux_at=mux_at)
    update_bn([images(32)], model)
    answer = model.eval()(images(7))
    converted = nn.SyncBatchNorm.convert_sync_batchnorm(model)
    assert converted is model and isinstance(model.backbone.inside, nn.SyncBatchNorm)
    if mux_at.startswith("before"):  # the module with the hooks was replaced
        with pytest.raises(muxwrap.MuxwrapError, match=r"was replaced after wrapping .* model\.detach"):
            model(images(7))
        model.detach()
        model.attach()
    torch.testing.assert_close(model(images(7)), answer)


def test_a_cnn_trains_and_answers_alike_in_both_modes() -> None:
    """With statistics that have converged, evaluation normalises as training does."""
    torch.manual_seed(0)
    model = muxwrap.wrap(CNN(), 2, example_input=images(1))
    x = images(512)
    update_bn([x], model)
    torch.testing.assert_close(model.eval()(x), model.train()(x), atol=0.05, rtol=0.05)
