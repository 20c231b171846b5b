"""What a wrapped model does about rows that would spoil their mixture."""

from __future__ import annotations

import math
from typing import Any, cast

from torch import nn

from muxwrap._hooks.components import CheckFinite
from muxwrap.errors import MuxwrapError


def checked(check_finite: object, call: str) -> CheckFinite:
    """Return what is to be done about bad rows, or refuse it.

    Raises:
        MuxwrapError: it is not known; the message repeats ``call``.
    """
    if check_finite is True:
        return "raise"
    if check_finite is False or (isinstance(check_finite, str) and check_finite in ("raise", "isolate")):
        return cast("CheckFinite", check_finite)
    raise MuxwrapError(
        f"{call}={check_finite!r}: give 'raise' to refuse rows with NaN or infinity, 'isolate' to answer them alone with NaN, "
        "or False to pass them on"
    )


class Guarded(nn.Module):
    """The part of a wrapped model that knows what a bad row is, and what is to be done about it."""

    _check_finite: CheckFinite = False
    _largest: float | None = None

    @property
    def check_finite(self) -> CheckFinite:
        """What is done about rows with NaN or infinity where they are mixed.

        ``"isolate"``: the row is left out of its mixture, the batch's first good row standing in its place, as one does in an
        incomplete mixture, and its own answer is NaN. The others' answers are those of the call with that row there. (A mask
        that is read before the rows are mixed is still that of the bad row.) In training it is as ``"raise"``, since the answer
        would reach the loss. A model whose answers are integers has no NaN to say it with.

        ``"raise"``: the call is refused, and the error names the rows (in compiled code it does not).

        False: such a row makes every answer of its mixture NaN.
        """
        return self._check_finite

    @check_finite.setter
    def check_finite(self, check_finite: bool | CheckFinite) -> None:
        self._check_finite = checked(check_finite, "model.check_finite")

    @property
    def largest(self) -> float | None:
        """The largest number, by its absolute value, that a row may hold where rows are mixed, for ``check_finite``.

        None (the default) sets no bound. A row far larger than its companions leaves nothing of them in the sum, though it is
        finite. The bound is a number and not a ratio to the companions: then they would decide whose row is refused. Take a
        multiple of what :func:`muxwrap.evaluation.mixture_statistics` finds in the data.
        """
        return self._largest

    @largest.setter
    def largest(self, largest: float | None) -> None:
        if largest is not None and not _is_bound(largest):
            raise MuxwrapError(
                f"model.largest = {largest!r}: give a number above 0, such as 100 times the largest that "
                "muxwrap.evaluation.mixture_statistics finds, or None for no bound"
            )
        self._largest = None if largest is None else float(largest)


def _is_bound(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value < math.inf
