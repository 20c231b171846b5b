"""From what a user asks for to the components of a multiplexed model: sites searched, modules built, all tried once."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import Tensor, nn

from muxwrap import demuxers, strategies
from muxwrap._hooks.adapters import learns_prompts
from muxwrap._hooks.components import CheckFinite, Components
from muxwrap._hooks.running import is_hooked
from muxwrap._hooks.widening import widenings
from muxwrap._util.examples import quiet, run
from muxwrap._util.meta import nothing_drawn, on_meta
from muxwrap._util.untouched import untouched
from muxwrap.defaults import (
    DemuxChoice,
    StrategyChoice,
    default_demuxer,
    default_strategy,
    image_pixels,
    prefix_length,
    strategy_class,
)
from muxwrap.demuxers.base import Demuxer
from muxwrap.errors import MuxwrapError, check_count
from muxwrap.site import Site, Sites
from muxwrap.sites import Choice, check_paths, check_side_by_side, locate, locate_layers, verify
from muxwrap.sites.company import check_company
from muxwrap.sites.dry_run import watched
from muxwrap.sites.heard import UnheardError, check_heard
from muxwrap.sites.weight import crowded
from muxwrap.strategies.base import Strategy, list_strategies


def build(
    backbone: nn.Module,
    n: int,
    strategy: StrategyChoice = None,
    demux: DemuxChoice = None,
    *,
    mux_at: Choice = None,
    demux_at: Choice = None,
    example_input: Any = None,
    sites: Sites | None = None,
    seed: int = 0,
    check_finite: CheckFinite = False,
    raw_images: bool = True,
) -> Components:
    """Make the components of a multiplexed model; the arguments are those of :func:`muxwrap.wrap`.

    ``raw_images=False`` leaves raw images unmixed also where they would be preferred.

    Raises:
        MuxwrapError: what cannot work; the backbone is then as it was.
    """
    chosen: dict[str, Any] = {"mux_at": mux_at, "demux_at": demux_at, "example_input": example_input, "sites": sites}
    try:
        example = advice = None
        check_count(n)
        if sites is None and strategy_class(strategy).places_tokens:
            sites, example = locate_layers(backbone, example_input, mux_at=mux_at, demux_at=demux_at)
        elif sites is None:
            prefix, pixels = prefix_length(demux, n), image_pixels(strategy, n) if raw_images else 0
            sites, example, advice = locate(
                backbone, example_input, mux_at=mux_at, demux_at=demux_at, prefix=prefix, pixels=pixels
            )
        check_paths(backbone, sites)
        with nothing_drawn(on_meta(backbone)):
            phi = build_strategy(strategy or default_strategy(n, sites.mux[0], raw_images), n, sites, seed)
            separators = nn.ModuleList(build_demuxers(demux, n, sites, phi, seed))
            wide = widenings(backbone, sites, phi)
        made = Components(backbone, n, sites, phi, separators, wide, check_finite)
        made.check()
        with untouched(backbone):
            _settle(made, example)
    except MuxwrapError as error:
        if isinstance(error, UnheardError) and raw_images and strategy is None:  # the images were muxwrap's choice
            return build(backbone, n, None, demux, **chosen, seed=seed, check_finite=check_finite, raw_images=False)
        call = f"wrap({type(backbone).__name__}, n={n!r}, strategy={strategy!r}, demux={demux!r})"
        raise MuxwrapError(f"{call}: {error}") from error
    if advice is None and mux_at is None and example is not None:
        advice = next((crowded(site, n) for site in made.sites.mux if site.axis is not None and site.dim < n), None)
    if advice is not None and n > 1:
        warnings.warn(f"wrap({type(backbone).__name__}, n={n}): {advice}", stacklevel=4)  # at the line that calls wrap
    return made


def check_shuffle(shuffle: object) -> None:
    """Refuse what is not True, False or None.

    Raises:
        MuxwrapError: it is something else.
    """
    if shuffle is not None and not isinstance(shuffle, bool):
        raise MuxwrapError(
            f"wrap(shuffle={shuffle!r}): True deals rows to the indices at random in training, False does not, and None (the "
            "default) does not either"
        )


_AROUND = frozenset({"DistributedDataParallel", "DataParallel", "FSDPModule", "FullyShardedDataParallel"})
"""Classes of torch that hold a whole model and share out its parameters as they were when it was given."""


def check_backbone(backbone: object) -> None:
    """Refuse what cannot be wrapped, before anything is called.

    Raises:
        MuxwrapError: it is not a module, is wrapped already, is scripted or compiled, or learns prompts.
    """
    if not isinstance(backbone, nn.Module):
        raise MuxwrapError(f"wrap({backbone!r}): {type(backbone).__name__} is not a torch.nn.Module")
    call = f"wrap({type(backbone).__name__})"
    if any(cls.__name__ in _AROUND and cls.__module__.startswith("torch.") for cls in type(backbone).__mro__):
        raise MuxwrapError(
            f"{call}: it is spread over processes or devices already, and what is added would get no part in that: its "
            "gradients would stay apart; wrap the module as it was made, then give what wrap returns to "
            "DistributedDataParallel or fully_shard"
        )
    for path, module in backbone.named_modules():
        place = repr(path) if path else "its root"
        if isinstance(module, torch.jit.ScriptModule):
            raise MuxwrapError(
                f"{call}: it is scripted (at {place}), and hooks do not act in TorchScript; put the Python module "
                "there that it was made from"
            )
        if is_hooked(module):
            raise MuxwrapError(f"{call}: it is wrapped already (at {place}); muxwrap.unwrap the wrapped model first")
        if "_orig_mod" in module._modules:  # torch.compile(module)
            raise MuxwrapError(
                f"{call}: it is compiled (at {place}), and compiled code may not see hooks that come later; wrap the module "
                "that was compiled, which is its ._orig_mod, and compile what wrap returns"
            )
        if module._compiled_call_impl is not None:  # module.compile()
            raise MuxwrapError(
                f"{call}: compile() was called (at {place}), and compiled code may not see hooks that come later; compile "
                "after wrapping, and set ._compiled_call_impl = None here"
            )
    if learns_prompts(backbone):
        raise MuxwrapError(
            f"{call}: prompt learning puts tokens of its own before every row, outside of the model in it; adapt the wrapped "
            "model: get_peft_model(muxwrap.wrap(model, n), config)"
        )


def build_strategy(choice: Any, n: int, sites: Sites, seed: int) -> Strategy:
    """Make the strategy for the mux sites.

    Raises:
        MuxwrapError: the choice is not a strategy, or does not fit.
    """
    cls = type(choice) if isinstance(choice, Strategy) else strategies.registry.class_of(choice)
    sizes = [_sizes(cls, site, sites.padded) for site in sites.mux]
    if any(other != sizes[0] for other in sizes):
        found = sorted(size["dim"] for size in sizes)
        raise MuxwrapError(f"the mux sites have feature sizes {found}; one strategy needs one size: name other sites")
    made = strategies.registry.build(choice, n=n, seed=seed, **sizes[0])
    _check_fit(made, "strategy", n, sizes[0]["dim"], sites.mux[0])
    return made


def build_demuxers(choice: DemuxChoice, n: int, sites: Sites, phi: Strategy, seed: int) -> list[Demuxer]:
    """Make a demuxer for every demux site.

    Raises:
        MuxwrapError: the choice is not a demuxer, or does not fit.
    """
    if isinstance(choice, nn.Module) and len(sites.demux) > 1:
        raise MuxwrapError(
            f"demux={choice!r} is one instance for {len(sites.demux)} demux sites; give a name or a class"
        )
    made = []
    for site in sites.demux:
        arguments = {"n": n, "dim": site.dim, "seed": seed, "strategy": phi, "mux_dim": phi.dim}
        made.append(demuxers.registry.build(choice or default_demuxer(phi), **arguments))
        _check_fit(made[-1], "demux", n, site.dim, site)
    return made


def _sizes(cls: type[Strategy], site: Site, masked: bool) -> dict[str, Any]:
    """Return the sizes that a strategy's constructor may name.

    Raises:
        MuxwrapError: a row at the site is not what the strategy mixes.
    """
    if cls.sees == "features":
        return {"dim": site.dim}
    holds = f"the {site} holds " + ("rows of unknown shape" if site.shape is None else f"rows {list(site.shape)}")
    fitting = f"strategies that fit there: {', '.join(map(repr, list_strategies('features')))}"
    if cls.sees == "image":
        if site.image is None:
            raise MuxwrapError(
                f"{cls.__name__} mixes images [C, H, W], and {holds}; mix raw images or a feature map; {fitting}"
            )
        channels, *size = site.image
        return {"dim": channels, "size": tuple(size)}
    if cls.places_tokens:
        if site.grid is None or site.shape is None:
            return {"dim": site.dim}
        return {"dim": site.dim, "grid": site.grid, "keep": site.shape[0] - site.grid[0] * site.grid[1]}
    unread = masked and not cls.reads_mask
    if unread or site.axis not in (-1, 1) or len(site.shape or ()) == 1:
        why, without = ("with a mask", " without a mask") if unread else ("which are not tokens", "")
        raise MuxwrapError(f"{cls.__name__} mixes tokens [L, d]{without}, and {holds}, {why}; {fitting}")
    return {"dim": site.dim}


def _check_fit(made: Strategy | Demuxer, argument: str, n: int, dim: int, site: Site) -> None:
    if (made.n, made.dim) != (n, dim):
        raise MuxwrapError(
            f"{argument}={type(made).__name__}(n={made.n}, dim={made.dim}) does not fit n={n} and the {site}; "
            f"make it with n={n}, dim={dim}, or give its name and options instead of an instance"
        )


def _settle(made: Components, example: Any) -> None:
    """Take what was made to the sites, and run the example as far as that tells whether it works there.

    Raises:
        MuxwrapError: it does not.
    """
    _follow_sites(made, example)
    if example is None:
        return
    if made.strategy.places_tokens:
        made.sites = check_side_by_side(made, example)
    verify(made, example)
    check_company(made, example)
    if made.strategy.sees == "image" or any(site.axis is None for site in made.sites.mux):
        check_heard(made, example)


def _follow_sites(made: Components, example: Any) -> None:
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
