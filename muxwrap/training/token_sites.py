"""Where a text model has all its tokens: the table that embeds them, and the trunk's output."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from muxwrap._hooks.embeddings import declared_embedding
from muxwrap._util.examples import ROWS, with_rows
from muxwrap.errors import MuxwrapError
from muxwrap.multiplex import Multiplex
from muxwrap.site import Site
from muxwrap.sites.families import transformers
from muxwrap.sites.tracing.recording import trace
from muxwrap.sites.tracing.trace import Seen, Trace, Visit
from muxwrap.training.batches import as_batch


@dataclass(frozen=True)
class TokenSites:
    """Where tokens enter a backbone, and where its trunk has all of them at its end.

    Args:
        embedding: path of the module whose ``weight [tokens, size]`` embeds ids.
        output: where the trunk's output passes as ``[mixtures, prefix + length, dim]``.
    """

    embedding: str
    output: Site

    def table(self, model: Multiplex) -> Tensor:
        """Return the input embedding's weight, ``[tokens, size]``."""
        return model.backbone.get_submodule(self.embedding).weight  # type: ignore[return-value]


def find_token_sites(model: Multiplex, example: Any = None) -> TokenSites:
    """Find both by one run of the bare model on three rows.

    Args:
        model: the wrapped model.
        example: a batch; not read for Transformers models, of whose config an example is made that suits their heads.

    Raises:
        MuxwrapError: there is no example, the model embeds no token ids, or its tokens do not stay a sequence.
    """
    backbone = model.backbone
    example = transformers.example(backbone) if transformers.matches(backbone) else example
    if example is None:
        raise MuxwrapError(
            f"{type(backbone).__name__} has no config to make an example of; give example=, a batch of input_ids"
        )
    declared = declared_embedding(backbone)
    embedding = declared if _is_table(declared) else None
    vocabulary = None if embedding is None else len(embedding.weight)  # type: ignore[arg-type]
    batch = as_batch(backbone, example, vocabulary, next(model.parameters()).device)
    seen = trace(backbone, with_rows(batch.inputs))
    embedding = _embedding_of(seen, with_rows(batch.ids)) if embedding is None else embedding
    if embedding is None:
        raise MuxwrapError(
            f"no input embedding found in {type(backbone).__name__}: no module with a weight [tokens, size] gets the ids; "
            "retrieval needs a text model that embeds token ids"
        )
    path = next(path for path, module in backbone.named_modules() if module is embedding)
    return TokenSites(path, _output_site(model, seen, batch.ids.shape[1]))


def _embedding_of(seen: Trace, ids: Tensor) -> nn.Module | None:
    """Return the first module with a table that gets the ids."""
    inputs = [(visit.module, visit.input.ids) for visit in seen.once if visit.input is not None]
    readers = (module for module, own in inputs if own is not None and torch.equal(own, ids))
    return next((module for module in readers if _is_table(module)), None)


def _is_table(module: object) -> bool:
    weight = getattr(module, "weight", None)
    return isinstance(weight, Tensor) and weight.ndim == 2


def _output_site(model: Multiplex, seen: Trace, length: int) -> Site:
    """Return the demux site if all tokens pass there, else the last site before it where they do."""
    site = model.sites.demux[0]
    visit, mixed = seen.at(site.path), seen.at(model.sites.mux[0].path)
    assert visit is not None and mixed is not None

    def is_sequence(tensor: Seen | None) -> bool:
        return tensor is not None and tensor.ndim == 3 and tensor.shape[:2] == (ROWS, length)

    if site.axis == -1 and is_sequence(visit.input if site.side == "input" else visit.output):
        return replace(site, first_token=False)
    end = visit.entered if site.side == "input" else visit.left
    start = mixed.left if model.sites.mux[0].side == "output" else mixed.entered
    before = [each for each in seen.once if start < each.left < end and is_sequence(each.output)]
    last = max(before, key=lambda each: each.left, default=None)
    if last is None or last.output is None or _shortened(seen, last, end):
        raise MuxwrapError(
            f"{type(model.backbone).__name__} has no place between mixing and the {site} where {length} tokens are a sequence "
            "[rows, length, size]; retrieval needs a trunk that keeps every token"
        )
    return Site(last.path, "output", -1, last.output.shape[-1])


def _shortened(seen: Trace, last: Visit, end: int) -> bool:
    """Whether there are sequences of another length after the last one of all tokens, as in trunks that pool step by step."""
    outputs = [visit.output for visit in seen.once if last.left < visit.left < end and visit.output is not None]
    return any(output.ndim == 3 and output.shape[0] == ROWS for output in outputs)
