"""A teacher: what its loss is, when it is there, and what it leaves alone."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
import transformers
from helpers import copies
from texts import sentences, tiny
from torch import Tensor

import muxwrap
from muxwrap.training import DistillationLoss, distillation

DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}


def batch(task: str = "sequence") -> dict[str, Tensor]:
    labels = torch.tensor([0, 2, 1, 1, 0])
    given = sentences((6, 4, 5, 6, 3))
    if task == "token":
        labels = labels[:, None].repeat(1, 6).masked_fill(given["attention_mask"] == 0, -100)
    return {**given, "labels": labels}


def pair(task: str = "sequence", model_type: str = "bert") -> tuple[muxwrap.Multiplex, torch.nn.Module]:
    bare = tiny(task, model_type, **(DROPOUT if model_type in ("bert", "roberta") else {}), pad_token_id=7)
    teacher = copy.deepcopy(bare)
    torch.nn.init.normal_(next(p for name, p in teacher.named_parameters() if "classifier" in name or "score" in name))
    return muxwrap.wrap(bare, 2).train(), teacher


def test_it_is_the_divergence_of_softened_answers() -> None:
    a, b = torch.randn(4, 3, dtype=torch.double), torch.randn(4, 3, dtype=torch.double)
    p, q = (b / 3).softmax(-1), (a / 3).softmax(-1)
    torch.testing.assert_close(distillation(a, b, 3.0), 9 * (p * (p / q).log()).sum(-1).mean())
    assert float(distillation(a, a)) == pytest.approx(0, abs=1e-6)
    tokens = torch.randn(2, 5, 3), torch.randn(2, 5, 3)
    torch.testing.assert_close(distillation(*tokens), distillation(*(each.flatten(0, 1) for each in tokens)))


def test_gradients_go_to_the_student_alone() -> None:
    a, b = (torch.randn(4, 3, requires_grad=True) for _ in range(2))
    distillation(a, b, 1.0).backward()
    assert a.grad is not None and b.grad is None
    torch.testing.assert_close(a.grad, (a.softmax(-1) - b.softmax(-1)).detach() / 4)  # that of soft labels


@pytest.mark.parametrize(
    ("task", "model_type"), [("sequence", "bert"), ("token", "roberta"), ("sequence", "gpt2"), ("token", "bert")]
)
def test_the_loss_is_the_weighted_sum(task: str, model_type: str) -> None:
    model, teacher = pair(task, model_type)
    model.eval()  # without dropout, but its loss is that of training
    both = DistillationLoss(model, teacher, task=0.3, distillation=2.0, temperature=1.5)
    both.training = True
    given = batch(task)
    output, alone = both(**given), model(**given)
    counted = given["labels"] != -100
    taught = distillation(alone.logits[counted], teacher.eval()(**given).logits[counted], 1.5).detach()
    assert taught > 0.01 and torch.equal(output.logits, alone.logits)
    torch.testing.assert_close(output.loss, 0.3 * alone.loss + 2.0 * taught)
    as_tuple = both(**given, return_dict=False)
    torch.testing.assert_close(as_tuple[0], output.loss)


def test_in_evaluation_it_is_the_model() -> None:
    model, teacher = pair()
    teacher.register_forward_hook(lambda *_: pytest.fail("the teacher ran"))
    both = DistillationLoss(model, teacher).eval()
    assert torch.equal(both(**batch()).loss, model.eval()(**batch()).loss)


def test_without_labels_the_teacher_alone_is_learned_from() -> None:
    model, teacher = pair()
    model.eval()
    both = DistillationLoss(model, teacher, task=0.3, distillation=0.5)
    both.training = True
    given = {name: value for name, value in batch().items() if name != "labels"}
    wanted = 0.8 * distillation(model(**given).logits, teacher.eval()(**given).logits).detach()
    torch.testing.assert_close(both(**given).loss.detach(), wanted)
    torch.testing.assert_close(both.losses(given).loss.detach(), wanted)
    with pytest.raises(muxwrap.MuxwrapError, match=r"tuple without a loss.*losses\(inputs, labels\)"):
        both(**given, return_dict=False)


def test_the_teacher_is_left_alone() -> None:
    model, teacher = pair()
    teacher.train()
    before = copy.deepcopy(teacher.state_dict())
    both = DistillationLoss(model, teacher)
    assert set(dict(both.named_parameters())) == {f"model.{name}" for name, _ in model.named_parameters()}
    optimizer = torch.optim.SGD(both.parameters(), lr=0.1)
    both(**batch()).loss.backward()
    optimizer.step()
    assert teacher.training and all(p.grad is None for p in teacher.parameters())
    assert all(torch.equal(value, before[name]) for name, value in teacher.state_dict().items())


def test_students_come_closer() -> None:
    torch.manual_seed(0)
    model, teacher = pair()
    both = DistillationLoss(model, teacher, task=0.0, distillation=1.0)
    optimizer = torch.optim.Adam(both.parameters(), lr=5e-3)
    losses = []
    for _ in range(40):
        losses.append(both(**batch()).loss)
        optimizer.zero_grad()
        losses[-1].backward()
        optimizer.step()
    assert losses[-1] < 0.2 * losses[0]


def test_copies_are_their_own() -> None:
    model, teacher = pair()
    both = DistillationLoss(model, teacher)
    wanted = both(**batch()).loss
    for copied in copies(both):
        assert type(copied) is type(both)
        torch.testing.assert_close(copied(**batch()).loss, wanted)


def test_the_trainer_takes_it(tmp_path: Path) -> None:
    model, teacher = pair()
    both = DistillationLoss(model, teacher)
    rows = [{name: value[i] for name, value in batch().items()} for i in range(4)]
    arguments = transformers.TrainingArguments(
        str(tmp_path), max_steps=2, per_device_train_batch_size=4, logging_steps=1, report_to="none", use_cpu=True
    )
    trainer = transformers.Trainer(both, arguments, train_dataset=rows, eval_dataset=rows)
    trainer.train()
    evaluated = trainer.evaluate()["eval_loss"]
    with torch.no_grad():
        alone = model.eval()(**{name: torch.stack([row[name] for row in rows]) for name in rows[0]})
    assert evaluated == pytest.approx(float(alone.loss), abs=1e-4)


def test_what_is_refused() -> None:
    model, teacher = pair()
    with pytest.raises(muxwrap.MuxwrapError, match=r"DistillationLoss.*not a wrapped model"):
        DistillationLoss(teacher, teacher)  # type: ignore[arg-type]
    with pytest.raises(muxwrap.MuxwrapError, match=r"copy\.deepcopy"):
        DistillationLoss(model, model.backbone)
    with pytest.raises(muxwrap.MuxwrapError, match=r"\[4, 3\].*\[4, 2\]"):
        distillation(torch.rand(4, 3), torch.rand(4, 2))
    with pytest.raises(muxwrap.MuxwrapError, match="two classes"):
        distillation(torch.rand(4, 1), torch.rand(4, 1))
    with pytest.raises(muxwrap.MuxwrapError, match="temperature=0"):
        distillation(torch.rand(4, 3), torch.rand(4, 3), 0)
    several = {**batch(), "labels": F.one_hot(batch()["labels"], 3).float()}
    with pytest.raises(muxwrap.MuxwrapError, match="several labels"):
        DistillationLoss(model, teacher)(**several)
