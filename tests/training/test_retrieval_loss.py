"""Retrieval beside a task's loss: what is added, when, and to what."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from helpers import copies
from texts import sentences, tiny
from torch import Tensor

import muxwrap
from muxwrap.training import RetrievalLoss, retrieval_head, warm_up

LABELS = torch.tensor([0, 2, 1, 1, 0])


def batch() -> dict[str, Tensor]:
    return {**sentences((6, 4, 5, 6, 3)), "labels": LABELS}


def without_dropout(task: str = "sequence", model_type: str = "bert", **options: Any) -> muxwrap.Multiplex:
    dropout = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    return muxwrap.wrap(tiny(task, model_type, **dropout), 2, **options).train()


def losses(model: muxwrap.Multiplex, **coefficients: float) -> Tensor:
    torch.manual_seed(0)
    loss: Tensor = RetrievalLoss(model, **coefficients)(**batch()).loss
    return loss.detach()


@pytest.mark.parametrize("demux", ["mlp", "index"])
def test_the_loss_is_the_weighted_sum(demux: str) -> None:
    model = without_dropout(demux=demux)
    task, retrieval = losses(model, task=1.0, retrieval=0.0), losses(model, task=0.0, retrieval=1.0)
    torch.testing.assert_close(task, model(**batch()).loss)
    assert float(retrieval) > 1
    torch.testing.assert_close(losses(model), 0.9 * task + 0.1 * retrieval)
    torch.testing.assert_close(losses(model, task=0.5, retrieval=2.0), 0.5 * task + 2 * retrieval)


def test_in_evaluation_it_is_the_model() -> None:
    model = without_dropout()
    both = RetrievalLoss(model)
    both.head.register_forward_hook(lambda *_: pytest.fail("the vocabulary head ran"))
    both.eval()
    output, bare = both(**batch()), model(**batch())
    assert not model.training and type(output) is type(bare)
    assert torch.equal(output.loss, bare.loss) and torch.equal(output.logits, bare.logits)
    both.train()
    assert both(input_ids=batch()["input_ids"]).loss is None  # without labels there is nothing to add to


def test_the_answers_in_training_are_the_models() -> None:
    model = without_dropout()
    assert torch.equal(RetrievalLoss(model)(**batch()).logits, model(**batch()).logits)
    as_tuple = RetrievalLoss(model)(**batch(), return_dict=False)
    assert isinstance(as_tuple, tuple)
    assert not torch.equal(as_tuple[0], model(**batch()).loss)


@pytest.mark.parametrize(
    ("task", "model_type"), [("sequence", "distilbert"), ("token", "roberta"), ("sequence", "gpt2")]
)
def test_other_models(task: str, model_type: str) -> None:
    model = RetrievalLoss(muxwrap.wrap(tiny(task, model_type, pad_token_id=7), 2)).train()
    labels = LABELS if task == "sequence" else LABELS[:, None].repeat(1, 6)
    model(**{**batch(), "labels": labels}).loss.backward()
    assert all(p.grad is not None for p in model.head.parameters())
    assert all(p.grad is not None for p in model.model.demuxer.parameters())


def test_hooks_are_there_for_the_call_only() -> None:
    model = without_dropout()
    before = sum(len(m._forward_pre_hooks) + len(m._forward_hooks) for m in model.modules())
    RetrievalLoss(model)(**batch())
    assert sum(len(m._forward_pre_hooks) + len(m._forward_hooks) for m in model.modules()) == before


def test_head_and_model_are_saved_apart(tmp_path: Path) -> None:
    model = without_dropout()
    both = RetrievalLoss(model, warm_up(model, [batch()], 2, progress=False).head)
    both.save_pretrained(str(tmp_path))
    saved = muxwrap.load(tmp_path, tiny("sequence", "bert"))
    assert set(saved.state_dict()) == set(model.state_dict())
    torch.save(both.head.state_dict(), tmp_path / "head.pt")
    head = retrieval_head(saved, seed=1)
    head.load_state_dict(torch.load(tmp_path / "head.pt"))
    assert all(torch.equal(a, b) for a, b in zip(head.parameters(), both.head.parameters(), strict=True))


def test_copies_are_their_own() -> None:
    both = RetrievalLoss(without_dropout()).eval()
    wanted = both(**batch()).loss
    for copied in copies(both):
        assert type(copied) is type(both) and torch.equal(copied(**batch()).loss, wanted)
        assert copied.head is not both.head


def test_the_trainer_takes_it(tmp_path: Path) -> None:
    rows = [{name: value[i] for name, value in batch().items()} for i in range(4)]
    arguments = transformers.TrainingArguments(
        str(tmp_path),
        max_steps=2,
        per_device_train_batch_size=2,
        gradient_accumulation_steps=2,
        logging_steps=1,
        report_to="none",
        use_cpu=True,
        disable_tqdm=True,
        save_steps=1,
    )
    model = without_dropout()
    both = RetrievalLoss(model)
    trainer = transformers.Trainer(both, arguments, train_dataset=rows, eval_dataset=rows)
    assert not trainer.model_accepts_loss_kwargs
    before = both.head.transform.weight.clone()
    trainer.train()
    assert not torch.equal(both.head.transform.weight, before)
    evaluated = trainer.evaluate()["eval_loss"]
    with torch.no_grad():
        alone = model.eval()(**{name: torch.stack([row[name] for row in rows]) for name in rows[0]}).loss
    assert evaluated == pytest.approx(float(alone), abs=1e-4)
    again = transformers.Trainer(RetrievalLoss(without_dropout()), arguments, train_dataset=rows)
    again.train(resume_from_checkpoint=str(tmp_path / "checkpoint-1"))
    assert again.state.global_step == 2


def test_what_is_refused() -> None:
    with pytest.raises(muxwrap.MuxwrapError, match="not a wrapped model"):
        RetrievalLoss(tiny("sequence", "bert"))  # type: ignore[arg-type]
    model = RetrievalLoss(without_dropout())
    embedded = torch.rand(5, 6, 32)
    with pytest.raises(muxwrap.MuxwrapError, match="no input_ids"):
        model(inputs_embeds=embedded, labels=LABELS)
