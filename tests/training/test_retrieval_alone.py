"""The warm-up's objective in other training loops: one's own, a Trainer, Accelerate, and several processes."""

from __future__ import annotations

import copy
import os
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from accelerate import Accelerator
from helpers import assert_same_state
from texts import tiny
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from transformers import Trainer, TrainerCallback, TrainingArguments

import muxwrap
from muxwrap.training import RetrievalLoss, retrieval_head

VOCABULARY = 40
SIZES = {"vocab_size": VOCABULARY, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}


def sentences(count: int, seed: int = 0) -> Tensor:
    return torch.randint(VOCABULARY, (count, 6), generator=torch.Generator().manual_seed(seed))


def retrieval(indices: Any = "one", **config: Any) -> RetrievalLoss:
    model = muxwrap.wrap(tiny("sequence", "bert", **SIZES, **config), 2).train()
    return RetrievalLoss(model, task=0, retrieval=1, indices=indices)


def losses(loss: RetrievalLoss, steps: int, **autocast: Any) -> list[float]:
    optimizer, found = torch.optim.AdamW(loss.parameters(), 3e-3), []
    for _ in range(steps):
        with torch.autocast("cpu", **autocast):
            output = loss(sentences(16))
        optimizer.zero_grad()
        output.loss.backward()
        optimizer.step()
        found.append(float(output.loss.detach()))
    return found


@pytest.mark.parametrize("indices", ["one", "all"])
def test_a_loop_of_ones_own(indices: Any) -> None:
    loss = retrieval(indices=indices)
    found = losses(loss, 10, enabled=False)
    assert found[-1] < 0.9 * found[0]
    positions = loss(sentences(16)).positions
    assert positions == {"one": 8 * 6, "all": 16 * 6}[indices]


def test_mixed_precision() -> None:
    loss = retrieval()
    found = losses(loss, 10, dtype=torch.bfloat16)
    assert found[-1] < 0.9 * found[0]
    assert loss.head.bias.dtype == torch.float32


def test_it_is_the_retrieval_part_of_both_losses() -> None:
    model = muxwrap.wrap(tiny("sequence", "bert", **SIZES, **NO_DROPOUT), 2).train()
    head, batch = retrieval_head(model), {"input_ids": sentences(5), "labels": torch.tensor([0, 1, 2, 1, 0])}

    def loss_of(**coefficients: float) -> Tensor:
        loss: Tensor = RetrievalLoss(model, head, indices="all", **coefficients)(**batch).loss
        return loss.detach()

    alone = loss_of(task=0, retrieval=1)
    torch.testing.assert_close(loss_of(task=0.9, retrieval=0.1), 0.9 * model(**batch).loss + 0.1 * alone)
    torch.testing.assert_close(loss_of(task=0, retrieval=0.5), 0.5 * alone)


def test_the_head_of_the_model_neither_runs_nor_learns() -> None:
    loss = retrieval()
    loss.model.backbone.classifier.register_forward_hook(lambda *_: pytest.fail("the classifier ran"))
    loss(input_ids=sentences(4), labels=torch.tensor([0, 1, 2, 1])).loss.backward()
    assert loss.model.backbone.classifier.weight.grad is None
    assert all(p.grad is not None for p in loss.head.parameters())


class Tagger(nn.Module):
    """A text model of somebody's own: ids in, tags out."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(VOCABULARY, 16)
        self.body = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
        self.head = nn.Linear(16, 3)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.head(self.body(self.embed(tokens)))


def test_a_model_of_ones_own() -> None:
    torch.manual_seed(0)
    example = sentences(2)
    model = muxwrap.wrap(Tagger(), 2, mux_at="body@input", demux_at="head", example_input=example)
    loss = RetrievalLoss(model, task=0, retrieval=1, example=example)
    found = losses(loss, 10, enabled=False)
    assert found[-1] < found[0]
    assert torch.equal(loss.eval()(example), model.eval()(example))


class Interruption(TrainerCallback):
    """Stops a Trainer as a crash after its second step would, whose checkpoint is there."""

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step == 2:
            control.should_training_stop = True


def test_a_trainer_goes_on_as_if_it_had_not_stopped(tmp_path: Path) -> None:
    rows = [{"input_ids": ids} for ids in sentences(24)]

    def train(loss: RetrievalLoss, folder: str, resume: bool = False, **options: Any) -> RetrievalLoss:
        arguments = TrainingArguments(
            str(tmp_path / folder),
            max_steps=6,
            per_device_train_batch_size=8,
            learning_rate=3e-3,
            save_steps=2,
            report_to="none",
            use_cpu=True,
            disable_tqdm=True,
        )
        trainer = Trainer(loss, arguments, train_dataset=rows, **options)
        trainer.train(resume_from_checkpoint=resume)
        assert trainer.state.global_step == (2 if options else 6)
        return loss

    transformers.set_seed(0)
    whole = train(retrieval(hidden_dropout_prob=0.1), "whole")
    fresh = retrieval(hidden_dropout_prob=0.1)
    train(retrieval(hidden_dropout_prob=0.1), "stopped", callbacks=[Interruption()])
    resumed = train(retrieval(hidden_dropout_prob=0.1), "stopped", resume=True)
    assert_same_state(resumed, whole)
    assert not torch.equal(whole.head.bias, fresh.head.bias)


def test_accelerate_goes_on_as_if_it_had_not_stopped(tmp_path: Path) -> None:
    def train(steps: int, resume: bool = False) -> RetrievalLoss:
        accelerator, loss = Accelerator(cpu=True), retrieval(hidden_dropout_prob=0.1)
        prepared, optimizer = accelerator.prepare(loss, torch.optim.AdamW(loss.parameters(), 3e-3))
        transformers.set_seed(0)
        if resume:
            accelerator.load_state(str(tmp_path))
        for step in range(steps):
            optimizer.zero_grad()
            accelerator.backward(prepared(sentences(16, seed=2 * resume + step)).loss)
            optimizer.step()
        if steps == 2 and not resume:
            accelerator.save_state(str(tmp_path))
        return loss

    whole = train(4)
    stopped = train(2)
    assert_same_state(train(2, resume=True), whole)
    assert not torch.equal(stopped.head.bias, whole.head.bias)


def _one_process(rank: int, folder: Path) -> None:
    torch.set_num_threads(1)
    store = torch.distributed.FileStore(str(folder / "store"), 2)
    torch.distributed.init_process_group("gloo", store=store, rank=rank, world_size=2)
    loss = retrieval(indices="all", **NO_DROPOUT)
    _make_steps(DistributedDataParallel(loss, find_unused_parameters=True), sentences(16)[8 * rank : 8 * (rank + 1)])
    torch.save(loss.state_dict(), folder / f"{rank}.pt")
    torch.distributed.destroy_process_group()


def _make_steps(module: nn.Module, batch: Tensor) -> None:
    optimizer = torch.optim.SGD(module.parameters(), 0.1)
    for _ in range(3):
        optimizer.zero_grad()
        module(batch).loss.backward()
        optimizer.step()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="starts processes by fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_two_processes_learn_what_one_does(tmp_path: Path) -> None:
    torch.multiprocessing.start_processes(_one_process, (tmp_path,), nprocs=2, start_method="fork")
    alone = retrieval(indices="all", **NO_DROPOUT)
    before = copy.deepcopy(alone.state_dict())
    _make_steps(alone, sentences(16))
    for rank in range(2):
        torch.testing.assert_close(torch.load(tmp_path / f"{rank}.pt"), alone.state_dict(), atol=1e-6, rtol=1e-5)
    assert sum(not torch.equal(value, before[name]) for name, value in alone.state_dict().items()) > 10


def test_what_is_refused() -> None:
    with pytest.raises(muxwrap.MuxwrapError, match="indices='some'"):
        retrieval(indices="some")
    model = muxwrap.wrap(Tagger(), 2, mux_at="body@input", demux_at="head", example_input=sentences(2))
    with pytest.raises(muxwrap.MuxwrapError, match="give example="):
        RetrievalLoss(model, task=0)
