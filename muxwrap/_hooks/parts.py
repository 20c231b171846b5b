"""A part of the backbone's call, as timm's models have it: the features, and the head that makes answers of them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from muxwrap._hooks.call import Call, Key, new_call
from muxwrap._hooks.components import Components
from muxwrap._hooks.running import running
from muxwrap._util.nested import first_tensor
from muxwrap.errors import MuxwrapError
from muxwrap.site import MaskMode

FEATURES, HEAD = "forward_features", "forward_head"


def call_features(model: Components, key: Key, *args: Any, **kwargs: Any) -> Any:
    """Return the features of the batch's rows: they are mixed and separated on the way.

    Raises:
        MuxwrapError: instances are mixed before, or separated after, what is called: the features would be the mixtures'.
    """
    whole = tuple(replace(site, first_token=False) for site in model.sites.demux)  # features are those of every token
    model = replace(model, sites=replace(model.sites, demux=whole))
    call = new_call(model, key)
    output = None
    if MaskMode(model.sites.mask) is MaskMode.NONE and all(site.path for site in model.sites.mux):
        with running(call):
            output = getattr(model.backbone, FEATURES)(*args, **kwargs)
    if not all(call.mixed):
        raise MuxwrapError(
            f"{FEATURES}() begins after instances are mixed ({model.sites.mux[0]}), or the backbone reads the batch's size or "
            f"mask besides; wrap with mux_at= a module that it calls, such as the stem, or call model.backbone.{FEATURES}() "
            "for the bare model"
        )
    if not call.separated[0]:
        raise MuxwrapError(
            f"{FEATURES}() ends before instances are separated ({model.sites.demux[0]}), so it would return those of mixtures; "
            "wrap with demux_at= the output of the last module that it calls, such as demux_at='norm@output', or call "
            f"model.backbone.{FEATURES}() for the bare model"
        )
    _check_rows(call, output)
    return output


def call_head(model: Components, key: Key, *args: Any, **kwargs: Any) -> Any:
    """Return the head's answers to features of rows.

    Raises:
        MuxwrapError: instances are separated inside of the head, so that it reads the features of mixtures.
    """
    call = new_call(model, key)
    try:
        with running(call):
            return getattr(model.backbone, HEAD)(*args, **kwargs)
    except MuxwrapError as error:
        if not call.separated[0]:
            raise
        raise MuxwrapError(
            f"{HEAD}() separates instances ({model.sites.demux[0]}), and only a whole call mixes them before; wrap with "
            f"demux_at= the output of the last module before it, such as demux_at='norm@output', or call "
            f"model.backbone.{HEAD}() for the bare model"
        ) from error


def _check_rows(call: Call, output: Any) -> None:
    first = first_tensor(output)
    if first is None or first.shape[0] != call.rows:
        shape = None if first is None else list(first.shape)
        raise MuxwrapError(
            f"{FEATURES}() gives {shape} for {call.rows} rows; call model.backbone.{FEATURES}() for the bare model"
        )
