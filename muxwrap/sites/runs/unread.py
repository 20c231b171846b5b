"""What stands in for the batch holds numbers that nobody may read: NaN, which floats made of it show and others do not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor
from torch.overrides import TorchFunctionMode

from muxwrap._hooks.side_inputs import unread_in
from muxwrap._util.nested import tensors_in


class Unread(TorchFunctionMode):
    """Refuses, inside the block, to make anything else of what stands in for the batch, such as a mask: ``x == 0``.

    Tensors that are as large as another one, and hold nothing of it, are made, and so are parts of it.
    """

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        name = getattr(func, "__name__", "")
        if name.endswith("_like") or name.startswith("new_"):
            return result
        made = [tensor for tensor in tensors_in(result) if tensor.numel()]
        if (name in _READING or not all(map(_is_unread, made))) and any(map(_is_unread, tensors_in((args, kwargs)))):
            raise ValueError(f"the backbone itself reads values of the batch before they are mixed, in {name}()")
        return result


_READING = frozenset({"item", "tolist", "numpy", "__array__", "__bool__", "__int__", "__float__", "__index__"})


def _is_unread(tensor: Tensor) -> bool:
    if tensor.dtype.is_complex or tensor.element_size() < 2:
        return False
    unread = unread_in(tensor.dtype)
    return bool(((tensor != tensor) | (tensor == unread)).any())
