"""A save that is killed leaves the old model or the new one, and a load that meets a save gets one of the two."""

from __future__ import annotations

import os
import shutil
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import assert_same_state
from nets import batch, make

import muxwrap
from muxwrap.checkpoint import folder as folders

FORKS = pytest.mark.skipif(not hasattr(os, "fork"), reason="kills processes made by fork")
QUIET = pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")


def wrapped(seed: int) -> muxwrap.Multiplex:
    demux = "index" if seed else "mlp"
    mixed = {"mux_at": "embed", "demux_at": "out"}
    return muxwrap.wrap(make("tagger", seed), 2 + seed, "hadamard", demux, example_input=batch("tagger", 1), **mixed)


OLD, NEW = wrapped(0), wrapped(1)


def which(folder: Path, **options: Any) -> str:
    """Which of the two models a folder holds; fails if it is neither."""
    loaded = muxwrap.load(folder, make("tagger", seed=5), **options)
    found = "old" if loaded.n == OLD.n else "new"
    assert_same_state(loaded, OLD if found == "old" else NEW)
    return found


def in_a_process(work: Callable[[], object]) -> int:
    """Run something in a copy of this process, and return its exit status."""
    child = os.fork()
    if child == 0:
        try:
            work()
            os._exit(0)
        finally:
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


KILLED = 9


def save_and_die(folder: Path, step: int, **options: Any) -> None:
    """Save the new model, and end without a word before the given step at which Python asks the system for something."""
    steps = 0

    def count(_event: str, args: tuple[object, ...]) -> None:
        nonlocal steps
        if any(str(folder) in str(arg) for arg in args):
            if steps == step:
                os._exit(KILLED)
            steps += 1

    sys.addaudithook(count)
    NEW.save_pretrained(folder, **options)


@FORKS
@QUIET
@pytest.mark.parametrize("options", [{}, {"safe_serialization": False}], ids=["safetensors", "pickle"])
def test_killed_before_any_step(options: dict[str, Any], tmp_path: Path) -> None:
    OLD.save_pretrained(tmp_path / "before")
    found = []
    for step in range(200):
        folder = shutil.copytree(tmp_path / "before", tmp_path / str(step))
        status = in_a_process(lambda folder=folder, step=step: save_and_die(folder, step, **options))
        assert status in (0, KILLED)
        found.append(which(folder, allow_pickle=True))
        if (folder / folders.SAVED).exists():
            OLD.save_pretrained(folder)
            assert which(folder) == "old"
            assert {path.name for path in folder.iterdir()} == {path.name for path in (tmp_path / "before").iterdir()}
        if status == 0:
            break
    assert status == 0
    turn = found.index("new")
    assert turn > 10 and len(found) - turn > 5
    assert found == ["old"] * turn + ["new"] * (len(found) - turn)


@FORKS
@QUIET
def test_killed_while_a_file_is_written(tmp_path: Path) -> None:
    def half(tensors: object, path: str) -> None:
        torch.save(tensors, path)
        os.truncate(path, os.path.getsize(path) // 2)
        os._exit(KILLED)

    OLD.save_pretrained(tmp_path)
    assert in_a_process(lambda: NEW.save_pretrained(tmp_path, save_function=half)) == KILLED
    assert which(tmp_path) == "old"


def test_what_a_failed_save_wrote_is_taken_away(tmp_path: Path) -> None:
    def fail(tensors: object, path: str) -> None:
        torch.save(tensors, path)
        raise OSError("no space left on device")

    OLD.save_pretrained(tmp_path)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(OSError, match="no space"):
        NEW.save_pretrained(tmp_path, save_function=fail)
    assert sorted(tmp_path.iterdir()) == before
    assert which(tmp_path) == "old"


def test_what_was_left_long_ago_is_taken_away(tmp_path: Path) -> None:
    for name, age in (("old", 7200), ("fresh", 0)):
        left = tmp_path / f"{folders.SAVING}{name}"
        left.mkdir()
        (left / "model.safetensors").write_bytes(b"half")
        os.utime(left, (left.stat().st_mtime - age,) * 2)
    OLD.save_pretrained(tmp_path)
    assert [path.name for path in tmp_path.glob(f"{folders.SAVING}*")] == [f"{folders.SAVING}fresh"]


def test_other_files_of_the_folder_stay(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text("{}")
    OLD.save_pretrained(tmp_path)
    NEW.save_pretrained(tmp_path)
    assert (tmp_path / "tokenizer.json").read_text() == "{}"


def test_loads_during_saves_and_saves_at_once(tmp_path: Path) -> None:
    OLD.save_pretrained(tmp_path)
    threads = [
        threading.Thread(target=lambda m=model: [m.save_pretrained(tmp_path) for _ in range(10)])
        for model in (OLD, NEW)
    ]
    for thread in threads:
        thread.start()
    found = []
    while any(thread.is_alive() for thread in threads) or not found:
        found.append(which(tmp_path))
    assert which(tmp_path) in ("old", "new")
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]
