"""Sequences that ``pack_padded_sequence`` packed: their first axis is not that of the rows, so they are unpacked at sites."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from muxwrap._hooks.call import Call
from muxwrap._util.nested import map_first_tensor, replace_object, tensors_in
from muxwrap.errors import MuxwrapError


def mixed(call: Call, k: int, value: Any, mix: Callable[[Tensor], Tensor], part: int | None = None) -> Any:
    """Return what passes a mux site with one tensor mixed; a packed one is as long as the longest of its instances."""
    packed = _packed_in(value)
    if packed is None:
        return map_first_tensor(value, mix, part)
    x, lengths = pad_packed_sequence(packed, batch_first=True)
    call.keep[k] = call.lengths = lengths
    mixture, prefix = mix(x), call.model.demuxer.prefix_length
    return replace_object(value, packed, _pack(mixture, call.group(lengths).amax(1) + prefix))


def check_states(call: Call, args: Any, kwargs: Any) -> None:
    """Refuse states of the rows ``[layers, B, features]`` beside a sequence that was packed, where it is mixed.

    Recurrent layers take as many of them as there are sequences, in the order of their lengths, without a word of the rest.

    Raises:
        MuxwrapError: there are such.
    """
    packed = _packed_in((args, kwargs))
    if packed is None or call.rows == call.mixtures:
        return
    for state in tensors_in(replace_object((args, kwargs), packed, None)):
        if state.ndim == 3 and state.shape[1] == call.rows:
            raise MuxwrapError(
                f"a packed sequence is mixed, and the states {list(state.shape)} beside it are those of the rows; mix what "
                "they are made of as well with mux_at=[..., the module that makes it], and give it in example_input="
            )


def separated(call: Call, value: Any, separate: Callable[[Tensor], Tensor], part: int | None = None) -> Any:
    """Return what passes a demux site with one tensor separated; a packed one gets the rows' own lengths again.

    Raises:
        MuxwrapError: what was mixed was not packed, so that the rows' lengths are not known.
    """
    packed = _packed_in(value)
    if packed is None:
        return map_first_tensor(value, separate, part)
    if call.lengths is None:
        raise MuxwrapError(
            "a packed sequence is to be separated, and what was mixed was not packed; mix what is packed"
        )
    rows = separate(pad_packed_sequence(packed, batch_first=True)[0])
    return replace_object(value, packed, _pack(rows, call.lengths))


def _pack(x: Tensor, lengths: Tensor) -> PackedSequence:
    return pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)


def _packed_in(value: Any) -> PackedSequence | None:
    """Return the first packed sequence in a value, as a module is given or gives it."""
    if isinstance(value, PackedSequence) and isinstance(value.data, Tensor):
        return value
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, (tuple, list)) else ()
    return next((found for part in parts if (found := _packed_in(part)) is not None), None)
