"""Hugging Face Transformers: text and image models, with a head or bare."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from muxwrap._hooks.embeddings import token_embedding
from muxwrap._util.classes import class_of
from muxwrap._util.examples import pixels
from muxwrap.site import Side, Site
from muxwrap.sites.families import generic
from muxwrap.sites.families.heads import with_peers
from muxwrap.sites.tracing.resolve import site_at
from muxwrap.sites.tracing.trace import Seen, Trace, Visit


def matches(backbone: nn.Module) -> bool:
    """Whether the model has a Transformers config."""
    return hasattr(getattr(backbone, "config", None), "model_type") and hasattr(backbone, "base_model_prefix")


def example(backbone: nn.Module) -> Any:
    """Token ids or pixels of the size in the config."""
    config: Any = backbone.config
    takes = inspect.signature(backbone.forward).parameters
    if "pixel_values" in takes and "input_ids" not in takes:
        vision = getattr(config, "vision_config", config)
        size = getattr(vision, "image_size", None) or 224
        height, width = size if isinstance(size, (tuple, list)) else (size, size)
        return {"pixel_values": pixels(backbone, getattr(vision, "num_channels", 3), height, width)}
    return _tokens(backbone, next(backbone.parameters()).device)


def _tokens(backbone: Any, device: torch.device) -> dict[str, Tensor]:
    """Return one sentence of 16 tokens that ends as the model expects sentences to end, and what else it has to have."""
    config = backbone.config.get_text_config()
    vocabulary = getattr(config, "vocab_size", None) or 100  # CANINE hashes code points
    tokens = torch.arange(3, 19, device=device)[None] % vocabulary
    end = getattr(config, "eos_token_id", None)
    end = end[0] if isinstance(end, (tuple, list)) else end
    if end is not None and 0 <= end < vocabulary:
        tokens[:, -1] = end
    example = {"input_ids": tokens}
    if type(backbone).__name__.endswith("ForMultipleChoice"):
        return {"input_ids": tokens[:, None].repeat(1, 2, 1)}
    takes = inspect.signature(backbone.forward).parameters
    if "bbox" in takes:
        example["bbox"] = torch.tensor([1, 2, 3, 4], device=device).expand(1, 16, 4)
    headless = backbone.base_model is backbone or backbone.get_output_embeddings() is not None
    if headless and "decoder_input_ids" in takes and backbone.config.is_encoder_decoder:
        example["decoder_input_ids"] = tokens  # a classifier takes the input for it
    return example


def mux_candidates(backbone: nn.Module, trace: Trace) -> Iterator[tuple[Site, ...]]:
    """After the embeddings (with positions, then without), as the model's embedded input, or wherever any model could."""
    base = _base_path(backbone)
    tokens = _token_embeddings(backbone, trace)
    for path in _embedding_modules(base, trace):
        yield from _all(trace, [path], "output")
    yield from _all(trace, tokens, "output")
    yield from _all(trace, [path.rpartition(".")[0] for path in tokens], "input")
    if tokens:
        yield from _all(trace, [base], "input")
    yield from generic.mux_candidates(backbone, trace)


def demux_candidates(backbone: nn.Module, trace: Trace) -> Iterator[tuple[Site, ...]]:
    """Before a pooler that is a layer, before the head or heads, and last what the base model returns."""
    base = _base_path(backbone)
    pooler = trace.at(_join(base, "pooler"))
    if pooler is not None and any(p.ndim > 1 for p in pooler.module.parameters()):  # not an average over the image
        yield from _all(trace, [pooler.path], "input")
    heads = _head(backbone, base, trace)[:2]
    # Of an image the head reads an average, which is less to separate than the places before a norm and the average.
    for visit in reversed(heads) if _is_image(trace.visits[0].input) else heads:
        yield from with_peers(backbone, trace, visit)
    yield from _all(trace, [_last_hidden_path(base, trace)], "output")
    yield from generic.demux_candidates(backbone, trace)


def named_as_loaded(backbone: nn.Module) -> bool:
    """Whether ``from_pretrained`` finds the backbone's tensors by their names, or nothing would call it.

    It looks for the names of a new model of the config. What was adapted, quantised or given another head has others, and
    so has a user's own module that holds a config.
    """
    if not hasattr(getattr(backbone, "config", None), "save_pretrained"):
        return True
    try:
        with torch.device("meta"), torch.random.fork_rng(devices=()):
            new = class_of(backbone)(config_of(backbone))
    except Exception:
        return False
    return hasattr(new, "from_pretrained") and new.state_dict().keys() == backbone.state_dict().keys()


def config_of(backbone: Any) -> Any:
    """Return a copy of a model's config which says what ``from_pretrained`` has to make."""
    config = copy.deepcopy(backbone.config)
    config.architectures = [class_of(backbone).__name__]
    dtype = next((p.dtype for p in backbone.parameters() if p.is_floating_point()), None)
    if dtype is not None:
        config.dtype = str(dtype).removeprefix("torch.")
    return config


def _base_path(backbone: Any) -> str:
    base = backbone.base_model
    return next((path for path, module in backbone.named_modules() if module is base), "")


def _embedding_modules(base: str, trace: Trace) -> list[str]:
    """Return the base model's own modules that embed tokens and positions together (``embeddings``, ``char_embeddings``)."""
    children = [visit for visit in trace.once if visit.path.rpartition(".")[0] == base]
    return [visit.path for visit in children if "embeddings" in visit.path.rpartition(".")[2]]


def _token_embeddings(backbone: nn.Module, trace: Trace) -> list[str]:
    """Return the token embedding, or the encoder's and the decoder's: mixtures have to enter at both."""
    embedding = token_embedding(backbone)
    weight = getattr(embedding, "weight", None)
    readers = [visit for visit in trace.once if visit.input is not None and not visit.input.floating]
    own = [
        v.path
        for v in readers
        if v.module is embedding or (weight is not None and getattr(v.module, "weight", None) is weight)
    ]
    names = {path.rpartition(".")[2] for path in own}
    return [visit.path for visit in readers if visit.path.rpartition(".")[2] in names]


def _head(backbone: nn.Module, base: str, trace: Trace) -> list[Visit]:
    """Return the model's own children that run after its base model."""
    body = trace.at(base)
    if body is None or base == "":
        return []
    return [visit for visit in trace.once if visit.entered > body.left and "." not in visit.path]


def _last_hidden_path(base: str, trace: Trace) -> str | None:
    """Return the last module inside the base model whose output is what the base model returns first."""
    body = trace.at(base)
    if body is None or body.output is None or (base and _same(body.output, trace.visits[0].output)):
        return None  # the base model gives the answers themselves
    inside = [v for v in trace.once if v.path != base and v.left <= body.left]
    same = [v for v in inside if v.output is not None and v.output.memory == body.output.memory]
    last = max(same, key=lambda visit: visit.left, default=None)
    # A base model that ends with a linear layer is a whole classifier: what it returns are answers.
    return None if last is None or isinstance(last.module, nn.Linear) else last.path


def _is_image(given: Seen | None) -> bool:
    return given is not None and given.floating and given.ndim == 4


def _same(a: Seen, b: Seen | None) -> bool:
    return b is not None and a.memory == b.memory and a.shape == b.shape


def _join(base: str, name: str) -> str:
    return f"{base}.{name}" if base else name


def _all(trace: Trace, paths: Sequence[str | None], side: Side) -> Iterator[tuple[Site, ...]]:
    sites = [site_at(trace, path, side) for path in paths if path is not None]
    if sites and all(site is not None for site in sites):
        yield tuple(site for site in sites if site is not None)
