"""timm: the stem and the head are named in every model's metadata."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from torch import nn

from muxwrap._util.examples import pixels
from muxwrap.site import Site
from muxwrap.sites.families import generic
from muxwrap.sites.families.heads import auxiliary_heads
from muxwrap.sites.tracing.resolve import site_at
from muxwrap.sites.tracing.trace import Trace


def matches(backbone: nn.Module) -> bool:
    """Whether the model keeps timm's contract, whatever module it was written in."""
    return hasattr(backbone, "get_classifier") and (
        hasattr(backbone, "pretrained_cfg") or hasattr(backbone, "default_cfg")
    )


def refused_call(backbone: nn.Module, call: Any) -> str | None:
    """Return why a model of timm cannot be multiplexed in a call, and the way out; None where nothing speaks against it."""
    parts = [call, *(call.values() if isinstance(call, dict) else call if isinstance(call, (tuple, list)) else ())]
    if not any(isinstance(part, dict) and "patch_coord" in part for part in parts):
        return None
    return (
        "NaFlex batches have another grid of patches in every row, and all layers read its mask, of which mixtures have none; "
        "call it with images of one size [B, C, H, W]"
    )


def example(backbone: nn.Module) -> Any:
    """Images of the size in the model's metadata, on its device and in its dtype."""
    channels, *size = _metadata(backbone).get("input_size") or (3, 224, 224)
    made_for = getattr(getattr(backbone, "patch_embed", None), "img_size", None)  # create_model(..., img_size=...)
    return pixels(backbone, channels, *(made_for or size))


def mux_candidates(backbone: nn.Module, trace: Trace) -> Iterator[tuple[Site, ...]]:
    """After the first convolution, or wherever any model could be mixed, down to raw pixels."""
    paths = _paths(_metadata(backbone).get("first_conv"))
    sites = [site_at(trace, path, "output") for path in paths]
    found = tuple(site for site in sites if site is not None)
    if found and len(found) == len(paths) and len({site.dim for site in found}) == 1:
        yield found
    yield from generic.mux_candidates(backbone, trace)


def demux_candidates(backbone: nn.Module, trace: Trace) -> Iterator[tuple[Site, ...]]:
    """Before the classifier, or all of them where there are several (distillation tokens)."""
    contract: Any = backbone
    heads = contract.get_classifier()
    modules = list(_flat(heads))
    visits = [visit for visit in trace.once if any(visit.module is module for module in modules)]
    sites = [site_at(trace, visit.path, "input") for visit in visits]
    found = tuple(site for site in sites if site is not None)
    if found:
        yield (*found, *auxiliary_heads(backbone, trace, visits))
    yield from generic.demux_candidates(backbone, trace)


def _flat(heads: Any) -> Iterator[nn.Module]:
    """Yield the heads themselves: some models hold several in a list, one for every scale or teacher."""
    if isinstance(heads, (tuple, list, nn.ModuleList)):
        for head in heads:
            yield from _flat(head)
    else:
        yield heads


def _metadata(backbone: nn.Module) -> dict[str, Any]:
    cfg = getattr(backbone, "pretrained_cfg", None) or getattr(backbone, "default_cfg", None) or {}
    return (
        dict(cfg) if isinstance(cfg, dict) else {key: getattr(cfg, key, None) for key in ("input_size", "first_conv")}
    )


def _paths(value: Any) -> list[str]:
    if not value:
        return []
    return [value] if isinstance(value, str) else list(value)


def layer_of(backbone: nn.Module, matcher: Any) -> Callable[[str], float]:
    """Return what timm's layer decay asks for a parameter's layer, by the wrapped model's names.

    A matcher holds patterns for the backbone's names, so timm itself numbers the backbone's layers by it. φ and the
    demuxers, new as a classifier is, belong to the last one: they learn at the full rate.
    """
    from timm.models import group_parameters  # a model that has a matcher was made by timm or for it

    layers: dict[str, int] = group_parameters(backbone, matcher, reverse=True)
    return lambda name: layers.get(name.removeprefix("backbone."), max(layers.values()))
