"""From what users iterate over to arguments of the model and labels."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from muxwrap._util.nested import tensors_in
from muxwrap.errors import MuxwrapError

KEYS = ("labels", "label", "label_ids")  # as Hugging Face's collators name them

Labels = str | Callable[[Any], Any] | None


class Batch(NamedTuple):
    """Arguments of a call (a tensor, a tuple of arguments or a dict of keyword arguments) and a label per row."""

    inputs: Any
    labels: Tensor


def read(batches: Iterable[Any], labels: Labels, model: nn.Module) -> list[Batch]:
    """Read all batches, once.

    Raises:
        MuxwrapError: there are none, or one is not a batch with labels.
    """
    found = [_read(batch, labels, model) for batch in batches]
    if not found:
        raise MuxwrapError(
            "evaluate(): there is no batch; give (inputs, labels) pairs or dicts with labels, such as a DataLoader. A "
            "generator can be read once"
        )
    for number, batch in enumerate(found):
        _check(batch, found[0], number)
    return found


def _read(batch: Any, labels: Labels, model: nn.Module) -> Batch:
    if hasattr(batch, "keys"):
        return _from_mapping({key: batch[key] for key in batch.keys()}, labels, model)  # noqa: SIM118 - BatchEncoding
    if callable(labels):
        return Batch(_without(batch, found := labels(batch)), _as_labels(found))
    if isinstance(batch, (tuple, list)) and len(batch) == 2 and labels is None:
        inputs = batch[0]
        is_mapping = hasattr(inputs, "keys")
        return Batch({key: inputs[key] for key in inputs.keys()} if is_mapping else inputs, _as_labels(batch[1]))  # noqa: SIM118
    size = f" of {len(batch)}" if isinstance(batch, (tuple, list)) else ""
    raise MuxwrapError(
        f"evaluate(labels={labels!r}): a batch is a {type(batch).__name__}{size}; give (inputs, labels) pairs, where inputs "
        "may be a tuple of arguments, or dicts with labels; or give labels=, a function from a batch to its labels. One "
        "batch is [(inputs, labels)]"
    )


def _from_mapping(batch: dict[str, Any], labels: Labels, model: nn.Module) -> Batch:
    """Take labels out, and the columns that the model's forward does not name, as a Trainer does."""
    if callable(labels):
        found = labels(batch)
    else:
        key = labels or next((key for key in KEYS if key in batch), KEYS[0])
        if key not in batch:
            raise MuxwrapError(
                f"evaluate(labels={labels!r}): a batch holds {sorted(map(str, batch))} and no {key!r}; name the key with "
                "labels=, or give a function from a batch to its labels"
            )
        found = batch[key]
    inputs = {key: value for key, value in batch.items() if value is not found and key not in KEYS}
    parameters = inspect.signature(model.forward).parameters
    named = {key: value for key, value in inputs.items() if key in parameters}
    if not named and not any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        raise MuxwrapError(
            f"evaluate(): a batch holds {sorted(map(str, inputs))} beside its labels, and {type(model).__name__}.forward "
            f"takes {', '.join(parameters)}; give dicts with these names, or (inputs, labels) pairs"
        )
    return Batch(named or inputs, _as_labels(found))


def _without(batch: Any, labels: Any) -> Any:
    """Return the model's arguments: what of a batch are not the labels."""
    if not isinstance(batch, (tuple, list)):
        return batch
    if len(batch) == 2:
        return batch[1] if batch[0] is labels else batch[0]
    return tuple(part for part in batch if part is not labels)


def _as_labels(labels: Any) -> Tensor:
    try:
        found = torch.as_tensor(labels)
    except (TypeError, ValueError, RuntimeError) as error:
        raise MuxwrapError(
            f"evaluate(): labels are a {type(labels).__name__}; give a tensor with a row per row"
        ) from error
    if not found.ndim:
        raise MuxwrapError("evaluate(): labels are one number; give batches, such as a DataLoader, not single rows")
    found = found.detach().cpu()
    return found if found.is_floating_point() or found.dtype == torch.bool else found.long()


def _check(batch: Batch, first: Batch, number: int) -> None:
    """Refuse a batch of another make than the first, or whose tensors have not a row per label."""
    if outline(batch.inputs) != outline(first.inputs) or batch.labels.ndim != first.labels.ndim:
        raise MuxwrapError(
            f"evaluate(): batch {number} holds {outline(batch.inputs)} and batch 0 {outline(first.inputs)}; rows of all "
            "batches meet in mixtures, so give batches of one form"
        )
    shapes = [list(tensor.shape) for tensor in tensors_in(batch.inputs)]
    rows = len(batch.labels)
    if not rows or not shapes or any(shape[:1] != [rows] for shape in shapes):
        raise MuxwrapError(
            f"evaluate(): batch {number} has labels of shape {list(batch.labels.shape)} and inputs of shapes {shapes}; every "
            "tensor needs a row per label"
        )


def outline(inputs: Any) -> Any:
    """Return what must be the same in all batches: names, dtypes, numbers of axes, and arguments that are not tensors.

    Raises:
        MuxwrapError: something else than tensors and plain constants.
    """
    if isinstance(inputs, Tensor):
        return f"{str(inputs.dtype).removeprefix('torch.')} with {inputs.ndim} axes"
    if isinstance(inputs, (tuple, list)):
        return [outline(part) for part in inputs]
    if hasattr(inputs, "keys"):
        return {key: outline(inputs[key]) for key in inputs.keys()}  # noqa: SIM118
    if inputs is None or isinstance(inputs, (bool, int, float)):
        return inputs
    raise MuxwrapError(
        f"evaluate(): a {type(inputs).__name__} among the model's arguments; rows are dealt anew to mixtures, so give tensors"
    )
