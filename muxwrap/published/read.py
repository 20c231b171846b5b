"""A folder with a published checkpoint in, a wrapped model out."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from muxwrap import checkpoint, loading, wrapping
from muxwrap.errors import MuxwrapError
from muxwrap.multiplex import Multiplex
from muxwrap.published.backbones import make_backbone
from muxwrap.published.config import MuxConfig, read_config
from muxwrap.published.modules import make_demuxer, make_sites, make_strategy
from muxwrap.published.names import translated

_SHARED = {
    "bert": ("demultiplexer.demux_module.", "demux_module."),
    "roberta": ("demultiplexer.bias", "demultiplexer.decoder.bias"),
}
"""Where tensors have two names, of which a file may hold either; the second one is read."""

SAFETENSORS, PICKLE = "model.safetensors", "pytorch_model.bin"


def load(
    folder: str | Path, *, architecture: str | None = None, keep_prefix: bool = True, allow_pickle: bool = False
) -> Multiplex:
    """Read a DataMUX or MUX-PLM checkpoint of a classifier and return it as a wrapped model, in evaluation mode.

    Args:
        folder: a checkpoint in the hub's layout: ``config.json`` with ``num_instances``, ``muxing_variant`` and
            ``demuxing_variant``, and ``model.safetensors`` or ``pytorch_model.bin``. A folder that the loaded
            model's ``save_pretrained`` wrote is read as well, with the settings it was saved with.
        architecture: the published class, where the config does not name it: ``RobertaSequenceClassificationMuxed``,
            ``RobertaTokenClassificationMuxed``, ``MuxedBertForSequenceClassification`` or
            ``MuxedBertForTokenClassification``.
        keep_prefix: a token classifier with ``index`` demuxing returns logits of the prefix's n + 1 tokens and then of the
            row's own, as published (True), or of the row's own only, as training with labels needs (False).
        allow_pickle: read a ``pytorch_model.bin`` where there are no safetensors, with ``weights_only=True``.

    Returns:
        A model that takes ``input_ids`` ``[B, L]``, any B, and returns the output of ``BertForSequenceClassification`` or
        the like. (The published code drops an incomplete last group, or fills it at random; here it is filled with the
        batch's first rows.)

    Raises:
        MuxwrapError: the folder, its config or its weights are not those of a published classifier.
    """
    folder = Path(folder)
    if (folder / checkpoint.CONFIG).exists():
        return loading.load(folder, backbone(folder, architecture=architecture), allow_pickle=allow_pickle)
    try:
        config = read_config(folder, architecture)
        tensors = translated(_tensors(folder, config, allow_pickle), config)
        bare = make_backbone(config)
        model = wrapping.wrap(
            bare,
            config.n,
            make_strategy(config, bare.config, tensors.get("strategy.keys", torch.empty(0))),
            make_demuxer(config, bare.config, keep_prefix),
            sites=make_sites(config, bare.config),
        )
        _fill(model, tensors)
    except MuxwrapError as error:
        raise MuxwrapError(f"published.load({str(folder)!r}): {error}") from error
    return model.eval()


def backbone(folder: str | Path, *, architecture: str | None = None) -> Any:
    """Make the backbone that a published model is wrapped around, with random weights.

    :func:`muxwrap.load` takes it for what the loaded model's ``save_pretrained`` wrote.

    Args:
        folder: where the ``config.json`` is.
        architecture: see :func:`load`.

    Returns:
        A Transformers model; its head is the published one.

    Raises:
        MuxwrapError: the config is not one of a published classifier.
    """
    try:
        return make_backbone(read_config(Path(folder), architecture))
    except MuxwrapError as error:
        raise MuxwrapError(f"published.backbone({str(folder)!r}): {error}") from error


def _tensors(folder: Path, config: MuxConfig, allow_pickle: bool) -> dict[str, Tensor]:
    """Return every tensor of the checkpoint; one that two modules share is found under the name that is read."""
    safe, pickled = folder / SAFETENSORS, folder / PICKLE
    if not safe.exists() and not pickled.exists():
        raise MuxwrapError(f"neither {SAFETENSORS} nor {PICKLE} is there; give the folder of a downloaded checkpoint")
    if not safe.exists() and not allow_pickle:
        raise MuxwrapError(
            f"{PICKLE} is a pickle, and pickles are read only if that is asked for; give allow_pickle=True (torch then reads "
            "it with weights_only=True)"
        )
    try:
        found = load_file(safe) if safe.exists() else torch.load(pickled, map_location="cpu", weights_only=True)
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError, OSError) as error:
        name = SAFETENSORS if safe.exists() else PICKLE
        raise MuxwrapError(
            f"{name} cannot be read as tensors and nothing else, and what could run code is not loaded: {error}"
        ) from error
    if not isinstance(found, dict) or not all(isinstance(value, Tensor) for value in found.values()):
        raise MuxwrapError(f"{PICKLE} does not hold a dictionary of tensors; save a model's state_dict() there")
    other, read = _SHARED[config.family]
    return {name.replace(other, read): value for name, value in found.items() if name.startswith(other)} | found


def _fill(model: Multiplex, tensors: dict[str, Tensor]) -> None:
    """Copy the tensors into the model.

    Raises:
        MuxwrapError: one is missing, or has another shape.
    """
    own = model.state_dict()
    missing = [name for name in own if name not in tensors]
    if missing:
        raise MuxwrapError(
            f"the weights lack {missing[0].removeprefix('backbone.')!r} ({len(missing)} tensors in all); give the config that "
            "they were saved with"
        )
    for name, value in own.items():
        given = tensors[name]
        if given.shape != value.shape:
            shown = name.removeprefix("backbone.")
            raise MuxwrapError(
                f"{shown!r} is {list(given.shape)} in the weights and {list(value.shape)} by the config; give the config that "
                "they were saved with"
            )
    model.load_state_dict({name: tensors[name] for name in own})
