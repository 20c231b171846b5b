"""evaluate: against a plain loop, on a model whose mistakes are known, and every row scored once in every grouping."""

from __future__ import annotations

import statistics
import sys
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from helpers import numbers, random_state_untouched
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure
from nets import batch, make
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import muxwrap
from muxwrap.evaluation import Evaluation, groupings


def wrapped(name: str, n: int) -> muxwrap.Multiplex:
    return muxwrap.wrap(make(name), n, example_input=batch(name, 1))


def split(x: Tensor, y: Tensor, size: int) -> list[tuple[Tensor, Tensor]]:
    return list(zip(x.split(size), y.split(size), strict=True))


def plain(model: nn.Module, x: Tensor, y: Tensor, n: int, size: int, count: int, seed: int) -> list[Tensor]:
    """What users had to write: whether every row is right, in the data's order, per grouping."""
    model.eval()
    found = []
    for grouping in range(seed, seed + count):
        order = torch.randperm(len(x), generator=torch.Generator().manual_seed(grouping))
        with torch.no_grad():
            answers = torch.cat([model(x[rows]) for rows in order.split(-(-size // n) * n)]).argmax(-1)
        right = torch.empty(y.shape, dtype=torch.bool)
        right[order] = answers == y[order]
        found.append(right)
    return found


@given(
    n=st.integers(2, 4),
    rows=st.integers(1, 23),
    size=st.integers(1, 9),
    count=st.integers(1, 4),
    seed=st.integers(0, 99),
)
def test_it_is_the_plain_loop(n: int, rows: int, size: int, count: int, seed: int) -> None:
    model, x = wrapped("mlp", n), batch("mlp", rows)
    y = torch.arange(rows) % 5
    right = plain(model, x, y, n, min(size, rows), count, seed)
    found = muxwrap.evaluate(model, split(x, y, size), groupings=count, seed=seed, progress=False)
    assert found.scores == pytest.approx([each.double().mean().item() for each in right])
    assert found.mean == pytest.approx(torch.stack(right).double().mean().item())
    assert found.n == n and found.rows == rows and len(found.per_index) == n
    if count == 1:
        assert found.deviation is None and found.flips is None
    else:
        assert found.deviation == pytest.approx(torch.stack(right).double().mean(1).std().item())


class Loudest(nn.Module):
    """Answers with the input; mixed by ``identity``, the loudest instance's class is everybody's answer."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.body, self.head = nn.Identity(), nn.Identity(), nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(self.stem(x)))


def loudest(n: int) -> muxwrap.Multiplex:
    return muxwrap.wrap(
        Loudest(), n, "identity", "unbind", mux_at="stem", demux_at="body", example_input=torch.zeros(1, 6)
    )


@given(rows=st.integers(4, 24), n=st.integers(2, 3), seed=st.integers(0, 99))
def test_mistakes_that_are_known(rows: int, n: int, seed: int) -> None:
    """Row r has the class r mod 6 and the loudness 2^r, so the largest row number of a group answers for all of it."""
    y = torch.arange(rows) % 6
    x = torch.nn.functional.one_hot(y, 6) * 2.0 ** torch.arange(rows).unsqueeze(1)
    answers, index = [], []
    for grouping in groupings(rows, n, 4, seed, batch=rows):
        answer, where = torch.zeros(rows, dtype=torch.long), torch.zeros(rows, dtype=torch.long)
        for call in grouping:
            filled = torch.cat([call, call[: -len(call) % n]])
            for start in range(0, len(call), n):
                own = call[start : start + n]
                answer[own] = _sum_of(filled[start : start + n])
            where[call] = torch.arange(len(call)) % n
        answers.append(answer)
        index.append(where)
    found = muxwrap.evaluate(loudest(n), [(x, y)], groupings=4, seed=seed, reference=Loudest(), progress=False)
    right = [answer == y for answer in answers]
    scores = [each.double().mean().item() for each in right]
    assert found.scores == pytest.approx(scores)
    assert found.deviation == pytest.approx(statistics.stdev(scores))
    same = torch.stack([answer == answers[0] for answer in answers]).all(0)
    assert found.flips == pytest.approx(1 - same.double().mean().item())
    assert found.agreement == pytest.approx(statistics.fmean(scores)), "the reference is always right"
    every, where = torch.cat(right).double(), torch.cat(index)
    assert found.per_index == pytest.approx([every[where == i].mean().item() for i in range(n)])


def _sum_of(group: Tensor) -> int:
    """The class of the largest sum of 2^r: rows of one class in a group add up."""
    loudness = torch.zeros(6, dtype=torch.float64)
    for row in group.tolist():
        loudness[row % 6] += 2.0**row
    return int(loudness.argmax())


def test_accuracy_of_every_index() -> None:
    """Labels that are wrong where the only grouping has index 1."""
    for name in ("mlp", "tagger"):
        model, x = wrapped(name, 3), batch(name, 8)
        (order,) = next(groupings(8, 3, 1, seed=7))  # one call, whose last group is filled up
        answers = model.eval()(x[order]).argmax(-1)
        answers[torch.arange(8) % 3 == 1] = (answers[torch.arange(8) % 3 == 1] + 1) % 5
        answers[7] = -100  # at index 1
        labels = torch.empty_like(answers)
        labels[order] = answers
        found = muxwrap.evaluate(model, [(x, labels)], groupings=1, seed=7, progress=False)
        assert found.per_index == (1, 0, 1) and found.worst == 1 and found.spread == 1
        assert found.mean == pytest.approx(5 / 7)


class Counting(nn.Module):
    """Notes which rows it was given: the number of a row is its first feature."""

    def __init__(self) -> None:
        super().__init__()
        self.net = make("mlp")
        self.seen: list[int] = []

    def forward(self, x: Tensor) -> Tensor:
        self.seen += x[:, 0].long().tolist()
        return self.net(x)


@given(rows=st.integers(1, 30), n=st.integers(1, 4), size=st.integers(1, 11))
def test_every_row_is_scored_once_in_every_grouping(rows: int, n: int, size: int) -> None:
    model = muxwrap.wrap(Counting(), n, mux_at="net.stem", demux_at="net.head", example_input=batch("mlp", 1))
    model.backbone.seen.clear()
    x = batch("mlp", rows)
    x[:, 0] = torch.arange(rows)
    scored: list[list[float]] = []

    def metric(outputs: Tensor, labels: Tensor) -> float:
        scored.append(labels.tolist())
        return 0.0

    muxwrap.evaluate(model, split(x, torch.arange(rows), size), metric, 3, per_index=False, progress=False)
    times = 1 if n == 1 else 3
    assert sorted(model.backbone.seen) == sorted(list(range(rows)) * times)
    assert scored == [list(range(rows))] * times, "in the order of the batches"


def test_how_the_rows_come_in_batches_does_not_matter() -> None:
    model, x = wrapped("mlp", 3), batch("mlp", 24)
    y = torch.arange(24) % 5
    whole = muxwrap.evaluate(model, [(x, y)], progress=False)
    assert muxwrap.evaluate(model, split(x, y, 7), progress=False) == whole
    loader = DataLoader(TensorDataset(x, y), batch_size=5)
    with random_state_untouched():
        assert muxwrap.evaluate(model, loader, progress=False) == whole
    assert muxwrap.evaluate(model, iter(split(x, y, 6)), progress=False) == whole, "a generator is read once"
    assert muxwrap.evaluate(model, [{"x": x, "label": y, "name": ["a"] * 24}], progress=False) == whole
    assert muxwrap.evaluate(model, [{"x": x, "target": y}], labels="target", progress=False) == whole
    assert muxwrap.evaluate(model, [((x,), y.tolist())], progress=False) == whole
    assert muxwrap.evaluate(model, [({"x": x}, y.numpy())], progress=False) == whole
    assert muxwrap.evaluate(torch.compile(model, backend="eager"), [(x, y)], progress=False) == whole
    assert muxwrap.evaluate(nn.Sequential(model), [(x, y)], progress=False) == whole


def test_labels_by_a_function() -> None:
    model, x = wrapped("mlp", 3), batch("mlp", 24)
    y = torch.arange(24) % 5
    whole = muxwrap.evaluate(model, [(x, y)], progress=False)
    assert muxwrap.evaluate(model, [(y, x)], labels=lambda each: each[0], progress=False) == whole
    assert muxwrap.evaluate(model, [(x, 2 * y)], labels=lambda each: each[1] // 2, progress=False) == whole
    assert muxwrap.evaluate(model, [{"x": x, "a": y}], labels=lambda each: each["a"], progress=False) == whole
    sums = muxwrap.evaluate(model, [x], labels=lambda each: (each[:, 0] > 0).long(), progress=False)
    assert sums == muxwrap.evaluate(model, [(x, (x[:, 0] > 0).long())], progress=False)


def test_a_bare_model_has_one_grouping() -> None:
    model, x = make("mlp"), batch("mlp", 11)
    y = model.eval()(x).argmax(-1)
    y[0] = (y[0] + 1) % 5
    found = muxwrap.evaluate(model, split(x, y, 4), reference=make("mlp"), progress=False)
    assert found.scores == pytest.approx((10 / 11,)) and found.per_index == pytest.approx((10 / 11,))
    assert found.n == 1 and found.deviation is None and found.flips is None and found.agreement == 1


class Recorded(nn.Module):
    """Gives what it is told to, in any form."""

    def __init__(self, form: Any, outputs: Tensor) -> None:
        super().__init__()
        self.form, self.outputs = form, outputs

    def forward(self, rows: Tensor) -> Any:
        return self.form(self.outputs[rows])


@pytest.mark.parametrize(
    "form",
    [
        lambda logits: logits,
        lambda logits: (torch.tensor(0.0), logits),
        lambda logits: {"loss": torch.tensor(0.0), "hidden": logits.flip(1), "logits": logits},
        lambda logits: SimpleNamespace(logits=logits),
        lambda logits: logits.bfloat16(),
    ],
)
def test_where_the_logits_are(form: Any) -> None:
    outputs = torch.eye(5)[[0, 1, 2, 3]]
    found = muxwrap.evaluate(Recorded(form, outputs), [(torch.arange(4), torch.tensor([0, 1, 2, 4]))], progress=False)
    assert found.scores == (0.75,)


def on(outputs: Tensor, labels: Tensor, metric: Any = None, **options: Any) -> Evaluation:
    """Evaluate a bare model that gives these outputs."""
    model = Recorded(lambda each: each, outputs)
    model.config = SimpleNamespace(**options)  # type: ignore[assignment]
    return muxwrap.evaluate(model, split(torch.arange(len(labels)), labels, 2), metric, progress=False)


def test_several_labels_are_right_together() -> None:
    outputs = torch.tensor([[1.0, -1, 2], [-1, -1, 1], [3, 3, 3]])
    labels = torch.tensor([[1, 0, 1], [1, 0, 1], [1, 1, 1]])
    for dtype in (torch.long, torch.float, torch.bool):
        assert on(outputs, labels.to(dtype)).mean == pytest.approx(2 / 3)


def test_regression_names_its_metric() -> None:
    outputs, labels = torch.tensor([[1.0], [2.0], [3.0]]), torch.tensor([1.0, 2.0, 5.0])
    found = on(outputs, labels, nn.functional.mse_loss)
    assert found.mean == pytest.approx(4 / 3) and found.metric == "mse_loss" and not found.higher_is_better
    assert found.flips is None and found.agreement is None
    assert on(outputs.squeeze(1), labels.unsqueeze(1), nn.functional.mse_loss).mean == pytest.approx(4 / 3)
    assert on(outputs, labels.long(), nn.functional.mse_loss).mean == pytest.approx(4 / 3)
    assert on(outputs, labels, problem_type="regression") == found == on(outputs, labels, num_labels=1)
    several = torch.stack([labels, labels], 1)
    assert on(torch.cat([outputs, outputs], 1), several, problem_type="regression").mean == pytest.approx(4 / 3)
    with pytest.raises(muxwrap.MuxwrapError, match=r"give metric=torch\.nn\.functional\.mse_loss"):
        on(outputs, labels)


class Accumulated:
    """As torchmetrics has it: the share of right answers."""

    higher_is_better = True

    def __init__(self) -> None:
        self.right = self.count = 0

    def reset(self) -> None:
        self.right = self.count = 0

    def update(self, outputs: Tensor, labels: Tensor) -> None:
        assert outputs.shape[:-1] == labels.shape and (labels >= 0).all()
        self.right += int((outputs.argmax(-1) == labels).sum())
        self.count += len(labels)

    def compute(self) -> Tensor:
        return torch.tensor(self.right / self.count)


@pytest.mark.parametrize("name", ["mlp", "tagger"])
def test_an_object_that_accumulates(name: str) -> None:
    model, x = wrapped(name, 3), batch(name, 13)
    y = model.backbone.eval()(x).argmax(-1)
    y[::2] = (y[::2] + 1) % 5
    y[3] = -100
    metric = Accumulated()
    metric.right = 17
    found = muxwrap.evaluate(model, split(x, y, 5), metric, progress=False)
    by_default = muxwrap.evaluate(model, split(x, y, 5), progress=False)
    assert found.scores == pytest.approx(by_default.scores) and found.per_index == pytest.approx(by_default.per_index)
    assert found.flips == by_default.flips and found.metric == "Accumulated"
    assert metric.right == 17, "a copy does it"


def test_torchmetrics() -> None:
    torchmetrics = pytest.importorskip("torchmetrics")
    model, x = wrapped("mlp", 3), batch("mlp", 13)
    y = torch.arange(13) % 5
    metric = torchmetrics.classification.MulticlassAccuracy(5, average="micro")
    found = muxwrap.evaluate(model, split(x, y, 5), metric, progress=False)
    assert found.scores == pytest.approx(muxwrap.evaluate(model, split(x, y, 5), progress=False).scores)


def test_low_is_better_for_losses_and_errors() -> None:
    def max_error(outputs: Tensor, labels: Tensor) -> float:
        return float((outputs - labels).abs().max())

    outputs, labels = numbers(0, 12, dtype=torch.float32), torch.zeros(12)
    assert not on(outputs, labels, max_error).higher_is_better
    assert on(outputs, labels, lambda o, y: 1).higher_is_better
    losses = Evaluation("x_loss", 3, 12, (1.0, 2.0), (0.5, float("nan"), 3.0), higher_is_better=False)
    assert (losses.best, losses.worst, losses.spread) == (0, 2, 2.5)
    assert Evaluation("x", 3, 12, (1.0,)).best is None and Evaluation("x", 3, 12, (1.0,)).spread is None


def test_it_is_put_back() -> None:
    """Modes, gradients and random state, also after an error."""
    model, x, y = wrapped("cnn", 2).train(), batch("cnn", 6), torch.arange(6) % 5
    model.backbone.norm.eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    shuffled = DataLoader(TensorDataset(x, y), batch_size=4, shuffle=True)

    def check() -> None:
        assert model.training and model.backbone.training and not model.backbone.norm.training
        assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
        assert torch.is_grad_enabled()

    with random_state_untouched():
        muxwrap.evaluate(model, shuffled, progress=False)
    check()

    def fail(outputs: Tensor, labels: Tensor) -> float:
        assert not outputs.requires_grad and not model.backbone.training
        torch.rand(1)
        raise ZeroDivisionError

    with random_state_untouched(), pytest.raises(ZeroDivisionError):
        muxwrap.evaluate(model, shuffled, fail, progress=False)
    check()


def test_printed_and_drawn() -> None:
    found = Evaluation("accuracy", 2, 1000, (0.5, 0.7), (0.25, 0.75), 0.125, 0.5)
    lines = str(found).splitlines()
    assert lines[0].split() == ["accuracy", "0.6000", "±", "0.1414", "2", "groupings", "of", "1,000", "rows,", "n=2"]
    assert [line.split()[:2] for line in lines[1:]] == [
        ["worst", "index"],
        ["best", "index"],
        ["flips", "0.1250"],
        ["agreement", "0.5000"],
    ]
    assert str(Evaluation("accuracy", 1, 5, (0.5,), (0.5,))) == "accuracy  0.5000  1 grouping of 5 rows, n=1"
    for result in (found, Evaluation("accuracy", 1, 5, (0.5,))):
        ax = Figure().add_subplot()
        assert result.plot(ax) is ax and ax.has_data() and ax.get_xlabel() and ax.get_ylabel() == "accuracy"
    assert len(found.plot().patches) == 3, "a bar per index and the deviation"


def test_progress(monkeypatch: pytest.MonkeyPatch) -> None:
    bars: list[Any] = []

    class Bar:
        def __init__(self, **options: Any) -> None:
            self.options, self.updates = options, 0
            bars.append(self)

        def __enter__(self) -> Bar:
            return self

        def __exit__(self, *_: object) -> None: ...

        def update(self) -> None:
            self.updates += 1

    model, x, y = wrapped("mlp", 2), batch("mlp", 10), torch.arange(10) % 5
    monkeypatch.setitem(sys.modules, "tqdm.auto", SimpleNamespace(tqdm=Bar))
    found = muxwrap.evaluate(model, split(x, y, 4), reference=make("mlp"))
    assert bars[0].updates == bars[0].options["total"] == 3 * 5 + 3 and not bars[0].options["disable"]
    monkeypatch.setitem(sys.modules, "tqdm.auto", None)
    assert muxwrap.evaluate(model, split(x, y, 4), reference=make("mlp")) == found


def _pairs() -> Iterator[Any]:
    return iter(())


@pytest.mark.parametrize(
    ("batches", "options", "message"),
    [
        (_pairs(), {}, "there is no batch"),
        ([torch.zeros(4, 12)], {}, r"a batch is a Tensor; give \(inputs, labels\) pairs"),
        ([(torch.zeros(4, 12), torch.zeros(4), torch.zeros(4))], {}, "a batch is a tuple of 3"),
        ((torch.zeros(4, 12), torch.zeros(4)), {}, r"One batch is \[\(inputs, labels\)\]"),
        ([{"x": torch.zeros(4, 12)}], {}, r"holds \['x'\] and no 'labels'; name the key with labels="),
        ([{"pixels": torch.zeros(4, 12), "labels": torch.zeros(4)}], {}, r"holds \['pixels'\] .*forward takes x"),
        ([{"x": torch.zeros(12), "labels": 1}], {}, "labels are one number"),
        ([(torch.zeros(4, 12), ["a", "b", "c", "d"])], {}, "labels are a list"),
        ([(["a", "b"], torch.zeros(2).long())], {}, "a str among the model's arguments"),
        (
            [(torch.zeros(4, 12), torch.zeros(3).long())],
            {},
            r"labels of shape \[3\] and inputs of shapes \[\[4, 12\]\]",
        ),
        (
            [(torch.zeros(4, 12), torch.zeros(4, 2).long())],
            {},
            r"labels of shape \[4, 2\] .* outputs of shape \[4, 5\]",
        ),
        ([(torch.zeros(4, 12), torch.zeros(4))], {}, "accuracy needs integer labels"),
        ([(torch.zeros(4, 12), torch.full((4,), -100))], {}, "no labels but -100"),
        (
            [(torch.zeros(4, 12), torch.zeros(4).long()), (torch.zeros(4, 12).double(), torch.zeros(4).long())],
            {},
            "batch 1 holds float64 with 2 axes and batch 0 float32",
        ),
        (None, {"metric": "accuracy"}, "metric='accuracy'.*a str; give a function"),
        (None, {"metric": lambda outputs, labels: outputs}, "a metric returns one number"),
        (None, {"groupings": 0}, "groupings=0"),
        (None, {"reference": 3}, "reference=3.*a int is not"),
        (None, {"reference": "wrapped"}, "depend on companions too"),
        (None, {"reference": make("mlp"), "labels": lambda b: b[1].float()}, "leave the reference out"),
    ],
)
def test_refusals(batches: Any, options: dict[str, Any], message: str) -> None:
    model = wrapped("mlp", 2).train()
    given_batches = [(torch.zeros(4, 12), torch.zeros(4).long())] if batches is None else batches
    if options.get("reference") == "wrapped":
        options = {"reference": wrapped("mlp", 2)}
    if "labels" in options:
        options = {**options, "metric": lambda outputs, labels: 0.0}
    with random_state_untouched(), pytest.raises(muxwrap.MuxwrapError, match=message):
        muxwrap.evaluate(model, given_batches, progress=False, **options)
    assert model.training and model.backbone.training


def test_a_model_that_returns_nothing_with_rows() -> None:
    with pytest.raises(muxwrap.MuxwrapError, match="Recorded returned no tensor with a row for each of 2 rows"):
        muxwrap.evaluate(
            Recorded(lambda each: each.sum(), torch.eye(2)), [(torch.arange(2), torch.arange(2))], progress=False
        )


def test_a_metric_that_cannot_score_few_rows() -> None:
    def picky_score(outputs: Tensor, labels: Tensor) -> float:
        if len(labels) < 6:
            raise ValueError("too few")
        return 0.5

    model, batches = wrapped("mlp", 3), [(batch("mlp", 6), torch.zeros(6).long())]
    with pytest.raises(muxwrap.MuxwrapError, match=r"fails on the 2 rows at index 0: too few; per_index=False"):
        muxwrap.evaluate(model, batches, picky_score, progress=False)
    found = muxwrap.evaluate(model, batches, picky_score, per_index=False, progress=False)
    assert found.mean == 0.5 and found.per_index == () and found.best is None
