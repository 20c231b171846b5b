"""Whether every instance of a mixture reaches an answer, where each has a place of its own in an image."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from muxwrap._hooks.attachment import attached
from muxwrap._hooks.components import Components
from muxwrap._util.examples import Example, evaluating, run, with_rows
from muxwrap._util.meta import on_meta
from muxwrap._util.nested import first_tensor, replace_object
from muxwrap.errors import MuxwrapError
from muxwrap.sites.runs.dry_run import floats_in


class UnheardError(MuxwrapError):
    """Some instances reach no answer."""


def check_heard(made: Components, example: Example) -> None:
    """Refuse a model whose answers do not depend on some of the instances, such as a head that reads one patch.

    Asked of gradients of one mixture; where there are none at all (a head of zeros, a trunk without gradients), nothing is
    known, and nothing refused.

    Raises:
        UnheardError: some instances reach answers, and others do not.
    """
    pixels = first_tensor(example)
    if made.n == 1 or on_meta(made.backbone) or pixels is None or not _are_pixels(pixels):
        return
    if any(map(_pools_whole_maps, made.backbone.modules())):
        return  # after which every place holds something of every other
    moved = _moves(made, example)
    unheard = [i for i, moves in enumerate(moved) if not moves]
    if any(moved) and unheard:
        raise UnheardError(
            f"{made.strategy.name} gives every instance a part of the image, and the answers do not depend on those of the "
            f"instances {unheard}: what is separated at the {made.sites.demux[0]} was read from other parts alone; mix after "
            "the stem with mux_at= and a strategy for features, such as 'orthogonal', or name demux_at= where the whole map "
            "passes"
        )


def _are_pixels(values: Tensor) -> bool:
    """Whether numbers have a slope, which bytes of an image have as floats."""
    return values.is_floating_point() or values.dtype == torch.uint8


def _pools_whole_maps(module: nn.Module) -> bool:
    """Whether a module makes one number of a whole map, as nearly every CNN does before its head."""
    if isinstance(module, nn.AdaptiveAvgPool2d):
        return module.output_size in (1, (1, 1))
    return type(module).__name__ in ("SelectAdaptivePool2d", "FastAdaptiveAvgPool")  # timm's


def _moves(made: Components, example: Example) -> list[bool]:
    """Return for every instance of one mixture whether an answer moves with it."""
    call = with_rows(example, made.n)
    pixels = first_tensor(call)
    assert pixels is not None
    leaf = (pixels.detach().clone() if pixels.is_floating_point() else pixels.float()).requires_grad_()
    with attached(made) as multiplexed, evaluating(made.backbone, *made.added), torch.random.fork_rng():
        try:
            with torch.enable_grad():
                total = sum(_projected(x) for x in floats_in(run(multiplexed, replace_object(call, pixels, leaf))))
            (slope,) = torch.autograd.grad(total, leaf)  # type: ignore[arg-type]
        except (RuntimeError, NotImplementedError):
            return []
    return [bool(each.abs().sum() > 0) for each in slope]


def _projected(answer: Tensor) -> Tensor:
    """Return one number that depends on all of an answer."""
    return (answer.double() * torch.randn(answer.shape, dtype=torch.double, device=answer.device)).sum()
