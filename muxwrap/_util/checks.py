"""Checks of arguments that several rooms share."""

from __future__ import annotations

from muxwrap.errors import MuxwrapError
from muxwrap.multiplex import Multiplex


def check_wrapped(model: object, call: str) -> None:
    """Refuse what is not a wrapped model.

    Args:
        model: the argument of a user.
        call: the function that the user called; the message repeats it.

    Raises:
        MuxwrapError: the model was not made by :func:`muxwrap.wrap`, or is unwrapped again.
    """
    if not isinstance(model, Multiplex) or not model.attached:
        raise MuxwrapError(f"{call}({type(model).__name__}): not a wrapped model; give what muxwrap.wrap returned")
