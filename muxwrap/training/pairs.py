"""From what users iterate over to a call of any model, and labels where there are some."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from muxwrap._util.nested import first_tensor, map_tensors
from muxwrap.errors import MuxwrapError

LABELS = ("labels", "label", "label_ids")  # as Hugging Face's collators name them


class Pair(NamedTuple):
    """Arguments of a call (a tensor, a tuple of arguments or a dict of keyword arguments), and the rows' labels."""

    inputs: Any
    labels: Tensor | None

    def to(self, device: torch.device) -> Pair:
        """Return the same on a device."""
        return Pair(*(map_tensors(part, lambda tensor: tensor.to(device)) for part in self))


def as_pair(batch: Any, backbone: nn.Module, call: str) -> Pair:
    """Make a call out of inputs, ``(inputs, labels)``, or a mapping that may hold labels.

    Columns of a mapping that the backbone's forward does not name are left out, as a Trainer does.

    Args:
        batch: what the user's iterable yields.
        backbone: the bare model.
        call: the function that the user called; messages repeat it.

    Raises:
        MuxwrapError: it holds no tensor with rows, or none that the model takes.
    """
    pair = _read(batch, backbone.forward)
    if first_tensor(pair.inputs) is None:
        held = f" with {sorted(map(str, batch.keys()))}" if hasattr(batch, "keys") else ""
        raise MuxwrapError(
            f"{call}: a batch is a {type(batch).__name__}{held} and holds no tensor that {type(backbone).__name__} takes; "
            f"give inputs, (inputs, labels) pairs, or dicts with the names of its forward"
        )
    return pair


def _read(batch: Any, forward: Callable[..., Any]) -> Pair:
    if hasattr(batch, "keys"):
        return _from_mapping(batch, forward)
    if not isinstance(batch, (tuple, list)) or len(batch) > 2:
        return Pair(tuple(batch) if isinstance(batch, list) else batch, None)
    inputs, labels = batch[0], (*batch, None)[1]
    inputs = _from_mapping(inputs, forward).inputs if hasattr(inputs, "keys") else inputs
    return Pair(inputs, None if labels is None else torch.as_tensor(labels))


def _from_mapping(mapping: Any, forward: Callable[..., Any]) -> Pair:
    batch = {key: mapping[key] for key in mapping.keys()}  # noqa: SIM118 - a BatchEncoding is not a dict
    labels = next((batch[key] for key in LABELS if key in batch), None)
    parameters = inspect.signature(forward).parameters
    anything = any(each.kind is each.VAR_KEYWORD for each in parameters.values())
    named = {key: value for key, value in batch.items() if key in parameters and key not in LABELS}
    if anything and not named:
        named = {key: value for key, value in batch.items() if key not in LABELS}
    return Pair(named, labels if labels is None else torch.as_tensor(labels))
