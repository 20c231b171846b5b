"""The layers of a trunk: the innermost list of modules around a site, and those of it that run on mixtures."""

from __future__ import annotations

from torch import nn

from muxwrap.site import Site


def layers_between(backbone: nn.Module, mux: Site, demux: Site) -> list[nn.Module]:
    """Return the layers that run on mixtures: those after the mux site in its list of layers, up to the demux site."""
    parent, name = list_around(backbone, mux.path)
    children = dict(backbone.get_submodule(parent).named_children())
    inside = mux.path != f"{parent}.{name}".lstrip(".")
    order = list(children)
    start = order.index(name) + (inside or mux.side == "output")
    last, ends = list_around(backbone, demux.path)
    stop = order.index(ends) + (demux.side == "output") if last == parent else len(order)
    return [children[each] for each in order[start:stop]]


def layer_at(backbone: nn.Module, site: Site) -> nn.Module:
    """Return the layer that a site is at or in."""
    return backbone.get_submodule(".".join(list_around(backbone, site.path)))


def list_around(backbone: nn.Module, path: str) -> tuple[str, str]:
    """Return the path of the innermost list of layers around a module, and the name of the layer there; "" for none."""
    names = path.split(".")
    for depth in range(len(names) - 1, 0, -1):
        parent = ".".join(names[:depth])
        if isinstance(backbone.get_submodule(parent), (nn.ModuleList, nn.Sequential)):
            return parent, names[depth]
    return "", ""
