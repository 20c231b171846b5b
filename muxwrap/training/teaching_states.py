"""States inside of two models in the same call: the student's at its sites, and the teacher's at the same places."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from muxwrap._hooks.axes import for_strategy
from muxwrap._hooks.grouping import group
from muxwrap._hooks.side_inputs import layers_after
from muxwrap._hooks.trunk import layers_between, list_around
from muxwrap._util.nested import first_tensor
from muxwrap.errors import MuxwrapError
from muxwrap.multiplex import Multiplex
from muxwrap.site import Site


@contextmanager
def seen_at(root: nn.Module, places: Sequence[tuple[str, str]]) -> Iterator[dict[tuple[str, str], Tensor]]:
    """Collect what passes at places, pairs of a module's path and a side of it, in the calls inside of the block.

    The hooks are put on last, so they see what those of the wrapped model have made of a tensor.
    """
    found: dict[tuple[str, str], Tensor] = {}

    def see(place: tuple[str, str], value: Any) -> None:
        tensor = first_tensor(value)
        if tensor is not None:
            found[place] = tensor

    def hook(place: tuple[str, str]) -> Any:
        module = root.get_submodule(place[0])
        if place[1] == "input":
            return module.register_forward_pre_hook(
                lambda _, args, kwargs: see(place, (args, kwargs)), with_kwargs=True
            )
        return module.register_forward_hook(lambda _module, _args, output: see(place, output))

    handles = [hook(place) for place in places]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


def demux_place(model: Multiplex) -> tuple[str, str]:
    """Return where the (first) head begins, behind the demuxer."""
    site = model.sites.demux[0]
    return site.path, site.side


def layer_places(model: Multiplex) -> list[tuple[str, str]]:
    """Return the outputs of the layers that run on mixtures, between the first sites."""
    backbone, mux, demux = model.backbone, model.sites.mux[0], model.sites.demux[0]
    if list_around(backbone, mux.path)[0]:
        layers = layers_between(backbone, mux, demux)
    else:
        layers = layers_after(backbone, mux)
        head = backbone.get_submodule(demux.path)
        end = next((i for i, layer in enumerate(layers) if head in layer.modules()), len(layers))
        layers = layers[: end + (demux.side == "output")]
    names = {module: name for name, module in backbone.named_modules()}
    return [(names[layer], "output") for layer in layers]


def check_places(teacher: nn.Module, places: Sequence[tuple[str, str]], coefficient: str) -> None:
    """Refuse a teacher without these places.

    Raises:
        MuxwrapError: it is of another make.
    """
    own = dict(teacher.named_modules())
    missing = [path for path, _ in places if path not in own]
    if missing:
        raise MuxwrapError(
            f"{coefficient}: the teacher, a {type(teacher).__name__}, has no module {missing[0]!r} whose states the student's "
            f"could be compared with; give a teacher of the backbone's make, or {coefficient.partition('=')[0]}=0)"
        )


def check_seen(
    places: Sequence[tuple[str, str]],
    student: Mapping[tuple[str, str], Tensor],
    teacher: Mapping[tuple[str, str], Tensor],
    call: str,
) -> None:
    """Refuse a call in which a place was not passed, by the student or by the teacher.

    Raises:
        MuxwrapError: a module did not run, such as a layer that is dropped at random.
    """
    for name, found in (("student", student), ("teacher", teacher)):
        missing = [path for path, side in places if (path, side) not in found]
        if missing:
            raise MuxwrapError(
                f"{call}(): {missing[0]!r} did not run in a call of the {name}, so its states cannot be compared; let every "
                "call run it (no layer dropped at random), or set states=0 and layers=0"
            )


def states_apart(student: Tensor, teacher: Tensor, first_token: bool, mask: Tensor | None) -> Tensor:
    """Return the squared distance of two states ``[rows, ...]``, a mean over features and over what is not padding.

    Raises:
        MuxwrapError: the shapes differ.
    """
    teacher = teacher[:, : student.shape[1]] if first_token and student.ndim == teacher.ndim == 3 else teacher
    if student.shape != teacher.shape:
        raise MuxwrapError(
            f"states: {list(student.shape)} behind the demuxer and {list(teacher.shape)} in the teacher; give a teacher of "
            "the backbone's make, or states=0"
        )
    counted = mask.bool() if mask is not None and mask.shape == student.shape[:2] else None
    return _squared(student, teacher, counted)


def layers_apart(model: Multiplex, student: Sequence[Tensor], teacher: Sequence[Tensor], mask: Tensor | None) -> Tensor:
    """Return the squared distance of the trunk's states to the mixtures of the teacher's states, a mean over layers.

    The strategy mixes the teacher's states as it mixes the instances: it pools them alike, or turns and adds them.

    Raises:
        MuxwrapError: no layer returns mixtures of the form that is made at the mux site.
    """
    site, found = model.sites.mux[0], []
    for own, theirs in zip(student, teacher, strict=True):
        if theirs.shape[-1] != model.strategy.dim or site.axis != -1 or theirs.ndim < 2:
            continue
        with torch.no_grad():
            wanted = _mixed_alike(model, site, theirs, mask)
            counted = _mixed_alike(model, site, torch.ones_like(theirs), mask).abs().sum(-1) > 0
        own = own[:, model.demuxer.prefix_length :] if own.ndim > 2 else own
        if own.shape == wanted.shape:
            found.append(_squared(own, wanted, counted))
    if not found:
        raise MuxwrapError(
            f"layers: none of the {len(student)} layers between the sites returns states that the strategy could mix like the "
            f"instances at the {site}; give layers=0"
        )
    return torch.stack(found).mean()


def _mixed_alike(model: Multiplex, site: Site, states: Tensor, mask: Tensor | None) -> Tensor:
    grouped, strategy = group(states, model.n), model.strategy
    masks: dict[str, Tensor] = {}
    if mask is not None and mask.shape == states.shape[:2]:
        if strategy.reads_mask:
            masks["mask"] = group(mask, model.n)
        else:
            grouped = grouped * group(mask, model.n).unsqueeze(-1).to(grouped)
    mixed: Tensor = strategy(for_strategy(grouped, site, strategy.sees), **masks)
    return mixed


def _squared(a: Tensor, b: Tensor, counted: Tensor | None) -> Tensor:
    exact = torch.promote_types(a.dtype, torch.float32)
    apart = (a.to(exact) - b.detach().to(exact)).square()
    if counted is None:
        return apart.mean()
    weights = counted.to(exact).unsqueeze(-1)
    return (apart * weights).sum() / (weights.sum() * apart.shape[-1]).clamp(min=1)
