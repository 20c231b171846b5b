"""Whether a backbone reads what its masks call padding: only where it does not, mixing may leave it out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

from torch import Tensor, nn

from muxwrap._hooks.attachment import attached
from muxwrap._hooks.components import Components
from muxwrap._util.examples import ROWS, with_rows
from muxwrap._util.nested import named_arguments, replace_object
from muxwrap.site import SideInput, SideKind, Sites
from muxwrap.sites.dry_run import answers
from muxwrap.sites.repeat import Repeat
from muxwrap.sites.rounding import distance
from muxwrap.sites.side_kind import left_out
from muxwrap.strategies.features.identity import Identity


def attending_all(sides: tuple[SideInput, ...]) -> tuple[SideInput, ...]:
    """Return side inputs that are merged alike, and whose padding is mixed like everything else."""
    return tuple(replace(side, site=None, first=None) for side in sides)


def reads_no_padding(backbone: nn.Module, example: Any, sites: Sites, sides: tuple[SideInput, ...]) -> bool:
    """Return whether the answers stay when what the side inputs call padding is set to zero where instances are mixed.

    It is tried with some positions left out, in the middle and at the end, and one instance per mixture: the bare model, but
    for that.
    """
    told = [side for side in sides if side.site is not None]
    if not told:
        return False
    call = with_rows(example, ROWS)
    repeat = nn.ModuleList(Repeat(1, site.dim, 0, False) for site in sites.demux)
    made = Components(
        backbone, 1, replace(sites, sides=sides), _WithoutPadding(1, sites.mux[0].dim), repeat, nn.ModuleList()
    )
    return all(_stay(made, call, told, end) for end in (False, True))


class _WithoutPadding(Identity):
    """Leaves padding out of a mixture of one, too, where nobody is disturbed by it."""

    reads_mask = True

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Mix what is not padding by the mask ``[g, 1, L]``."""
        return super().forward(x if mask is None else x * mask.unsqueeze(-1).to(x))


def _stay(made: Components, call: Any, told: Sequence[SideInput], end: bool) -> bool:
    with _padded(made.backbone, told, end) as stay:
        bare = answers(made.backbone, call, ROWS)
        with attached(made) as multiplexed:
            mixed = answers(made.backbone, call, ROWS, multiplexed)
    if isinstance(bare, str) or isinstance(mixed, str):
        return False
    return all(distance(_read(a, stay), _read(b, stay)) < 1e-4 for a, b in zip(bare, mixed, strict=True))


@contextmanager
def _padded(backbone: nn.Module, sides: Sequence[SideInput], end: bool) -> Iterator[dict[int, Tensor]]:
    """Let every side input leave positions out, see :func:`left_out`; yields which stay, by the length of the sequence."""
    stay: dict[int, Tensor] = {}

    def leave_out(pairs: list[tuple[str, SideKind]], _module: nn.Module, args: Any, kwargs: Any) -> Any:
        arguments = named_arguments(args, kwargs)
        for argument, kind in pairs:
            side = arguments.get(argument)
            if side is not None and side.ndim:
                length = int(side.max()) if kind == "lengths" else side.shape[-1]
                _, part, stay[length] = left_out(kind, side, length, end)
                args, kwargs = replace_object((args, kwargs), side, part)
        return args, kwargs

    handles = []
    places = [
        (path, argument, side.kind)
        for side in sides
        for path, argument in ((side.path, side.argument), side.first or (side.path, side.argument))
    ]
    for path in dict.fromkeys(path for path, _, _ in places):
        pairs = dict.fromkeys((argument, kind) for at, argument, kind in places if at == path)
        hook = partial(leave_out, list(pairs))
        handles.append(backbone.get_submodule(path).register_forward_pre_hook(hook, with_kwargs=True))
    try:
        yield stay
    finally:
        for handle in handles:
            handle.remove()


def _read(answer: Tensor, stay: dict[int, Tensor]) -> Tensor:
    """Return an answer without that at positions that are left out, which nobody reads."""
    if answer.ndim < 2 or answer.shape[1] not in stay:
        return answer
    return answer[:, stay[answer.shape[1]].to(answer.device)]
