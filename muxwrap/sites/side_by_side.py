"""Whether layers can run on tokens of several instances side by side: tried on the backbone itself, before it is wrapped.

Layers that know about places only what they are given (masks, positions, biases) answer the same wherever a token stands.
So the tokens of two instances are put into one mixture unpooled, in turns and backwards, and the answers have to be the
bare model's.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from muxwrap._hooks.attachment import attached
from muxwrap._hooks.components import Components
from muxwrap._util.examples import ROWS, Example, with_rows
from muxwrap._util.nested import first_tensor, replace_object
from muxwrap.errors import MuxwrapError
from muxwrap.site import Sites
from muxwrap.sites.runs.dry_run import answers, padded, watched
from muxwrap.sites.runs.runs import PADDED_ROWS
from muxwrap.sites.trials.trial import Trial
from muxwrap.strategies.places import Places
from muxwrap.strategies.tokens.pool import Pool


def check_side_by_side(made: Components, example: Example) -> Sites:
    """Return the sites, with all tokens separated if the first alone is not enough.

    Raises:
        MuxwrapError: the layers look at more than they are given, at earlier tokens only, or take no mask.
    """
    strategy: Any = made.strategy
    trial, example = Trial(made.backbone, example), _varied(example)
    _refuse_causal(made, example)
    whole = replace(made.sites, demux=tuple(replace(site, first_token=False) for site in made.sites.demux))
    problem = None
    for sites in dict.fromkeys((made.sites, whole)):
        problem = _problem_with(made, sites, trial, example, strategy.proportional)
        if problem is None:
            return sites
    if strategy.proportional and _problem_with(made, whole, trial, example, False) is None:
        raise MuxwrapError(
            f"the layers after the {made.sites.mux[0]} take masks of 0 and 1, to which log(size) cannot be added; give "
            "strategy=functools.partial(muxwrap.strategies.Pool, proportional=False)"
        )
    raise MuxwrapError(
        f"{made.strategy.name} puts the tokens of the instances side by side, and the layers after the {made.sites.mux[0]} do "
        f"not answer them as the bare model does: {problem}. Convolutions over neighbours, positions that the layers make "
        "themselves and masks of a kind of their own do not go with it; take a strategy that mixes features, such as 'slots'"
    )


def _problem_with(made: Components, sites: Sites, trial: Trial, example: Example, proportional: bool) -> str | None:
    """Return what is wrong without padding or with it."""
    probe = _InTurns(2, made.strategy.dim, proportional=proportional)
    made = replace(made, n=2, sites=sites, strategy=probe)
    calls = (False, True) if sites.masked else (False,)
    return next(filter(None, (_problem(made, trial, example, padding) for padding in calls)), None)


def _problem(made: Components, trial: Trial, example: Example, padding: bool) -> str | None:
    """Return what is wrong with the answers to rows whose tokens were put into mixtures in turns; None if nothing."""
    rows = PADDED_ROWS if padding else ROWS
    call = padded(example, rows) if padding else with_rows(example, rows)
    bare = answers(made.backbone, call, rows)
    with attached(made) as multiplexed:
        mixed = answers(made.backbone, call, rows, multiplexed)
    if isinstance(bare, str) or isinstance(mixed, str):
        return mixed if isinstance(mixed, str) else bare  # type: ignore[return-value]
    if len(bare) != len(mixed):
        return f"{len(mixed)} answers instead of {len(bare)}"
    read = trial.matching.read if padding else lambda answer: answer
    if all(trial.matching.close(read(a), read(b)) for a, b in zip(bare, mixed, strict=True)):
        return None
    return "other answers" + " to rows with padding" * padding


class _InTurns(Pool):
    """Puts every token of the instances into the mixture, theirs in turns and the last ones first."""

    def place(self, x: Tensor, mask: Tensor | None = None, ids: Tensor | None = None, times: int = 1) -> Places:
        """Return places of one token each."""
        groups, n, length = x.shape[:3]
        turns = torch.arange(length - 1, -1, -1, device=x.device) * n + torch.arange(n, device=x.device)[:, None]
        at = turns.expand(groups, -1, -1)
        at = at if mask is None else torch.where(mask != 0, at, n * length)
        return Places(at, n * length, True, self.proportional)


def _refuse_causal(made: Components, example: Example) -> None:
    """Refuse a trunk whose tokens see earlier ones only: a pooled token would tell them what comes later.

    Raises:
        MuxwrapError: it is one.
    """
    ids = first_tensor(example)
    if ids is None or ids.is_floating_point() or ids.ndim != 2 or ids.shape[1] < 4:
        return
    site, other = replace(made.sites.demux[0], first_token=False), ids.clone()
    other[:, -2] = torch.where(ids[:, -2] == ids[:, 1], ids[:, 2], ids[:, 1])
    states = []
    for each in (ids, other):
        with watched(made.backbone, [site]) as passed:
            answers(made.backbone, replace_object(example, ids, each), len(ids))
        states.append(passed.get(site))
    if states[0] is not None and states[1] is not None and torch.equal(states[0][:-2], states[1][:-2]):
        raise MuxwrapError(
            f"the tokens of {type(made.backbone).__name__} see nothing of those that come later, and the mean of neighbours "
            f"would tell them: {made.strategy.name} is for trunks that see both sides"
        )


def _varied(example: Example) -> Example:
    """Return three rows that differ: the first one's tokens or pixels, shifted."""
    first = first_tensor(example)
    assert first is not None
    rows = [first[0]]
    for shift in range(1, first.shape[0]):
        row = first[0].clone()
        inner = slice(1, -1) if not first.is_floating_point() else slice(None)
        row[..., inner] = row[..., inner].roll(3 * shift, -1)
        rows.append(row)
    varied: Example = replace_object(example, first, torch.stack(rows))
    return varied
