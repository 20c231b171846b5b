"""One set of weights with several numbers of rows per mixture."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from nets import batch, make

import muxwrap
from muxwrap.errors import MuxwrapError
from muxwrap.evaluation import evaluate

SIZES = (1, 2, 4)


def wrapped(net: str = "mlp") -> muxwrap.Multiplex:
    return muxwrap.wrap(make(net), SIZES, "slots", "mlp", example_input=batch(net, 1)).eval()


@pytest.mark.parametrize("net", ["mlp", "cnn", "tagger"])
def test_at_its_largest_n_it_is_the_plain_wrapper(net: str) -> None:
    model, x = wrapped(net), batch(net, 6)
    plain = muxwrap.wrap(make(net), 4, "slots", "mlp", example_input=batch(net, 1)).eval()
    plain.load_state_dict(model.state_dict())
    torch.testing.assert_close(model(x), plain(x), rtol=0, atol=0)


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("rows", range(1, 8))
def test_the_trunk_runs_once_per_n_rows(n: int, rows: int) -> None:
    model, x, seen = wrapped(), batch("mlp", rows), []
    model.backbone.hidden.register_forward_pre_hook(lambda _, args: seen.append(len(args[0])))
    with model.at(n):
        answers = model(x)
    assert seen == [-(-rows // n)] and answers.shape == (rows, 5)
    assert model.n == 4


@given(rows=st.integers(1, 9), n=st.sampled_from(SIZES))
def test_a_row_gets_the_mean_of_the_indices_that_it_takes(rows: int, n: int) -> None:
    model, x, copies = wrapped(), batch("mlp", rows), 4 // n
    full = model(x.repeat_interleave(copies, 0))
    torch.testing.assert_close(model.fixed(n)(x), full.unflatten(0, (rows, copies)).mean(1))


def test_setting_lasts_and_is_carried_along(tmp_path: Path) -> None:
    model, x = wrapped(), batch("mlp", 5)
    model.n = 2
    twins = [copy.deepcopy(model), pickle.loads(pickle.dumps(model))]
    model.save_pretrained(tmp_path)
    twins.append(muxwrap.load(tmp_path, make("mlp")).eval())
    for twin in twins:
        assert (twin.n, twin.sizes) == (2, SIZES)
        torch.testing.assert_close(twin(x), model(x))
        twin.n = 4
    assert model.n == 2


def test_a_view_stays_at_its_n() -> None:
    model, x = wrapped(), batch("mlp", 4)
    view, expected = model.fixed(1), model.ensemble(x)
    model.n = 4
    torch.testing.assert_close(view(x), expected)
    assert {id(p) for p in view.parameters()} == {id(p) for p in model.parameters()}


def test_a_view_exports() -> None:
    view, x = wrapped().fixed(2), batch("mlp", 4)
    program = torch.export.export(view, (x,))
    torch.testing.assert_close(program.module()(x), view(x))


def test_compiled_code_follows_a_change_of_n() -> None:
    model, x = wrapped(), batch("mlp", 4)
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    for n in SIZES:
        model.n = n
        torch.testing.assert_close(compiled(x), model(x))


def test_every_n_trains_the_same_weights() -> None:
    model, x = wrapped().train(), batch("mlp", 8)
    for n in SIZES:
        with model.at(n):
            model.zero_grad()
            model(x).square().sum().backward()
        assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters()), n


def test_losses_of_the_backbone_are_those_of_the_rows() -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.BertConfig(
        vocab_size=50, hidden_size=24, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32
    )
    model = muxwrap.wrap(transformers.BertForTokenClassification(config), (1, 2)).eval()
    ids = torch.randint(1, 50, (4, 6))
    labels = ids % 2
    labels[0, :3] = -100
    model.n = 1
    output = model(input_ids=ids, labels=labels)
    counted = model(input_ids=ids, labels=labels, num_items_in_batch=(labels >= 0).sum())
    torch.testing.assert_close(output.loss, counted.loss)
    assert output.logits.shape == (4, 6, 2)


def test_evaluation_groups_by_the_n_that_is_set() -> None:
    model, x = wrapped(), batch("mlp", 12)
    labels = torch.arange(12) % 5
    model.n = 2
    found = evaluate(model, [(x, labels)], groupings=2, progress=False)
    assert len(found.per_index) == 2


@pytest.mark.parametrize(
    ("n", "message"),
    [
        ((2, 3), r"n=\(2, 3\): 2 does not divide 3, .* give divisors of 3"),
        ((), r"n=\(\) is empty"),
        ((0, 2), "n=0 is below 1"),
        ((1, "2"), "n='2' is a str"),
    ],
)
def test_sizes_that_do_not_go_together(n: tuple[object, ...], message: str) -> None:
    net = make("mlp")
    with pytest.raises(MuxwrapError, match=message):
        muxwrap.wrap(net, n, example_input=batch("mlp", 1))
    muxwrap.wrap(net, 2, example_input=batch("mlp", 1))  # it was left bare


def test_other_sizes_are_refused() -> None:
    model = wrapped()
    with pytest.raises(MuxwrapError, match=r"model\.n = 3: the model was wrapped for n=\(1, 2, 4\)"):
        model.n = 3
    with pytest.raises(MuxwrapError, match=r"model\.fixed\(8\): the model was wrapped for"):
        model.fixed(8)
    assert model.n == 4
    model.n = 2
    with pytest.raises(MuxwrapError, match=r"at n=2 a row takes several; set model\.n = 4 before"):
        muxwrap.training.start_apart(model, batch("mlp", 1))


def test_a_step_of_the_sandwich_rule() -> None:
    model = muxwrap.wrap(make("mlp"), (1, 2, 4, 8), example_input=batch("mlp", 1))
    model.n = 2
    steps = [list(muxwrap.training.sandwich(model)) for _ in range(20)]
    assert all(step[:2] == [1, 8] and len(step) == 3 for step in steps)
    assert {step[2] for step in steps} == {2, 4}
    assert list(muxwrap.training.sandwich(model, between=5))[:2] == [1, 8]
    assert model.n == 2
    for _ in muxwrap.training.sandwich(model):
        break  # a step that is given up
    assert model.n == 2


def test_one_size_is_no_sandwich() -> None:
    model = muxwrap.wrap(make("mlp"), 4, example_input=batch("mlp", 1))
    with pytest.raises(MuxwrapError, match=r"wrapped for n=4 alone; give wrap several sizes"):
        next(muxwrap.training.sandwich(model))


def test_a_backbone_with_a_name_of_the_wrapper() -> None:
    net = make("mlp")
    net.fixed = 3
    model = muxwrap.wrap(net, 2, example_input=batch("mlp", 1))
    with pytest.raises(MuxwrapError, match=r"model\.fixed is a method of the wrapper; .* is model\.backbone\.fixed"):
        model.fixed = 4
    model.backbone.fixed = 4
    assert callable(model.fixed) and net.fixed == 4


def test_where_tokens_are_pooled_n_of_them_are() -> None:
    """Nothing is repeated: at n=2 the mixtures are those of a model that was wrapped for 2."""
    transformers = pytest.importorskip("transformers")
    config = transformers.BertConfig(
        vocab_size=50, hidden_size=24, num_hidden_layers=3, num_attention_heads=2, intermediate_size=32
    )
    backbone = transformers.BertForSequenceClassification(config).eval()
    ids = torch.randint(1, 50, (5, 12))
    alone = {}
    for n in SIZES:
        model = muxwrap.wrap(backbone, n, "pool", mux_at="bert.encoder.layer.0")
        alone[n] = model(input_ids=ids).logits
        muxwrap.unwrap(model)
    model = muxwrap.wrap(backbone, SIZES, "pool", mux_at="bert.encoder.layer.0")
    for n in SIZES:
        torch.testing.assert_close(model.fixed(n)(input_ids=ids).logits, alone[n])
    with pytest.raises(
        MuxwrapError, match=r"model\.ensemble\(\.\.\.\): pool gives a row the same answer at every index"
    ):
        model.ensemble(input_ids=ids)


def test_loading_into_a_wrapped_model_sets_the_saved_n(tmp_path: Path) -> None:
    model = wrapped()
    model.n = 2
    model.save_pretrained(tmp_path)
    assert muxwrap.load(tmp_path, wrapped()).n == 2


def test_features_of_a_row_that_takes_several_indices_are_not_shuffled() -> None:
    """In training, too, the copies of a row stay in one mixture, as in a whole call."""
    timm = pytest.importorskip("timm")
    backbone = timm.create_model("test_vit", num_classes=5)
    model = muxwrap.wrap(backbone, (1, 2), mux_at="patch_embed", demux_at="norm@output", shuffle=True).train()
    x = torch.randn(3, 3, 160, 160)
    whole = model.forward_features(x)
    model.n = 1
    alone = model.forward_features(x)
    torch.testing.assert_close(model.forward_features(x), alone)  # no order is drawn
    assert whole.shape == alone.shape
