"""All tokens of a multiplexed text model: read where the trunk ends, and separated there.

A task separates what its head reads, which for a classifier is one token or a pooled vector. Retrieval asks for every token.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from torch import Tensor

from muxwrap._hooks.running import order_of
from muxwrap._util.nested import first_tensor
from muxwrap.demuxers.base import Demuxer
from muxwrap.errors import MuxwrapError
from muxwrap.multiplex import Multiplex
from muxwrap.site import Site
from muxwrap.training.batches import Batch


class Tokens(NamedTuple):
    """What passed where the trunk ends.

    Args:
        mixed: ``[mixtures, prefix + length, dim]``.
        order: the order in which the batch's rows were dealt to mixtures and indices, ``[rows]``; None for their own.
    """

    mixed: Tensor
    order: Tensor | None


def read_tokens(model: Multiplex, site: Site, call: Callable[[], Any], *, stop: bool) -> tuple[Any, Tokens]:
    """Call the wrapped model, and return its output and what passed at a site before it was separated.

    The hook is there for this one call, so nothing stays on the backbone.

    Args:
        model: the wrapped model.
        site: where the trunk ends, of :class:`~muxwrap.training.token_sites.TokenSites`.
        call: calls the model.
        stop: end the call at the site; the head does not run, and the output is None.

    Returns:
        The output, and the tokens.
    """
    found: list[Tokens] = []

    def read(value: Any) -> None:
        tokens = first_tensor(value)
        assert tokens is not None
        found.append(Tokens(tokens, order_of(model._attachment.key)))
        if stop:
            raise _ReachedError

    module = model.backbone.get_submodule(site.path)
    if site.side == "input":
        handle = module.register_forward_pre_hook(
            lambda _module, args, kwargs: read((args, kwargs)), with_kwargs=True, prepend=True
        )
    else:
        handle = module.register_forward_hook(lambda _module, _args, output: read(output), prepend=True)
    try:
        output = call()
    except _ReachedError:
        output = None
    finally:
        handle.remove()
    return output, found[0]


class _ReachedError(Exception):
    """Ends a call at the trunk's end: the head of a language model would cost more than the trunk."""


def separate(model: Multiplex, demuxer: Demuxer | None, tokens: Tensor, batch: Batch) -> Tensor:
    """Separate every token: ``[mixtures, prefix + length, dim] -> [mixtures, n, length, dim]``.

    Args:
        model: the wrapped model.
        demuxer: retrieval's own, or None for the task's.
        tokens: of :func:`read_tokens`.
        batch: the call that made them.

    Raises:
        MuxwrapError: the trunk changed the number of tokens.
    """
    used = model.demuxer if demuxer is None else demuxer
    separated: Tensor = used(tokens)[:, :, used.prefix_outputs :]
    if separated.ndim != 4 or separated.shape[2] != batch.ids.shape[1]:
        raise MuxwrapError(
            f"{batch.ids.shape[1]} tokens went in and {list(separated.shape)} came out, [mixtures, n, length, dim]; retrieval "
            "needs a trunk that keeps every token"
        )
    return separated
