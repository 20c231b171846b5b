"""Saving and loading a wrapped model, and strategies and demuxers of the user's own."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import assert_same_state
from nets import batch, make
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import muxwrap
from muxwrap import MuxwrapError, demuxers, strategies


class Shift(muxwrap.Strategy):
    """Rolls instance i by ``step * i`` features."""

    invertible = True
    isometric = True

    def __init__(
        self, n: int, dim: int, *, step: int = 1, learnable: bool = False, scale: str | float = "sqrt", seed: int = 0
    ):
        super().__init__(n, dim, learnable=learnable, scale=scale, seed=seed)
        self.step = step

    def bind(self, x: Tensor) -> Tensor:
        return torch.stack([x[:, i].roll(self.step * i, -1) for i in range(self.n)], 1)

    def unbind(self, z: Tensor) -> Tensor:
        return torch.stack([z[:, i].roll(-self.step * i, -1) for i in range(self.n)], 1)


class Linear(muxwrap.Demuxer):
    """One linear map an index."""

    def __init__(self, n: int, dim: int, *, bias: bool = True, seed: int = 0):
        super().__init__(n, dim, seed=seed)
        self.bias = bias
        with self.seeded():
            self.maps = nn.ModuleList(nn.Linear(dim, dim, bias=bias) for _ in range(n))

    def forward(self, h: Tensor) -> Tensor:
        return torch.stack([each(h) for each in self.maps], 1)


STRATEGIES = [*muxwrap.list_strategies("features"), "test_shift"]
DEMUXERS = [*(name for name in muxwrap.list_demuxers() if name != "unbind"), "test_linear"]


@pytest.fixture(autouse=True)
def _registered() -> Iterator[None]:
    """Register the classes of this file for its own tests only: the conformance suites take every registered one."""
    held = [(registry, dict(registry._classes)) for registry in (strategies.registry, demuxers.registry)]
    muxwrap.register_strategy("test_shift")(Shift)
    muxwrap.register_demuxer("test_linear")(Linear)
    yield
    for registry, classes in held:
        registry._classes = classes


def wrapped(strategy: object, demux: object, seed: int = 3) -> muxwrap.Multiplex:
    return muxwrap.wrap(make("tagger"), 3, strategy, demux, example_input=batch("tagger", 1), seed=seed).eval()  # type: ignore[arg-type]


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("demux", DEMUXERS)
def test_round_trip(strategy: str, demux: str, tmp_path: Path) -> None:
    model, x = wrapped(strategy, demux), batch("tagger", 5)
    model.save_pretrained(tmp_path)
    loaded = muxwrap.load(tmp_path, make("tagger", seed=9)).eval()
    torch.testing.assert_close(loaded(x), model(x), rtol=0, atol=0)
    assert repr(loaded) == repr(model)
    assert loaded.sites == model.sites


def test_a_pickle_beside_safetensors_is_not_read(tmp_path: Path) -> None:
    model, x = wrapped("slots", "mlp"), batch("tagger", 5)
    model.save_pretrained(tmp_path)
    (tmp_path / "pytorch_model.bin").write_bytes(b"not a pickle")
    torch.testing.assert_close(muxwrap.load(tmp_path, make("tagger", seed=9)).eval()(x), model(x), rtol=0, atol=0)


def test_the_backbone_is_saved_under_its_own_names(tmp_path: Path) -> None:
    model = wrapped("slots", "mlp")
    model.save_pretrained(tmp_path)
    bare = make("tagger", seed=9)
    bare.load_state_dict(load_file(tmp_path / "model.safetensors"))
    assert_same_state(bare, model.backbone)
    added = load_file(tmp_path / "muxwrap.safetensors")
    assert added.keys() == {name for name in model.state_dict() if not name.startswith("backbone.")} != set()


def as_format_1(folder: Path, pickled: bool) -> None:
    """Write a folder anew as version 0.1.0 wrote it: all tensors in one file, under the wrapped model's names."""
    own = {f"backbone.{name}": value for name, value in load_file(folder / "model.safetensors").items()}
    tensors = {**own, **load_file(folder / "muxwrap.safetensors")}
    for name in ("model.safetensors", "muxwrap.safetensors"):
        (folder / name).unlink()
    if pickled:
        torch.save(tensors, folder / "pytorch_model.bin")
    else:
        save_file(tensors, folder / "model.safetensors")
    config = json.loads((folder / "muxwrap.json").read_text())
    known = {key: value for key, value in config.items() if key not in ("recipe", "sha256")}
    (folder / "muxwrap.json").write_text(json.dumps({**known, "format": 1}))


@pytest.mark.parametrize("pickled", [False, True])
def test_folders_of_the_first_format_load(pickled: bool, tmp_path: Path) -> None:
    model = wrapped("slots", "mlp")
    model.save_pretrained(tmp_path)
    as_format_1(tmp_path, pickled)
    assert_same_state(muxwrap.load(tmp_path, make("tagger", seed=9), allow_pickle=pickled), model)
    wrapped("slots", "mlp", seed=5).save_pretrained(tmp_path)
    assert not (tmp_path / "pytorch_model.bin").exists()


def test_a_backbone_whose_names_begin_as_the_wrapped_models_do(tmp_path: Path) -> None:
    class Outer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.backbone, self.strategy = make("mlp"), nn.Linear(5, 5)

        def forward(self, x: Tensor) -> Tensor:
            return self.strategy(self.backbone(x))

    model = muxwrap.wrap(Outer(), 2, example_input=batch("mlp", 1))
    model.save_pretrained(tmp_path)
    assert_same_state(muxwrap.load(tmp_path, Outer()), model)


def test_a_model_that_is_wrapped_alike_is_loaded_itself(tmp_path: Path) -> None:
    model, other = wrapped("slots", "mlp"), wrapped("slots", "mlp", seed=5)
    model.save_pretrained(tmp_path)
    assert muxwrap.load(tmp_path, other) is other
    assert_same_state(other, model)
    for wrong, what in ((wrapped("hadamard", "mlp"), "strategy"), (wrapped("slots", "key"), "demux")):
        with pytest.raises(MuxwrapError, match=rf"the saved model has {what} .* give the bare backbone"):
            muxwrap.load(tmp_path, wrong)
    assert_same_state(other, model)


def test_names_of_which_none_fits_are_refused_however_lenient_the_call() -> None:
    model = wrapped("slots", "mlp")
    with pytest.raises(MuxwrapError, match=r"the backbone's own go into model.backbone"):
        model.load_state_dict(model.backbone.state_dict(), strict=False)
    left_out = model.load_state_dict({"strategy.keys": model.strategy.keys + 1}, strict=False).missing_keys
    assert "strategy.keys" not in left_out


def test_a_state_dict_can_be_written_as_safetensors_where_weights_are_tied(tmp_path: Path) -> None:
    tied = nn.Sequential(nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 8), nn.Linear(8, 8))
    tied[3].weight = tied[2].weight
    model = muxwrap.wrap(tied, 2, example_input=torch.zeros(1, 8))
    save_file(model.state_dict(), tmp_path / "all.safetensors")
    loaded = load_file(tmp_path / "all.safetensors")
    assert loaded.keys() == model.state_dict().keys()
    assert torch.equal(loaded["backbone.3.weight"], tied[2].weight)
    kept = model.state_dict(keep_vars=True)
    assert kept["backbone.3.weight"] is kept["backbone.2.weight"] is tied[2].weight
    outer = nn.ModuleDict({"model": model})
    save_file(outer.state_dict(), tmp_path / "all.safetensors")


def test_options_are_saved(tmp_path: Path) -> None:
    model = wrapped(partial(Shift, step=3, scale=0.5), partial(Linear, bias=False))
    model.save_pretrained(tmp_path)
    loaded = muxwrap.load(str(tmp_path), make("tagger"))
    assert (loaded.strategy.step, loaded.strategy.scale, loaded.demuxer.bias) == (3, 0.5, False)
    assert "test_shift(step=3" in repr(loaded)


def test_classes_and_instances_save_like_names(tmp_path: Path) -> None:
    for strategy in ("test_shift", Shift, Shift(3, 16), partial(Shift)):
        model = wrapped(strategy, Linear)
        model.save_pretrained(tmp_path)
        assert json.loads((tmp_path / "muxwrap.json").read_text())["strategy"]["name"] == "test_shift"


def test_unnamed_and_forgetful_classes_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    class Unnamed(Shift):
        pass

    class Forgetful(Shift):
        def __init__(self, n: int, dim: int, *, secret: int = 1, seed: int = 0):
            super().__init__(n, dim, seed=seed)

    with pytest.raises(MuxwrapError, match=r"register_strategy\('name'\)"):
        wrapped(Unnamed, "mlp").save_pretrained(tmp_path / "a")
    muxwrap.register_strategy("test_forgetful")(Forgetful)
    with pytest.raises(MuxwrapError, match=r"takes secret= and does not keep it"):
        wrapped(Forgetful, "mlp").save_pretrained(tmp_path / "a")
    assert not (tmp_path / "a").exists()


def test_what_cannot_be_loaded(tmp_path: Path) -> None:
    with pytest.raises(MuxwrapError, match=r"no muxwrap.json there"):
        muxwrap.load(tmp_path, make("tagger"))
    wrapped("sign", "mlp").save_pretrained(tmp_path)
    other = make("mlp")
    with pytest.raises(MuxwrapError, match=r"mux_at='embed' is not a module of MLP"):
        muxwrap.load(tmp_path, other)
    wider = make("tagger")
    wider.embed = nn.Embedding(31, 16)
    with pytest.raises(MuxwrapError, match=r"do not fit this Tagger"):
        muxwrap.load(tmp_path, wider)
    assert not any(m._forward_hooks or m._forward_pre_hooks for b in (other, wider) for m in b.modules())
    saved = json.loads((tmp_path / "muxwrap.json").read_text())
    (tmp_path / "muxwrap.json").write_text(json.dumps({**saved, "format": 99}))
    with pytest.raises(MuxwrapError, match=r"format 99"):
        muxwrap.load(tmp_path, make("tagger"))


def test_tied_weights(tmp_path: Path) -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed, self.out = nn.Embedding(30, 16), nn.Linear(16, 30, bias=False)
            self.body = nn.Sequential(nn.Linear(16, 64), nn.Tanh(), nn.Linear(64, 16))
            self.out.weight = self.embed.weight

        def forward(self, ids: Tensor) -> Tensor:
            return self.out(torch.tanh(self.body(self.embed(ids))))

    x = batch("tagger", 5)
    model = muxwrap.wrap(Tied(), 2, example_input=x)
    model.save_pretrained(tmp_path)
    loaded = muxwrap.load(tmp_path, Tied())
    torch.testing.assert_close(loaded(x), model(x), rtol=0, atol=0)
    assert loaded.backbone.out.weight is loaded.backbone.embed.weight


def zeros(model: nn.Module) -> dict[str, Tensor]:
    return {name: torch.zeros_like(value) for name, value in model.state_dict().items()}


@pytest.mark.parametrize("safe", [None, True, False])
def test_a_given_state_dict_is_what_is_saved(safe: bool | None, tmp_path: Path) -> None:
    model = wrapped("hadamard", "mlp")
    model.save_pretrained(tmp_path, state_dict=zeros(model), safe_serialization=safe)
    loaded = muxwrap.load(tmp_path, make("tagger"), allow_pickle=True)
    assert not any(value.any() for value in loaded.state_dict().values())
    assert any(value.any() for value in model.state_dict().values())


def test_the_format_follows_the_arguments_and_none_is_left_from_before(tmp_path: Path) -> None:
    model, other = wrapped("hadamard", "mlp"), wrapped("hadamard", "mlp", seed=4)
    safe = {"README.md", "muxwrap.json", "model.safetensors", "muxwrap.safetensors"}
    pickled = {"README.md", "muxwrap.json", "pytorch_model.bin", "muxwrap.bin"}
    paths = []

    def save(tensors: object, path: str) -> None:
        paths.append(Path(path))
        torch.save(tensors, path)

    ways: list[tuple[dict[str, Any], set[str]]] = [
        ({}, safe),
        ({"save_function": save}, pickled),
        ({"safe_serialization": True}, safe),
        ({"safe_serialization": False}, pickled),
        ({"save_function": save, "safe_serialization": False}, pickled),
    ]
    for saved, (options, files) in zip([model, other] * 3, ways, strict=False):
        saved.save_pretrained(tmp_path, **options)
        assert {path.name for path in tmp_path.iterdir()} == files
        assert_same_state(muxwrap.load(tmp_path, make("tagger"), allow_pickle=files == pickled), saved)
    assert [path.name for path in paths] == ["pytorch_model.bin", "muxwrap.bin"] * 2
    assert all(path.parent.parent == tmp_path for path in paths)  # from where they are moved


def test_other_processes_write_nothing(tmp_path: Path) -> None:
    wrapped("hadamard", "mlp").save_pretrained(tmp_path / "a", is_main_process=False)
    assert not (tmp_path / "a").exists()


def test_the_arguments_of_accelerates_scripts(tmp_path: Path) -> None:
    accelerate = pytest.importorskip("accelerate")
    accelerator = accelerate.Accelerator(cpu=True)
    model = wrapped("hadamard", "mlp")
    prepared = accelerator.prepare(model)
    accelerator.unwrap_model(prepared).save_pretrained(
        tmp_path,
        is_main_process=accelerator.is_main_process,
        save_function=accelerator.save,
        state_dict=accelerator.get_state_dict(prepared),
    )
    assert_same_state(muxwrap.load(tmp_path, make("tagger"), allow_pickle=True), model)


def test_a_file_is_never_larger_than_was_asked_for(tmp_path: Path) -> None:
    model = wrapped("hadamard", "mlp")
    size = sum(value.numel() * 4 for value in model.state_dict().values())
    for fits in (size, str(size), f"{size}B", "5GB", "1.5 MB", "1MiB", f"{size / 1000}KB"):
        model.save_pretrained(tmp_path / "fits", max_shard_size=fits)
    for small in (size - 1, "1KB", "1KiB", f"{size // 1000}KB"):
        with pytest.raises(MuxwrapError, match=r"takes .* bytes; leave max_shard_size= out"):
            model.save_pretrained(tmp_path / "a", max_shard_size=small)
    for wrong in ("large", "5XB", "GB", ""):
        with pytest.raises(MuxwrapError, match=r"not a size; give bytes"):
            model.save_pretrained(tmp_path / "a", max_shard_size=wrong)
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize("options", [{"push_to_hub": True}, {"variant": "fp16"}, {"token": None}, {"sate_dict": {}}])
def test_what_cannot_be_honoured_is_refused_by_name(options: dict[str, Any], tmp_path: Path) -> None:
    model = wrapped("hadamard", "mlp")
    with pytest.raises(MuxwrapError, match=rf"save_pretrained\({next(iter(options))}=\.\.\.\) is not supported"):
        model.save_pretrained(tmp_path / "a", **options)
    with pytest.raises(MuxwrapError, match=r"leave out one of the two"):
        model.save_pretrained(tmp_path / "a", save_function=torch.save, safe_serialization=True)
    assert not (tmp_path / "a").exists()
    model.save_pretrained(tmp_path / "a", push_to_hub=False)


def test_a_state_dict_that_is_not_the_models_is_refused(tmp_path: Path) -> None:
    model = wrapped("hadamard", "mlp")
    given = zeros(model)
    name = "backbone.embed.weight"
    wrong: list[tuple[dict[str, Tensor], str]] = [
        (model.backbone.state_dict(), r"embed.weight, .* and 12 more are not of the model"),
        ({key: value for key, value in given.items() if key != name}, rf"{name} is missing"),
        ({**given, "more": torch.zeros(1)}, r"more is not of the model"),
        ({**given, name: torch.zeros(0)}, rf"{name} is \[0\], and the model's is \[30, 16\]"),
    ]
    for state_dict, message in wrong:
        with pytest.raises(MuxwrapError, match=message):
            model.save_pretrained(tmp_path / "a", state_dict=state_dict)
    with pytest.raises(MuxwrapError, match=r"on the device 'meta'"):
        model.to("meta").save_pretrained(tmp_path / "a")
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize("safe", [True, False])
def test_tied_weights_of_a_given_state_dict(safe: bool, tmp_path: Path) -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed, self.out = nn.Embedding(30, 16), nn.Linear(16, 30, bias=False)
            self.body = nn.Sequential(nn.Linear(16, 64), nn.Tanh(), nn.Linear(64, 16))
            self.out.weight = self.embed.weight

        def forward(self, ids: Tensor) -> Tensor:
            return self.out(torch.tanh(self.body(self.embed(ids))))

    model = muxwrap.wrap(Tied(), 2, example_input=batch("tagger", 1))
    given = {name: value.clone() + 1 for name, value in model.state_dict().items()}
    for left_out in ("", "backbone.out.weight", "backbone.embed.weight"):
        tensors = {name: value for name, value in given.items() if name != left_out}
        model.save_pretrained(tmp_path, state_dict=tensors, safe_serialization=safe)
        loaded = muxwrap.load(tmp_path, Tied(), allow_pickle=not safe)
        assert loaded.backbone.out.weight is loaded.backbone.embed.weight
        torch.testing.assert_close(loaded.state_dict(), given, rtol=0, atol=0)


@pytest.mark.filterwarnings("ignore")  # torch announces the move of its quantisation to another package
def test_a_quantized_model_is_not_saved_half(tmp_path: Path) -> None:
    model = muxwrap.wrap(make("mlp"), 2, example_input=batch("mlp", 1))
    low = torch.ao.quantization.quantize_dynamic(model, {nn.Linear})
    with pytest.raises(MuxwrapError, match=r"not a tensor; save before quantizing"):
        low.save_pretrained(tmp_path / "a")
    assert not (tmp_path / "a").exists()
