"""The calls of one line: a model wrapped, unwrapped, and loaded again."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from torch import nn

from muxwrap import checkpoint, demuxers, strategies
from muxwrap.defaults import DemuxChoice, StrategyChoice
from muxwrap.errors import MuxwrapError
from muxwrap.multiplex import Multiplex
from muxwrap.site import Sites
from muxwrap.sites import Choice


def wrap(
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
    check_finite: bool = False,
) -> Multiplex:
    """Put data multiplexing into a model: ``model = muxwrap.wrap(resnet, n=4)``.

    The arguments, what comes back and what is refused are those of :class:`Multiplex`.
    """
    return Multiplex(
        backbone,
        n,
        strategy,
        demux,
        mux_at=mux_at,
        demux_at=demux_at,
        example_input=example_input,
        sites=sites,
        seed=seed,
        check_finite=check_finite,
    )


def unwrap(model: nn.Module) -> nn.Module:
    """Take multiplexing out and return the backbone, with its own parameter names and without a hook of ours.

    Args:
        model: a wrapped model, or one that ``torch.compile`` returned for it.

    Raises:
        MuxwrapError: the model is not wrapped.
    """
    model = getattr(model, "_orig_mod", model)
    if not isinstance(model, Multiplex):
        raise MuxwrapError(f"unwrap({type(model).__name__}): not a wrapped model; unwrap takes what wrap returned")
    return model.detach()


def load(folder: str | Path, backbone: nn.Module) -> Multiplex:
    """Wrap a bare backbone as the saved model was wrapped, and load every tensor, the backbone's own included.

    Args:
        folder: what :meth:`Multiplex.save_pretrained` wrote.
        backbone: a bare model of the same architecture; its weights are overwritten.

    Raises:
        MuxwrapError: the folder holds no wrapped model, a strategy or demuxer is not registered, or the backbone is
            another one.
    """
    config = checkpoint.read_config(folder)
    phi, demux = config["strategy"], config["demux"]
    model = Multiplex(
        backbone,
        config["n"],
        partial(strategies.registry.get(phi["name"]), **phi["options"]),
        partial(demuxers.registry.get(demux["name"]), **demux["options"]),
        sites=Sites.from_dict(config["sites"]),
        check_finite=config["check_finite"],
    )
    try:
        checkpoint.load_tensors(model, folder)
    except MuxwrapError:
        model.detach()
        raise
    return model
