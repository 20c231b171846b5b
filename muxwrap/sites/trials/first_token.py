"""Whether a head reads the first token only, so that no other one has to be separated."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from muxwrap._util.examples import Example
from muxwrap._util.meta import is_meta
from muxwrap._util.nested import first_tensor, replace_object
from muxwrap.site import Site, Sites
from muxwrap.sites.runs.dry_run import answers, answers_in_training, hook_at
from muxwrap.sites.runs.runs import BARE_ROWS, Answers, Runs
from muxwrap.sites.runs.scores import is_whole
from muxwrap.sites.trials.matching import Matching


def narrow(sites: Sites) -> Sites:
    """Return sites at which the first token alone is separated."""
    return replace(sites, demux=(replace(sites.demux[0], first_token=True),))


def may_narrow(runs: Runs, sites: Sites) -> bool:
    """Whether there are other tokens at the site, no answer to each of them, and NaN shows in every answer."""
    (first, *others), bare = sites.demux, runs.bare(False, BARE_ROWS)
    if (
        runs.scored
        or others
        or first.axis != -1
        or first.first_token
        or isinstance(bare, str)
        or any(map(is_meta, bare))
    ):
        return False
    if first.shape is None:
        return True
    return len(first.shape) > 1 and not any(a.ndim > 2 and a.shape[1] == first.shape[0] for a in bare)


def ignores_others(runs: Runs, matching: Matching, sites: Sites, padding: bool, known_only: bool = False) -> bool:
    """Whether NaN in all tokens but the first stays out of the answers, which weights of zero cannot hide.

    Args:
        runs: of the backbone.
        matching: of their answers.
        sites: where every token is separated.
        padding: which call.
        known_only: run nothing for it.
    """
    if known_only and not runs.is_known(sites, padding, probe=True):
        return False
    first = narrow(sites)
    if runs.is_known(first, padding) and matching.match(runs.mixed(first, padding), padding) == "exact":
        return True
    return finite(runs.mixed(sites, padding, probe=True))


def reads_first_alone(backbone: nn.Module, site: Site, call: Any, rows: int, training: bool = False) -> bool:
    """Whether NaN in all tokens but the first at a site stays out of the bare model's answers.

    Args:
        backbone: left as it is.
        site: in front of the head.
        call: of the backbone.
        rows: in the call.
        training: in training, where heads may run that evaluation does not show.
    """

    def spoil(_site: Site, value: Any) -> Any:
        tensor = first_tensor(value)
        if tensor is None:
            return None
        spoiled = tensor.clone()
        spoiled[:, 1:] = torch.nan
        return replace_object(value, tensor, spoiled)

    handle = hook_at(backbone, site, spoil)
    try:
        return finite((answers_in_training if training else answers)(backbone, call, rows))
    finally:
        handle.remove()


def with_other_ids(example: Example) -> Iterator[Example]:
    """Yield calls of the same ids turned, or with a larger one among equal ones, and of the first one alone; none without ids.

    A head that reads the token that the ids tell, such as the largest or the last, reads another one there.
    """
    ids = first_tensor(example.call)
    if ids is None or ids.ndim != 2 or not is_whole(ids) or is_meta(ids):
        return
    at = ids.shape[1] // 2
    other = ids.roll(at, 1)
    if torch.equal(other, ids):
        other = ids.clone()
        other[:, at] += 1
    for each in (other, ids[:, :1].expand_as(ids).contiguous()):
        call: Example = replace_object(example, ids, each)
        yield call


def finite(outcome: Answers) -> bool:
    """Whether a run gave answers without NaN."""
    return not isinstance(outcome, str) and all(not is_meta(answer) and bool(_finite(answer)) for answer in outcome)


def _finite(answer: Tensor) -> Tensor:
    return torch.isfinite(answer).all()
