"""Threads and processes: each gets the answers that it would get alone, whatever the others do."""

from __future__ import annotations

import multiprocessing
import pickle
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from nets import batch, make
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

import muxwrap
from muxwrap import Multiplex

CALLS, THREADS = 30, 4
FORKS = "fork" in multiprocessing.get_all_start_methods()


def wrapped(name: str, n: Any = (1, 2, 4)) -> Multiplex:
    return muxwrap.wrap(make(name), n, example_input=batch(name, 1)).eval()


def in_threads(work: Callable[[int], bool]) -> None:
    """Let threads begin at once; each says whether it saw what it would have seen alone."""
    together = threading.Barrier(THREADS)

    def begin(thread: int) -> bool:
        together.wait(60)
        return all(work(CALLS * thread + call) for call in range(CALLS))

    with ThreadPoolExecutor(THREADS) as pool:
        assert all(pool.map(begin, range(THREADS)))


def ask(model: Any, x: Tensor) -> Tensor:
    with torch.no_grad():
        return model(x)


@pytest.mark.parametrize("name", ["mlp", "cnn", "tagger"])
def test_batches_of_other_sizes_and_other_n_at_once(name: str) -> None:
    model = wrapped(name)
    views = [model.fixed(n) for n in model.sizes]
    inputs = [batch(name, rows) for rows in (1, 2, 5, 8, 11)]
    alone = {(v, k): ask(view, x) for v, view in enumerate(views) for k, x in enumerate(inputs)}
    in_threads(lambda i: torch.equal(ask(views[i % 3], inputs[i % 5]), alone[i % 3, i % 5]))


def test_n_changed_during_the_calls_of_others() -> None:
    model, x = wrapped("mlp"), batch("mlp", 7)
    alone = [ask(model.fixed(n), x) for n in model.sizes]
    grouped = x[:4].unflatten(0, (1, 4))

    def work(call: int) -> bool:
        if call % 3 == 0:
            model.n = model.sizes[call % 2]
        out = ask(model, x)
        shape = ask(model.grouped(), grouped).flatten(0, 1).shape
        return any(torch.equal(out, each) for each in alone) and shape == (4, 5)

    in_threads(work)


def test_owners_are_those_of_the_thread() -> None:
    model, x = wrapped("mlp", 2), batch("mlp", 6)
    owners = [[0, 1, 2, 0, 1, 2], [0, 0, 0, 1, 1, 1], [0] * 6]

    def answer(call: int) -> Tensor:
        with model.grouped_by(owners[call % 3]):
            return ask(model, x)

    alone = [answer(call) for call in range(3)]
    in_threads(lambda call: torch.equal(answer(call), alone[call % 3]))


def test_saved_copied_and_pickled_during_calls(tmp_path: Path) -> None:
    model, x = wrapped("cnn"), batch("cnn", 6)
    alone = ask(model, x)

    def work(call: int) -> bool:
        if call % CALLS == 7:
            model.save_pretrained(tmp_path / str(call))
            return torch.equal(ask(muxwrap.load(tmp_path / str(call), make("cnn", 1)).eval(), x), alone)
        if call % CALLS == 9:
            return torch.equal(ask(pickle.loads(pickle.dumps(model)), x), alone)
        return torch.equal(ask(model, x), alone)

    in_threads(work)


def test_models_of_one_class_wrapped_at_once_are_of_one_class() -> None:
    class Fresh(type(make("mlp"))):  # type: ignore[misc]
        pass

    x = batch("mlp", 1)
    together = threading.Barrier(THREADS)

    def wrap(_: int) -> type:
        together.wait(60)
        return type(muxwrap.wrap(Fresh(), 2, example_input=x))

    with ThreadPoolExecutor(THREADS) as pool:
        assert len(set(pool.map(wrap, range(THREADS)))) == 1


class Answers(Dataset[Tensor]):
    """Rows that a model answers where they are loaded."""

    def __init__(self, model: Multiplex, x: Tensor) -> None:
        self.model, self.x = model, x

    def __len__(self) -> int:
        return len(self.x) // 4

    def __getitem__(self, k: int) -> Tensor:
        return ask(self.model, self.x[4 * k : 4 * k + 4])


@pytest.mark.parametrize(
    "method", [pytest.param("fork", marks=pytest.mark.skipif(not FORKS, reason="no fork")), "spawn"]
)
def test_workers_of_a_data_loader_hold_the_model(method: str) -> None:
    model, x = wrapped("mlp"), batch("mlp", 16)
    loader = DataLoader(Answers(model, x), batch_size=None, num_workers=1, multiprocessing_context=method)
    torch.testing.assert_close(torch.cat(list(loader)), ask(model, x))


FORK = """
import os, threading, torch
from muxwrap._util.fast_path import without_fast_path

inside, over = threading.Event(), threading.Event()

def run():
    with without_fast_path():
        inside.set()
        over.wait(60)

thread = threading.Thread(target=run)
thread.start()
inside.wait(60)
assert not torch.backends.mha.get_fastpath_enabled()
child = os.fork()
if not child:
    os._exit(0 if torch.backends.mha.get_fastpath_enabled() else 1)
over.set()
thread.join()
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
"""


@pytest.mark.skipif(not FORKS, reason="no fork")
def test_a_fork_during_a_call_leaves_the_child_its_fused_layers() -> None:
    """In a process of its own, since nobody knows what other tests have left in this one."""
    subprocess.run([sys.executable, "-W", "ignore::DeprecationWarning", "-c", FORK], check=True)
