"""Distillation as one call: what it reaches, what it leaves alone, and how it goes on after an interruption."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import assert_same_state
from nets import CNN, MLP, make
from texts import sentences, tiny
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import muxwrap
from muxwrap.strategies import Orthogonal
from muxwrap.training import DistillationLoss, distill

STILL = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}


def vectors(rows: int, seed: int = 0) -> Tensor:
    return torch.randn(rows, 12, generator=torch.Generator().manual_seed(seed))


def trained(seed: int = 0) -> MLP:
    """A net whose answers depend on its input clearly."""
    net = make("mlp", seed).eval()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.mul_(3)
    return net


def student(net: nn.Module | None = None, n: int = 2, **options: Any) -> muxwrap.Multiplex:
    turned = partial(Orthogonal, learnable=True, held=True, identity_first=True)
    options = {"strategy": turned, "mux_at": "stem", "demux_at": "head", "example_input": vectors(1), **options}
    return muxwrap.wrap(trained() if net is None else net, n, **options)


def loader(labels: bool = True, rows: int = 256) -> DataLoader[Any]:
    x = vectors(rows)
    data = TensorDataset(x, trained()(x).argmax(-1)) if labels else TensorDataset(x)
    return DataLoader(data, batch_size=32, shuffle=True)


HELD_OUT = vectors(200, seed=1).split(50)


@torch.no_grad()
def agreement(model: muxwrap.Multiplex) -> float:
    """Share of the held-out rows to which a model answers as the trained net does."""
    teacher, answers = trained(), model.eval()
    return torch.cat([answers(x).argmax(-1) == teacher(x).argmax(-1) for x in HELD_OUT]).float().mean().item()


@pytest.mark.parametrize("labels", [True, False])
def test_agreement_with_the_teacher_rises(labels: bool) -> None:
    model = student()
    before = agreement(model)
    found = distill(model, loader(labels), 200, lr=1e-2, held_out=HELD_OUT, every=50, progress=False)
    first = found.history[0]
    assert [each.step for each in found.history] == [50, 100, 150, 200]
    assert found.agreement is not None and first.agreement is not None
    assert found.agreement == max(each.agreement or 0 for each in found.history) > before + 0.2
    assert found.history[-1].loss < 0.7 * first.loss
    assert set(first.parts) == {"distillation", "states"} | ({"task"} if labels else set())
    assert agreement(model) == pytest.approx(found.agreement)


def test_the_teacher_is_the_backbone_as_it_was() -> None:
    model, before = student(), trained()
    found = distill(model, loader(), 20, lr=1e-2, progress=False)
    assert_same_state(found.teacher, before)
    assert not any(parameter.requires_grad for parameter in found.teacher.parameters())
    assert not torch.equal(model.backbone.hidden.weight, before.hidden.weight)
    again = distill(model, loader(), 5, progress=False)  # the same teacher, not the trained backbone
    assert again.teacher is found.teacher
    x = vectors(3)
    torch.testing.assert_close(found.teacher(x), before(x))


def test_a_teacher_of_another_make() -> None:
    torch.manual_seed(1)
    other = nn.Sequential(nn.Linear(12, 8), nn.Tanh(), nn.Linear(8, 5)).train()
    kept = copy.deepcopy(other.state_dict())
    found = distill(student(), loader(), 20, teacher=other, progress=False)
    assert set(found.history[-1].parts) == {"task", "distillation"}
    assert other.training and all(torch.equal(value, kept[name]) for name, value in other.state_dict().items())
    with pytest.raises(muxwrap.MuxwrapError, match=r"distill\(states=1\).*Sequential, has no module 'head'.*states=0"):
        distill(student(), loader(), 20, teacher=other, states=1.0, progress=False)


class Skips(MLP):
    """Has the module that is compared, and does not run it."""

    def forward(self, x: Tensor) -> Tensor:
        return x[:, :5]


def test_a_teacher_that_does_not_run_what_is_compared_is_refused() -> None:
    with pytest.raises(muxwrap.MuxwrapError, match=r"'head' did not run in a call of the teacher.*states=0"):
        distill(student(), loader(), 20, teacher=Skips(), states=1.0, progress=False)


def test_modes_and_random_state_are_left_as_they_were() -> None:
    model = student().eval()
    torch.manual_seed(5)
    distill(model, loader(), 3, held_out=HELD_OUT, every=1, progress=False)
    assert not model.training and not model.backbone.training
    after = torch.rand(1)
    torch.manual_seed(5)
    assert torch.equal(after, torch.rand(1))


def test_equal_seeds_give_equal_weights_whatever_is_measured() -> None:
    models = [student() for _ in range(3)]
    distill(models[0], loader(), 12, seed=3, progress=False)
    distill(models[1], loader(), 12, seed=3, every=5, progress=False)
    distill(models[2], loader(), 12, seed=4, progress=False)
    assert_same_state(models[0], models[1])
    assert not torch.equal(models[0].backbone.hidden.weight, models[2].backbone.hidden.weight)


class Interrupted:
    """Batches that end in an error after so many."""

    def __init__(self, batches: Any, after: int) -> None:
        self.batches, self.after = batches, after

    def __iter__(self) -> Iterator[Any]:
        for batch in self.batches:
            if not self.after:
                raise KeyboardInterrupt
            self.after -= 1
            yield batch


@pytest.mark.parametrize("held_out", [None, HELD_OUT])
def test_an_interrupted_call_goes_on_to_the_bit(tmp_path: Path, held_out: Any) -> None:
    options: dict[str, Any] = {"held_out": held_out, "every": 5, "lr": 1e-2, "progress": False}
    whole, cut = student(), student()
    wanted = distill(whole, loader(), 30, **options)
    with pytest.raises(KeyboardInterrupt):
        distill(cut, Interrupted(loader(), 17), 30, resume=tmp_path / "state.pt", **options)
    fresh = student()
    found = distill(fresh, loader(), 30, resume=tmp_path / "state.pt", **options)
    assert_same_state(fresh, whole)
    assert found.history == wanted.history and found.agreement == wanted.agreement
    done = student()
    assert distill(done, loader(), 30, resume=tmp_path / "state.pt", **options).history == wanted.history
    assert_same_state(done, whole)  # nothing was left to do
    with pytest.raises(muxwrap.MuxwrapError, match=r"resume='state\.pt'.*steps=30.*steps=31"):
        distill(student(), loader(), 31, resume=tmp_path / "state.pt", **options)
    with pytest.raises(muxwrap.MuxwrapError, match=r"resume='state\.pt'.*teacher="):
        distill(student(trained(seed=1)), loader(), 30, resume=tmp_path / "state.pt", **options)


def test_it_stops_early_with_the_best_weights() -> None:
    model = student()
    found = distill(
        model,
        loader(),
        500,
        held_out=HELD_OUT,
        every=5,
        patience=2,
        progress=False,
        optimizer=partial(torch.optim.SGD, lr=0.0),
    )
    assert (found.steps, found.best_step) == (15, 5)
    model = student()
    spoiled = distill(
        model,
        loader(),
        80,
        held_out=HELD_OUT,
        every=20,
        progress=False,
        optimizer=partial(torch.optim.Adam, lr=1e-2),
        scheduler=lambda made: torch.optim.lr_scheduler.LambdaLR(made, lambda step: 1.0 if step < 40 else 300.0),
    )
    assert spoiled.best_step < spoiled.steps
    assert agreement(model) == pytest.approx(spoiled.agreement)
    assert spoiled.agreement is not None and spoiled.history[-1].agreement is not None
    assert spoiled.agreement > spoiled.history[-1].agreement


def of_one_width() -> muxwrap.Multiplex:
    """A student whose trunk is as wide as its mixtures."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(12, 16), nn.Linear(16, 16), nn.Tanh(), nn.Linear(16, 5)).eval()
    return student(net, mux_at="0", demux_at="3")


def test_labels_weigh_half_or_nothing() -> None:
    model = of_one_width()
    x, labels = vectors(6), torch.tensor([0, 1, 2, 3, 4, 0])
    taught = DistillationLoss(model, layers=0.5)
    with_labels, without = taught.losses(x, labels), taught.losses(x)
    parts = with_labels.parts
    torch.testing.assert_close(parts["task"], nn.functional.cross_entropy(with_labels.answers, labels))
    sums = 0.5 * parts["task"] + 0.5 * parts["distillation"] + parts["states"] + 0.5 * parts["layers"]
    torch.testing.assert_close(with_labels.loss, sums)
    torch.testing.assert_close(
        without.loss, without.parts["distillation"] + without.parts["states"] + 0.5 * without.parts["layers"]
    )


def test_the_states_are_those_before_the_head() -> None:
    net = trained()
    model, x = student(net), vectors(6)
    states: list[Tensor] = []
    handle = net.head.register_forward_pre_hook(lambda _, args: states.append(args[0]))
    found = DistillationLoss(model).losses(x)
    handle.remove()
    wanted = torch.tanh(trained().hidden(torch.tanh(trained().stem(x))))
    torch.testing.assert_close(found.parts["states"], (states[0] - wanted).square().mean())
    found.loss.backward()
    assert model.strategy.keys.grad is not None and model.strategy.keys.grad.abs().sum() > 0


def test_one_instance_per_mixture_is_its_own_teacher() -> None:
    model = student(n=1, strategy="identity", demux="unbind")
    parts = DistillationLoss(model).losses(vectors(6)).parts
    assert all(part.item() == pytest.approx(0, abs=1e-6) for part in parts.values())


def test_layers_are_taught_mixtures_of_the_teachers_states() -> None:
    model, x = of_one_width(), vectors(6)
    with torch.no_grad():
        found = DistillationLoss(model, layers=1.0).losses(x).parts["layers"]
        net, mix = model.backbone, model.strategy
        h = net[1](mix(net[0](x).view(3, 2, 16)))
        wanted = net[1](net[0](x)).view(3, 2, 16)
        apart = [(h - mix(wanted)).square().mean(), (h.tanh() - mix(wanted.tanh())).square().mean()]
    torch.testing.assert_close(found, torch.stack(apart).mean())
    with pytest.raises(muxwrap.MuxwrapError, match=r"layers: none of the 1 layers.*layers=0"):
        DistillationLoss(student(), layers=1.0).losses(x)


def text(n: int, strategy: Any, **options: Any) -> muxwrap.Multiplex:
    bare = tiny("sequence", "bert", pad_token_id=7, num_hidden_layers=3, **STILL)
    return muxwrap.wrap(bare, n, strategy, mux_at="bert.encoder.layer.0", **options)


@pytest.mark.parametrize("strategy", ["pool", "sign", "slots"])
def test_text_is_taught_layer_by_layer(strategy: str) -> None:
    model = text(2, strategy).train()
    batch = {**sentences((6, 9, 5, 6, 3, 8)), "labels": torch.tensor([0, 2, 1, 1, 0, 2])}
    found = distill(model, [batch], 40, layers=1.0, lr=3e-3, every=10, held_out=[batch], progress=False)
    first, last = found.history[0].parts, found.history[-1].parts
    assert set(last) == {"task", "distillation", "states", "layers"}
    assert last["layers"] < first["layers"] and last["states"] < first["states"]
    assert found.agreement is not None and found.agreement >= (found.history[0].agreement or 0)


def test_pooled_states_are_compared_with_pooled_ones() -> None:
    model = text(3, "pool").eval()
    ids = torch.full((3, 10), 5)  # all tokens are equal: pooling them changes nothing
    model.backbone.bert.embeddings.position_embeddings.weight.data.zero_()
    parts = DistillationLoss(model, layers=1.0).losses({"input_ids": ids}).parts
    assert all(part.item() == pytest.approx(0, abs=1e-6) for part in parts.values())


def test_padding_does_not_count() -> None:
    model = text(2, "sign").eval()
    short = {**sentences((4, 4)), "labels": torch.tensor([0, 1])}
    padded = sentences((4, 4, 9))
    longer = {name: value[:2] for name, value in padded.items()}
    longer["input_ids"][:, :4] = short["input_ids"]
    taught = DistillationLoss(model, layers=1.0)
    for name, part in taught.losses({k: v for k, v in short.items() if k != "labels"}).parts.items():
        torch.testing.assert_close(taught.losses(longer).parts[name], part, atol=1e-5, rtol=1e-4)


def test_tokens_count_where_they_are_labelled_or_not_padding() -> None:
    model = muxwrap.wrap(tiny("token", "bert", pad_token_id=7, **STILL), 2)
    given = sentences((6, 4, 5, 6))
    labels = torch.randint(3, (4, 6)).masked_fill(given["attention_mask"] == 0, -100)
    found = distill(model, [{**given, "labels": labels}, given], 6, held_out=[given], every=3, progress=False)
    assert found.agreement is not None and 0 <= found.agreement <= 1


def test_embeddings_agree_by_their_cosine() -> None:
    model = muxwrap.wrap(tiny("base", "bert", pad_token_id=7, **STILL), 2, shuffle=False)
    given = sentences((6, 6, 6, 6))
    found = distill(model, [given], 60, task=0.0, distillation=0.0, lr=3e-3, held_out=[given], every=20, progress=False)
    first = found.history[0].agreement
    assert found.agreement is not None and first is not None and found.agreement > first


def test_images_are_taught() -> None:
    torch.manual_seed(0)
    net = CNN().eval()
    model = muxwrap.wrap(net, 2, "slots", mux_at="stem", demux_at="fc", example_input=torch.zeros(1, 2, 6, 6))
    x = torch.randn(64, 2, 6, 6)
    found = distill(model, x.split(16), 60, lr=1e-2, every=30, held_out=x.split(16), progress=False)
    assert found.history[-1].loss < found.history[0].loss


def test_bfloat16_and_bad_arguments() -> None:
    found = distill(student(), loader(), 4, dtype=torch.bfloat16, held_out=HELD_OUT, every=2, progress=False)
    assert found.steps == 4
    refused: dict[str, dict[str, Any]] = {
        r"distill\(steps=0\)": {"steps": 0},
        r"distill\(every=0\)": {"every": 0},
        r"distill\(patience=.*held_out=": {"patience": 3},
        r"held_out=.*read only once": {"held_out": iter(HELD_OUT)},
        r"dtype=torch\.float16.*bfloat16": {"dtype": torch.float16},
        r"distill\(task=-1\)": {"task": -1},
        r"distill\(\): distillation, states and layers are all 0": {"distillation": 0, "states": 0},
        r"distill\(temperature=0\)": {"temperature": 0},
        r"held_out=.*there is no batch": {"held_out": []},
    }
    model = student()
    before = copy.deepcopy(model.state_dict())
    for pattern, options in refused.items():
        with pytest.raises(muxwrap.MuxwrapError, match=pattern):
            distill(model, loader(), **{"steps": 4, "progress": False, **options})
    with pytest.raises(muxwrap.MuxwrapError, match=r"labels float32 \[32\].*leave the labels out"):
        distill(model, [(vectors(32), torch.rand(32))], 4, progress=False)
    with pytest.raises(muxwrap.MuxwrapError, match="batches is empty"):
        distill(model, [], 4, progress=False)
    with pytest.raises(muxwrap.MuxwrapError, match=r"distill\(MLP\): not a wrapped model"):
        distill(trained(), loader(), 4, progress=False)  # type: ignore[arg-type]
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
