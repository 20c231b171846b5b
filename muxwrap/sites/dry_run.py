"""One call of a model on a few rows, bare or mixed: the answers that come back, or what goes wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from muxwrap._hooks.answers import of_the_trunk
from muxwrap._hooks.attachment import attached
from muxwrap._hooks.components import Components
from muxwrap._hooks.side_inputs import MASK
from muxwrap._util.examples import in_mode, quiet, run, with_rows
from muxwrap._util.nested import first_tensor, tensor_at, tensors_in
from muxwrap._util.untouched import untouched
from muxwrap.site import Site, Sites
from muxwrap.sites.repeat import Repeat
from muxwrap.strategies.features.identity import Identity


def answers(
    backbone: nn.Module, call: Any, rows: int, multiplexed: Callable[..., Any] | None = None
) -> list[Tensor] | str:
    """Call a model and return the floats of its output that belong to rows, or what went wrong.

    Args:
        backbone: the bare model.
        call: a tensor, a tuple of arguments or a dict of keyword arguments.
        rows: in the call; as many have to come back.
        multiplexed: what to call instead of the bare model.
    """
    try:
        with quiet(backbone), untouched(backbone):
            torch.manual_seed(0)  # for models that draw random numbers in evaluation mode
            return answers_in(run(multiplexed or backbone, call), rows)
    except Exception as error:
        return f"{type(error).__name__}: {error}"


def answers_in_training(backbone: nn.Module, call: Any, rows: int) -> list[Tensor] | str:
    """Do what :func:`answers` does in training mode; statistics and random state are left as they were."""
    buffers = {name: value.clone() for name, value in backbone.named_buffers()}  # batch norms count what they see
    bare = partial(torch.func.functional_call, backbone, buffers)
    args, kwargs = ((), call) if hasattr(call, "keys") else (call if isinstance(call, (tuple, list)) else (call,), {})
    try:
        with in_mode(backbone, training=True), torch.random.fork_rng(), torch.no_grad():
            return answers_in(bare(tuple(args), kwargs), rows)
    except Exception as error:
        return f"{type(error).__name__}: {error}"


def answers_in(output: Any, rows: int) -> list[Tensor] | str:
    """Return the floats of an output without what a Transformers model returns of its trunk, or that rows are missing."""
    first, found = first_tensor(output), floats_in(output)
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
    places = {id(tensor): at for at, tensor in reversed(list(enumerate(tensors_in(output))))}
    return [(places[id(tensor)], tensor) for tensor in tensors_in(kept) if tensor.ndim or tensor.is_floating_point()]


def real(answer: Tensor) -> Tensor:
    """Return the numbers of a tensor as doubles, the two of a complex one side by side."""
    return (torch.view_as_real(answer.resolve_conj()) if answer.is_complex() else answer).double()


def mixed_answers(
    backbone: nn.Module, sites: Sites, call: Any, rows: int, prefix: int = 0, probe: bool = False
) -> list[Tensor] | str:
    """Mix a call two rows by two as their mean, and separate by giving each row its mixture; see :func:`answers`.

    Args:
        backbone: left as it is.
        sites: where.
        call: as in :func:`answers`.
        rows: likewise.
        prefix: empty tokens before every mixture.
        probe: make every token of the last mixture but the first NaN, after the trunk.
    """
    mean = Identity(2, sites.mux[0].dim, scale="mean")
    repeat = nn.ModuleList(Repeat(2, site.dim, prefix, probe) for site in sites.demux)
    with attached(Components(backbone, 2, sites, mean, repeat, nn.ModuleList())) as multiplexed:
        return answers(backbone, call, rows, multiplexed)


# -- padding ----------------------------------------------------------------------------------------------------------


def padded(example: Any, rows: int) -> dict[str, Any]:
    """Return keyword arguments of ``rows`` rows, some tokens of the first half of which are masked out.

    Of four rows those that share a mixture also share their mask, so that each is comparable with the bare model's;
    mixtures differ, so that a mask that gets to another mixture is noticed.
    """
    arguments = dict(example) if hasattr(example, "keys") else {"input_ids": first_tensor(example)}
    arguments = with_rows(arguments, rows)
    tokens = first_tensor(arguments)
    assert tokens is not None
    shape = tokens.shape[:2] if tokens.is_floating_point() else tokens.shape
    mask = torch.ones(shape, dtype=torch.long, device=tokens.device)
    mask[: rows // 2] *= unmasked(shape[-1], mask.device)
    own = (name for name in arguments if name.endswith(MASK) and tokens.is_floating_point())
    return {**arguments, next(own, MASK): mask}  # a mask of patches has a name of its own


def unmasked(length: int, device: torch.device) -> Tensor:
    """Return which positions stay in :func:`padded`: among others the first and the last, which a head may read."""
    at = torch.arange(length, device=device)
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
    site = components.sites.mux[-1]

    def stop(_site: Site, _value: Any) -> None:
        raise _ReachedError

    with attached(components) as multiplexed:
        handle = hook_at(components.backbone, site, stop)  # after what is attached there
        try:
            with quiet(components.backbone):
                run(multiplexed, call)
        except _ReachedError:
            pass
        except Exception as error:  # also of a call that does not get there
            return f"{type(error).__name__}: {error}"
        finally:
            handle.remove()
    return None


class _ReachedError(Exception):
    """Ends a call where all that was asked for has been done."""


def hook_at(backbone: nn.Module, site: Site, do: Any) -> Any:
    """Let ``do(site, value)`` see what passes at a site, after what was attached there before."""
    module = backbone.get_submodule(site.path)
    if site.side == "input":
        return module.register_forward_pre_hook(lambda _, args, kwargs: do(site, (args, kwargs)), with_kwargs=True)
    return module.register_forward_hook(lambda _module, _args, output: do(site, output))
