"""What a tensor says of a sequence that a module is given beside it: a mask, lengths, or nothing. Found by trying."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from muxwrap._hooks.grouping import LEFT_OUT
from muxwrap._util.examples import quiet
from muxwrap._util.nested import first_tensor, named_arguments, replace_object
from muxwrap.site import SideKind
from muxwrap.sites.runs.dry_run import unmasked


def kind_of(module: nn.Module, args: Any, kwargs: Any, argument: str) -> tuple[SideKind, str | None]:
    """Find what a tensor says of which sequence: the positions that it leaves out change nothing of the others' answers.

    They do where it leaves out none; otherwise nothing is shown.
    """
    arguments = named_arguments(args, kwargs)
    side = arguments[argument]
    for of, sequence in arguments.items():
        if not sequence.is_floating_point() or sequence.ndim != 3 or sequence is side:
            continue
        time_first = side.shape[0] % sequence.shape[1] == 0  # as torch's own layers take it by default
        for axis in (1, 0) if time_first else (1,):
            probe = _Probe(module, args, kwargs, side, sequence, axis)
            shown = [kind for kind in _possible(side, probe.length) if _shown(probe, kind)]
            # What hides positions of 0 from those of 1 and the other way round tells segments.
            if len(shown) == 1 and _says_no_more(probe):
                return shown[0], of
    return "same", None


def left_out(kind: SideKind, side: Tensor, length: int, end: bool = False) -> tuple[Tensor, Tensor, Tensor]:
    """Return a side input that leaves nothing out, one that leaves some positions out, and which stay ``[length]``.

    Those are in the middle, or with ``end`` the last ones, where a head may read.
    """
    beginning = unmasked(length, side.device, end=True)
    if kind == "lengths":
        return torch.full_like(side, length), torch.full_like(side, int(beginning.sum())), beginning
    stay = unmasked(length, side.device, end)
    kept, gone = {"keep": (1, 0), "padding": (0, 1)}.get(kind, (0, -1))
    whole, part = torch.full_like(side, kept), torch.full_like(side, gone)
    if kind == "additive":
        part = torch.full_like(side, torch.finfo(side.dtype).min)
    return whole, torch.where(stay, whole, part), stay


def _possible(side: Tensor, length: int) -> Iterator[SideKind]:
    """Yield what a tensor may say of a sequence, by its shape, dtype and values."""
    whole_numbers = not side.is_floating_point() and side.dtype != torch.bool
    if side.ndim == 1 and whole_numbers:
        yield "lengths"
    if side.ndim > 1 and side.shape[-1] == length:
        # What hides nothing, and is not 0 throughout, is a bias of each row.
        if side.is_floating_point() and bool((side == 0).all() | (side < LEFT_OUT).any()):
            yield "additive"
        if not side.is_floating_point() or bool(
            ((side == 0) | (side == 1)).all()
        ):  # others weigh, as edges of a graph do
            yield "padding"
            yield "keep"


@dataclass
class _Probe:
    """A call of a module in which one tensor says something of the positions of a sequence, which lie on ``axis``."""

    module: nn.Module
    args: Any
    kwargs: Any
    side: Tensor
    sequence: Tensor
    axis: int

    @property
    def length(self) -> int:
        """Positions of the sequence."""
        return self.sequence.shape[self.axis]

    def along(self, stay: Tensor) -> Tensor:
        """Return ``[length]`` as it is broadcast with the sequence."""
        shape = [1] * self.sequence.ndim
        shape[self.axis] = -1
        return stay.to(self.sequence.device).view(shape)

    def kept(self, answer: Tensor, stay: Tensor) -> Tensor:
        """Return the answer at the positions that stay, where it has one for each."""
        if answer.shape[self.axis : self.axis + 1] != stay.shape:
            return answer
        return answer.index_select(self.axis, stay.to(answer.device).nonzero()[:, 0])

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


def _shown(probe: _Probe, kind: SideKind) -> bool:
    """Whether other numbers at what is left out change no answer to the rest: they do otherwise, and others at the rest do."""
    whole, part, stay = left_out(kind, probe.side, probe.length)
    generator = torch.Generator("cpu").manual_seed(0)
    noise = torch.randn(probe.sequence.shape, generator=generator, device="cpu").to(probe.sequence)
    at = probe.along(stay)
    gone, rest = torch.where(at, probe.sequence, noise), torch.where(at, noise, probe.sequence)
    bare, all_read = probe.answer(part, probe.sequence), probe.answer(whole, probe.sequence)
    same, differ = (
        (bare, probe.answer(part, gone)),
        [(all_read, probe.answer(whole, gone)), (bare, probe.answer(part, rest))],
    )
    read: list[Callable[[Tensor], Tensor]] = [
        lambda answer: answer,
        lambda answer: probe.kept(answer, stay),
    ]
    return any(_same(same, each) and all(_differ(pair, each) for pair in differ) for each in read)


def _says_no_more(probe: _Probe) -> bool:
    """Whether a side input is a mask of 0 and 1, lengths, scores, or whole numbers of which no two but 0 are told apart."""
    side = probe.side
    if side.ndim < 2 or side.is_floating_point() or bool(((side == 0) | (side == 1)).all()):
        return True
    one, other = torch.ones_like(side), torch.arange(1, probe.length + 1, device=side.device).to(side).expand_as(side)
    return _same((probe.answer(one, probe.sequence), probe.answer(other, probe.sequence)), lambda answer: answer)


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
