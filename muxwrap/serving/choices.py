"""What a server is made of, from a model and what its user says about it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import nn

from muxwrap.errors import MuxwrapError
from muxwrap.multiplex import Multiplex
from muxwrap.serving.arrays import Arrays
from muxwrap.serving.images import Images
from muxwrap.serving.inputs import Inputs
from muxwrap.serving.texts import Text


def inputs_for(
    model: nn.Module,
    tokenizer: Any = None,
    transform: Callable[[Any], Any] | None = None,
    example_input: Any = None,
    *,
    max_length: int | None = None,
    input_range: tuple[float, float] | None = None,
) -> Inputs:
    """Return the kind of input that was named.

    Raises:
        MuxwrapError: none was, or several, or an argument belongs to another kind.
    """
    named = {"tokenizer": tokenizer, "transform": transform, "example_input": example_input}
    given = [name for name, value in named.items() if value is not None]
    if len(given) != 1:
        raise MuxwrapError(
            f"server({', '.join(f'{name}=...' for name in given)}): {len(given)} kinds of input; give one of tokenizer= "
            "(text), transform= (images) and example_input= (numbers)"
        )
    for name, value, kind in (("max_length", max_length, "tokenizer"), ("input_range", input_range, "example_input")):
        if value is not None and given != [kind]:
            raise MuxwrapError(f"server({given[0]}=..., {name}={value!r}): it belongs to {kind}=; leave it out")
    if tokenizer is not None:
        return Text(tokenizer, model.backbone if isinstance(model, Multiplex) else model, max_length)
    return Images(transform) if transform is not None else Arrays(example_input, input_range)


def sizes_for(model: nn.Module, n_min: int | None = None, n_max: int | None = None) -> Sequence[int]:
    """Return the numbers of rows per mixture that a server may use: those the model was wrapped for, within the bounds.

    Raises:
        MuxwrapError: there is none.
    """
    sizes = model.sizes if isinstance(model, Multiplex) else (1,)
    within = [n for n in sizes if (n_min or 1) <= n <= (n_max or sizes[-1])]
    if not within:
        raise MuxwrapError(
            f"server(n_min={n_min}, n_max={n_max}): the model has n of {tuple(sizes)}, and none is within; give other bounds"
        )
    return within
