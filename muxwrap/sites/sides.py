"""What modules between the sites are given of the rows besides what is mixed, and what it says: found by trying."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from muxwrap._util.examples import ROWS, quiet, run, with_rows
from muxwrap._util.meta import on_meta
from muxwrap._util.nested import first_tensor, named_arguments, replace_object
from muxwrap.site import SideInput, SideKind, Site
from muxwrap.sites.dry_run import unmasked
from muxwrap.sites.trace import Trace, Visit


def sides_between(
    backbone: nn.Module, trace: Trace, example: Any, mux: tuple[Site, ...], demux: tuple[Site, ...]
) -> tuple[SideInput, ...]:
    """Return the side inputs of the modules that run between sites.

    Args:
        backbone: left as it is.
        trace: of a run of it.
        example: a call of it.
        mux: where instances are mixed.
        demux: where mixtures are separated.
    """
    found: list[SideInput] = []
    if on_meta(backbone):  # what a tensor says shows in values
        return ()
    for visit in _pieces(trace, mux, demux):
        arguments = _of_rows(trace, visit, mux)
        call = _call_of(backbone, visit, with_rows(example, ROWS)) if arguments else None
        if call is not None:
            found += [_side(trace, visit, call, argument, mux) for argument in arguments]
    return tuple(dict.fromkeys(found))


def _pieces(trace: Trace, mux: tuple[Site, ...], demux: tuple[Site, ...]) -> Iterator[Visit]:
    """Yield the outermost modules that begin after the first mixing and end before the first separation."""
    mixed = [v.entered if site.side == "input" else v.left for site, v in _visits(trace, mux) if v is not None]
    begin = min(mixed, default=None)
    last = trace.at(demux[0].path)
    if begin is None or last is None:
        return
    end = last.entered if demux[0].side == "input" else last.left
    inside = -1
    for visit in trace.visits:
        if begin <= visit.entered and visit.entered > inside and visit.left <= end:
            inside = visit.left
            yield visit


def _of_rows(trace: Trace, visit: Visit, mux: tuple[Site, ...]) -> list[str]:
    """Return the arguments of a visit that have rows and were not made by the trunk, without that which is mixed."""
    rows = trace.visits[0].input.shape[0] if trace.visits[0].input is not None else 0
    first = trace.at(mux[0].path)
    made = {id(v.output) for v in trace.visits if first is not None and first.entered <= v.entered < visit.entered}
    beside = _made_beside(trace, mux)
    return [
        argument
        for argument, seen in visit.given.items()
        if seen is not visit.input and seen.shape[:1] == (rows,) and (id(seen) not in made or seen.memory in beside)
    ]


def _made_beside(trace: Trace, mux: tuple[Site, ...]) -> set[object]:
    """Return where what modules make of the backbone's other inputs lies in memory: an embedded time step, for one."""
    mixed = {site.path for site in mux}
    known = {seen.memory for seen in trace.visits[0].given.values()}
    for visit in trace.visits[1:]:
        if visit.output is None or visit.path in mixed or not visit.given:
            continue
        if all(seen.memory in known for seen in visit.given.values()):
            known.add(visit.output.memory)
    return known


def _side(trace: Trace, visit: Visit, call: tuple[Any, Any], argument: str, mux: tuple[Site, ...]) -> SideInput:
    kind, of = _kind(visit.module, *call, argument)
    if of is None:
        return SideInput(visit.path, argument, kind)
    side, sequence = visit.given[argument], visit.given[of]
    first, name = next((each.path, name) for each in trace.visits for name, seen in each.given.items() if seen is side)
    mixed = [None if v is None else v.input if site.side == "input" else v.output for site, v in _visits(trace, mux)]
    site = next((k for k, seen in enumerate(mixed) if seen is sequence), 0 if len(mux) == 1 else None)
    return SideInput(visit.path, argument, kind, site, (first, name))


def _visits(trace: Trace, sites: tuple[Site, ...]) -> list[tuple[Site, Visit | None]]:
    return [(site, trace.at(site.path)) for site in sites]


def _call_of(backbone: nn.Module, visit: Visit, example: Any) -> tuple[Any, Any] | None:
    """Return what a module is called with in a run of the backbone, which ends there."""
    kept: list[tuple[Any, Any]] = []

    def keep(_module: nn.Module, args: Any, kwargs: Any) -> None:
        kept.append((args, kwargs))
        raise _ReachedError

    handle = visit.module.register_forward_pre_hook(keep, with_kwargs=True)
    try:
        with quiet(backbone):
            run(backbone, example)
    except Exception:
        return kept[0] if kept else None
    finally:
        handle.remove()
    return None


class _ReachedError(Exception):
    """Ends a run where all that was asked for is known."""


# -- what a tensor says -----------------------------------------------------------------------------------------------


def _kind(module: nn.Module, args: Any, kwargs: Any, argument: str) -> tuple[SideKind, str | None]:
    """Find what a tensor says of which sequence: the positions that it leaves out change nothing of the others' answers.

    They do where it leaves out none; otherwise nothing is shown.
    """
    arguments = named_arguments(args, kwargs)
    side = arguments[argument]
    for of, sequence in arguments.items():
        if not sequence.is_floating_point() or sequence.ndim != 3 or sequence is side:
            continue
        for kind in _possible(side, sequence.shape[1]):
            if _shown(_Probe(module, args, kwargs, side, sequence), kind):
                return kind, of
    return "same", None


def left_out(kind: SideKind, side: Tensor, length: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return a side input that leaves nothing out, one that leaves some positions out, and which stay ``[length]``."""
    if kind == "lengths":
        stay = torch.arange(length, device=side.device) < (length + 1) // 2
        return torch.full_like(side, length), torch.full_like(side, int(stay.sum())), stay
    stay = unmasked(length, side.device)
    kept, gone = {"keep": (1, 0), "padding": (0, 1)}.get(kind, (0, -1))
    whole, part = torch.full_like(side, kept), torch.full_like(side, gone)
    if kind == "additive":
        part = torch.full_like(side, torch.finfo(side.dtype).min)
    return whole, torch.where(stay, whole, part), stay


def _possible(side: Tensor, length: int) -> Iterator[SideKind]:
    """Yield what a tensor may say of a sequence, by its shape and dtype."""
    whole_numbers = not side.is_floating_point() and side.dtype != torch.bool
    if side.ndim == 1 and whole_numbers:
        yield "lengths"
    if side.ndim > 1 and side.shape[-1] == length:
        if side.is_floating_point():
            yield "additive"
        yield "padding"
        yield "keep"


@dataclass
class _Probe:
    """A call of a module in which one tensor says something of the positions of a sequence."""

    module: nn.Module
    args: Any
    kwargs: Any
    side: Tensor
    sequence: Tensor

    def answer(self, side: Tensor, sequence: Tensor) -> Tensor | None:
        """Call the module with other tensors; None where it cannot be."""
        call = replace_object((self.args, self.kwargs), self.side, side)
        args, kwargs = replace_object(call, self.sequence, sequence)
        try:
            with quiet(self.module):
                torch.manual_seed(0)
                return first_tensor(self.module(*args, **kwargs))
        except Exception:
            return None

    @property
    def first(self) -> bool:
        """Whether the sequence is what the module answers for, position by position."""
        return first_tensor((self.args, self.kwargs)) is self.sequence


def _shown(probe: _Probe, kind: SideKind) -> bool:
    """Whether other numbers at what is left out change no answer to the rest: they do otherwise, and others at the rest do."""
    whole, part, stay = left_out(kind, probe.side, probe.sequence.shape[1])
    generator = torch.Generator("cpu").manual_seed(0)
    noise = torch.randn(probe.sequence.shape, generator=generator, device="cpu").to(probe.sequence)
    at = stay.to(noise.device).view(1, -1, *[1] * (noise.ndim - 2))
    gone, rest = torch.where(at, probe.sequence, noise), torch.where(at, noise, probe.sequence)
    bare, all_read = probe.answer(part, probe.sequence), probe.answer(whole, probe.sequence)
    same, differ = (
        (bare, probe.answer(part, gone)),
        [(all_read, probe.answer(whole, gone)), (bare, probe.answer(part, rest))],
    )
    read: list[Callable[[Tensor], Tensor]] = [lambda answer: answer]
    if probe.first:
        read.append(lambda answer: answer[:, stay.to(answer.device)] if answer.shape[1:2] == stay.shape else answer)
    return any(_same(same, each) and all(_differ(pair, each) for pair in differ) for each in read)


def _same(pair: tuple[Tensor | None, Tensor | None], read: Callable[[Tensor], Tensor]) -> bool:
    a, b = pair
    return (
        a is not None
        and b is not None
        and a.shape == b.shape
        and bool(read(a).isfinite().all())
        and torch.allclose(read(a).float(), read(b).float(), rtol=1e-3, atol=1e-4)
    )


def _differ(pair: tuple[Tensor | None, Tensor | None], read: Callable[[Tensor], Tensor]) -> bool:
    return pair[0] is not None and pair[1] is not None and not _same(pair, read)
