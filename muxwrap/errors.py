"""The one error class that users catch, and the help that its messages give."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class MuxwrapError(Exception):
    """What muxwrap refuses to do: the message repeats the call, names the value and tells the way out."""


def known_names(name: object, known: Iterable[str]) -> str:
    """End an error about an unknown name: the near miss if there is one, then every known name."""
    names = sorted(known)
    near = difflib.get_close_matches(str(name), names, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return f"{hint}Known names: {', '.join(map(repr, names))}"


def check_count(n: object) -> int:
    """Return ``n`` as the number of instances of a mixture, or refuse it.

    Raises:
        MuxwrapError: ``n`` is not an int, or below 1.
    """
    if isinstance(n, bool) or not isinstance(n, int):
        raise MuxwrapError(f"n={n!r} is a {type(n).__name__}; n is the number of instances per mixture, an int >= 1")
    if n < 1:
        raise MuxwrapError(f"n={n} is below 1; n is the number of instances per mixture, and n=1 is the bare model")
    return n


def check_dim(dim: object) -> int:
    """Return ``dim`` as the size of a feature axis, or refuse it.

    Raises:
        MuxwrapError: ``dim`` is not an int, or below 1.
    """
    if isinstance(dim, bool) or not isinstance(dim, int) or dim < 1:
        raise MuxwrapError(f"dim={dim!r} ({type(dim).__name__}); dim is the size of the feature axis, an int >= 1")
    return dim
