"""Running a model on an example, with padding too, and reading from its output what belongs to the rows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from muxwrap._hooks.side_inputs import MASK
from muxwrap._util.examples import ROWS, quiet, run, with_rows
from muxwrap._util.nested import first_tensor, tensors_in

PADDED_ROWS = 4
_KEPT = ("hidden_states", "attentions", "encoder_last_hidden_state", "past_key_values", "mems", "router_logits")


def answers(
    model: nn.Module,
    example: Any,
    masked: bool,
    finite: bool = False,
    rows: int = ROWS,
    call: Callable[..., Any] | None = None,
) -> list[Tensor] | str:
    """Run a model, also with padding if it takes a mask; return its answers, or what went wrong.

    Args:
        model: the bare one.
        example: a call of the model.
        masked: whether it takes a mask.
        finite: accept finite answers only.
        rows: of the example.
        call: what to call instead of the bare model.
    """
    found: list[Tensor] = []
    try:
        with quiet(model):
            for one, count in [*([(_padded(example), PADDED_ROWS)] if masked else []), (example, rows)]:
                torch.manual_seed(0)  # for models that draw random numbers in evaluation mode
                output = run(call or model, one)
                first = first_tensor(output)
                if first is None or first.shape[0] != count:
                    return f"{count} rows in, {None if first is None else first.shape[0]} rows out"
                found += _answers_in(output)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "not finite" if finite and not all(bool(torch.isfinite(answer).all()) for answer in found) else found


def _answers_in(output: Any) -> list[Tensor]:
    """Return the tensors of an output that belong to rows; what a Transformers model tells of its trunk does not."""
    if isinstance(output, dict):
        output = [value for key, value in output.items() if not key.startswith(_KEPT) and not key.endswith(_KEPT)]
    return [answer for answer in tensors_in(output) if answer.is_floating_point()]


def unpadded(answer: Tensor) -> Tensor:
    """Return the rows without padding, of the four that :func:`answers` adds where there is a mask."""
    return answer[2:] if answer.shape[0] == PADDED_ROWS else answer


def _padded(example: Any) -> dict[str, Any]:
    """Return keyword arguments of four rows, some tokens of the first two of which are masked out.

    Rows that share a mixture also share their mask, so that each is comparable with the bare model's; mixtures differ, so
    that a mask that gets to another mixture is noticed.
    """
    arguments = dict(example) if hasattr(example, "keys") else {"input_ids": first_tensor(example)}
    arguments = with_rows(arguments, PADDED_ROWS)
    tokens = first_tensor(arguments)
    assert tokens is not None
    shape = tokens.shape[:2] if tokens.is_floating_point() else tokens.shape
    mask = torch.ones(shape, dtype=torch.long, device=tokens.device)
    mask[:2] *= kept(shape[-1], mask.device)
    own = (name for name in arguments if name.endswith(MASK) and tokens.is_floating_point())
    return {**arguments, next(own, MASK): mask}  # a mask of patches has a name of its own


def kept(length: int, device: torch.device) -> Tensor:
    """Return which positions are not masked out: among others the first and the last, which a head may read."""
    at = torch.arange(length, device=device)
    return (at < length // 4) | (at >= length // 2)
