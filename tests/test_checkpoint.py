"""Saving and loading a wrapped model, and strategies and demuxers of the user's own."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
import torch
from nets import batch, make
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
    with pytest.raises(MuxwrapError, match=r"mux_at='embed' is no module of MLP"):
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
            self.embed, self.body, self.out = nn.Embedding(30, 16), nn.Linear(16, 16), nn.Linear(16, 30, bias=False)
            self.out.weight = self.embed.weight

        def forward(self, ids: Tensor) -> Tensor:
            return self.out(torch.tanh(self.body(self.embed(ids))))

    x = batch("tagger", 5)
    model = muxwrap.wrap(Tied(), 2, example_input=x)
    model.save_pretrained(tmp_path)
    loaded = muxwrap.load(tmp_path, Tied())
    torch.testing.assert_close(loaded(x), model(x), rtol=0, atol=0)
    assert loaded.backbone.out.weight is loaded.backbone.embed.weight
