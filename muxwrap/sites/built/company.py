"""Whether a mixture is told of an instance beside what is mixed of it, where layers are given more of the rows."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from muxwrap._hooks.attachment import attached
from muxwrap._hooks.components import Components
from muxwrap._hooks.side_inputs import is_side_input
from muxwrap._util.examples import Example, as_arguments
from muxwrap._util.meta import on_meta
from muxwrap.errors import MuxwrapError
from muxwrap.site import MaskMode
from muxwrap.sites.runs.dry_run import answers
from muxwrap.sites.runs.repeat import Repeat
from muxwrap.sites.runs.rounding import distance
from muxwrap.sites.runs.rows import another_beside
from muxwrap.strategies.features.identity import Identity

_MERGING = (MaskMode.INSIDE, MaskMode.BOTH)
"""Where the layers after a site are given whatever else has the batch's rows, merged as masks are."""


def check_company(made: Components, example: Example) -> None:
    """Refuse sites after which layers are given of every row what is no mask, such as ids that they embed again.

    Of two rows that differ, the first alone is mixed. It has to be answered as by the bare model, whoever the second is.

    Raises:
        MuxwrapError: it is not.
    """
    if made.n == 1 or made.sites.mask not in _MERGING or on_meta(made.backbone):
        return
    call = _unmasked(another_beside(example))
    repeat = nn.ModuleList(Repeat(2, site.dim, made.demuxer.prefix_length, False) for site in made.sites.demux)
    alone = Components(made.backbone, 2, made.sites, _First(2, made.sites.mux[0].dim), repeat, nn.ModuleList())
    bare = answers(made.backbone, call, 2)
    with attached(alone) as multiplexed:
        mixed = answers(made.backbone, call, 2, multiplexed)
    if isinstance(bare, str) or isinstance(mixed, str):
        return
    if any(distance(a[:1], b[:1]) > 1e-3 for a, b in zip(bare, mixed, strict=True) if a.shape[:1] == (2,)):
        raise MuxwrapError(
            f"the layers after the {made.sites.mux[0]} are given more of every row than a mask, such as ids that are embedded "
            "again, and what rows that share a mixture differ in cannot be merged: mix that as well with mux_at=[..., the "
            "module that makes it] if it has as many features, or mix after it was read with mux_at="
        )


class _First(Identity):
    """Mixes the first instance alone."""

    def forward(self, x: Tensor) -> Tensor:
        """Return the first of the instances ``[g, n, ...]``."""
        return x[:, 0]


def _unmasked(example: Example) -> Example:
    """Return a call of two rows that agree in what the sites are known to merge: masks, positions, types, boxes."""
    _, arguments = as_arguments(example)
    if arguments:
        own = example.tensors_with_rows()
        sides = {name: value for name, value in arguments.items() if is_side_input(name)}
        same = {name: value[1:].expand_as(value) for name, value in sides.items() if any(value is each for each in own)}
        example = replace(example, call={**arguments, **same})
    return example.map_rows(lambda value: torch.ones_like(value) if _is_mask(value) else value)


def _is_mask(value: Tensor) -> bool:
    return bool(((value == 0) | (value == 1)).all())
