"""Models without memory, on torch's ``meta`` device: run for the shapes of what passes, with fake tensors."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from muxwrap._util.nested import map_tensors

_local = threading.local()


def is_meta(value: Tensor) -> bool:
    """Whether a tensor has no values."""
    return value.device.type == "meta"  # which is_meta does not say of a fake tensor


def on_meta(module: nn.Module) -> bool:
    """Whether a model has parameters without values."""
    return any(map(is_meta, module.parameters()))


def placed_like(backbone: nn.Module, example: Any) -> Any:
    """Return an example for a backbone: without values if it has none."""
    return map_tensors(example, lambda value: value.to("meta")) if on_meta(backbone) else example


def reads_values(problem: str | None) -> bool:
    """Whether what went wrong, as ``Class: message``, is that values were asked for where there are none."""
    return problem is not None and problem.startswith(
        ("DataDependentOutput", "DynamicOutputShape", "UnsupportedFakeTensor")
    )


def values_needed(backbone: nn.Module, problem: str) -> str:
    """Return what to say where the sites of a model on ``meta`` cannot be found."""
    return (
        f"the sites of a {type(backbone).__name__} without values (on the device meta) cannot be found: {problem}; give an "
        "example_input= with which it reads no values, or give sites=muxwrap.Sites(...) with a muxwrap.Site for each, since "
        "the modules that mux_at= and demux_at= name have to be run, too"
    )


@contextmanager
def nothing_drawn(wanted: bool) -> Iterator[None]:
    """Let :func:`draws_nothing` be true in a block, if that is wanted: what is made there goes to ``meta``."""
    before, _local.nothing = draws_nothing(), wanted or draws_nothing()
    try:
        yield
    finally:
        _local.nothing = before


def draws_nothing() -> bool:
    """Whether dear initial values are not to be drawn, since nothing would keep them."""
    return getattr(_local, "nothing", False)


@contextmanager
def shapes_only(*modules: nn.Module) -> Iterator[None]:
    """Run modules on ``meta`` with fake tensors, which libraries know not to ask for values; others run as they are."""
    if not any(map(on_meta, modules)):
        yield
        return
    outer = getattr(_local, "mode", None)
    mode = outer or FakeTensorMode(allow_non_fake_inputs=True)
    with ExitStack() as stack:
        known: dict[int, Tensor] = {}
        for module in (each for root in modules for each in root.modules()):
            kinds: tuple[dict[str, Any], ...] = (module._parameters, module._buffers)
            for held in kinds:
                stack.callback(partial(held.update, dict(held)))
                for name, value in held.items():
                    if value is not None and not hasattr(value, "fake_mode"):
                        held[name] = known.setdefault(id(value), mode.from_tensor(value))
        if outer is None:
            _local.mode = mode
            stack.callback(partial(setattr, _local, "mode", None))
            stack.enter_context(mode)
        yield
