"""The chart as one call."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from muxwrap._hooks.running import is_hooked
from muxwrap.defaults import StrategyChoice, strategy_class
from muxwrap.errors import MuxwrapError, check_count
from muxwrap.frontiers import rivals as _registered  # noqa: F401 - they register themselves
from muxwrap.frontiers.blocks import blocks_of
from muxwrap.frontiers.chart import chart
from muxwrap.frontiers.data import held, median_row
from muxwrap.frontiers.depths import depths
from muxwrap.frontiers.plan import plan
from muxwrap.frontiers.records import Records
from muxwrap.frontiers.registry import Subject, rivals_named
from muxwrap.frontiers.result import Frontier
from muxwrap.frontiers.rivals.class_token import can_stand_alone
from muxwrap.frontiers.workshop import Workshop
from muxwrap.multiplex import Multiplex
from muxwrap.throughput import compare_dtypes
from muxwrap.throughput.dtypes import dtypes_of
from muxwrap.training.stream import own_random_state


def frontier(
    model: nn.Module,
    train: Iterable[Any],
    held_out: Iterable[Any],
    *,
    test: Iterable[Any] | None = None,
    n: int | Sequence[int] = (4, 8),
    at: int | str | Sequence[int | str | None] | None = None,
    layers: int | Sequence[int] | None = None,
    strategies: StrategyChoice | Sequence[StrategyChoice] = None,
    rivals: Iterable[str] | None = None,
    steps: int = 1000,
    seed: int = 0,
    groupings: int = 3,
    dtype: torch.dtype | str = "auto",
    folder: str | Path | None = None,
    timing: dict[str, Any] | None = None,
    progress: bool = True,
    **options: Any,
) -> Frontier:
    """Measure what a trained classifier can become: accuracy against speed, multiplexed and beside its rivals.

    Every model is distilled from the trained one with :func:`muxwrap.training.distill`, in the same steps on the same batches.
    The rivals are those of :func:`~muxwrap.frontiers.list_rivals`: fewer layers, the class token alone in the last layer,
    narrower layers, less input, and int8, which also stands beside every other model. Speed is measured in one run, in which
    the models take turns, each at its own best batch size, in the dtype that the trained model is fastest in; in that dtype
    accuracy is measured, too. What makes no sense for a model is left out, with the reason.

    A copy of the model for every point is held while speed is measured.

    Args:
        model: a trained classifier, bare: of Transformers, of timm, or any other; it is left as it was.
        train: batches to distil on, as :func:`~muxwrap.training.distill` takes them, read again for every model: a data loader
            or a list. Labels are optional.
        held_out: batches with labels, by which the best weights of a training are chosen.
        test: batches with labels that accuracy is measured on. By default the held-out ones, which then flatter every trained
            model a little.
        n: instances in a mixture.
        at: layers after which is mixed, counted from 1, or paths as ``mux_at=`` of :func:`muxwrap.wrap` takes them. By default
            a third and half of the layers, or the site that is found where the layers pass no tokens on.
        layers: how many layers are kept, alone and under multiplexing; by default all, two thirds, half and a third.
        strategies: as in :func:`muxwrap.wrap`; by default ``"pool"`` where the layers pass tokens on, else what ``wrap`` takes.
            ``"orthogonal"`` stands for learned rotations that leave the first instance alone.
        rivals: their names; by default all.
        steps: optimizer steps of every training.
        seed: of everything that is drawn.
        groupings: random groupings over which the accuracy of a multiplexed model is a mean.
        dtype: of weights and inputs in scoring and timing; ``"auto"`` measures float32 and bfloat16.
        folder: where every model's record and weights are kept. A call that finds them there does not train again, one that
            was interrupted goes on, and :meth:`Frontier.model` needs it.
        timing: options of :func:`muxwrap.throughput.compare`: ``mixtures``, ``rounds``, ``seconds``.
        progress: show a bar, if tqdm is installed.
        **options: of :func:`~muxwrap.training.distill`, such as ``lr=``, ``task=`` or ``states=``.

    Returns:
        A :class:`~muxwrap.frontiers.Frontier`: ``print`` it, ``plot`` it, and take a model out of it.

    Raises:
        MuxwrapError: the model is wrapped; batches cannot be read again, or have no labels to score by; unknown names and
            bad numbers; a folder of another call; nothing could be trained.
    """
    _check(model, train, options)
    with own_random_state(next(model.parameters()).device):
        pairs = held(held_out, model, "held_out")
        example = median_row(pairs)
        subject = Subject(model, example, pairs[0].inputs, blocks_of(model, example))
        kept, places = depths(subject, _listed(layers), _listed(at))
        subject = replace(subject, layers=kept, alone=can_stand_alone(subject))
        chosen = rivals_named(rivals)
        counts = [check_count(each) for each in _listed(n)]
        found = plan(subject, chosen, counts, places, _strategies(strategies, subject), seed)
        scored = pairs if test is None else held(test, model, "test")
        used = _dtype(dtype, subject)
        shop = Workshop(subject, train, pairs, scored, steps, used, groupings, seed, options)
        return chart(shop, found, Records(folder, shop.identity()), timing or {}, progress)


def _check(model: object, train: object, options: dict[str, Any]) -> None:
    wrapped = isinstance(model, nn.Module) and any(map(is_hooked, model.modules()))
    if wrapped or isinstance(model, Multiplex) or not isinstance(model, nn.Module):
        raise MuxwrapError(
            f"frontier({type(model).__name__}): it charts what a trained model can become; give that model, a torch.nn.Module "
            "that is not wrapped"
        )
    if not hasattr(train, "__iter__") or iter(train) is train:
        raise MuxwrapError(
            f"frontier(train={type(train).__name__}): every model is trained on it, and it can be read once at most; give a "
            "list or a data loader"
        )
    ours = {"teacher", "held_out", "resume"} & options.keys()
    if ours:
        raise MuxwrapError(
            f"frontier({min(ours)}=...): the chart sets it for every distillation; leave it out, and call "
            "muxwrap.training.distill for a training of your own"
        )


def _listed(value: Any) -> Any:
    return (value,) if isinstance(value, (int, str)) else value


def _strategies(choices: Any, subject: Subject) -> list[StrategyChoice]:
    """Return the strategies as a list.

    Raises:
        MuxwrapError: one is none.
    """
    if choices is None:
        pools = subject.blocks is not None and subject.blocks.tokens
        return ["pool" if pools else None]
    found = list(choices) if isinstance(choices, (list, tuple)) else [choices]
    for each in found:
        strategy_class(each)
    return found


def _dtype(choice: torch.dtype | str, subject: Subject) -> torch.dtype:
    name = compare_dtypes(subject.model, example_input=subject.example).fastest.dtype if choice == "auto" else choice
    (found,) = dtypes_of(name)
    assert found is not None
    return found
