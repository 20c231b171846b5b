"""Losses that compare rows: the index is the answer to them, unless rows are shuffled and the index is hidden."""

from __future__ import annotations

import warnings
from functools import cache, partial

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import muxwrap
from muxwrap.demuxers import MLP
from muxwrap.evaluation import index_readable
from muxwrap.evaluation.index_trace import IndexTrace
from muxwrap.training import settle_index_norm

SIZE, BATCH, N = 6, 96, 2


def pairs(rows: int, seed: int) -> tuple[Tensor, Tensor]:
    """Two noisy views of the same rows."""
    rng = torch.Generator().manual_seed(seed)
    row, *noise = (torch.randn(rows, SIZE, generator=rng) for _ in range(3))
    return row + 0.2 * noise[0], row + 0.2 * noise[1]


def embedder() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(SIZE, 64), nn.GELU(), nn.Linear(64, 64), nn.GELU(), nn.Linear(64, 32))


def wrapped(cured: bool) -> muxwrap.Multiplex:
    return muxwrap.wrap(
        embedder(),
        N,
        demux=partial(MLP, hide_index=cured),
        shuffle=cured,
        example_input=torch.zeros(1, SIZE),
        mux_at="0@output",
        demux_at="4@output",
    )


def in_batch_negatives(model: nn.Module, anchors: Tensor, positives: Tensor) -> Tensor:
    similarity = F.normalize(model(anchors), dim=1) @ F.normalize(model(positives), dim=1).T
    return F.cross_entropy(20 * similarity, torch.arange(len(anchors)))


@cache
def trained(cured: bool) -> muxwrap.Multiplex:
    model = wrapped(cured).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    torch.manual_seed(1)
    for step in range(300):
        loss = in_batch_negatives(model, *pairs(BATCH, 1000 + step))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    if cured:
        settle_index_norm(model, [side for k in range(16) for side in pairs(512, 5000 + k)])
    return model.eval()


@torch.no_grad()
def accuracy(model: nn.Module) -> float:
    """How often a new row's other view is the nearest of 64, which stand in another order."""
    found = 0.0
    for k in range(16):
        anchors, positives = pairs(64, 9000 + k)
        order = torch.randperm(64, generator=torch.Generator().manual_seed(k))
        others = F.normalize(model(positives[order]), dim=1)
        nearest = (F.normalize(model(anchors), dim=1) @ others.T).argmax(1)
        found += float((order[nearest] == torch.arange(64)).float().mean()) / 16
    return found


def trace(model: muxwrap.Multiplex) -> IndexTrace:
    return index_readable(model, [pairs(512, 7000 + k)[0] for k in range(4)])


def test_without_the_cure_the_index_is_learned_in_the_place_of_rows() -> None:
    model = trained(False)
    assert in_batch_negatives(model, *pairs(BATCH, 8000)).item() < 0.1  # new rows, the same indices
    assert accuracy(trained(False)) < 0.5
    found = trace(trained(False))
    assert found.accuracy > 0.8 and found.nearest > 0.95


def test_with_it_rows_are_found_and_neither_probe_nor_neighbours_know_the_index() -> None:
    assert in_batch_negatives(trained(True), *pairs(BATCH, 8000)).item() < 0.5
    assert accuracy(trained(True)) > max(0.8, 2 * accuracy(trained(False)))
    found = trace(trained(True))
    assert (found.chance, found.rows) == (1 / N, 1024)
    assert abs(found.accuracy - found.chance) < 4 * found.deviation
    assert abs(found.nearest - found.chance) < 4 * found.deviation


def test_embeddings_that_show_their_index_are_trained_with_a_warning_once() -> None:
    model = muxwrap.wrap(
        embedder(), N, example_input=torch.zeros(1, SIZE), mux_at="0@output", demux_at="4@output"
    ).train()
    with pytest.warns(UserWarning, match=r"shuffle=True .* hide_index=True"):
        in_batch_negatives(model, *pairs(8, 0)).backward()
    model.zero_grad()
    in_batch_negatives(model, *pairs(8, 0)).backward()  # every warning is an error here


@pytest.mark.parametrize("case", ["a head", "chosen", "evaluation", "bare"])
def test_where_there_is_nothing_to_warn_of(case: str) -> None:
    options = {"demux_at": "4@input"} if case == "a head" else {"demux_at": "4@output"}
    model = muxwrap.wrap(
        embedder(),
        1 if case == "bare" else N,
        shuffle=False if case == "chosen" else None,
        example_input=torch.zeros(1, SIZE),
        mux_at="0@output",
        **options,
    )
    model.train(case != "evaluation")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        in_batch_negatives(model, *pairs(8, 0)).backward()


def test_settled_statistics_are_those_of_evaluation_over_all_batches() -> None:
    model = muxwrap.wrap(
        nn.Sequential(nn.Linear(SIZE, 16), nn.Dropout(0.5), nn.Linear(16, 16), nn.GELU(), nn.Linear(16, 4)),
        N,
        demux=partial(MLP, hide_index=True),
        example_input=torch.zeros(1, SIZE),
        mux_at="0@output",
        demux_at="4@input",
    ).train()
    batches = [pairs(64, k)[0] for k in range(3)]
    settle_index_norm(model, batches)
    assert all(part.training for part in model.modules())
    norm = model.demuxer.index_norm.norm
    assert norm.momentum == 0.1
    seen: list[Tensor] = []
    handle = norm.register_forward_hook(lambda _module, _args, out: seen.append(out))
    model.eval()(torch.cat(batches))
    handle.remove()
    torch.testing.assert_close(seen[0].mean(0), torch.zeros(32), atol=1e-4, rtol=0)
    with pytest.raises(muxwrap.MuxwrapError, match="there is no batch"):
        settle_index_norm(model, [])
    with pytest.raises(muxwrap.MuxwrapError, match="no demuxer hides the index"):
        settle_index_norm(wrapped(False), batches)
