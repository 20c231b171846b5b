"""Rows dealt at random in training: the same answers as for rows that the user has shuffled, in the order given."""

from __future__ import annotations

import copy
from functools import partial

import pytest
import texts
import torch
from nets import MLP
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

import muxwrap
from muxwrap.demuxers import Index
from muxwrap.training import RetrievalLoss

EXAMPLE = torch.zeros(1, 12)


def pair(n: int = 3, **options: object) -> tuple[muxwrap.Multiplex, muxwrap.Multiplex]:
    """A model that shuffles, and an equal one that does not."""
    torch.manual_seed(0)
    net = MLP()
    return tuple(  # type: ignore[return-value]
        muxwrap.wrap(copy.deepcopy(net), n, shuffle=shuffle, example_input=EXAMPLE, **options).train()
        for shuffle in (True, False)
    )


def order_of(rows: int, seed: int = 7) -> Tensor:
    """The order that the next call draws; the random state is as before the draw."""
    torch.manual_seed(seed)
    order = torch.randperm(rows)
    torch.manual_seed(seed)
    return order


@pytest.mark.parametrize("rows", [1, 2, 3, 7, 12])
def test_answers_and_gradients_are_those_of_shuffled_rows_put_back(rows: int) -> None:
    shuffled, plain = pair()
    x, weight = torch.randn(rows, 12), torch.randn(rows, 5)
    order = order_of(rows)
    out = shuffled(x)
    expected = plain(x[order])
    assert torch.equal(out[order], expected)
    (out * weight).sum().backward()
    (expected * weight[order]).sum().backward()
    others = dict(plain.named_parameters())
    for name, p in shuffled.named_parameters():
        torch.testing.assert_close(p.grad, others[name].grad, msg=name)


def test_in_evaluation_rows_keep_their_order() -> None:
    shuffled, plain = pair()
    x = torch.randn(8, 12)
    assert torch.equal(shuffled.eval()(x), plain.eval()(x))


def test_every_row_meets_every_index_and_every_companion() -> None:
    shuffled, _ = pair()
    met = torch.zeros(6, 3)
    for call in range(300):
        order = order_of(6, call)
        met[order, torch.arange(6) % 3] += 1
        shuffled(torch.randn(6, 12))
    assert not torch.equal(torch.randperm(6), order_of(6, 299))  # the calls have drawn of torch's generator
    assert ((met - 100).abs() < 5 * (300 * 2 / 9) ** 0.5).all()


@pytest.mark.parametrize("demux", ["mlp", partial(Index, sentinel_ids=(9, 1, 2), prefix_outputs=1), "index"])
def test_sentences_travel_with_their_masks_and_labels(demux: object) -> None:
    bare = texts.tiny("sequence", "bert")
    options: dict[str, object] = {}
    if isinstance(demux, partial):
        found = muxwrap.find_sites(bare)
        options["sites"] = muxwrap.Sites(found.mux, found.demux, "ignored")
    shuffled = muxwrap.wrap(copy.deepcopy(bare), 2, demux=demux, shuffle=True, **options).train()  # type: ignore[arg-type]
    plain = muxwrap.wrap(bare, 2, demux=demux, shuffle=False, **options).train()  # type: ignore[arg-type]
    for module in (*shuffled.modules(), *plain.modules()):
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    batch = texts.sentences((5, 3, 6, 4, 2)) | {"labels": torch.tensor([0, 1, 2, 1, 0])}
    order = order_of(5)
    out = shuffled(**batch)
    expected = plain(**{key: value[order] for key, value in batch.items()})
    torch.testing.assert_close(out.logits[order], expected.logits)
    torch.testing.assert_close(out.loss, expected.loss)


def test_retrieval_asks_for_the_tokens_of_the_instance_that_stands_there() -> None:
    bare = texts.tiny("sequence", "bert", attention_probs_dropout_prob=0.0, hidden_dropout_prob=0.0)
    shuffled = muxwrap.wrap(copy.deepcopy(bare), 2, shuffle=True)
    plain = muxwrap.wrap(bare, 2, shuffle=False)
    batch = texts.sentences((5, 3, 6, 4, 2)) | {"labels": torch.tensor([0, 1, 2, 1, 0])}
    for task in (0.0, 0.5):
        losses = [RetrievalLoss(model, task=task, indices="all").train() for model in (shuffled, plain)]
        order = order_of(5)
        found = losses[0](**batch)
        expected = losses[1](**{key: value[order] for key, value in batch.items()})
        torch.testing.assert_close(found.loss, expected.loss)


def test_checkpointing_runs_a_call_again_in_the_same_order() -> None:
    model, _ = pair()
    x, weight = torch.randn(7, 12), torch.randn(7, 5)
    gradients = []
    for call in (model, lambda rows: checkpoint(model, rows, use_reentrant=False)):
        model.zero_grad()
        torch.manual_seed(3)
        (call(x) * weight).sum().backward()
        gradients.append([p.grad.clone() for p in model.parameters()])
    for found, expected in zip(*gradients, strict=True):
        torch.testing.assert_close(found, expected)


def test_compiled_in_one_graph_it_draws_anew_in_every_call() -> None:
    model, plain = pair()
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    x = torch.randn(7, 12)
    for seed in (1, 2):
        order = order_of(7, seed)
        torch.testing.assert_close(compiled(x)[order], plain(x[order]))


def test_the_choice_is_saved_copied_and_changed(tmp_path: object) -> None:
    model, plain = pair()
    model.save_pretrained(str(tmp_path))
    assert muxwrap.load(str(tmp_path), MLP()).shuffle is True
    assert copy.deepcopy(model).shuffle is True
    plain.shuffle = True
    x, answers = torch.randn(7, 12), []
    for each in (plain, model):
        torch.manual_seed(3)
        answers.append(each(x))
    assert torch.equal(*answers)
    with pytest.raises(muxwrap.MuxwrapError, match="shuffle='yes'"):
        muxwrap.wrap(MLP(), 2, shuffle="yes", example_input=EXAMPLE)  # type: ignore[arg-type]
