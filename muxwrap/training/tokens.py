"""Where a multiplexed text model has all its tokens: the table that embeds them, and the trunk's output.

A task separates what its head reads, which for a classifier is one token or a pooled vector. Retrieval asks for every token.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from muxwrap._hooks.embeddings import declared_embedding
from muxwrap._util.examples import ROWS, with_rows
from muxwrap._util.nested import first_tensor
from muxwrap.demuxers.base import Demuxer
from muxwrap.errors import MuxwrapError
from muxwrap.multiplex import Multiplex
from muxwrap.site import Site
from muxwrap.sites.families import transformers
from muxwrap.sites.trace import Seen, Trace, Visit, trace
from muxwrap.training.batches import Batch, as_batch


@dataclass(frozen=True)
class TokenPlaces:
    """Two places in a backbone.

    Args:
        embedding: path of the module whose ``weight [tokens, size]`` embeds ids.
        site: where the trunk's output passes as ``[mixtures, prefix + length, dim]``.
    """

    embedding: str
    site: Site

    def table(self, model: Multiplex) -> Tensor:
        """Return the input embedding's weight, ``[tokens, size]``."""
        return model.backbone.get_submodule(self.embedding).weight  # type: ignore[return-value]


def find_places(model: Multiplex, example: Any = None) -> TokenPlaces:
    """Find both by one bare run on three rows.

    Args:
        model: the wrapped model.
        example: a batch; not read for Transformers models, whose config tells a sentence that suits their heads.

    Raises:
        MuxwrapError: there is no example, the model embeds no token ids, or its tokens do not stay a sequence.
    """
    backbone = model.backbone
    example = transformers.example(backbone) if transformers.matches(backbone) else example
    if example is None:
        raise MuxwrapError(f"{type(backbone).__name__} does not say what it takes; give example=, a batch of input_ids")
    declared = declared_embedding(backbone)
    embedding = declared if _is_table(declared) else None
    size = None if embedding is None else _weight(embedding).shape[0]
    batch = as_batch(backbone, example, size, next(model.parameters()).device)
    seen = trace(backbone, with_rows(batch.inputs))
    if embedding is None:
        ids = with_rows(batch.ids)
        read = ((v.module, v.input.ids) for v in seen.once if v.input is not None)
        readers = [module for module, own in read if own is not None and torch.equal(own, ids)]
        embedding = next((module for module in readers if _is_table(module)), None)
    if embedding is None:
        raise MuxwrapError(
            f"no input embedding found in {type(backbone).__name__}: no module with a weight [tokens, size] is given the "
            "ids; retrieval needs a text model that embeds token ids"
        )
    path = next(path for path, module in backbone.named_modules() if module is embedding)
    return TokenPlaces(path, _token_site(model, seen, batch.ids.shape[1]))


def read_tokens(model: Multiplex, site: Site, call: Callable[[], Any], *, stop: bool) -> tuple[Any, Tensor]:
    """Call the wrapped model, and return its output and what passed at a site before it was separated.

    The hook is there for this one call, so nothing stays on the backbone.

    Args:
        model: the wrapped model.
        site: of :class:`TokenPlaces`.
        call: calls the model.
        stop: end the call at the site; the head is not run, and the output is None.

    Returns:
        The output, and ``[mixtures, prefix + length, dim]``.
    """
    found: list[Tensor] = []

    def keep(value: Any) -> None:
        tokens = first_tensor(value)
        assert tokens is not None
        found.append(tokens)
        if stop:
            raise _ReachedError

    module = model.backbone.get_submodule(site.path)
    if site.side == "input":
        handle = module.register_forward_pre_hook(
            lambda _module, args, kwargs: keep((args, kwargs)), with_kwargs=True, prepend=True
        )
    else:
        handle = module.register_forward_hook(lambda _module, _args, output: keep(output), prepend=True)
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
        tokens: what :func:`read_tokens` found.
        batch: the call, whose length has to come back.

    Raises:
        MuxwrapError: the trunk changed the number of tokens.
    """
    used = model.demuxer if demuxer is None else demuxer
    separated: Tensor = used(tokens)[:, :, used.kept :]
    if separated.ndim != 4 or separated.shape[2] != batch.ids.shape[1]:
        raise MuxwrapError(
            f"{batch.ids.shape[1]} tokens went in and {list(separated.shape)} came out, [mixtures, n, length, dim]; retrieval "
            "needs a trunk that keeps every token"
        )
    return separated


def _is_table(module: object) -> bool:
    weight = getattr(module, "weight", None)
    return isinstance(weight, Tensor) and weight.ndim == 2


def _weight(module: Any) -> Tensor:
    weight: Tensor = module.weight
    return weight


def _token_site(model: Multiplex, seen: Trace, length: int) -> Site:
    """Return the demux site if all tokens pass there, else the last place before it where they do."""
    site = model.sites.demux[0]
    visit, mixed = seen.at(site.path), seen.at(model.sites.mux[0].path)
    assert visit is not None and mixed is not None

    def holds_tokens(tensor: Seen | None) -> bool:
        return tensor is not None and tensor.ndim == 3 and tensor.shape[:2] == (ROWS, length)

    if site.axis == -1 and holds_tokens(visit.input if site.side == "input" else visit.output):
        return replace(site, first_token=False)
    end = visit.entered if site.side == "input" else visit.left
    start = mixed.left if model.sites.mux[0].side == "output" else mixed.entered
    before = [v for v in seen.once if start < v.left < end and holds_tokens(v.output)]
    last = max(before, key=lambda each: each.left, default=None)
    if last is None or last.output is None or _shortened(seen, last, end):
        raise MuxwrapError(
            f"{type(model.backbone).__name__} has no place between mixing and the {site} where {length} tokens are a sequence "
            "[rows, length, size]; retrieval needs a trunk that keeps every token"
        )
    return Site(last.path, "output", -1, last.output.shape[-1])


def _shortened(seen: Trace, last: Visit, end: int) -> bool:
    """Whether there are sequences of another length after the last one of all tokens, as in trunks that pool step by step."""
    outputs = [v.output for v in seen.once if last.left < v.left < end and v.output is not None]
    return any(output.ndim == 3 and output.shape[0] == ROWS for output in outputs)
