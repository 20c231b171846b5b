"""Gradients are centered over the batch that an optimizer steps on, however it is cut into micro-batches and ranks."""

from __future__ import annotations

import warnings
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from texts import sentences, tiny
from torch import Tensor, nn
from torch.distributed.fsdp import fully_shard
from torch.nn.functional import cross_entropy
from torch.nn.parallel import DistributedDataParallel
from transformers import Trainer, TrainingArguments

import muxwrap
from muxwrap.demuxers import MLP
from muxwrap.training import RetrievalLoss, accumulation

N = 2
EXACT = {"rtol": 1e-5, "atol": 1e-8}


class Net(nn.Module):
    """Sequences ``[B, L, 6]`` to 3 classes per position, or per row."""

    def __init__(self, pooled: bool = True) -> None:
        super().__init__()
        self.stem, self.trunk, self.head = (
            nn.Linear(6, 12),
            nn.Sequential(nn.Linear(12, 12), nn.Tanh()),
            nn.Linear(12, 3),
        )
        self.pooled = pooled

    def forward(self, x: Tensor) -> Tensor:
        h = self.trunk(torch.tanh(self.stem(x)))
        return self.head(h.mean(1) if self.pooled else h)


def made(pooled: bool = True, backbone: nn.Module | None = None, **options: Any) -> muxwrap.Multiplex:
    torch.manual_seed(0)
    model = muxwrap.wrap(
        Net(pooled) if backbone is None else backbone,
        N,
        demux=partial(MLP, **options),
        example_input=torch.zeros(1, 4, 6),
        mux_at="stem@output",
        demux_at="head",
    )
    return model.double().train()


def batch(rows: int = 16, length: int = 4) -> tuple[Tensor, Tensor]:
    rng = torch.Generator().manual_seed(1)
    x = torch.randn(rows, length, 6, generator=rng, dtype=torch.float64)
    return x, torch.randint(3, (rows,), generator=rng)


def gradients(model: nn.Module) -> dict[str, Tensor]:
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def expected(pooled: bool = True) -> dict[str, Tensor]:
    model = made(pooled)
    x, y = batch()
    loss_of(model(x), y).backward()
    return gradients(model)


def loss_of(out: Tensor, y: Tensor) -> Tensor:
    return cross_entropy(out.flatten(0, -2), y if out.ndim == 2 else y.repeat_interleave(out.shape[1]))


def assert_same(found: dict[str, Tensor], wanted: dict[str, Tensor]) -> None:
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        torch.testing.assert_close(found[name], value, msg=lambda text, name=name: f"{name}: {text}", **EXACT)


@pytest.mark.parametrize("cut", [[16], [8, 8], [4, 4, 4, 4], [2, 10, 4]])
@pytest.mark.parametrize("pooled", [True, False])
def test_micro_batches_in_a_block_are_one_batch(cut: list[int], pooled: bool) -> None:
    model = made(pooled)
    x, y = batch()
    with accumulation(model):
        for rows, labels in zip(x.split(cut), y.split(cut), strict=True):
            (loss_of(model(rows), labels) * len(rows) / len(x)).backward()
    assert_same(gradients(model), expected(pooled))


def test_without_the_block_they_are_not_and_a_warning_says_so_once() -> None:
    model = made()
    x, y = batch()
    loss_of(model(x[:8]), y[:8]).div(2).backward()
    with pytest.warns(UserWarning, match=r"with muxwrap.training.accumulation\(model\):"):
        loss_of(model(x[8:]), y[8:]).div(2).backward()
    wanted = expected()["backbone.trunk.0.weight"]
    assert (model.backbone.trunk[0].weight.grad - wanted).norm() > 0.1 * wanted.norm()
    loss_of(model(x[8:]), y[8:]).backward()


@pytest.mark.parametrize("set_to_none", [True, False])
def test_steps_of_one_batch_are_no_accumulation(set_to_none: bool) -> None:
    model = made()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    x, y = batch()
    for _ in range(3):
        optimizer.zero_grad(set_to_none=set_to_none)
        (loss_of(model(x), y) + loss_of(model(-x), y)).backward()  # two calls, one backward
        optimizer.step()


def test_a_step_inside_the_block_is_refused_and_an_error_leaves_nothing_behind() -> None:
    model = made()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    x, y = batch()
    with pytest.raises(muxwrap.MuxwrapError, match=r"optimizer.step\(\)"), accumulation(model):
        loss_of(model(x), y).backward()
        optimizer.step()
    model.zero_grad()
    loss_of(model(x), y).backward()
    optimizer.step()


def test_a_backward_that_comes_too_late_is_refused() -> None:
    model = made()
    x, y = batch()
    with accumulation(model):
        loss_of(model(x), y).backward()
        late = loss_of(model(x), y)
    with pytest.raises(muxwrap.MuxwrapError, match="could not follow"):
        late.backward()


def test_a_frozen_trunk_has_nothing_to_hold_back() -> None:
    model = made()
    model.requires_grad_(False)
    model.backbone.head.requires_grad_(True)
    x, y = batch()
    with accumulation(model):
        for rows, labels in zip(x.chunk(2), y.chunk(2), strict=True):
            loss_of(model(rows), labels).div(2).backward()
    head = {name: value for name, value in expected().items() if ".head." in name}
    assert_same(gradients(model), head)


def test_a_loss_that_reads_the_trunk_by_another_way_is_refused() -> None:
    model = made()
    seen: list[Tensor] = []
    handle = model.backbone.trunk.register_forward_hook(lambda _module, _args, out: seen.append(out))
    x, y = batch()
    with pytest.raises(muxwrap.MuxwrapError, match="reads the trunk"), accumulation(model):
        out = model(x)
        (loss_of(out, y) + seen[0].square().mean()).backward()
    handle.remove()


def test_a_block_around_compiled_code_is_one_batch_or_an_error() -> None:
    model = made()
    x, y = batch()
    compiled = torch.compile(model, backend="aot_eager")
    loss_of(compiled(x), y).backward()
    assert_same(gradients(model), expected())
    model.zero_grad()
    with warnings.catch_warnings(), accumulation(model):
        warnings.filterwarnings("ignore", "The .grad attribute of a Tensor that is not a leaf")  # dynamo reads it
        for rows, labels in zip(x.chunk(2), y.chunk(2), strict=True):
            loss_of(compiled(rows), labels).div(2).backward()
    assert_same(gradients(model), expected())
    torch.compiler.reset()
    with pytest.raises(torch._dynamo.exc.Unsupported, match="held back"), accumulation(model):
        torch.compile(model, backend="aot_eager", fullgraph=True)(x)


@pytest.mark.parametrize("task", [0.0, 0.5])
def test_retrieval_beside_a_task_or_alone_accumulates_as_one_batch(task: float) -> None:
    no_dropout = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    found = []
    for cut in (1, 2, 4):
        loss = (
            RetrievalLoss(muxwrap.wrap(tiny("sequence", "bert", **no_dropout), N), task=task, indices="all")
            .train()
            .double()
        )
        whole = sentences((6,) * 8) | {"labels": torch.tensor([0, 1, 2, 1, 0, 2, 2, 1])}
        with accumulation(loss.model):
            for k in range(cut):
                (loss(**{key: value.chunk(cut)[k] for key, value in whole.items()}).loss / cut).backward()
        found.append(gradients(loss))
    assert_same(found[1], found[0])
    assert_same(found[2], found[0])


class WithLoss(Net):
    """With a loss, as Trainers expect it."""

    def forward(self, x: Tensor, labels: Tensor | None = None) -> dict[str, Tensor]:  # type: ignore[override]
        logits = super().forward(x)
        return {"logits": logits} if labels is None else {"loss": cross_entropy(logits, labels), "logits": logits}


@pytest.mark.parametrize(("size", "steps"), [(8, 2), (4, 4)])
def test_an_accumulating_trainer_makes_the_steps_of_one_batch(size: int, steps: int, tmp_path: Path) -> None:
    found, wanted = (_trained(tmp_path, *each) for each in ((size, steps), (16, 1)))
    assert not torch.equal(wanted["strategy.keys"], _with_loss().state_dict()["strategy.keys"])
    assert_same(found, wanted)


def _with_loss() -> muxwrap.Multiplex:
    torch.manual_seed(0)
    return made(backbone=WithLoss())


def _trained(folder: Path, size: int, steps: int) -> dict[str, Tensor]:
    model = _with_loss()
    arguments = TrainingArguments(
        str(folder),
        per_device_train_batch_size=size,
        gradient_accumulation_steps=steps,
        max_steps=2,
        learning_rate=0.1,
        lr_scheduler_type="constant",
        optim="sgd",
        max_grad_norm=0.01,
        report_to="none",
        save_strategy="no",
        logging_strategy="no",
        use_cpu=True,
        disable_tqdm=True,
        train_sampling_strategy="sequential",
    )
    rows = [{"x": row, "labels": int(label)} for row, label in zip(*batch(32), strict=True)]
    Trainer(model, arguments, train_dataset=rows).train()
    return model.state_dict()


def _in_parallel(
    rank: int, kind: str, cut: tuple[int, int], micro: int, block: bool, pooled: bool
) -> dict[str, Tensor]:
    model = made(pooled)
    x, y = (part.split(cut)[rank] for part in batch())
    whole: Any
    if kind.startswith("ddp"):
        inner = torch.compile(model, backend="aot_eager") if kind == "ddp, compiled inside" else model
        whole = DistributedDataParallel(inner, find_unused_parameters=kind == "ddp, unused")
        whole = torch.compile(whole, backend="aot_eager") if kind == "ddp, compiled" else whole
    else:
        mesh = torch.distributed.init_device_mesh("cpu", (2,))
        fully_shard(model.backbone.trunk, mesh=mesh)
        whole = fully_shard(model, mesh=mesh)
    weight = 2 * len(x) / 16 / micro  # the ranks' gradients are averaged
    with accumulation(model) if block else nullcontext():
        for k, (rows, labels) in enumerate(zip(x.chunk(micro), y.chunk(micro), strict=True)):
            with nullcontext() if k == micro - 1 or kind == "fsdp" else whole.no_sync():
                (loss_of(whole(rows), labels) * weight).backward()
    found = gradients(model)
    return {name: value.full_tensor() if hasattr(value, "full_tensor") else value for name, value in found.items()}


CASES = [
    (kind, cut, micro, block, pooled)
    for kind, cut, micro, block in [
        ("ddp", (8, 8), 1, False),
        ("ddp", (12, 4), 1, False),
        ("ddp", (14, 2), 1, False),  # one mixture on the second rank
        ("ddp", (8, 8), 4, False),
        ("ddp", (12, 4), 2, False),
        ("ddp", (12, 4), 2, True),
        ("ddp, unused", (12, 4), 1, False),
        ("ddp, compiled", (12, 4), 1, False),
        ("ddp, compiled inside", (12, 4), 1, False),
        ("fsdp", (8, 8), 1, False),
        ("fsdp", (14, 2), 1, False),
    ]
    for pooled in (True, False)
]
REFUSED = [
    ("ddp, unused", (8, 8), 2, False, True, "find_unused_parameters=False"),
    ("fsdp", (8, 8), 2, True, True, "gradient accumulation under fully_shard"),
]


def _rank(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    store = torch.distributed.FileStore(f"{folder}/store", 2)
    torch.distributed.init_process_group("gloo", store=store, rank=rank, world_size=2)
    found: list[Any] = [_in_parallel(rank, *case) for case in CASES]
    for *case, _ in REFUSED:
        try:
            found.append(_in_parallel(rank, *case))  # type: ignore[arg-type]
        except muxwrap.MuxwrapError as error:
            found.append(str(error))
    torch.save(found, f"{folder}/{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.fixture(scope="module")
def two_ranks(tmp_path_factory: pytest.TempPathFactory) -> list[list[Any]]:
    """What each of two processes found, case by case."""
    folder = tmp_path_factory.mktemp("ranks")
    torch.multiprocessing.spawn(_rank, (str(folder),), nprocs=2)
    return [torch.load(folder / f"{rank}.pt") for rank in range(2)]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_two_ranks_are_one_batch(case: tuple[Any, ...], two_ranks: list[list[Any]]) -> None:
    for found in two_ranks:
        assert_same(found[CASES.index(case)], expected(case[-1]))


@pytest.mark.parametrize("case", REFUSED, ids=str)
def test_what_ranks_cannot_do_is_refused(case: tuple[Any, ...], two_ranks: list[list[Any]]) -> None:
    for found in two_ranks:
        assert case[-1] in found[len(CASES) + REFUSED.index(case)]
