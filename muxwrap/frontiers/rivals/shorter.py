"""Less input: text cut after fewer tokens, images of fewer pixels."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from functools import partial
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from muxwrap._util.examples import quiet, run
from muxwrap._util.nested import first_tensor, map_tensors
from muxwrap.errors import MuxwrapError
from muxwrap.frontiers.registry import Subject, Variant, register_rival
from muxwrap.frontiers.rivals.class_token import alone_if_it_can

SHARES = (0.75, 0.5)


@register_rival("shorter")
def shorter(subject: Subject) -> Iterator[Variant]:
    """Yield the model on three quarters and half of the median length, or of the height and width.

    Raises:
        MuxwrapError: the input is neither tokens nor images, or the model takes one size only.
    """
    first = first_tensor(subject.example)
    if first is None or not (_is_text(first) or _is_image(first)):
        shape = list(getattr(first, "shape", ()))
        raise MuxwrapError(f"the input {shape} is neither tokens [rows, L] nor images; give a rival of your own")
    if _is_text(first):
        for share in SHARES:
            length = max(2, round(share * first.shape[1]))
            yield Variant(f"text cut after {length} tokens", partial(_hooked, subject, _Cut(length)))
        return
    for size in _sizes(subject.model, first):
        make = partial(_smaller, subject, size)
        _try(make, subject, size)
        yield Variant(f"images of {size[0]} x {size[1]}", make)


def _sizes(model: nn.Module, image: Tensor) -> list[tuple[int, ...]]:
    """Return smaller heights and widths, in whole patches where there are some."""
    convs = (each for each in model.modules() if isinstance(each, nn.Conv2d))
    patch = next((each.stride for each in convs if each.stride == each.kernel_size), (1, 1))
    full = tuple(image.shape[-2:])
    found = [tuple(max(p, int(share * s / p) * p) for s, p in zip(full, patch, strict=True)) for share in SHARES]
    return [size for size in dict.fromkeys(found) if size != full]


def _try(make: Any, subject: Subject, size: tuple[int, ...]) -> None:
    try:
        model = make(copy.deepcopy(subject.model))
        with quiet(model):
            run(model, subject.example)
    except Exception as error:
        raise MuxwrapError(
            f"{type(subject.model).__name__} does not take images of {size[0]} x {size[1]} ({type(error).__name__}: {error}); "
            "give a rival of your own with register_rival"
        ) from error


def _is_text(tensor: Tensor) -> bool:
    return tensor.ndim == 2 and not tensor.is_floating_point()


def _is_image(tensor: Tensor) -> bool:
    return tensor.ndim == 4 and tensor.is_floating_point()


def _smaller(subject: Subject, size: tuple[int, ...], model: nn.Module) -> nn.Module:
    resample: Any = getattr(model, "set_input_size", None)
    if resample is not None:  # timm's transformers
        resample(img_size=size)
    asked = hasattr(getattr(model, "config", None), "patch_size")  # of Transformers, which resample on request
    return _hooked(subject, _Resize(size, {"interpolate_pos_encoding": True} if asked else {}), model)


def _hooked(subject: Subject, change: Any, model: nn.Module) -> nn.Module:
    model.register_forward_pre_hook(change, with_kwargs=True)
    return alone_if_it_can(subject, model)


class _Cut:
    """Cuts every tensor ``[rows, L]`` of a call."""

    def __init__(self, length: int) -> None:
        self.length = length

    def __call__(self, _: nn.Module, args: Any, kwargs: Any) -> tuple[Any, Any]:
        first = first_tensor((args, kwargs))
        shape = () if first is None else first.shape[:2]

        def cut(tensor: Tensor) -> Tensor:
            return tensor[:, : self.length] if tensor.shape == shape else tensor

        return map_tensors(args, cut), map_tensors(kwargs, cut)


class _Resize:
    """Makes every image of a call smaller."""

    def __init__(self, size: tuple[int, ...], asked: dict[str, Any]) -> None:
        self.size, self.asked = list(size), asked

    def __call__(self, _: nn.Module, args: Any, kwargs: Any) -> tuple[Any, Any]:
        def resize(tensor: Tensor) -> Tensor:
            return F.interpolate(tensor, self.size, mode="bilinear", antialias=True) if _is_image(tensor) else tensor

        return map_tensors(args, resize), {**map_tensors(kwargs, resize), **self.asked}
