"""Folders that are damaged, mixed of several saves, old or of a later version: refused, or the model that was saved."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import ROOT, assert_same_state
from nets import batch, make
from safetensors.torch import load_file, save_file

import muxwrap
from muxwrap import MuxwrapError

HERE = ROOT / "tests" / "checkpoint"
OLD_FOLDER = HERE / "version_0_1_0"
FILES = ("muxwrap.json", "model.safetensors", "muxwrap.safetensors")


def wrapped(seed: int = 0, n: int = 2) -> muxwrap.Multiplex:
    sites = {"mux_at": "embed", "demux_at": "out"}
    return muxwrap.wrap(
        make("tagger", seed), n, "hadamard", "mlp", example_input=batch("tagger", 1), seed=seed, **sites
    )


@pytest.fixture
def saved(tmp_path: Path) -> tuple[muxwrap.Multiplex, Path]:
    model = wrapped()
    model.save_pretrained(tmp_path / "saved")
    return model, tmp_path / "saved"


def load(folder: Path) -> muxwrap.Multiplex:
    return muxwrap.load(folder, make("tagger", seed=9))


@pytest.mark.parametrize("name", FILES)
def test_cut_files(name: str, saved: tuple[muxwrap.Multiplex, Path]) -> None:
    whole = (saved[1] / name).read_bytes()
    for size in {0, 1, 7, 8, 100, len(whole) // 2, len(whole) - 2}:
        (saved[1] / name).write_bytes(whole[:size])
        with pytest.raises(MuxwrapError, match=r"is not JSON|cannot be read as tensors|is not the file that was saved"):
            load(saved[1])


@pytest.mark.parametrize("name", FILES)
def test_changed_bytes(name: str, saved: tuple[muxwrap.Multiplex, Path]) -> None:
    model, folder = saved
    whole, rng = (folder / name).read_bytes(), random.Random(0)
    refused = 0
    for _ in range(60):
        at, bit = rng.randrange(len(whole)), 1 << rng.randrange(8)
        (folder / name).write_bytes(whole[:at] + bytes([whole[at] ^ bit]) + whole[at + 1 :])
        try:
            assert_same_state(load(folder), model)  # white space of the JSON
        except MuxwrapError:
            refused += 1
    assert refused > 30


def test_files_of_two_saves(saved: tuple[muxwrap.Multiplex, Path], tmp_path: Path) -> None:
    wrapped(seed=1).save_pretrained(tmp_path / "other")
    for name in FILES:
        folder = shutil.copytree(saved[1], tmp_path / f"mixed {name}")
        shutil.copy(tmp_path / "other" / name, folder)
        with pytest.raises(
            MuxwrapError, match=r"is not the file that was saved with .*; save the model again, or take"
        ):
            load(folder)
        config = json.loads((folder / "muxwrap.json").read_text())
        del config["sha256"]
        (folder / "muxwrap.json").write_text(json.dumps(config))
        load(folder)  # as it is, since that was asked for
        (folder / name).unlink()
        with pytest.raises(MuxwrapError):
            load(folder)


def test_a_file_that_is_missing(saved: tuple[muxwrap.Multiplex, Path]) -> None:
    for name in ("model.safetensors", "muxwrap.safetensors"):
        saved[0].save_pretrained(saved[1])
        (saved[1] / name).unlink()
        with pytest.raises(MuxwrapError, match=rf"{name} is not there; give a folder"):
            load(saved[1])


def test_a_config_that_was_edited(saved: tuple[muxwrap.Multiplex, Path]) -> None:
    path = saved[1] / "muxwrap.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps({**config, "check_finite": True}))
    with pytest.raises(MuxwrapError, match=r"muxwrap.json is not as it was saved; .* if the change is meant"):
        load(saved[1])


def test_a_pickle_is_read_when_asked_and_then_for_tensors_only(tmp_path: Path) -> None:
    model = wrapped()
    model.save_pretrained(tmp_path, safe_serialization=False)
    with pytest.raises(MuxwrapError, match=r"pytorch_model.bin is a pickle, .*; give allow_pickle=True"):
        load(tmp_path)
    bare = make("tagger", seed=9)
    assert_same_state(muxwrap.load(tmp_path, bare, allow_pickle=True), model)
    assert_same_state(muxwrap.from_pretrained(tmp_path, make("tagger", seed=9), allow_pickle=True), model)
    config = json.loads((tmp_path / "muxwrap.json").read_text())
    del config["sha256"]
    (tmp_path / "muxwrap.json").write_text(json.dumps(config))
    for thing, message in (([1], "does not hold a dictionary of tensors"), (Evil(), "cannot be read as tensors")):
        torch.save(thing, tmp_path / "pytorch_model.bin")
        with pytest.raises(MuxwrapError, match=message):
            muxwrap.load(tmp_path, make("tagger"), allow_pickle=True)
    assert not Evil.ran


class Evil:
    """Something whose unpickling runs code."""

    ran: list[int] = []  # noqa: RUF012

    def __reduce__(self) -> Any:
        return Evil.ran.append, (1,)


# -- without digests: what version 0.1.0 wrote, and what people write ------------------------------------------------------


def test_a_folder_of_version_0_1_0() -> None:
    transformers = pytest.importorskip("transformers")
    answers = json.loads((OLD_FOLDER / "answers.json").read_text())
    ids, wanted = torch.tensor(answers["input_ids"]), torch.tensor(answers["logits"])
    bare = transformers.BertForSequenceClassification(transformers.BertConfig.from_pretrained(OLD_FOLDER)).eval()
    for model in (muxwrap.from_pretrained(OLD_FOLDER), muxwrap.load(OLD_FOLDER, bare).eval()):
        assert (model.n, model.sizes) == (2, (1, 2))
        torch.testing.assert_close(model(input_ids=ids).logits, wanted)


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place of a JSON document."""
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield from places(item, (*path, key))


def replaced(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    if not path:
        return new
    held = value.copy()
    held[path[0]] = replaced(value[path[0]], path[1:], new)
    return held


def plain(folder: Path) -> dict[str, Any]:
    config: dict[str, Any] = json.loads((folder / "muxwrap.json").read_text())
    return {key: value for key, value in config.items() if key != "sha256"}


@pytest.mark.parametrize("new", [None, -1, 0, 3, 0.5, "x", [], {}, [[1]], {"a": 1}], ids=repr)
def test_any_value_in_any_place_of_the_config(new: Any, saved: tuple[muxwrap.Multiplex, Path]) -> None:
    config, refused = plain(saved[1]), 0
    for path in places(config):
        (saved[1] / "muxwrap.json").write_text(json.dumps(replaced(config, path, new)))
        bare = make("tagger", seed=9)
        try:
            muxwrap.load(saved[1], bare)
        except MuxwrapError as error:
            assert str(error).startswith(("load(", "unknown ")), error
            assert not any(m._forward_hooks or m._forward_pre_hooks for m in bare.modules())
            refused += 1
    assert refused > 20


EDITS: list[tuple[Callable[[dict[str, Any]], object], str]] = [
    (lambda c: c.pop("n"), r"n in muxwrap.json is None and not a int; save the model again"),
    (lambda c: c.update(format=3), r"written in format 3, this muxwrap reads up to 2; update muxwrap"),
    (
        lambda c: c.update(n=4, sizes=[4], rows=4),
        r"do not fit this Tagger: .* is \[2, 16\], and the model's is \[4, 16\]",
    ),
    (lambda c: c.update(rows=3), r"and 3 rows per mixture, which contradict each other; save the model again"),
    (lambda c: c["strategy"].pop("name"), r"the strategy in muxwrap.json has no name and options"),
    (lambda c: c["demux"]["options"].update(later=1), r"'mlp', has an option 'later' that this version lacks"),
    (lambda c: c["strategy"].update(name="hadamar"), r"unknown strategy 'hadamar'; did you mean 'hadamard'"),
    (lambda c: c["sites"]["mux"][0].update(later=1), r"the sites in muxwrap.json are not read by this version .*later"),
    (lambda c: c["sites"].pop("mask"), r"the sites in muxwrap.json are not read by this version .*mask"),
    (lambda c: c["demux"]["options"].update(dropout="x"), r"cannot be wrapped as muxwrap.json says"),
    (lambda c: c.update(n=4), r"says n=4 of sizes \(2,\) and 2 rows per mixture, which contradict each other"),
]


@pytest.mark.parametrize(("edit", "message"), EDITS, ids=[message[:30] for _, message in EDITS])
def test_configs_that_mean_nothing_here(edit: Any, message: str, saved: tuple[muxwrap.Multiplex, Path]) -> None:
    config = plain(saved[1])
    edit(config)
    (saved[1] / "muxwrap.json").write_text(json.dumps(config))
    with pytest.raises(MuxwrapError, match=message):
        load(saved[1])


@pytest.mark.parametrize("text", ["", "{", "[1]", "[" * 100_000, "\xff"])
def test_configs_that_are_none(text: str, saved: tuple[muxwrap.Multiplex, Path]) -> None:
    (saved[1] / "muxwrap.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(MuxwrapError, match=r"is not JSON|holds a list and not an object"):
        load(saved[1])


def test_fields_of_a_later_version_are_written_again(saved: tuple[muxwrap.Multiplex, Path], tmp_path: Path) -> None:
    later = {"calibrated": {"temperature": 1.5}, "made_on": "a Tuesday"}
    (saved[1] / "muxwrap.json").write_text(json.dumps({**plain(saved[1]), **later}))
    loaded = muxwrap.load(saved[1], make("tagger"))
    loaded.save_pretrained(tmp_path / "again")
    wrapped(seed=1).save_pretrained(tmp_path / "alike")
    for model in (muxwrap.load(tmp_path / "again", make("tagger")), muxwrap.load(saved[1], wrapped(seed=1))):
        model.save_pretrained(tmp_path / "third")
        written = json.loads((tmp_path / "third" / "muxwrap.json").read_text())
        assert {key: written[key] for key in later} == later
        assert_same_state(load(tmp_path / "third"), saved[0])


def test_a_backbone_of_another_config_is_not_made(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    sizes = {"vocab_size": 20, "hidden_size": 8, "num_hidden_layers": 1, "intermediate_size": 16}
    config = transformers.BertConfig(**sizes, num_attention_heads=2)
    muxwrap.wrap(transformers.BertForSequenceClassification(config), 2).save_pretrained(tmp_path)
    transformers.BertConfig(**sizes, num_attention_heads=4).save_pretrained(tmp_path)  # of the same shapes
    with pytest.raises(MuxwrapError, match=r"config.json is not the one that was saved; give the model it belongs to"):
        muxwrap.from_pretrained(tmp_path)


def test_the_trainers_file_beside_a_backbones_of_another_name(tmp_path: Path) -> None:
    model = wrapped()
    model.save_pretrained(tmp_path)
    own = load_file(tmp_path / "model.safetensors")
    (tmp_path / "model.safetensors").unlink()
    save_file(own, tmp_path / "backbone.safetensors")
    config = plain(tmp_path)
    config["sha256"] = {"backbone.safetensors": None, "muxwrap.safetensors": None}
    (tmp_path / "muxwrap.json").write_text(json.dumps(config))
    assert_same_state(load(tmp_path), model)
    later = wrapped(seed=1)
    save_file(later.state_dict(), tmp_path / "model.safetensors")
    assert_same_state(load(tmp_path), later)
