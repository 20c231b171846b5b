"""Whether a backbone puts rows into another order before they are mixed, by their lengths, say."""

from __future__ import annotations

from torch import Tensor, nn

from muxwrap._util.examples import Example
from muxwrap._util.meta import on_meta
from muxwrap.errors import MuxwrapError
from muxwrap.site import Sites
from muxwrap.sites.examples import family_of
from muxwrap.sites.families import generic
from muxwrap.sites.runs.dry_run import run_until
from muxwrap.sites.runs.rounding import distance
from muxwrap.sites.runs.rows import another_beside


def check_order(backbone: nn.Module, example: Example, sites: Sites) -> None:
    """Refuse rows that are not mixed in the order of the batch: who shares a mixture is told by their places in it.

    Two rows and the same two exchanged are run as far as the first mux site; what passes there has to be exchanged, too.

    Raises:
        MuxwrapError: it is not.
    """
    if not sites.mux[0].path or family_of(backbone) is not generic or on_meta(backbone):
        return
    pair, site = another_beside(example), sites.mux[0]
    passed = [run_until(backbone, call, site) for call in (pair, pair.map_rows(lambda value: value.flip(0)))]
    rows = [x for x in passed if isinstance(x, Tensor) and x.shape[:1] == (2,)]
    if len(rows) == 2 and distance(*rows) <= _SAME < distance(rows[0], rows[1].flip(0)):
        raise MuxwrapError(
            f"{type(backbone).__name__} puts rows into another order before the {site}: two rows pass there alike, whichever "
            "comes first. Which rows share a mixture is told by their places in the batch; sort them outside of the model "
            "(pack_padded_sequence(..., enforce_sorted=False) sorts by itself), or name mux_at= before they are sorted"
        )


_SAME = 1e-5
