"""``muxwrap inspect``: where a model would be mixed and separated, and what of it is refused."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Annotated, Any

import typer

from muxwrap.cli._options import Demux, DemuxAt, Json, Model, MuxAt, Shape, Strategy, choices
from muxwrap.cli._output import running, show_json, show_table

if TYPE_CHECKING:
    from torch import nn

    from muxwrap.multiplex import Multiplex


def inspect(
    model: Model,
    n: Annotated[int, typer.Option("-n", help="Rows per mixture.")] = 4,
    strategy: Strategy = None,
    demux: Demux = None,
    mux_at: MuxAt = None,
    demux_at: DemuxAt = None,
    shape: Shape = None,
    every: Annotated[
        bool, typer.Option("--all", help="Try every strategy: which fit, and what the others are refused for.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Show where a model is mixed and separated, the share of its operations that runs once per mixture, and what is added.

    What cannot be wrapped is refused with the way out, and exit status 2.

    For example:

        muxwrap inspect timm:resnet50

        muxwrap inspect hf:my-model -n 8 --strategy orthogonal --mux-at bert.encoder.layer.2

        muxwrap inspect my_project.models:make --shape 3,32,32 --all
    """
    from muxwrap._util.named_models import model_named

    asked = choices(strategy, demux, mux_at, demux_at, shape)
    with running(f"making {model}") as show:
        backbone = model_named(model)
        found = _every(backbone, n, asked, show) if every else [_tried(backbone, n, asked)]
    if as_json:
        show_json(found if every else found[0])
    elif every:
        show_table(("strategy", "fits", "share", "added", "mixed at, or the refusal"), map(_row, found))
    else:
        print("\n".join([found[0]["summary"], *(f"note: {each}" for each in found[0]["warnings"])]))


def _every(backbone: nn.Module, n: int, asked: dict[str, Any], show: Any) -> list[dict[str, Any]]:
    from muxwrap import MuxwrapError, list_strategies

    found = []
    for name in [asked["strategy"]] if asked["strategy"] else list_strategies():
        show(f"trying {name}")
        try:
            found.append({"strategy": name, "fits": True, **_tried(backbone, n, {**asked, "strategy": name})})
        except MuxwrapError as error:
            refusal = str(error.__cause__ or error)  # the cause does not repeat the call of wrap
            found.append({"strategy": name, "fits": False, "refusal": refusal})
    return found


def _tried(backbone: nn.Module, n: int, asked: dict[str, Any]) -> dict[str, Any]:
    from muxwrap import unwrap, wrap

    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        model = wrap(backbone, n, **asked)
    try:
        return {**_facts(model), "warnings": [str(each.message) for each in said]}
    finally:
        unwrap(model)


def _facts(model: Multiplex) -> dict[str, Any]:
    sites = model.sites.to_dict()
    return {
        "backbone": type(model.backbone).__name__,
        "n": model.n,
        "strategy": model.strategy.name,
        "demux": model.demuxer.name,
        "mux_at": [f"{site.path}@{site.side}" for site in model.sites.mux],
        "demux_at": [f"{site.path}@{site.side}" for site in model.sites.demux],
        "share": sites.pop("share"),
        "parameters": sum(p.numel() for p in model.backbone.parameters()),
        "added_parameters": model.added_parameters(),
        "sites": sites,
        "summary": repr(model),
    }


def _row(found: dict[str, Any]) -> tuple[str, ...]:
    from muxwrap.site import percent

    if not found["fits"]:
        return found["strategy"], "no", "", "", found["refusal"]
    share = "" if found["share"] is None else percent(found["share"])
    return found["strategy"], "yes", share, f"{found['added_parameters']:,}", ", ".join(found["mux_at"])
