"""What is done at a mux site: the rows that pass there come in, their mixtures go on.

The functions are called by the hooks of :mod:`muxwrap._hooks.attachment`, with the running call before a hook's own
arguments; ``k`` is the place of the site among the mux sites.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from muxwrap._hooks import packed
from muxwrap._hooks.axes import for_strategy, from_strategy, laid_like
from muxwrap._hooks.call import Call
from muxwrap._hooks.chunks import Chunks, chunks_of
from muxwrap._hooks.embeddings import EMBEDS, embedded
from muxwrap._hooks.grouping import group
from muxwrap._hooks.isolating import good_rows, keep_out
from muxwrap._hooks.placing import place
from muxwrap._hooks.running import is_watched
from muxwrap._hooks.side_inputs import mask_of
from muxwrap._hooks.widening import Widening
from muxwrap._util.nested import first_tensor, replace_object
from muxwrap._util.sizes import fixed
from muxwrap.errors import MuxwrapError
from muxwrap.site import Site


def insert_ids(call: Call, _module: nn.Module, args: Any, kwargs: Any) -> Any:
    """Put the demuxer's own ids among the token ids."""
    demuxer = call.model.demuxer
    ids = first_tensor((args, kwargs))
    if ids is None or ids.is_floating_point():
        raise MuxwrapError(f"{demuxer.name} inserts sentinel ids into the instances: call the model with input_ids")
    call.id_rows = ids.shape[0]
    return replace_object((args, kwargs), ids, demuxer.insert_sentinel_ids(call.group(ids)).flatten(0, 1))


def start_chunks(call: Call, k: int, module: nn.Module, args: Any, kwargs: Any) -> Any:
    """Give the stem its first rows only, where it can run some rows at a time; the others follow in :func:`mix_output`."""
    model = call.model
    if model.shuffles or call.apart is not None:
        return None
    site = model.sites.mux[k]
    chunks = chunks_of(module, args, kwargs, call.n, site.dim, model.strategy.additive)
    if chunks is None or is_watched(model.backbone, site.path):
        return None
    call.chunks[k] = chunks
    return chunks.call(next(iter(chunks)))


def mix_input(call: Call, k: int, module: nn.Module, args: Any, kwargs: Any) -> Any:
    """Mix what a module is given; token ids are embedded first."""
    args, kwargs, embeds = embedded(module, args, kwargs)
    if embeds is not None:
        return args, {**kwargs, EMBEDS: _mix(call, k, embeds)}
    args, kwargs = packed.mixed(call, k, (args, kwargs), partial(_mix, call, k), call.model.sites.mux[k].part)
    packed.check_states(call, args, kwargs)
    return args, kwargs


def mix_embeds(call: Call, k: int, _module: nn.Module, args: Any, kwargs: Any) -> Any:
    """Mix embeddings that a model is given in place of ids: the module that embeds ids, where rows are mixed, is not run."""
    embeds = kwargs.get(EMBEDS)
    if call.mixed[k] or not isinstance(embeds, Tensor):  # a model around it may have embedded ids itself
        return None
    return args, {**kwargs, EMBEDS: _mix(call, k, embeds)}


def mix_output(call: Call, k: int, module: nn.Module, _args: Any, output: Any) -> Any:
    """Mix what a module returned."""
    chunks = call.chunks.pop(k, None)
    mixed: Any = None
    if chunks is not None and isinstance(output, Tensor):
        mixed = _mix_chunks(call, k, module, chunks, output)
    if mixed is None:
        whole = output if chunks is None else module.forward(*chunks.args, **chunks.kwargs)
        mixed = packed.mixed(call, k, whole, partial(_mix, call, k))
    return module.forward(**{EMBEDS: mixed}) if call.model.sites.mux[k].twice else mixed


def widen(call: Call, k: int, _module: nn.Module, _args: Any, output: Tensor) -> Tensor | None:
    """Add to the stem's output what it has no weights for."""
    return output + call.model.widenings[k](call.wide.pop(k)) if k in call.wide else None


def _mix(call: Call, k: int, x: Tensor) -> Tensor:
    model, site = call.model, call.model.sites.mux[k]
    if x.is_complex():
        raise MuxwrapError(
            f"mux_at={site.path!r} ({site.side}) holds {x.dtype} values, and strategies mix real ones; mix where the values "
            "are real, such as what torch.view_as_real makes of them"
        )
    if not x.is_floating_point():
        raise MuxwrapError(
            f"mux_at={site.path!r} ({site.side}) holds {x.dtype} values; token ids cannot be mixed: mix their embeddings, "
            "for example mux_at='embeddings'"
        )
    _note(call, k, x, x.shape[0])
    dealt = _dealing(call, site, x)
    if model.strategy.places_tokens:
        return place(call, dealt(x))
    mask = mask_of(call, k, x)
    mask = mask if mask is None else dealt(mask)
    return model.demuxer.extend(_mixture(call, k, dealt(x), mask))


def _note(call: Call, k: int, x: Tensor, rows: int) -> None:
    """Note that ``x`` is mixed at site ``k``, or was in chunks of so many rows together."""
    shape = call.model.sites.mux[k].shape
    call.rows = call.id_rows or rows
    call.axes_as_found &= shape is None or call.lengths is not None or x.ndim == 1 + len(shape)  # packed, it has fewer
    call.mixed[k] += 1


def _dealing(call: Call, site: Site, x: Tensor) -> Callable[[Tensor], Tensor]:
    """Return how what passes with the rows at a site is grouped; rows that are kept out are replaced."""
    instead = keep_out(call, site, x) if call.model.check_finite else None
    if call.id_rows is None:
        call.check_owners(x)
        call.instead = call.instead if instead is None else instead
        return call.group
    # Token ids were inserted into rows that had been dealt already.
    return lambda value: group(value if instead is None else value[instead], call.n)


def _mix_chunks(call: Call, k: int, module: nn.Module, chunks: Chunks, x: Tensor) -> Tensor | None:
    """Mix what the stem makes of one chunk after the other; ``x`` is what it made of the first. None where a row is bad."""
    model = call.model
    mask = mask_of(call, k, x)
    real = None if mask is None else call.group(mask).any(1)
    mixtures: list[Tensor] = []
    for rows in chunks:
        if rows.start:
            args, kwargs = chunks.call(rows)
            x = module.forward(*args, **kwargs)
        if model.check_finite and not bool(good_rows(x, model.largest).all()):
            return None
        together = (-1, min(len(rows), call.n))
        of_chunk = None if mask is None else chunks.take(mask, rows).unflatten(0, together)
        anybody = None if real is None else real[rows.start // call.n : -(-rows.stop // call.n)]
        part = _mixture(call, k, x.unflatten(0, together), of_chunk, rows.start % call.n, anybody)
        if rows.start % call.n:
            mixtures[-1] = mixtures[-1] + part
        else:
            mixtures.append(part)
    _note(call, k, x, chunks.rows)
    return model.demuxer.extend(torch.cat(mixtures))


def _mixture(
    call: Call, k: int, grouped: Tensor, mask: Tensor | None, start: int = 0, real: Tensor | None = None
) -> Tensor:
    """Mix ``[g, n, ...]`` into ``[g, ...]``, or ``[g, k, ...]`` into what instances ``start``, ... add to it.

    ``real`` is where any instance of a group has a token, ``[g, L]``; by default it is read from the mask.
    """
    site, strategy = call.model.sites.mux[k], call.model.strategy
    masks: dict[str, Tensor] = {}
    if mask is not None and grouped.ndim == 4 and fixed(mask.shape) == fixed(grouped.shape[:3]):
        if strategy.reads_mask:
            masks["mask"] = mask
        else:
            grouped = grouped * _counts(mask, mask.any(1) if real is None else real).unsqueeze(-1).to(grouped)
    laid = for_strategy(grouped, site, strategy.sees)
    mixture = strategy(laid, **masks) if fixed(laid.shape)[1] == call.n else strategy.mix(laid, start)
    if len(call.model.widenings):
        mixture = _narrow(call, k, mixture)
    return laid_like(from_strategy(mixture, (grouped.shape[0], *grouped.shape[2:]), site, strategy.sees), grouped)


def _counts(mask: Tensor, real: Tensor) -> Tensor:
    """Return what of the instances is mixed, ``[g, n, L]``.

    An instance's padding is not part of it, and would only disturb the others. Where all of them are padded nobody is
    disturbed, and what comes later may read it, as a recurrent head does: it stays as it is in the bare model.
    """
    return torch.where(real.unsqueeze(1), mask, torch.ones_like(mask))


def _narrow(call: Call, k: int, mixture: Tensor) -> Tensor:
    """Return as many channels as the stem reads; what it has no weights for is added after it, or here."""
    widening: Widening = call.model.widenings[k]  # type: ignore[assignment]
    narrow = widening.reduce(mixture)
    if not widening.in_stem:
        return narrow + widening(mixture)
    call.wide[k] = mixture
    return narrow
