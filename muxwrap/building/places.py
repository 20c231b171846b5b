"""Which device and dtype the added modules get: those of the tensors at their sites."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from muxwrap._hooks.components import Components
from muxwrap._util.examples import quiet, run
from muxwrap.site import Site
from muxwrap.sites.runs.dry_run import watched


def follow_sites(made: Components, example: Any) -> None:
    """Take the added modules to their sites' device and dtype, and to the backbone's mode.

    What the user froze inside an added module stays as it is.
    """
    found = _placed(made, example)
    for module, site in (
        (made.strategy, made.sites.mux[0]),
        *zip(made.widenings, made.sites.mux, strict=False),
        *zip(made.demuxers, made.sites.demux, strict=True),
    ):
        if site in found:
            module.to(**found[site])
    for module in made.added:
        module.train(made.backbone.training)


def _placed(made: Components, example: Any) -> dict[Site, dict[str, Any]]:
    """Return the device and dtype at every site.

    Nearly always all parameters have the same. Where they have not (a head kept in float32, a model split over devices), the
    example is run; without one, what reads or makes the tensor at a site decides.
    """
    sites = (*made.sites.mux, *made.sites.demux)
    placed = [_place(p) for p in made.backbone.parameters() if p.is_floating_point()]
    if not placed:
        return {}
    if all(place == placed[0] for place in placed):
        return dict.fromkeys(sites, placed[0])
    if example is not None:
        with watched(made.backbone, sites) as passed, quiet(made.backbone):
            run(made.backbone, example)
        return {site: _place(x) if x.is_floating_point() else placed[0] for site, x in passed.items()}
    return {site: _place_at(made.backbone, site) or placed[0] for site in sites}


def _place_at(backbone: nn.Module, site: Site) -> dict[str, Any] | None:
    own = [p for p in backbone.get_submodule(site.path).parameters() if p.is_floating_point()]
    return _place(own[0 if site.side == "input" else -1]) if own else None


def _place(x: Tensor) -> dict[str, Any]:
    return {"device": x.device, "dtype": x.dtype}
