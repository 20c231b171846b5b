"""What a chart compares, each model made once to see that it can be."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from functools import partial
from typing import Any

from torch import nn

from muxwrap.defaults import StrategyChoice, strategy_class
from muxwrap.errors import MuxwrapError
from muxwrap.frontiers.blocks import keep
from muxwrap.frontiers.candidates import BARE, MIXED, Candidate, Mixture, Plan, Served, Skipped
from muxwrap.frontiers.registry import Rival, Subject, Variant, as_it_is


def plan(
    subject: Subject,
    rivals: dict[str, Rival],
    n: Sequence[int],
    at: Sequence[int | str | None],
    strategies: Sequence[StrategyChoice],
    seed: int,
) -> Plan:
    """List the trained model, its rivals, and mixtures of all kinds that are asked for."""
    total = None if subject.blocks is None else len(subject.blocks.paths)
    found = Plan([Candidate(BARE, BARE, train=False, layers=total)], [], [])
    for name, rival in rivals.items():
        try:
            for variant in rival(subject):
                _add(found, name, variant)
        except MuxwrapError as error:
            found.skipped.append(Skipped(name, str(error)))
    for count in subject.layers or (None,):
        for place in at:
            for strategy in strategies:
                for each in n:
                    _mix(found, subject, count, place, strategy, each, seed)
    return found


def _add(found: Plan, kind: str, variant: Variant) -> None:
    if variant.serve is not None:
        found.served.append(Served(variant.name, kind, variant.serve))
        return
    found.candidates.append(Candidate(variant.name, kind, variant.make, variant.train, variant.layers))


def _mix(
    found: Plan,
    subject: Subject,
    layers: int | None,
    at: int | str | None,
    strategy: StrategyChoice,
    n: int,
    seed: int,
) -> None:
    """Add a multiplexed model, or why it cannot be."""
    blocks = subject.blocks
    kept = () if blocks is None else blocks.paths if layers is None else blocks.kept(layers)
    fewer = blocks is not None and layers is not None and layers < len(blocks.paths)
    if isinstance(at, int) and at >= len(kept):
        return  # there is no layer left to run on mixtures
    place = kept[at - 1] if isinstance(at, int) else at
    pools = strategy_class(strategy).places_tokens
    mixture = Mixture(n, strategy, place, blocks.end if pools and blocks is not None else None)
    make = partial(_keep, blocks, layers) if fewer else as_it_is
    where = "" if at is None else f" after layer {at}" if isinstance(at, int) else f" at {at}"
    head = f"{layers} layer{'s' if layers != 1 else ''}, " if fewer else ""
    name = f"{head}{'mixed' if strategy is None else strategy_class(strategy).name}{where}, n={n}"
    try:
        wrapped = mixture.wrap(make(copy.deepcopy(subject.model)), subject.example, seed)
    except MuxwrapError as error:
        found.skipped.append(Skipped(name, str(error)))
        return
    name = f"{head}{wrapped.strategy.name}{where}, n={n}"
    total = layers if layers is not None or blocks is None else len(blocks.paths)
    found.candidates.append(Candidate(name, MIXED, make, True, total, at, mixture))


def _keep(blocks: Any, layers: Any, model: nn.Module) -> nn.Module:
    return keep(model, blocks, layers)
