"""What cannot work is refused: the message repeats the call and names the way out, and the model stays as it was."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from nets import batch, make
from torch import Tensor, nn

import muxwrap
from muxwrap import MuxwrapError

X = {name: batch(name, 2) for name in ("mlp", "cnn", "tagger")}


class Twice(nn.Module):
    """Runs one layer twice and another never."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.layer, self.unused, self.head = (nn.Linear(12, 12) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.layer(self.layer(self.stem(x))))


CASES: list[tuple[str, dict[str, Any], str]] = [
    ("mlp", {"n": 0}, r"n=0 is below 1"),
    ("mlp", {"n": -2}, r"n=-2 is below 1"),
    ("mlp", {"n": 2.0}, r"n=2.0 is a float"),
    ("mlp", {"n": True}, r"n=True is a bool"),
    ("mlp", {"n": 2, "strategy": "hadamrd"}, r"unknown strategy 'hadamrd'; did you mean 'hadamard'"),
    ("mlp", {"n": 2, "demux": "mpl"}, r"unknown demuxer 'mpl'; did you mean 'mlp'"),
    ("mlp", {"n": 2, "strategy": 7}, r"strategy=7 is not a muxwrap.Strategy; give a name, a subclass"),
    ("mlp", {"n": 2, "strategy": nn.Linear}, r"Linear.*is not a muxwrap.Strategy"),
    ("mlp", {"n": 2, "mux_at": "stm"}, r"mux_at='stm' is not a module of MLP; did you mean 'stem'"),
    ("mlp", {"n": 2, "demux_at": "hed"}, r"demux_at='hed' is not a module of MLP; did you mean 'head'"),
    ("mlp", {"n": 2, "mux_at": "stem@inputs"}, r"did you mean 'input'"),
    ("mlp", {"n": 2, "mux_at": nn.Linear(1, 1)}, r"mux_at=Linear\(...\) is not a module of this MLP"),
    ("mlp", {"n": 2, "mux_at": 3}, r"mux_at=3 is of type int; give a module path"),
    ("mlp", {"n": 2, "mux_at": "head", "demux_at": "stem"}, r"demux_at has to come after mux_at"),
    ("mlp", {"n": 2, "example_input": None}, r"MLP does not say what it takes; give example_input="),
    ("mlp", {"n": 2, "example_input": torch.zeros(2, 13)}, r"the bare MLP fails on the example .*give example_input="),
    ("mlp", {"n": 2, "example_input": "x"}, r"example_input=.* holds no tensor with rows"),
    ("mlp", {"n": 17, "strategy": "binary"}, r"17.*16"),
    ("mlp", {"n": 17, "strategy": "slots"}, r"17.*16"),
    ("mlp", {"n": 17, "strategy": "low_rank"}, r"17.*16"),
    ("mlp", {"n": 2, "strategy": "hadamard", "demux": "unbind"}, r"key.*mlp"),
    ("mlp", {"n": 2, "demux": "index"}, r"take a demuxer without a prefix"),
    ("mlp", {"n": 2, "strategy": muxwrap.strategies.Hadamard(3, 16)}, r"n=3, dim=16\) does not fit n=2"),
    ("mlp", {"n": 2, "strategy": muxwrap.strategies.Hadamard(2, 15)}, r"dim=15\) does not fit"),
    ("mlp", {"n": 2, "strategy": muxwrap.strategies.Hadamard(2, 15)}, r"give its name and options"),
    ("tagger", {"n": 2, "mux_at": "@input"}, r"token ids cannot be mixed: mix their embeddings"),
]


@pytest.mark.parametrize(("net", "options", "message"), CASES)
def test_refused_with_a_message_and_unchanged(net: str, options: dict[str, Any], message: str) -> None:
    backbone = make(net)
    keys = list(backbone.state_dict())
    attributes = {path: set(vars(module)) for path, module in backbone.named_modules()}
    state = torch.get_rng_state()
    with pytest.raises(MuxwrapError, match=f"(?s){message}") as caught:
        muxwrap.wrap(backbone, **{"example_input": X[net], **options})
    assert f"n={options['n']!r}" in str(caught.value)
    assert type(backbone).__name__ in str(caught.value)
    assert list(backbone.state_dict()) == keys
    assert {path: set(vars(module)) for path, module in backbone.named_modules()} == attributes
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in backbone.modules())
    assert backbone.training
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(("path", "message"), [("layer", r"reached 2 times"), ("unused", r"never reached")])
@pytest.mark.parametrize("argument", ["mux_at", "demux_at"])
def test_a_site_has_to_run_exactly_once(argument: str, path: str, message: str) -> None:
    with pytest.raises(MuxwrapError, match=f"{argument}='{path}' is {message}"):
        muxwrap.wrap(Twice(), 2, example_input=torch.zeros(1, 12), **{argument: path})


def test_a_dense_matrix_over_an_image_names_the_structured_strategies() -> None:
    class Pixels(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.fc = nn.Conv2d(3, 4, 16, 16), nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.fc(self.conv(x).mean((2, 3)))

    with pytest.raises(MuxwrapError, match=r"(?s)150,?528.*(sign|permutation|walsh|circular)"):
        muxwrap.wrap(Pixels(), 2, "orthogonal", mux_at="@input", example_input=torch.zeros(1, 3, 224, 224))


def test_wrapped_already() -> None:
    model = muxwrap.wrap(make("mlp"), 2, example_input=X["mlp"])
    for again in (model, model.backbone, nn.Sequential(model)):
        with pytest.raises(MuxwrapError, match=r"wrapped already.*unwrap"):
            muxwrap.wrap(again, 2, example_input=X["mlp"])
    muxwrap.wrap(muxwrap.unwrap(model), 3, example_input=X["mlp"])


def test_exported_programs_are_refused() -> None:
    exported = torch.export.export(make("mlp"), (X["mlp"],)).module()
    for backbone, place in ((exported, "its root"), (torch.nn.Sequential(exported), "'0'")):
        with pytest.raises(MuxwrapError, match=rf"it is an exported program \(at {place}\).*wrap the Python module"):
            muxwrap.wrap(backbone, 2, example_input=X["mlp"])


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_scripted_backbones_are_refused() -> None:
    for scripted in (torch.jit.script(make("mlp")), torch.jit.trace(make("mlp"), X["mlp"])):
        with pytest.raises(MuxwrapError, match=r"it is scripted \(at its root\).*put the Python module there"):
            muxwrap.wrap(scripted, 2, example_input=X["mlp"])
        backbone = make("mlp")
        backbone.hidden = scripted.hidden
        with pytest.raises(MuxwrapError, match=r"it is scripted \(at 'hidden'\)"):
            muxwrap.wrap(backbone, 2, example_input=X["mlp"])


def compiled(way: str) -> nn.Module:
    backbone = make("mlp").eval()
    if way == "torch.compile":
        return torch.compile(backbone, backend="eager")  # type: ignore[return-value]
    if way == "torch.compile inside":
        backbone.hidden = torch.compile(backbone.hidden, backend="eager")
    elif way == "compile":
        backbone.compile(backend="eager")
    else:
        backbone.hidden.compile(backend="eager")
    return backbone


@pytest.mark.parametrize("way", ["torch.compile", "torch.compile inside", "compile", "compile inside"])
def test_compiled_backbones_are_refused_before_anything_runs(way: str) -> None:
    backbone = compiled(way)
    backbone.register_forward_pre_hook(lambda *_: pytest.fail("the model was called"))
    place = r"'hidden'" if "inside" in way else "its root"
    what = r"it is compiled" if "torch" in way else r"compile\(\) was called"
    with pytest.raises(MuxwrapError, match=rf"{what} \(at {place}\)") as caught:
        muxwrap.wrap(backbone, 2, example_input=X["mlp"])
    assert "\n" not in str(caught.value)


def test_the_way_out_for_compiled_backbones() -> None:
    x = batch("mlp", 5)
    for way in ("torch.compile", "compile"):
        backbone = compiled(way)
        backbone(x)
        if way == "torch.compile":
            backbone = backbone._orig_mod
        else:
            backbone._compiled_call_impl = None
        model = muxwrap.wrap(backbone, 2, example_input=X["mlp"])
        torch.testing.assert_close(torch.compile(model, backend="eager")(x), model(x))


def test_a_module_above_the_site_was_replaced() -> None:
    class Nested(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = make("mlp")
            self.head = nn.Sequential(nn.Dropout(), nn.Linear(5, 5))

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.body(x))

    backbone = Nested().eval()
    model = muxwrap.wrap(backbone, 2, mux_at="body.stem", demux_at="head.1", example_input=X["mlp"])
    model.backbone.head = nn.Linear(5, 3)
    with pytest.raises(MuxwrapError, match=r"head.1.* was replaced after wrapping.*wrap it again"):
        model(batch("mlp", 5))
    again = muxwrap.wrap(muxwrap.unwrap(model), 2, example_input=X["mlp"])
    assert again(batch("mlp", 5)).shape == (5, 3)


def test_a_replaced_module_is_named_before_the_arguments() -> None:
    transformers = pytest.importorskip("transformers")
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    config = transformers.BertConfig(vocab_size=50, max_position_embeddings=16, **sizes)
    model = muxwrap.wrap(transformers.BertForSequenceClassification(config), 2).eval()
    embeddings = model.backbone.bert.embeddings
    model.backbone.bert.embeddings = type(embeddings)(config)
    with pytest.raises(MuxwrapError, match="was replaced after wrapping"):
        model(input_ids=torch.ones(4, 7, dtype=torch.long), labels=torch.zeros(2, dtype=torch.long))


@pytest.mark.parametrize("thing", [None, "resnet18", 3])
def test_not_a_module(thing: object) -> None:
    with pytest.raises(MuxwrapError, match=r"is not a torch.nn.Module"):
        muxwrap.wrap(thing, 2)  # type: ignore[arg-type]
    with pytest.raises(MuxwrapError, match=r"unwrap takes what wrap returned"):
        muxwrap.unwrap(thing)  # type: ignore[arg-type]


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_check_finite_names_the_rows(bad: float) -> None:
    model = muxwrap.wrap(make("mlp"), 2, example_input=X["mlp"], check_finite=True)
    x = batch("mlp", 5)
    model(x)
    x[3, 0] = bad
    with pytest.raises(MuxwrapError, match=r"rows \[3\]"):
        model(x)
    muxwrap.wrap(muxwrap.unwrap(model), 2, example_input=X["mlp"])(x)  # without the check it passes on what it got


def test_a_wrong_feature_size_at_run_time() -> None:
    model = muxwrap.wrap(make("cnn"), 2, "sign", mux_at="@input", example_input=X["cnn"])
    with pytest.raises(MuxwrapError, match=r"Sign\(n=2, dim=72\) got \[1, 2, 128\]"):
        model(torch.zeros(2, 2, 8, 8))


def test_a_replaced_head_is_noticed() -> None:
    model = muxwrap.wrap(make("mlp"), 2, example_input=X["mlp"])
    with pytest.raises(MuxwrapError, match=r"model.backbone"):
        model.head = nn.Linear(20, 3)
    model.backbone.head = nn.Linear(20, 3)
    with pytest.raises(MuxwrapError, match=r"was replaced"):
        model(X["mlp"])


def test_generate_and_other_methods_are_not_silently_the_bare_models() -> None:
    class Talker(type(make("mlp"))):  # type: ignore[misc]
        def generate(self) -> str:
            return "bare"

        def predict(self) -> str:
            return "bare"

    model = muxwrap.wrap(Talker(), 2, example_input=X["mlp"])
    with pytest.raises(MuxwrapError, match=r"generate\(\) is not supported"):
        model.generate()
    with pytest.raises(AttributeError, match=r"model.backbone.predict\(\)"):
        model.predict()
    assert not hasattr(model, "predict")
    assert model.backbone.predict() == "bare"


def test_registering_a_taken_name() -> None:
    with pytest.raises(MuxwrapError, match=r"register\('sign'\): the strategy Sign has that name"):

        @muxwrap.register_strategy("sign")
        class Other(muxwrap.strategies.Sign):
            pass
