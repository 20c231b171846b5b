"""Several processes in ways in which no gradient can be centered or held back: each error names the way out."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.nn.parallel import DistributedDataParallel

from muxwrap import MuxwrapError
from muxwrap.demuxers import accumulations, ranks


def running(monkeypatch: pytest.MonkeyPatch, **state: Any) -> None:
    """Let a module with such a state be the one that runs under ``DistributedDataParallel``."""
    monkeypatch.setattr(DistributedDataParallel, "_active_ddp_module", SimpleNamespace(**state))


def sharded(monkeypatch: pytest.MonkeyPatch, **state: Any) -> None:
    """Let a module with such a group of parameters run under ``fully_shard``."""
    monkeypatch.setattr(ranks._local, "shards", [SimpleNamespace(**state)], raising=False)


@pytest.fixture
def four_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda group=None: 4)


def test_micro_batches_of_a_sharded_trunk(monkeypatch: pytest.MonkeyPatch) -> None:
    sharded(monkeypatch, reduce_grads=True)
    assert accumulations.accumulation() is None
    sharded(monkeypatch, reduce_grads=False)
    with pytest.raises(MuxwrapError, match=r"accumulation under fully_shard: .*give one batch per step"):
        accumulations.accumulation()


@pytest.mark.parametrize("setting", ["find_unused_parameters", "static_graph"])
def test_micro_batches_whose_gradients_are_taken_for_missing(monkeypatch: pytest.MonkeyPatch, setting: str) -> None:
    state = {"find_unused_parameters": False, "static_graph": False, setting: True}
    running(monkeypatch, require_backward_grad_sync=False, **state)
    with pytest.raises(MuxwrapError, match=r"in DistributedDataParallel: .*give find_unused_parameters=False"):
        accumulations.accumulation()


@pytest.mark.usefixtures("four_processes")
def test_ranks_that_have_run_out_of_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    group = object()
    running(monkeypatch, _join_config=SimpleNamespace(enable=False), process_group=group)
    assert ranks.ranks_together() is group
    running(monkeypatch, _join_config=SimpleNamespace(enable=True), process_group=group)
    with pytest.raises(MuxwrapError, match=r"join\(\): a rank without rows .*use drop_last=True"):
        ranks.ranks_together()


@pytest.mark.usefixtures("four_processes")
def test_a_mesh_that_is_a_part_of_the_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    def mesh(*shape: int) -> SimpleNamespace:
        sizes = torch.Size(shape)
        return SimpleNamespace(
            mesh=SimpleNamespace(size=sizes.numel, ndim=len(shape), shape=sizes, get_group=lambda: shape)
        )

    sharded(monkeypatch, mesh_info=mesh(2))
    assert ranks.ranks_together() == (2,)
    sharded(monkeypatch, mesh_info=mesh(1, 2))
    with pytest.raises(
        MuxwrapError, match=r"a mesh \(1, 2\) that is a part of the processes: .*center_gradients=False"
    ):
        ranks.ranks_together()
