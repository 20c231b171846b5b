"""The retrieval warm-up: what it learns, what it leaves alone, when it stops, and what it refuses."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
import timm
import torch
import transformers
from helpers import assert_same_state
from texts import sentences, tiny
from torch import Tensor, nn

import muxwrap
from muxwrap.training import WarmUp, retrieval_accuracy, retrieval_head, warm_up
from muxwrap.training.batches import as_batch
from muxwrap.training.objective import draw_one, targets

VOCABULARY = 40


def drawn(rows: int = 16, length: int = 6) -> Iterator[Tensor]:
    """Sentences without end, of random tokens, which can be predicted from the mixture only."""
    while True:
        yield torch.randint(VOCABULARY, (rows, length))


def fixed(count: int, rows: int = 16, length: int = 6, seed: int = 0) -> list[Tensor]:
    rng = torch.Generator().manual_seed(seed)
    return [torch.randint(VOCABULARY, (rows, length), generator=rng) for _ in range(count)]


def wrapped(task: str = "sequence", model_type: str = "bert", n: int = 2, **options: Any) -> muxwrap.Multiplex:
    sizes = {"vocab_size": VOCABULARY, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    return muxwrap.wrap(tiny(task, model_type, **sizes), n, **options)


def warmed(model: Any, batches: Any, steps: int, **options: Any) -> WarmUp:
    return warm_up(model, batches, steps, **{"lr": 3e-3, "progress": False, **options})


# -- what is learned --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("vocabulary", ["tied", "free"])
def test_instances_are_separated_and_without_a_strategy_they_are_not(vocabulary: Any) -> None:
    held_out, found = fixed(8, seed=1), {}
    sizes = {"hidden_size": 64, "num_hidden_layers": 1, "num_attention_heads": 4, "intermediate_size": 64}
    for strategy in ("slots", "identity"):
        torch.manual_seed(0)
        model = muxwrap.wrap(
            transformers.BertModel(transformers.BertConfig(vocab_size=VOCABULARY, **sizes)), 2, strategy=strategy
        )
        head = retrieval_head(model, vocabulary=vocabulary)
        found[strategy] = warmed(model, drawn(32), 120, head=head, held_out=held_out, every=120)
    assert found["slots"].accuracy > 0.97
    assert min(found["slots"].per_index) > 0.95
    assert found["identity"].accuracy < 0.6


SORTS = [("sequence", "distilbert"), ("sequence", "modernbert"), ("token", "roberta"), ("token", "gpt2")]
SORTS += [("base", "bert"), ("sequence", "llama"), ("base", "electra"), ("sequence", "bart"), ("sequence", "xlnet")]


@pytest.mark.parametrize(("task", "model_type"), SORTS)
def test_every_kind_of_text_model_warms_up(task: str, model_type: str) -> None:
    model = wrapped(task, model_type)
    batches = [sentences((6, 4, 5, 6, 6)) for _ in range(2)]
    for batch in batches:
        batch["input_ids"] %= VOCABULARY
    result = warmed(model, batches, 30, every=15)
    assert result.steps == 30
    assert result.history[1].loss < result.history[0].loss
    assert retrieval_accuracy(model, result.head, batches).positions == 2 * (6 + 4 + 5 + 6 + 6)


@pytest.mark.parametrize("demux", ["index", "key", "unbind"])
@pytest.mark.parametrize("own", ["shared", "separate"])
def test_demuxers(demux: str, own: Any) -> None:
    model = wrapped("sequence", demux=demux, strategy="hadamard")
    head = retrieval_head(model, demuxer=own)
    before = {name: value.clone() for name, value in model.demuxer.named_parameters() if name != "prefix"}
    result = warmed(model, fixed(3), 10, head=head, every=5)
    assert result.history[1].loss < result.history[0].loss
    after = dict(model.demuxer.named_parameters())
    moved = [not torch.equal(value, after[name]) for name, value in before.items()]
    assert all(moved) if own == "shared" else not any(moved)


class Tagger(nn.Module):
    """A text model of somebody's own: ids in, tags out."""

    def __init__(self) -> None:
        super().__init__()
        self.places = nn.Embedding(8, 16)
        self.embed = nn.Embedding(VOCABULARY, 16)
        self.body = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
        self.head = nn.Linear(16, 3)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embed(tokens) + self.places(torch.arange(tokens.shape[1]).expand_as(tokens))
        return self.head(self.body(x))


def test_a_model_of_ones_own() -> None:
    model = muxwrap.wrap(Tagger(), 2, mux_at="body@input", demux_at="head", example_input=fixed(1)[0])
    result = warmed(model, fixed(3), 10, every=5)
    assert result.head.tokens == VOCABULARY
    assert result.history[1].loss < result.history[0].loss


# -- what counts ------------------------------------------------------------------------------------------------------


def test_padding_and_filling_never_count() -> None:
    batch = as_batch(tiny("base", "bert"), sentences((4, 6, 0)), None)
    wanted, counts = targets(batch, 2)
    assert counts.sum((0, 2)).tolist() == [4, 6] and counts.shape == wanted.shape == (2, 2, 6)
    asked = draw_one(counts)
    assert torch.equal(asked.any(1), counts.any(1)) and bool((asked.sum(1) <= 1).all()) and not (asked & ~counts).any()


def test_what_stands_at_padding_changes_no_loss() -> None:
    """Of a step. The next one may differ: where a whole mixture is padded, the trunk sees what stands there, and learns."""
    found = []
    for padding in (7, 9):
        result = warmed(wrapped(), [{**sentences((4, 9, 7, 3), padding), "input_ids": _ids(padding)}], 1)
        found.append(result.history[0].loss)
    assert found[0] == pytest.approx(found[1], abs=1e-6)


def _ids(padding: int) -> Tensor:
    batch = sentences((4, 9, 7, 3))
    return torch.where(batch["attention_mask"].bool(), batch["input_ids"] % VOCABULARY, padding)


def test_one_instance_is_drawn_as_often_as_another() -> None:
    torch.manual_seed(0)
    share = draw_one(torch.ones(200, 4, 10, dtype=torch.bool)).float().mean((0, 2))
    torch.testing.assert_close(share, torch.full((4,), 0.25), atol=0.03, rtol=0)


def test_accuracy_of_an_index_without_rows_is_not_a_number() -> None:
    model = wrapped(n=3)
    found = retrieval_accuracy(model, retrieval_head(model), [fixed(1, rows=1)[0]])
    assert len(found.per_index) == 3 and found.positions == 6
    assert [value != value for value in found.per_index] == [False, True, True]


def test_batches_of_nothing_but_padding_teach_nothing() -> None:
    batch = sentences((6, 4))
    empty = {"input_ids": batch["input_ids"] % VOCABULARY, "attention_mask": torch.zeros_like(batch["attention_mask"])}
    last = warmed(wrapped(), [empty], 2).history[-1]
    assert (last.loss, last.accuracy) == (0.0, 0.0)


# -- what is left alone -----------------------------------------------------------------------------------------------


def test_the_head_of_the_model_neither_runs_nor_moves() -> None:
    model = wrapped("sequence")
    runs: list[int] = []
    model.backbone.classifier.register_forward_hook(lambda _module, _args, output: runs.append(len(output)))
    before = model.backbone.classifier.weight.clone()
    warmed(model, fixed(2), 2, held_out=fixed(1))
    assert runs == [3]  # the one bare run that finds where the tokens are
    assert torch.equal(model.backbone.classifier.weight, before)


def test_modes_hooks_and_random_state_are_as_before() -> None:
    model = wrapped().train()
    model.backbone.bert.embeddings.eval()
    names, state = set(model.state_dict()), torch.get_rng_state()
    warmed(model, drawn(), 2)
    assert torch.equal(state, torch.get_rng_state()) and set(model.state_dict()) == names
    assert model.training and not model.backbone.bert.embeddings.training
    bare = muxwrap.unwrap(model)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in bare.modules())


# -- its steps --------------------------------------------------------------------------------------------------------


def test_another_seed_draws_other_tokens_and_other_batches() -> None:
    models = [wrapped(demux="mlp", seed=0) for _ in range(3)]
    for model, seed in zip(models, (1, 1, 2), strict=True):
        warmed(model, drawn(), 3, seed=seed)
    assert_same_state(models[0], models[1])
    states = [torch.cat([value.flatten() for value in model.state_dict().values()]) for model in models]
    assert not torch.equal(states[0], states[2])


def test_it_stops_at_the_target() -> None:
    options: dict[str, Any] = {"held_out": fixed(1), "every": 1, "lr": 1e-2}
    whole = warmed(wrapped(), fixed(2), 30, **options)
    reached = warmed(wrapped(), fixed(2), 30, target=0.2, **options)
    first = next(each for each in whole.history if each.held_out >= 0.2)
    assert 1 < first.step < 30
    assert reached.history == whole.history[: first.step] and reached.steps == first.step
    assert (reached.accuracy, reached.per_index) == (first.held_out, first.per_index)


def test_what_is_measured_in_between_changes_no_step() -> None:
    loader = torch.utils.data.DataLoader(torch.cat(fixed(4)), 16, shuffle=True)
    seldom, often = wrapped(), wrapped()
    a = warmed(seldom, loader, 10, held_out=fixed(1), every=10)
    b = warmed(often, loader, 10, held_out=fixed(1), every=3)
    assert [each.step for each in b.history] == [3, 6, 9, 10]
    assert a.history[-1].held_out == b.history[-1].held_out
    assert_same_state(seldom, often)
    assert_same_state(a.head, b.head)


def test_optimizer_and_scheduler_of_ones_own() -> None:
    made: list[Any] = []

    def optimizer(parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
        made.append(torch.optim.SGD(parameters, lr=0.5))
        return made[0]

    scheduler = partial(torch.optim.lr_scheduler.StepLR, step_size=1, gamma=0.5)
    warmed(wrapped(), fixed(2), 3, optimizer=optimizer, scheduler=scheduler)
    assert made[0].param_groups[0]["lr"] == 0.5**4


# -- what is refused --------------------------------------------------------------------------------------------------

IDS = fixed(1)[0]
REFUSED: dict[str, tuple[Any, dict[str, Any], str]] = {
    "no input_ids": ([{"labels": IDS}], {}, "no input_ids"),
    "pixels": ([torch.rand(2, 3, 8, 8)], {}, "give integer ids"),
    "outside": ([IDS, IDS + VOCABULARY], {}, r"tokens 0\.\.39"),
    "negative": ([IDS - 100], {}, "input_ids hold -"),
    "mask": ([{"input_ids": IDS, "attention_mask": torch.ones(2, 2)}], {}, r"attention_mask \[2, 2\]"),
    "nothing": ([], {}, "batches is empty"),
    "empty": ([IDS[:0]], {}, r"empty: \[0, 6\]"),
    "ended": (iter([IDS]), {}, "ended after 1"),
    "held out nothing": ([IDS], {"held_out": []}, "no token to predict"),
    "held out padding": ([IDS], {"held_out": [{"input_ids": IDS, "attention_mask": 0 * IDS}]}, "all is padding"),
    "held out once": ([IDS], {"held_out": iter([IDS])}, "only once"),
    "target alone": ([IDS], {"target": 0.9}, "give held_out="),
    "target": ([IDS], {"target": 90, "held_out": [IDS]}, "target=90"),
    "every": ([IDS], {"every": 0}, "every=0"),
    "loss": ([IDS], {"lr": 1e30}, "the loss is nan"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case: str) -> None:
    batches, options, message = REFUSED[case]
    with pytest.raises(muxwrap.MuxwrapError, match=message):
        warmed(wrapped(), batches, 3, **options)


def test_models_without_tokens_are_refused() -> None:
    image = muxwrap.wrap(timm.create_model("test_vit", num_classes=3), 2)
    with pytest.raises(muxwrap.MuxwrapError, match="give integer ids"):
        warmed(image, [torch.rand(2, 3, 160, 160)], 1)
    with pytest.raises(muxwrap.MuxwrapError, match="not a wrapped model"):
        warmed(tiny("base", "bert"), [IDS], 1)
    with pytest.raises(muxwrap.MuxwrapError, match="keeps every token"):
        retrieval_head(muxwrap.wrap(tiny("sequence", "funnel"), 2))
    with pytest.raises(muxwrap.MuxwrapError, match="give example="):
        retrieval_head(image)


def test_a_head_of_another_model_is_refused() -> None:
    head = retrieval_head(muxwrap.wrap(tiny("sequence", "bert"), 2))
    with pytest.raises(muxwrap.MuxwrapError, match="does not fit"):
        warmed(wrapped(), [IDS], 1, head=head)
    with pytest.raises(muxwrap.MuxwrapError, match="batches is empty"):
        retrieval_accuracy(wrapped(), head, [])
    with pytest.raises(muxwrap.MuxwrapError, match="did you mean 'tied'"):
        retrieval_head(wrapped(), vocabulary="tide")  # type: ignore[arg-type]
    with pytest.raises(muxwrap.MuxwrapError, match="demuxer='own'"):
        retrieval_head(wrapped(), demuxer="own")  # type: ignore[arg-type]
