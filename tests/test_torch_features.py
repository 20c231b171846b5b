"""What users do with any PyTorch module: copy, pickle, cast, compile, export, checkpoint gradients, call from threads."""

from __future__ import annotations

import copy
import io
import pickle
import warnings
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest
import torch
from nets import batch, make
from texts import sentences, tiny
from torch import nn
from torch.utils.checkpoint import checkpoint

import muxwrap
from muxwrap.strategies import Hadamard

STRATEGIES = muxwrap.list_strategies("features")
PAIRS = [(strategy, "mlp") for strategy in STRATEGIES] + [("sign", "key"), ("sign", "index"), ("sign", "unbind")]


def wrapped(net: str = "cnn", n: int = 3, strategy: str = "slots", demux: str = "mlp") -> muxwrap.Multiplex:
    return muxwrap.wrap(make(net), n, strategy, demux, example_input=batch(net, 1)).eval()


def hook_keys(model: nn.Module) -> set[object]:
    hooks = [h for m in model.modules() for h in (*m._forward_hooks.values(), *m._forward_pre_hooks.values())]
    return {hook.args[0] for hook in hooks}


@pytest.mark.parametrize(("strategy", "demux"), PAIRS)
@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_copies_are_independent(strategy: str, demux: str, duplicate: object) -> None:
    model = wrapped("tagger", 3, strategy, demux)
    x = batch("tagger", 4)
    twin = duplicate(model)
    assert type(twin) is type(model)
    torch.testing.assert_close(twin(x), model(x), rtol=0, atol=0)
    assert hook_keys(twin) == {twin._attachment.key}
    answer = model(x)
    with torch.no_grad():
        for value in twin.parameters():
            value.add_(1.0)
    torch.testing.assert_close(model(x), answer, rtol=0, atol=0)
    assert not torch.allclose(twin(x), answer)
    muxwrap.unwrap(twin)
    assert hook_keys(model) == {model._attachment.key}
    torch.testing.assert_close(model(x), answer, rtol=0, atol=0)


def test_a_layer_saved_or_copied_alone_is_as_large_as_the_layer() -> None:
    model = wrapped()
    head = model.backbone.get_submodule(model.sites.demux[0].path)
    sizes = {}
    for name, layer in {"alone": copy.deepcopy(head), "hooked": head}.items():
        if name == "alone":
            layer._forward_hooks.clear()
            layer._forward_pre_hooks.clear()
        file = io.BytesIO()
        torch.save(layer, file)
        sizes[name] = file.tell()
    assert sizes["hooked"] < sizes["alone"] + 2000  # the hook itself
    x = torch.randn(3, head.in_features)
    assert torch.equal(copy.deepcopy(head)(x), head(x))  # outside of a call a hook does nothing


def test_torch_save_of_the_whole_model() -> None:
    model, x = wrapped(), batch("cnn", 4)
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    torch.testing.assert_close(torch.load(file, weights_only=False)(x), model(x), rtol=0, atol=0)


@pytest.mark.parametrize(("strategy", "demux"), PAIRS)
def test_state_dict_has_the_backbones_names_under_one_prefix(strategy: str, demux: str) -> None:
    model = wrapped("tagger", 3, strategy, demux)
    bare = make("tagger").state_dict()
    own = {key: value for key, value in model.state_dict().items() if key.startswith("backbone.")}
    assert list(own) == [f"backbone.{key}" for key in bare]
    others = {key.split(".")[0] for key in model.state_dict()} - {"backbone"}
    assert others <= {"strategy", "demuxers"}
    twin = muxwrap.wrap(make("tagger", seed=1), 3, strategy, demux, example_input=batch("tagger", 1), seed=5).eval()
    x = batch("tagger", 4)
    assert not torch.allclose(twin(x), model(x))
    twin.load_state_dict(model.state_dict())
    torch.testing.assert_close(twin(x), model(x), rtol=0, atol=0)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_casts(strategy: str, dtype: torch.dtype) -> None:
    model, x = wrapped("mlp", 3, strategy), batch("mlp", 5)
    answer = model(x)
    low = model.to(dtype)(x.to(dtype))
    assert low.dtype == dtype
    torch.testing.assert_close(low.float(), answer, rtol=0.1, atol=0.1)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_autocast(strategy: str) -> None:
    model, x = wrapped("cnn", 3, strategy), batch("cnn", 5)
    with torch.autocast("cpu", torch.bfloat16):
        low = model(x)
        low.float().sum().backward()
    torch.testing.assert_close(low.float(), model(x), rtol=0.1, atol=0.1)


def test_wrapping_a_low_precision_model_follows_its_dtype() -> None:
    model = muxwrap.wrap(make("cnn").bfloat16(), 3, example_input=batch("cnn", 1).bfloat16()).eval()
    assert {value.dtype for value in model.parameters()} == {torch.bfloat16}
    assert model(batch("cnn", 4).bfloat16()).dtype == torch.bfloat16


class TwoTypes(nn.Module):
    """A trunk in bfloat16, and a head that stays in float32."""

    def __init__(self) -> None:
        super().__init__()
        self.net = make("mlp").bfloat16()
        self.act = nn.Tanh()
        self.net.head.float()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.net.head(self.act(torch.tanh(self.net.hidden(torch.tanh(self.net.stem(x))))).float())


@pytest.mark.parametrize("given", ["example", "paths", "sites"])
@pytest.mark.parametrize("demux_at", ["net.head", "net.hidden@output"])
def test_added_modules_follow_the_dtype_of_their_site(demux_at: str, given: str) -> None:
    torch.manual_seed(0)
    x = batch("mlp", 5).bfloat16()
    where = {} if given == "example" else {"mux_at": "net.stem", "demux_at": demux_at}
    model = muxwrap.wrap(TwoTypes(), 2, "hadamard", example_input=x, **where)
    if given == "sites":
        sites = model.sites
        model = muxwrap.wrap(muxwrap.unwrap(model), 2, "hadamard", sites=sites)
    after = torch.float32 if model.sites.demux[0].path == "net.head" else torch.bfloat16
    assert {p.dtype for p in model.demuxers.parameters()} == {after}
    assert {value.dtype for value in model.strategy.state_dict().values()} == {torch.bfloat16}
    answer = model(x)
    assert (answer.dtype, answer.shape) == (torch.float32, (5, 5))
    answer.square().sum().backward()
    assert all(p.grad is not None and p.grad.dtype == p.dtype for p in model.parameters())


@pytest.mark.parametrize(("site", "expected"), [("act@input", torch.bfloat16), ("act@output", torch.bfloat16)])
def test_a_site_without_weights_takes_the_dtype_that_passes_there(site: str, expected: torch.dtype) -> None:
    x = batch("mlp", 5).bfloat16()
    model = muxwrap.wrap(TwoTypes(), 2, mux_at="net.stem", demux_at=site, example_input=x)
    assert {p.dtype for p in model.demuxers.parameters()} == {expected}
    assert model(x).dtype == torch.float32


@pytest.mark.parametrize(
    ("strategy", "demux"), [("slots", "mlp"), ("circular", "key"), ("sign", "index"), ("walsh", "unbind")]
)
def test_compile_without_graph_breaks(strategy: str, demux: str) -> None:
    torch._dynamo.reset()
    model = wrapped("tagger", 3, strategy, demux)
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    for rows in (6, 5, 1):
        x = batch("tagger", rows)
        torch.testing.assert_close(compiled(x), model(x))


def test_module_compile_keeps_names_and_trains() -> None:
    torch._dynamo.reset()
    model, plain = wrapped().train(), wrapped().train()
    names = list(model.state_dict())
    model.compile(fullgraph=True, backend="aot_eager")
    assert list(model.state_dict()) == names
    x = batch("cnn", 6)
    for one in (model, plain):
        one(x).square().sum().backward()
    for (name, p), q in zip(model.named_parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(p.grad, q.grad, rtol=1e-3, atol=1e-4, msg=name)
    muxwrap.unwrap(model)


@pytest.mark.parametrize(("strategy", "demux"), PAIRS)
def test_export_with_a_free_number_of_groups(strategy: str, demux: str) -> None:
    model = wrapped("tagger", 3, strategy, demux)
    grouped = model.grouped()
    x = batch("tagger", 6).unflatten(0, (2, 3))
    program = torch.export.export(grouped, (x,), dynamic_shapes=({0: torch.export.Dim("groups")},))
    for groups in (1, 2, 5):
        x = batch("tagger", 3 * groups).unflatten(0, (groups, 3))
        torch.testing.assert_close(program.module()(x), grouped(x))
        torch.testing.assert_close(grouped(x).flatten(0, 1), model(x.flatten(0, 1)))


def test_gradient_checkpointing_of_the_trunk() -> None:
    class Checkpointed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = make("tagger")
            self.on = False

        def forward(self, ids: torch.Tensor) -> torch.Tensor:
            x = self.net.embed(ids)
            x = checkpoint(self.net.encoder, x, use_reentrant=False) if self.on else self.net.encoder(x)
            return self.net.out(x)

    x = batch("tagger", 5)
    grads = []
    for on in (False, True):
        model = muxwrap.wrap(Checkpointed(), 2, mux_at="net.embed", demux_at="net.out", example_input=x)
        model.backbone.on = on
        model(x).square().sum().backward()
        grads.append([p.grad for p in model.parameters()])
    torch.testing.assert_close(grads[0], grads[1])


class Segment(nn.Module):
    """An MLP of whose children some run inside a checkpointed segment."""

    def __init__(self, inside: str, on: bool, reentrant: bool = True) -> None:
        super().__init__()
        self.net, self.inside, self.on, self.reentrant = make("mlp"), inside.split(), on, reentrant

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for name in ("stem", "hidden", "head"):
            layer = partial(self._run, name)
            checkpointed = self.on and name in self.inside
            x = checkpoint(layer, x, use_reentrant=self.reentrant) if checkpointed else layer(x)
        return x

    def _run(self, name: str, x: torch.Tensor) -> torch.Tensor:
        return torch.tanh(self.net.get_submodule(name)(x))


def gradients(inside: str, on: bool, around: bool = False) -> list[torch.Tensor | None]:
    x = batch("mlp", 5).requires_grad_()
    model = muxwrap.wrap(Segment(inside, False), 2, mux_at="net.stem", demux_at="net.head", example_input=x)
    model.backbone.on = on and not around
    answer = checkpoint(model, x, use_reentrant=True) if on and around else model(x)
    answer.square().sum().backward()
    return [p.grad for p in model.parameters()]


@pytest.mark.parametrize(("inside", "around"), [("hidden", False), ("", True)])
def test_reentrant_checkpointing_between_or_around_the_sites(inside: str, around: bool) -> None:
    torch.testing.assert_close(gradients(inside, True, around), gradients(inside, False, around))


@pytest.mark.parametrize("inside", ["stem", "head", "stem hidden head"])
def test_reentrant_checkpointing_of_a_site_is_refused_in_backward(inside: str) -> None:
    with pytest.raises(muxwrap.MuxwrapError, match=r"use_reentrant=True runs a site again.*between the sites"):
        gradients(inside, on=True)


def test_the_bare_model_may_be_checkpointed_as_it_likes() -> None:
    """Backward runs the sites again there, too, and has the right gradients: nothing was mixed."""
    x = batch("mlp", 5).requires_grad_()
    model = muxwrap.wrap(Segment("stem hidden head", False), 2, mux_at="net.stem", demux_at="net.head", example_input=x)
    model(x).sum().backward()
    grads = []
    for on in (False, True):
        model.zero_grad()
        model.backbone.on = on
        model.backbone(x).square().sum().backward()
        grads.append([p.grad for p in model.backbone.parameters()])
    torch.testing.assert_close(grads[0], grads[1])


def test_two_threads_get_the_answers_of_one() -> None:
    model = wrapped("tagger", 3)
    inputs = [batch("tagger", rows, seed=rows) for rows in range(1, 25)]
    alone = [model(x) for x in inputs]
    with ThreadPoolExecutor(4) as pool:
        for _ in range(5):
            together = list(pool.map(model, inputs))
            torch.testing.assert_close(together, alone)


def test_an_error_inside_a_call_leaves_nothing_behind() -> None:
    model, x = wrapped("mlp"), batch("mlp", 4)
    bare = model.backbone(x)
    answer = model(x)
    with pytest.raises(RuntimeError):
        model(torch.randn(4, 13))
    torch.testing.assert_close(model(x), answer, rtol=0, atol=0)
    torch.testing.assert_close(model.backbone(x), bare, rtol=0, atol=0)


def test_data_parallel_is_refused_with_a_reason() -> None:
    with pytest.raises(muxwrap.MuxwrapError, match="DistributedDataParallel"):
        wrapped()._replicate_for_data_parallel()  # what nn.DataParallel calls on every module


def test_distributed_data_parallel(tmp_path: object) -> None:
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/rendezvous", rank=0, world_size=1)
    try:
        model, x = wrapped("mlp").train(), batch("mlp", 6)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            parallel = nn.parallel.DistributedDataParallel(model)
        parallel(x).sum().backward()
        grads = [p.grad.clone() for p in model.parameters()]
        model.zero_grad()
        model(x).sum().backward()
        torch.testing.assert_close(grads, [p.grad for p in model.parameters()])
    finally:
        torch.distributed.destroy_process_group()


def test_train_and_eval_modes_follow() -> None:
    model = wrapped()
    assert not model.training
    assert not model.demuxer.training
    model.train()
    assert all(module.training for module in model.modules())
    trained = muxwrap.wrap(make("cnn").eval(), 2, example_input=batch("cnn", 1))
    assert not any(module.training for module in trained.modules())


def test_what_is_drawn_again_between_folds_forgets_all_training() -> None:
    def draw_again(module: nn.Module) -> None:
        if hasattr(module, "reset_parameters"):
            module.reset_parameters()

    model, x = wrapped(), batch("cnn", 4)
    torch.manual_seed(0)
    expected = model.apply(draw_again)(x)
    with torch.no_grad():
        for value in model.parameters():
            value.add_(1.0)
    torch.manual_seed(0)
    torch.testing.assert_close(model.apply(draw_again)(x), expected, rtol=0, atol=0)


def test_what_is_wrapped_in_inference_mode_can_be_trained() -> None:
    backbone = make("cnn")
    with torch.inference_mode():
        model = muxwrap.wrap(backbone, 2, example_input=batch("cnn", 1)).train()
    model(batch("cnn", 4)).sum().backward()
    assert all(p.grad is not None for p in (*model.strategy.parameters(), *model.demuxers.parameters()))


def test_wrapping_leaves_modes_statistics_and_random_state_alone() -> None:
    backbone = make("cnn").train()
    backbone.norm.eval()
    statistics = backbone.norm.running_mean.clone()
    state = torch.get_rng_state()
    muxwrap.wrap(backbone, 4, example_input=batch("cnn", 2))
    assert backbone.training
    assert not backbone.norm.training
    assert torch.equal(backbone.norm.running_mean, statistics)
    assert torch.equal(torch.get_rng_state(), state)


def test_wrapped_models_may_be_parts_of_one() -> None:
    class Sum(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.parts = nn.ModuleList([wrapped("mlp", 2), wrapped("mlp", 3)])

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.parts[0](x) + self.parts[1](x)

    x = batch("mlp", 7)
    torch.testing.assert_close(Sum()(x), wrapped("mlp", 2)(x) + wrapped("mlp", 3)(x))


def test_partial_gives_a_strategy_its_options() -> None:
    hadamard = partial(Hadamard, norm=1.0)
    model = muxwrap.wrap(make("mlp"), 3, hadamard, example_input=batch("mlp", 1))
    torch.testing.assert_close(model.strategy.keys.norm(dim=1), torch.ones(3))


def test_dynamic_int8_of_the_backbone_under_the_wrapper() -> None:
    """Unwrap, quantise, wrap again with what was trained: the sites, the strategy and the demuxer fit as they are."""
    model, x = wrapped("mlp"), batch("mlp", 8)
    answer = model(x)
    strategy, demuxer, sites = model.strategy, model.demuxer, model.sites
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch announces the move of its quantisation to another package
        int8 = torch.ao.quantization.quantize_dynamic(muxwrap.unwrap(model), {nn.Linear})
        again = muxwrap.wrap(int8, 3, strategy, demuxer, sites=sites).eval()
        low = again(x)
    assert type(int8.hidden).__module__.startswith("torch.ao")
    assert again.strategy is strategy
    torch.testing.assert_close(low, answer, rtol=0.1, atol=0.05)
    assert not torch.equal(low, answer)


def test_dynamic_int8_of_the_wrapped_model() -> None:
    model, x = wrapped("mlp"), batch("mlp", 8)
    answer = model(x)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch announces the move of its quantisation to another package
        low = torch.ao.quantization.quantize_dynamic(model, {nn.Linear})
        answer_low = low(x)
    assert all(
        type(low.get_submodule(f"backbone.{name}")).__module__.startswith("torch.ao") for name in ("stem", "head")
    )
    torch.testing.assert_close(answer_low, answer, rtol=0.1, atol=0.05)
    assert not torch.equal(answer_low, answer)
    torch.testing.assert_close(model(x), answer, rtol=0, atol=0)
    bare = muxwrap.unwrap(low)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in bare.modules())
    assert any(m._forward_hooks or m._forward_pre_hooks for m in model.backbone.modules())


@pytest.mark.parametrize("model_type", ["bert", "distilbert", "gpt2"])
def test_dynamic_int8_of_a_wrapped_text_model(model_type: str) -> None:
    """Its masks come by keyword, and torch registers hooks anew without."""
    model = muxwrap.wrap(tiny("sequence", model_type, pad_token_id=0), 2).eval()
    x = sentences((8, 5, 6))
    answer = model(**x).logits
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        low = torch.ao.quantization.quantize_dynamic(model, {nn.Linear})
        answer_low = low(**x).logits
    assert any(type(module).__module__.startswith("torch.ao") for module in low.modules())
    assert 0 < (answer_low - answer).abs().max() < 0.1 * answer.abs().max()
    unmasked = low(input_ids=x["input_ids"]).logits
    assert not torch.allclose(unmasked, answer_low)  # the mask gets there


@pytest.mark.parametrize("way", ["autocast", "cast"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("net", ["mlp", "cnn", "tagger"])
def test_half_precision_keeps_the_answers(net: str, dtype: torch.dtype, way: str) -> None:
    """Within a few of the steps that the type has around 1: 2^-8 and 2^-11."""
    model, x = wrapped(net), batch(net, 7)
    answer = model(x)
    if way == "autocast":
        with torch.autocast("cpu", dtype):
            low = model(x)
    else:
        low = model.to(dtype)(x if not x.is_floating_point() else x.to(dtype))
    step = 2**-8 if dtype == torch.bfloat16 else 2**-11
    scale = answer.abs().max().item()
    assert (low.float() - answer).abs().max().item() < 8 * step * scale
    assert not torch.equal(low.float(), answer)
