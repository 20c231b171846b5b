"""What stands in for the batch holds NaN, which shows in every float that is made of it; in whole numbers it does not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor
from torch.overrides import TorchFunctionMode

from muxwrap._util.nested import tensors_in
from muxwrap.sites.runs.scores import is_whole


class UnseenNaN(TorchFunctionMode):
    """Refuses, inside the block, to make masks, classes or conditions of NaN, such as ``x == 0``, which is False there.

    Tensors that are as large as another one, and hold nothing of it, are made.
    """

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        name = getattr(func, "__name__", "")
        if name.endswith("_like") or name.startswith("new_") or not any(map(is_whole, tensors_in(result))):
            return result
        if any(map(_holds_nan, tensors_in((args, kwargs)))):
            raise ValueError(f"the backbone itself reads values of the batch before they are mixed, in {name}()")
        return result


def _holds_nan(tensor: Tensor) -> bool:
    return tensor.is_floating_point() and bool((tensor != tensor).any())
