"""Sharded checkpoints of torch: saved by two processes and read by one, and the other way round."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed.checkpoint as dcp
from helpers import assert_same_state
from nets import batch, make
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_state_dict,
    set_state_dict,
)
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

import muxwrap

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="starts processes by fork"),
    pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning"),
]
KINDS = ("ddp", "fsdp")
FULL = StateDictOptions(full_state_dict=True)  # with cpu_offload=True rank 0 alone has it
ROWS = batch("tagger", 8)


def wrapped(seed: int) -> muxwrap.Multiplex:
    return muxwrap.wrap(make("tagger", seed), 2, "slots", "mlp", example_input=ROWS[:1], seed=seed)


def parallel(kind: str, model: nn.Module) -> nn.Module:
    if kind == "ddp":
        return DistributedDataParallel(model)
    fully_shard(model.backbone.encoder)
    return fully_shard(model)


class Training:
    """A model and its optimizer."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)  # whose state is saved, too

    def step(self, rows: Tensor) -> None:
        self.model(rows).pow(2).mean().backward()
        self.optimizer.step()
        self.optimizer.zero_grad()

    def save(self, folder: Path) -> None:
        model, optimizer = get_state_dict(self.model, self.optimizer)
        dcp.save({"model": model, "optimizer": optimizer}, checkpoint_id=folder)

    def load(self, folder: Path) -> None:
        model, optimizer = get_state_dict(self.model, self.optimizer)
        dcp.load({"model": model, "optimizer": optimizer}, checkpoint_id=folder)
        set_state_dict(self.model, self.optimizer, model_state_dict=model, optim_state_dict=optimizer)

    def gathered(self) -> dict[str, Tensor]:
        return {name: value.clone() for name, value in get_model_state_dict(self.model, options=FULL).items()}


def _rank(rank: int, folder: Path) -> None:
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    store = torch.distributed.FileStore(str(folder / "store"), 2)
    torch.distributed.init_process_group("gloo", store=store, rank=rank, world_size=2)
    found: dict[str, Any] = {}
    for kind in KINDS:
        training = Training(parallel(kind, wrapped(seed=5)))
        training.load(folder / "one")
        found[f"{kind} loaded"] = training.gathered()
        training.step(ROWS.chunk(2)[rank])
        training.save(folder / kind)
        found[f"{kind} saved"] = training.gathered()
        training.step(ROWS.chunk(2)[rank])
        found[f"{kind} went on"] = training.gathered()
        other = Training(parallel(KINDS[kind == KINDS[0]], wrapped(seed=6)))
        other.load(folder / kind)
        found[f"{kind} crossed"] = other.gathered()
    sharded = training.model
    try:
        sharded.save_pretrained(folder / "refused")
    except muxwrap.MuxwrapError as error:
        found["refused"] = str(error)
    sharded.save_pretrained(folder / "saved", state_dict=found["fsdp went on"], is_main_process=rank == 0)
    torch.save(found, folder / f"{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.fixture(scope="module")
def alone() -> Training:
    training = Training(wrapped(seed=0))
    training.step(ROWS)
    return training


@pytest.fixture(scope="module")
def folder(alone: Training, tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("sharded")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that there is no process group
        alone.save(made / "one")
    torch.multiprocessing.start_processes(_rank, (made,), nprocs=2, start_method="fork")
    return made


@pytest.fixture(scope="module", params=range(2))
def found(folder: Path, request: pytest.FixtureRequest) -> Any:
    """What each process found."""
    return torch.load(folder / f"{request.param}.pt")


@pytest.mark.parametrize("kind", KINDS)
def test_saved_by_one_and_read_by_two(kind: str, alone: Training, found: Any) -> None:
    torch.testing.assert_close(found[f"{kind} loaded"], dict(alone.model.state_dict()), rtol=0, atol=0)


@pytest.mark.filterwarnings("ignore:torch.distributed is disabled, unavailable or uninitialized:UserWarning")
@pytest.mark.parametrize("kind", KINDS)
def test_saved_by_two_and_read_by_one_which_goes_on(kind: str, folder: Path, found: Any) -> None:
    training = Training(wrapped(seed=7))
    training.load(folder / kind)
    torch.testing.assert_close(dict(training.model.state_dict()), found[f"{kind} saved"], rtol=0, atol=0)
    training.step(ROWS)
    torch.testing.assert_close(dict(training.model.state_dict()), found[f"{kind} went on"], rtol=1e-5, atol=1e-6)
    moved = [not torch.equal(found[f"{kind} saved"][name], value) for name, value in found[f"{kind} went on"].items()]
    assert sum(moved) > 10


@pytest.mark.parametrize("kind", KINDS)
def test_saved_in_one_way_and_read_in_the_other(kind: str, found: Any) -> None:
    torch.testing.assert_close(found[f"{kind} crossed"], found[f"{kind} saved"], rtol=0, atol=0)


def test_a_folder_is_written_of_gathered_tensors(folder: Path, found: Any) -> None:
    assert "is sharded over processes; gather them in every process" in found["refused"]
    assert not (folder / "refused").exists()
    loaded = muxwrap.from_pretrained(folder / "saved", make("tagger", seed=9))
    torch.testing.assert_close(dict(loaded.state_dict()), found["fsdp went on"], rtol=0, atol=0)
    assert_same_state(muxwrap.load(folder / "saved", wrapped(seed=8)), loaded)
