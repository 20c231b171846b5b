"""One call of a model on a few rows, bare or mixed: the answers that come back, or what goes wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from muxwrap._hooks.answers import of_the_trunk
from muxwrap._hooks.attachment import attached
from muxwrap._hooks.components import Components
from muxwrap._hooks.side_inputs import MASK
from muxwrap._util.examples import Example, as_arguments, in_mode, quiet, run, with_rows
from muxwrap._util.held import all_named_tensors
from muxwrap._util.nested import first_tensor, tensor_at
from muxwrap._util.untouched import untouched
from muxwrap.site import MaskMode, Site, Sites
from muxwrap.sites.runs.repeat import Repeat
from muxwrap.sites.runs.scores import Scores
from muxwrap.sites.runs.unread import Unread
from muxwrap.strategies.features.identity import Identity


def answers(
    backbone: nn.Module,
    call: Any,
    rows: int,
    multiplexed: Callable[..., Any] | None = None,
    scores: bool = False,
) -> list[Tensor] | str:
    """Call a model and return the floats of its output that belong to rows, or what went wrong.

    Args:
        backbone: the bare model.
        call: a tensor, a tuple of arguments or a dict of keyword arguments.
        rows: in the call; as many have to come back.
        multiplexed: what to call instead of the bare model.
        scores: also return the floats from which the whole numbers of the output are made.
    """
    try:
        with quiet(backbone), untouched(backbone), Scores() if scores else nullcontext() as behind:
            torch.manual_seed(0)  # for models that draw random numbers in evaluation mode
            output = run(multiplexed or backbone, call)
        found = answers_in(output, rows)
        return found if behind is None or isinstance(found, str) else [*found, *behind.behind(output)]
    except Exception as error:
        return f"{type(error).__name__}: {error}"


def answers_in_training(backbone: nn.Module, call: Any, rows: int) -> list[Tensor] | str:
    """Do what :func:`answers` does in training mode; statistics and random state are left as they were."""
    buffers = {name: value.clone() for name, value in backbone.named_buffers()}  # batch norms count what they see
    bare = partial(torch.func.functional_call, backbone, buffers)
    try:
        with in_mode(backbone, training=True), torch.random.fork_rng(), torch.no_grad():
            return answers_in(bare(*as_arguments(call)), rows)
    except Exception as error:
        return f"{type(error).__name__}: {error}"


def answers_in(output: Any, rows: int) -> list[Tensor] | str:
    """Return the floats of an output without what a Transformers model returns of its trunk, or that rows are missing."""
    first, found = first_tensor([tensor for _, tensor in all_named_tensors(output)]), floats_in(output)
    if first is None and found:
        return found  # a loss alone
    if not any(answer.shape[:1] == (rows,) for answer in found):
        return f"{rows} rows in, {None if first is None else first.shape[0]} rows out"
    return found


def floats_in(output: Any) -> list[Tensor]:
    """Return the numbers of an output without what a Transformers model returns of its trunk.

    Beside floats, of whole numbers the shapes alone count: which class or code is nearest may change with rounding.
    """
    found = [answer for _, answer in answers_of(output)]
    if not any(map(torch.is_floating_point, found)):
        return [real(answer) for answer in found]
    return [
        answer
        if answer.is_floating_point()
        else real(answer)
        if answer.is_complex()
        else answer.new_zeros(answer.shape).float()
        for answer in found
    ]


def answers_of(output: Any) -> list[tuple[int, Tensor]]:
    """Return the tensors of an output without what a Transformers model returns of its trunk, and the place of each in it."""
    kept = output
    if isinstance(output, dict):
        kept = [output[name] for name in output if not of_the_trunk(name)]
    places = {id(tensor): at for at, (_, tensor) in reversed(list(enumerate(all_named_tensors(output))))}
    found = (tensor for _, tensor in all_named_tensors(kept))
    return [(places[id(tensor)], tensor) for tensor in found if tensor.ndim or tensor.is_floating_point()]


def real(answer: Tensor) -> Tensor:
    """Return the numbers of a tensor as doubles, the two of a complex one side by side."""
    return (torch.view_as_real(answer.resolve_conj()) if answer.is_complex() else answer).double()


def mixed_answers(
    backbone: nn.Module,
    sites: Sites,
    call: Any,
    rows: int,
    prefix: int = 0,
    probe: bool = False,
    scores: bool = False,
) -> list[Tensor] | str:
    """Mix a call two rows by two as their mean, and separate by giving each row its mixture; see :func:`answers`.

    Args:
        backbone: left as it is.
        sites: where.
        call: as in :func:`answers`.
        rows: likewise.
        prefix: empty tokens before every mixture.
        probe: make every token of the last mixture but the first NaN, after the trunk.
        scores: as in :func:`answers`.
    """
    mean = Identity(2, sites.mux[0].dim, scale="mean")
    repeat = nn.ModuleList(Repeat(2, site.dim, prefix, probe) for site in sites.demux)
    unread = Unread() if sites.mask is MaskMode.SIZE else nullcontext()
    with attached(Components(backbone, 2, sites, mean, repeat, nn.ModuleList())) as multiplexed, unread:
        return answers(backbone, call, rows, multiplexed, scores)


# -- padding ----------------------------------------------------------------------------------------------------------


def padded(example: Example, rows: int, end: bool = False) -> dict[str, Any]:
    """Return keyword arguments of ``rows`` rows, some tokens of the first half of which are masked out.

    They are in the middle, or with ``end`` the last ones, where a head may read.

    Of four rows those that share a mixture also share their mask, so that each is comparable with the bare model's;
    mixtures differ, so that a mask that gets to another mixture is noticed.
    """
    example = with_rows(example, rows)
    _, arguments = as_arguments(example)
    arguments = arguments or {"input_ids": first_tensor(example)}
    tokens = first_tensor(arguments)
    assert tokens is not None
    shape = tokens.shape[:2] if tokens.is_floating_point() else tokens.shape
    mask = torch.ones(shape, dtype=torch.long, device=tokens.device)
    mask[: rows // 2] *= unmasked(shape[-1], mask.device, end)
    own = (name for name in arguments if name.endswith(MASK) and tokens.is_floating_point())
    return {**arguments, next(own, MASK): mask}  # a mask of patches has a name of its own


def unmasked(length: int, device: torch.device, end: bool = False) -> Tensor:
    """Return which positions stay in :func:`padded`: the first and the last among others, or with ``end`` the first half."""
    at = torch.arange(length, device=device)
    if end:
        return at < (length + 1) // 2
    return (at < length // 4) | (at >= length // 2)


# -- inside a call ----------------------------------------------------------------------------------------------------


@contextmanager
def watched(backbone: nn.Module, sites: Iterable[Site]) -> Iterator[dict[Site, Tensor]]:
    """Collect what passes at sites in the order of passing: of every tensor a copy of the last row.

    What is attached inside of the block changes tensors after they were seen here.
    """
    found: dict[Site, Tensor] = {}

    def see(site: Site, value: Any) -> None:
        tensor = tensor_at(value, site.part)
        if tensor is not None and tensor.shape[:1].numel() and site not in found:  # an expert may get no row
            found[site] = tensor[-1].detach().clone()

    handles = [hook_at(backbone, site, see) for site in sites]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


def mixing_fails(components: Components, call: Any) -> str | None:
    """Call a multiplexed model up to its last mux site, and return what goes wrong before or there, if anything does."""
    with attached(components) as multiplexed:
        reached = run_until(components.backbone, call, components.sites.mux[-1], multiplexed)
    return reached if isinstance(reached, str) else None


def run_until(
    backbone: nn.Module, call: Any, site: Site, multiplexed: Callable[..., Any] | None = None
) -> Tensor | str | None:
    """Call a model until a site is reached, and return the tensor that passes there, or what goes wrong before.

    Args:
        backbone: the bare model; left as it is.
        call: as in :func:`answers`.
        site: where to end.
        multiplexed: what to call instead of the bare model; what is attached at the site has acted by then.
    """
    found: list[Tensor | None] = []

    def stop(_site: Site, value: Any) -> None:
        found.append(tensor_at(value, site.part))
        raise _ReachedError

    handle = hook_at(backbone, site, stop)
    try:
        with quiet(backbone), untouched(backbone):
            torch.manual_seed(0)
            run(multiplexed or backbone, call)
    except _ReachedError:
        pass
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    finally:
        handle.remove()
    return found[0] if found else "it is not reached"


class _ReachedError(Exception):
    """Ends a call where all that was asked for has been done."""


def hook_at(backbone: nn.Module, site: Site, do: Any) -> Any:
    """Let ``do(site, value)`` see what passes at a site, after what was attached there before."""
    module = backbone.get_submodule(site.path)
    if site.side == "input":
        return module.register_forward_pre_hook(lambda _, args, kwargs: do(site, (args, kwargs)), with_kwargs=True)
    return module.register_forward_hook(lambda _module, _args, output: do(site, output))
