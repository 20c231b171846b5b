"""Hugging Face Transformers: text and image models, with a head or bare."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from muxwrap.layout import Side, Site
from muxwrap.sites import generic
from muxwrap.sites.probe import Trace, Visit
from muxwrap.sites.resolve import site_at


def matches(backbone: nn.Module) -> bool:
    """Whether the model has a Transformers config."""
    return hasattr(getattr(backbone, "config", None), "model_type") and hasattr(backbone, "base_model_prefix")


def example(backbone: nn.Module) -> Any:
    """Token ids or pixels of the size in the config."""
    weight = next(backbone.parameters())
    config: Any = backbone.config
    if getattr(backbone, "main_input_name", "input_ids") == "pixel_values":
        size = getattr(config, "image_size", 224)
        height, width = size if isinstance(size, (tuple, list)) else (size, size)
        shape = (1, getattr(config, "num_channels", 3), height, width)
        return {"pixel_values": torch.zeros(shape, device=weight.device, dtype=weight.dtype)}
    return {"input_ids": torch.arange(3, 19, device=weight.device)[None] % config.get_text_config().vocab_size}


def mux_candidates(backbone: nn.Module, trace: Trace) -> Iterator[tuple[Site, ...]]:
    """After the embeddings (with positions, then without), and wherever any model could be mixed."""
    base = _base_path(backbone)
    for path in (_join(base, "embeddings"), _embedding_path(backbone)):
        yield from _single(trace, path, "output")
    yield from generic.mux_candidates(backbone, trace)


def demux_candidates(backbone: nn.Module, trace: Trace) -> Iterator[tuple[Site, ...]]:
    """Before the pooler, before the head, and last what the base model returns."""
    base = _base_path(backbone)
    yield from _single(trace, _join(base, "pooler"), "input")
    for visit in _head(backbone, base, trace)[:2]:
        yield from _single(trace, visit.path, "input")
    yield from _single(trace, _last_hidden_path(base, trace), "output")
    yield from generic.demux_candidates(backbone, trace)


def _base_path(backbone: Any) -> str:
    base = backbone.base_model
    return next((path for path, module in backbone.named_modules() if module is base), "")


def _embedding_path(backbone: Any) -> str | None:
    embedding = backbone.get_input_embeddings()
    return next((path for path, module in backbone.named_modules() if module is embedding), None)


def _head(backbone: nn.Module, base: str, trace: Trace) -> list[Visit]:
    """Return the model's own children that run after its base model."""
    body = trace.at(base)
    if body is None or base == "":
        return []
    return [visit for visit in trace.once if visit.entered > body.left and "." not in visit.path]


def _last_hidden_path(base: str, trace: Trace) -> str | None:
    """Return the last module inside the base model whose output is what the base model returns first."""
    body = trace.at(base)
    if body is None or body.output is None:
        return None
    pointer = body.output.data_ptr()
    inside = [v for v in trace.once if v.path != base and v.left <= body.left and v.output is not None]
    same = [v for v in inside if v.output is not None and v.output.data_ptr() == pointer]
    return max(same, key=lambda visit: visit.left).path if same else None


def _join(base: str, name: str) -> str:
    return f"{base}.{name}" if base else name


def _single(trace: Trace, path: str | None, side: Side) -> Iterator[tuple[Site, ...]]:
    site = None if path is None else site_at(trace, path, side)
    if site is not None:
        yield (site,)
