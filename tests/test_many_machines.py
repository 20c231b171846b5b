"""The script of the page on many machines, in two processes and then in one that goes on."""

from __future__ import annotations

import os
import sys
import warnings
from pathlib import Path
from typing import Any

import pages
import pytest
import torch
import torch.distributed.checkpoint as dcp
from helpers import ROOT
from torch import nn
from torch.distributed.fsdp import fully_shard

import muxwrap

transformers = pytest.importorskip("transformers")
PRELOADED = transformers.BertForSequenceClassification, fully_shard, dcp  # imported once, before the processes are made
pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="starts processes by fork"),
    pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning"),
]
BLOCKS = pages.BLOCK.findall((ROOT / "docs" / "many_machines.md").read_text(encoding="utf-8"))
SCRIPT, ACCELERATE = BLOCKS[0][1], BLOCKS[1][1] + BLOCKS[2][1]


def _process(rank: int, code: str, count: int, port: int, epochs: int, folder: Path) -> None:
    """Run a script as torchrun and accelerate launch do, which keep the store themselves."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    os.chdir(folder)
    address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    os.environ |= {
        "RANK": str(rank),
        "WORLD_SIZE": str(count),
        "LOCAL_RANK": str(rank),
        "EPOCHS": str(epochs),
        "TORCHELASTIC_USE_AGENT_STORE": "True",
        **address,
    }
    states = sys.modules.get("accelerate.state")  # of the process that was forked, if it was used there
    if states is not None:
        states.AcceleratorState._reset_state(True)
        states.GradientState._reset_state()
    names: dict[str, Any] = {"__name__": "__main__"}
    exec(compile(code, "train.py", "exec"), names)
    found = {name: names.get(name) for name in ("done", "part")}
    torch.save(
        {**found, "weights": names["model"].state_dict() if found["part"] else None}, folder / f"{count}-{rank}.pt"
    )


def run(code: str, count: int, epochs: int, folder: Path) -> list[dict[str, Any]]:
    """Return what every process found."""
    store = torch.distributed.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    torch.multiprocessing.start_processes(
        _process, (code, count, store.port, epochs, folder), nprocs=count, start_method="fork"
    )
    return [torch.load(folder / f"{count}-{rank}.pt") for rank in range(count)]


def test_the_script_trains_saves_and_goes_on(tmp_path: Path) -> None:
    assert [found["done"] for found in run(SCRIPT, 2, 1, tmp_path)] == [0, 0]
    assert [path.name for path in tmp_path.glob("checkpoint-*")] == ["checkpoint-1"]
    first = muxwrap.from_pretrained(tmp_path / "model")
    assert [found["done"] for found in run(SCRIPT, 1, 2, tmp_path)] == [1]
    second = muxwrap.from_pretrained(tmp_path / "model")
    assert (first.n, second.n) == (2, 2)
    ids = torch.arange(1, 25).view(4, 6)
    assert not torch.equal(first(input_ids=ids).logits, second(input_ids=ids).logits)
    moved = [
        (a - b).abs().max() for a, b in zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    ]
    assert 0 < max(moved) < 0.1  # one epoch of small steps, and not a model that began anew


def test_accelerate_in_two_processes(tmp_path: Path) -> None:
    pytest.importorskip("accelerate")
    first, second = run(ACCELERATE, 2, 1, tmp_path)
    assert (first["part"], second["part"]) == ({"num_replicas": 2, "rank": 0}, {"num_replicas": 2, "rank": 1})
    torch.testing.assert_close(first["weights"], second["weights"], rtol=0, atol=0)  # gradients were averaged
    net = nn.Sequential(nn.Linear(8, 32), nn.Tanh(), nn.Linear(32, 32), nn.Tanh(), nn.Linear(32, 2))
    loaded = muxwrap.from_pretrained(tmp_path / "model", net)
    trained = {name.removeprefix("module."): value for name, value in first["weights"].items()}
    torch.testing.assert_close(dict(loaded.state_dict()), trained, rtol=0, atol=0)
