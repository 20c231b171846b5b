"""The scores behind whole numbers: a class or an index says little of what it was chosen by, and holds no NaN."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from muxwrap._util.held import all_named_tensors
from muxwrap._util.nested import tensors_in


def is_whole(tensor: Tensor) -> bool:
    """Whether a tensor holds classes, indices or a mask."""
    return not (tensor.is_floating_point() or tensor.is_complex())


class Scores(TorchFunctionMode):
    """Follows, in the calls of torch inside the block, from which floats whole numbers are made.

    It follows ``argmax``, ``topk``, comparisons, draws and what is done with whole numbers after them, as a decoder does.
    What leaves torch in between (``tolist``, NumPy) is lost.
    """

    def __init__(self) -> None:
        super().__init__()
        self._made: dict[int, tuple[Tensor, dict[int, Tensor]]] = {}  # the tensors are held, so that no id comes twice

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        changed = args[0] if func is Tensor.__setitem__ else result
        whole = [tensor for tensor in tensors_in(changed) if is_whole(tensor)]
        behind = self._behind(tensors_in((args, kwargs))) if whole else {}
        for tensor in whole:
            self._made.setdefault(id(tensor), (tensor, {}))[1].update(behind)
        return result

    def behind(self, output: Any) -> list[Tensor]:
        """Return the floats from which the whole numbers of an output were made, once each, as they are at its end."""
        found = self._behind(tensor for tensor in _tensors(output) if is_whole(tensor))
        own = {id(tensor) for tensor in _tensors(output)}
        return [tensor for key, tensor in found.items() if key not in own]

    def _behind(self, tensors: Iterator[Tensor]) -> dict[int, Tensor]:
        found: dict[int, Tensor] = {}
        for tensor in tensors:
            if tensor.is_floating_point() and tensor.ndim and not isinstance(tensor, nn.Parameter):
                found[id(tensor)] = tensor
            elif id(tensor) in self._made:
                found |= self._made[id(tensor)][1]
        return found


def _tensors(output: Any) -> Iterator[Tensor]:
    return (tensor for _, tensor in all_named_tensors(output))
