"""A call of the backbone to try it with: the user's, or one made from the model's own metadata."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from muxwrap._util.examples import Example, quiet, run, with_rows
from muxwrap._util.meta import placed_like
from muxwrap._util.nested import first_tensor
from muxwrap.errors import MuxwrapError
from muxwrap.sites.families import generic, timm, torchvision, transformers
from muxwrap.sites.runs.rows import part_of_one
from muxwrap.sites.runs.runs import BARE_ROWS
from muxwrap.sites.trials.trial import Trial

FAMILIES = (transformers, timm, torchvision, generic)
"""In the order of asking; each says what it matches, makes an example and names candidates."""


def example_of(backbone: nn.Module, example_input: Any = None) -> Example:
    """Return a call of three rows: the given one, or one that is made from the model's own metadata.

    Raises:
        MuxwrapError: none is given and the model does not say what it takes.
    """
    given = example_input if example_input is not None else family_of(backbone).example(backbone)
    example: Example = with_rows(Example.of(placed_like(backbone, given)))
    return example


def family_of(backbone: nn.Module) -> Any:
    """Return the family of a model."""
    return next(family for family in FAMILIES if family.matches(backbone))


def check_example(trial: Trial, example_input: Any) -> None:
    """Run the trace, and tell a call that has to have its own number of rows from one that fails.

    Raises:
        MuxwrapError: the backbone fails on two rows of the example.
    """
    try:
        trial.trace  # noqa: B018 - it is made here
    except MuxwrapError as error:
        first = first_tensor(example_input)
        if first is None or first.shape[0] <= BARE_ROWS or isinstance(error.__cause__, torch.OutOfMemoryError):
            raise
        if not _runs(trial.backbone, example_input) or _runs(trial.backbone, trial.runs.call(False, BARE_ROWS)):
            raise
        why = f"{type(error.__cause__).__name__}: {error.__cause__}"
        raise MuxwrapError(part_of_one(trial.backbone, first.shape[0], str(BARE_ROWS), why)) from error.__cause__


def _runs(backbone: nn.Module, call: Any) -> bool:
    try:
        with quiet(backbone):
            run(backbone, call)
    except Exception:
        return False
    return True
