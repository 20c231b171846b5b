"""Refusals of what hardly anybody asks for: each says what is wrong and the way out."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from nets import batch, make
from torch import Tensor, nn

import muxwrap
from muxwrap import MuxwrapError, Site, Sites, demuxers, evaluation, training
from muxwrap._util.named_models import model_named
from muxwrap.cli import main
from muxwrap.published import backbones
from muxwrap.published import modules as published_modules
from muxwrap.sites.runs.repeat import Repeat
from muxwrap.theory import weights as theory_weights
from muxwrap.training.head import head_at
from muxwrap.training.token_sites import find_token_sites
from muxwrap.training.tokens import separate


class Twice(nn.Module):
    """Vectors to 5 classes; the first layer runs as often as it is told."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.layer, self.head = nn.Linear(12, 12), nn.Linear(12, 12), nn.Linear(12, 5)

    def forward(self, x: Tensor, times: int = 1) -> Tensor:
        for _ in range(times):
            x = self.stem(x)
        return self.head(self.layer(x))


def test_a_site_that_a_later_call_reaches_twice_or_never() -> None:
    model = muxwrap.wrap(Twice(), 2, mux_at="stem", demux_at="head", example_input=torch.zeros(1, 12))
    assert model(torch.randn(3, 12)).shape == (3, 5)
    with pytest.raises(MuxwrapError, match=r"output of stem .* was reached 2 times in one call; name a module"):
        model(torch.randn(3, 12), 2)
    with pytest.raises(MuxwrapError, match=r"before anything was mixed|was never reached"):
        model(torch.randn(3, 12), times=0)
    with pytest.raises(MuxwrapError, match=r"is not reached exactly once; give an example"):
        training.start_apart(model, (torch.zeros(1, 12), 2))


def test_whole_numbers_where_floats_are_mixed() -> None:
    class Whole(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.layer, self.head = nn.Identity(), nn.Linear(12, 12), nn.Linear(12, 5)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(torch.tanh(self.layer(self.stem(x).float())))

    model = muxwrap.wrap(Whole(), 2, mux_at="stem", demux_at="head", example_input=torch.zeros(1, 12))
    with pytest.raises(MuxwrapError, match=r"mux_at='stem' \(output\) holds torch.int64 values.*mix their embeddings"):
        model(torch.ones(3, 12, dtype=torch.long))


def test_sentinel_ids_have_to_be_embedded_between() -> None:
    index = partial(demuxers.Index, sentinel_ids=(1, 2, 3))
    with pytest.raises(MuxwrapError, match=r"index inserts sentinel ids, and nothing is embedded between"):
        muxwrap.wrap(make("tagger"), 2, "hadamard", index, mux_at="encoder@input", example_input=batch("tagger", 2))


def test_a_wide_mixture_has_to_reach_the_convolution_that_reads_it() -> None:
    class Unused(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.unused, self.used = nn.Conv2d(2, 8, 3, padding=1), nn.Conv2d(2, 8, 3, padding=1)

        def forward(self, x: Tensor) -> Tensor:
            return torch.relu(self.used(x))

    net = nn.Sequential(Unused(), nn.Conv2d(8, 8, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5))
    with pytest.raises(MuxwrapError, match=r"reached no convolution that reads its channels; name the first"):
        muxwrap.wrap(net, 2, "channels", mux_at="0@input", demux_at="4", example_input=torch.zeros(1, 2, 8, 8))


def test_several_sites_have_one_size_and_a_demuxer_each() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.left, self.right, self.layer = nn.Linear(12, 8), nn.Linear(12, 16), nn.Linear(24, 24)
            self.head, self.other = nn.Linear(24, 5), nn.Linear(24, 5)

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            h = torch.tanh(self.layer(torch.cat([self.left(x), self.right(x)], -1)))
            return self.head(h), self.other(h)

    x = torch.zeros(1, 12)
    with pytest.raises(MuxwrapError, match=r"feature sizes \[8, 16\]; one strategy needs one size: name other sites"):
        sites = Site("left", "output", -1, 8), Site("right", "output", -1, 16)
        muxwrap.wrap(Two(), 2, sites=Sites(sites, (Site("head", "input", -1, 24),)))
    with pytest.raises(MuxwrapError, match=r"is one instance for 2 demux sites; give a name or a class"):
        muxwrap.wrap(Two(), 2, demux=demuxers.MLP(2, 24), mux_at="@input", demux_at=["head", "other"], example_input=x)


def test_a_module_without_rows_is_no_site() -> None:
    class Scalar(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.mean(-1)

    net = nn.Sequential(nn.Linear(12, 12), nn.Linear(12, 12), Scalar())
    with pytest.raises(MuxwrapError, match=r"demux_at='2' has no tensor with rows as its output; try '2' with"):
        muxwrap.wrap(net, 2, demux_at="2@output", example_input=torch.zeros(1, 12))


def test_a_run_of_the_search_has_to_have_tokens() -> None:
    with pytest.raises(MuxwrapError, match="no other tokens here; separate where there is a sequence"):
        Repeat(2, 4, 0, True)(torch.zeros(1, 4))
    with pytest.raises(MuxwrapError, match=r"\[1, 4\] has no room for a prefix of 3 tokens; mix and separate where"):
        Repeat(2, 4, 3, False).extend(torch.zeros(1, 4))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("builtins:dict", "gives a dict; name a function that returns a torch.nn.Module"),
        ("transformers:encodec", "has no classification model; give another model type"),
    ],
)
def test_names_of_what_is_no_classifier(name: str, message: str) -> None:
    pytest.importorskip("transformers")
    with pytest.raises(MuxwrapError, match=message):
        model_named(name)


@pytest.mark.parametrize(
    ("name", "library", "extra"),
    [
        ("timm:resnet18", "timm", "timm"),
        ("torchvision:resnet18", "torchvision", "vision"),
        ("hf:x", "transformers", "hf"),
    ],
)
def test_names_of_models_whose_library_is_missing(
    name: str, library: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(MuxwrapError, match=rf"{name}' cannot be made: .*{library}.*; pip install 'muxwrap\[{extra}\]'"):
        model_named(name)


@pytest.mark.parametrize("command", ["bench nets:make", "frontier nets:make data:batches"])
def test_pictures_need_matplotlib(command: str, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert main([*command.split(), "--plot", "x.png"]) == 2
    assert "plot: matplotlib is not installed" in (told := capsys.readouterr().err)
    assert "pip install 'muxwrap[plot]'" in told


# -- evaluation -------------------------------------------------------------------------------------------------------


class Half(demuxers.Demuxer):
    """Loses half of the features."""

    def forward(self, h: Tensor) -> Tensor:
        return h[..., : self.dim // 2].unsqueeze(1).expand(-1, self.n, *h.shape[1:-1], self.dim // 2)


class Echo(nn.Module):
    """Gives back what it gets, by way of its body if it has one."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.body, self.head = nn.Identity(), nn.Linear(16, 16), nn.Identity()
        self.whole = True

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return self.head(self.body(x) if self.whole else x)


def echo(demux: Any = None) -> muxwrap.Multiplex:
    return muxwrap.wrap(Echo(), 2, demux=demux, mux_at="stem", demux_at="body@output", example_input=torch.zeros(1, 16))


def test_states_that_cannot_be_compared() -> None:
    x = torch.randn(4, 16)
    with pytest.raises(MuxwrapError, match=r"state_distance: \[4, 8\] features .*take a demuxer that keeps"):
        evaluation.state_distance(echo(Half), x)
    with pytest.raises(MuxwrapError, match="dict holds no tensor with rows; give what the model is called with"):
        evaluation.state_distance(echo(), {"x": 1})
    model = echo()
    model.backbone.whole = False
    with pytest.raises(MuxwrapError, match=r"output of body .* was not reached, so there is no state.*give inputs"):
        evaluation.states.state(model, x, bare=True)


def test_a_folder_without_tensors(tmp_path: Path) -> None:
    model = muxwrap.wrap(make("mlp"), 2, example_input=batch("mlp", 2))
    model.save_pretrained(tmp_path)
    for file in tmp_path.iterdir():
        if file.name != "muxwrap.json":
            file.unlink()
    with pytest.raises(
        MuxwrapError, match=r"model\.safetensors is not there; give a folder that save_pretrained wrote"
    ):
        muxwrap.load(tmp_path, make("mlp"))


# -- published, theory ------------------------------------------------------------------------------------------------


def test_published_models_need_transformers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(MuxwrapError, match=r"published models are Transformers models; pip install 'muxwrap\[hf\]'"):
        backbones.make_backbone(SimpleNamespace())  # type: ignore[arg-type]


def test_the_published_prefix_needs_its_vocabulary() -> None:
    config = SimpleNamespace(n=2, demuxing="index", family="bert", task="sequence")
    sizes = SimpleNamespace(hidden_size=8, layer_norm_eps=1e-12, vocab_size=100)
    with pytest.raises(MuxwrapError, match=r"prefix has the ids .*, and vocab_size=100; give the config"):
        published_modules.make_demuxer(config, sizes, keep_prefix=False)  # type: ignore[arg-type]


def test_attention_of_another_module() -> None:
    with pytest.raises(MuxwrapError, match=r"Linear is not an nn\.MultiheadAttention; give one"):
        theory_weights.attention_of(nn.Linear(2, 2))  # type: ignore[arg-type]


# -- training ---------------------------------------------------------------------------------------------------------


def tagger() -> muxwrap.Multiplex:
    return muxwrap.wrap(make("tagger"), 2, mux_at="embed", demux_at="out", example_input=batch("tagger", 2))


def test_retrieval_needs_the_tokens_of_the_trunk() -> None:
    model, ids = tagger(), SimpleNamespace(ids=torch.zeros(2, 7, dtype=torch.long))
    with pytest.raises(MuxwrapError, match=r"7 tokens went in and .* came out.*needs a trunk that keeps every token"):
        separate(model, None, torch.zeros(1, 5, 16), ids)  # type: ignore[arg-type]
    elsewhere = SimpleNamespace(output=Site("encoder", "output", -1, 32))
    with pytest.raises(MuxwrapError, match=r"dim 32.*the demuxer works on 16 features; wrap with demux_at="):
        head_at(model, elsewhere)  # type: ignore[arg-type]


def test_retrieval_needs_an_embedding_of_token_ids() -> None:
    class OneHot(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed, self.layer, self.head = nn.Identity(), nn.Linear(30, 30), nn.Linear(30, 5)

        def forward(self, input_ids: Tensor) -> Tensor:
            x = self.embed(torch.nn.functional.one_hot(input_ids, 30).float())
            return self.head(torch.tanh(self.layer(x)))

    ids = batch("tagger", 2)
    model = muxwrap.wrap(OneHot(), 2, mux_at="embed", demux_at="head", example_input=ids)
    with pytest.raises(MuxwrapError, match=r"no input embedding found in OneHot.*needs a text model that embeds"):
        find_token_sites(model, {"input_ids": ids})
