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
from muxwrap._hooks.side_inputs import MASK
from muxwrap._util.examples import ROWS, Example, with_rows
from muxwrap._util.nested import first_tensor, named_arguments, replace_object
from muxwrap.site import SideInput, SideKind, Sites
from muxwrap.sites.runs.dry_run import answers, padded, unmasked
from muxwrap.sites.runs.repeat import Repeat
from muxwrap.sites.runs.rounding import distance
from muxwrap.sites.runs.runs import PADDED_ROWS
from muxwrap.sites.trials.side_kind import left_out
from muxwrap.strategies.features.identity import Identity


def attending_all(sides: tuple[SideInput, ...]) -> tuple[SideInput, ...]:
    """Return side inputs that are merged alike, and whose padding is mixed like everything else."""
    return tuple(replace(side, site=None, first=None) for side in sides)


def reads_no_padding(backbone: nn.Module, example: Example, sites: Sites, sides: tuple[SideInput, ...]) -> bool:
    """Return whether the answers stay when what the side inputs call padding is set to zero where instances are mixed.

    It is tried with some positions left out, in the middle and at the end, and one instance per mixture: the bare model, but
    for that.
    """
    told = [side for side in sides if side.site is not None]
    if not told:
        return False
    call, made = with_rows(example, ROWS), _without_padding(backbone, replace(sites, sides=sides))
    return all(_stay(made, each, told, end) for each in _with_tokens_at_the_end(call) for end in (False, True))


def reads_masked(backbone: nn.Module, example: Example, sites: Sites) -> bool:
    """Return whether answers depend on what an ``attention_mask`` calls padding at the end, where a head may read.

    A backbone may take a mask and not read it, or not everywhere.
    """
    call = padded(example, PADDED_ROWS, end=True)
    mask = next(value for name, value in call.items() if name.endswith(MASK))
    stay = {mask.shape[-1]: unmasked(mask.shape[-1], mask.device, end=True)}
    made = _without_padding(backbone, sites)
    return not all(_same(made, each, PADDED_ROWS, stay) for each in _with_tokens_at_the_end(call))


def _with_tokens_at_the_end(call: Any) -> tuple[Any, Any]:
    """Return a call, and it with the halves of each row exchanged.

    A row may have padding of its own at the end, of which one that is read cannot be told from what is left out.
    """
    tokens = first_tensor(call)
    assert tokens is not None
    axis = min(1, tokens.ndim - 1) if tokens.is_floating_point() else tokens.ndim - 1
    return call, replace_object(call, tokens, tokens.roll(tokens.shape[axis] // 2, axis))


def _without_padding(backbone: nn.Module, sites: Sites) -> Components:
    repeat = nn.ModuleList(Repeat(1, site.dim, 0, False) for site in sites.demux)
    return Components(backbone, 1, sites, _WithoutPadding(1, sites.mux[0].dim), repeat, nn.ModuleList())


class _WithoutPadding(Identity):
    """Leaves padding out of a mixture of one, too, where nobody is disturbed by it."""

    reads_mask = True

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Mix what is not padding by the mask ``[g, 1, L]``."""
        return super().forward(x if mask is None else x * mask.unsqueeze(-1).to(x))


def _stay(made: Components, call: Any, told: Sequence[SideInput], end: bool) -> bool:
    with _padded(made.backbone, told, end) as stay:
        return _same(made, call, ROWS, stay)


def _same(made: Components, call: Any, rows: int, stay: dict[int, Tensor]) -> bool:
    bare = answers(made.backbone, call, rows)
    with attached(made) as multiplexed:
        mixed = answers(made.backbone, call, rows, multiplexed)
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
