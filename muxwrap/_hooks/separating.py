"""What is done at a demux site: the mixtures that pass there come in, their rows go on.

Called as in :mod:`muxwrap._hooks.mixing`.
"""

from __future__ import annotations

import traceback
import warnings
from functools import partial
from typing import Any

import torch
import torch.utils.checkpoint
from torch import Tensor, nn

from muxwrap._hooks import packed
from muxwrap._hooks.axes import features_back, features_last, laid_like
from muxwrap._hooks.call import Call, RowsAgainError
from muxwrap._hooks.grouping import ungroup
from muxwrap._hooks.isolating import without_answer
from muxwrap._hooks.placing import unplace
from muxwrap.demuxers.base import Demuxer
from muxwrap.errors import MuxwrapError
from muxwrap.site import Site


def separate_input(call: Call, k: int, _module: nn.Module, args: Any, kwargs: Any) -> Any:
    """Separate what a module is given."""
    return packed.separated(call, (args, kwargs), partial(_separate, call, k))


def separate_output(call: Call, k: int, _module: nn.Module, _args: Any, output: Any) -> Any:
    """Separate what a module returned."""
    return packed.separated(call, output, partial(_separate, call, k), call.model.sites.demux[k].part)


def _separate(call: Call, k: int, h: Tensor) -> Tensor:
    site = call.model.sites.demux[k]
    demuxer: Demuxer = call.model.demuxers[k]  # type: ignore[assignment]
    call.separated[k] += 1
    if call.rows is None:
        raise MuxwrapError(f"the {site} is reached before anything was mixed; demux_at has to come after mux_at")
    if site.shape is not None and h.ndim == len(site.shape) and call.axes_as_found:
        h = h.unsqueeze(0)  # squeeze() took away the axis of one mixture
    # Not asked of traced code, whose number of groups may be free.
    if not torch.compiler.is_compiling() and not torch.jit.is_tracing() and h.shape[0] != call.mixtures:
        if h.shape[0] == call.rows:
            raise RowsAgainError(
                f"the {site} holds the {call.rows} rows of the batch again, and not their {call.mixtures} mixtures of {call.n}"
            )
        raise MuxwrapError(
            f"the {site} holds {h.shape[0]} rows, and {call.rows} rows make {call.mixtures} mixtures of "
            f"{call.n}; demux_at has to be where a row is a mixture"
        )
    if call.model.strategy.places_tokens:
        return without_answer(call, unplace(call, h, site.first_token))
    if call.with_graph and call.model.training and not torch.is_grad_enabled() and not torch.compiler.is_compiling():
        _warn_of_no_grad(call, site, demuxer)
    if site.first_token:
        h = h[:, : 1 + demuxer.prefix_length]
    separated = demuxer(features_last(h, site.axis, lead=1))
    rows = ungroup(features_back(separated, tuple(h.shape), site.axis, lead=2), call.rows, call.order)
    rows = laid_like(without_answer(call, rows), h)
    call.answers.append(rows)
    return rows


def _warn_of_no_grad(call: Call, site: Site, demuxer: Demuxer) -> None:
    """Warn, once per model, that a demuxer stays as it began, as that of a momentum encoder does."""
    if call.key.told_of_no_grad or not any(p.requires_grad for p in demuxer.parameters()):
        return
    frames = (frame.f_code.co_filename for frame, _ in traceback.walk_stack(None))
    if torch.utils.checkpoint.__file__ in frames:  # reentrant checkpointing runs it again, with gradients
        return
    call.key.told_of_no_grad = True
    warnings.warn(
        f"the {site} is reached under torch.no_grad() in training, so that the demuxer there is not trained and its answers "
        "stay noise; take that part out of no_grad, or name sites with mux_at= and demux_at= that leave it out",
        stacklevel=2,
    )
