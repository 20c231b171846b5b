"""What is compared, in order of importance, and how each model is made from the teacher."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import nn

import muxwrap
from benchmarks.studies.convert.backbone import Encoder
from benchmarks.studies.convert.rivals import keep_layers, pooled_after
from muxwrap.strategies import Orthogonal
from muxwrap.training import principal_slots

LAYERS = 6


@dataclass(frozen=True)
class Configuration:
    """A model of the study.

    Args:
        kind: a key of :data:`KINDS`.
        layers: how many of the teacher's layers are kept, the first ones.
        after: the layer after which instances are mixed or tokens are pooled, counted from 1; 0 for neither.
        n: instances per mixture, or tokens that are pooled into one.
    """

    kind: str
    layers: int = LAYERS
    after: int = 0
    n: int = 1

    def __str__(self) -> str:
        mixed = f" after layer {self.after}, n={self.n}" if self.after else ""
        return f"{self.kind}{mixed}" + (f", {self.layers} layers" if self.layers != LAYERS else "")

    def make(self, teacher: Encoder, batches: Callable[[], Any], seed: int) -> nn.Module:
        """Return the model with the teacher's weights, which are copied.

        Args:
            teacher: a trained encoder of all layers.
            batches: returns inputs to measure on, where the start depends on data.
            seed: of what is drawn.
        """
        kept = keep_layers(teacher, self.layers)
        return KINDS[self.kind](kept, self, batches, seed)


Maker = Callable[[Encoder, Configuration, Callable[[], Any], int], nn.Module]


def _plain(model: Encoder, _config: Configuration, _batches: Any, _seed: int) -> nn.Module:
    return model


def _pooled(model: Encoder, config: Configuration, _batches: Any, _seed: int) -> nn.Module:
    return pooled_after(model, config.after, config.n)


def _mixed(strategy: Any, demux: str, model: Encoder, config: Configuration, batches: Any, seed: int) -> nn.Module:
    made = wrap(model, config, strategy, demux, seed)
    return made


def _principal(model: Encoder, config: Configuration, batches: Any, seed: int) -> nn.Module:
    made = wrap(model, config, "slots", "mlp", seed)
    principal_slots(made, batches(), seed=seed)
    return made


def wrap(model: Encoder, config: Configuration, strategy: Any, demux: Any, seed: int) -> muxwrap.Multiplex:
    """Mix after a layer, and separate the class token before the head."""
    ones = torch.ones(1, 12, dtype=torch.long, device=next(model.parameters()).device)
    example = {"input_ids": ones, "attention_mask": ones, "token_type_ids": 0 * ones}
    return muxwrap.wrap(
        model,
        config.n,
        strategy,
        demux,
        mux_at=f"layers.{config.after - 1}",
        demux_at="head",
        example_input=example,
        seed=seed,
    )


_TURNED = partial(Orthogonal, learnable=True, held=True, identity_first=True)

KINDS: dict[str, Maker] = {
    "plain": _plain,
    "plain pooled": _pooled,
    "orthogonal": partial(_mixed, _TURNED, "mlp"),
    "orthogonal, unbind": partial(_mixed, _TURNED, "unbind"),
    "orthogonal, random": partial(_mixed, partial(Orthogonal, learnable=True, held=True), "mlp"),
    "orthogonal, free": partial(_mixed, partial(Orthogonal, learnable=True, identity_first=True), "mlp"),
    "slots": partial(_mixed, "slots", "mlp"),
    "principal slots": _principal,
}


def core() -> Iterator[Configuration]:
    """Yield what every task is measured with: the rivals, and one line of each kind."""
    yield from (Configuration("plain", layers) for layers in (3, 2, 4, 1))
    yield from (Configuration("plain pooled", after=2, n=n) for n in (4, 8, 2))
    yield from (Configuration("orthogonal", after=after, n=n) for n in (4, 2, 8) for after in (3, 2))
    yield Configuration("plain pooled", 4, 2, 8)
    yield Configuration("plain pooled", 3, 2, 8)
    yield Configuration("principal slots", after=3, n=4)
    yield Configuration("slots", after=3, n=4)


def others() -> Iterator[Configuration]:
    """Yield the rest, which shows what the choices are worth."""
    controls = ("orthogonal, unbind", "orthogonal, random", "orthogonal, free")
    yield from (Configuration(kind, after=3, n=4) for kind in controls)
    yield from (Configuration("plain pooled", after=1, n=n) for n in (4, 2, 8))
    yield from (Configuration("plain pooled", after=3, n=n) for n in (4, 8, 2))
    yield from (Configuration("plain pooled", 4, 1, n) for n in (4, 8))
    slots = [("principal slots", after, n) for after in (3, 2) for n in (2, 4, 8)]
    yield from (Configuration(kind, after=after, n=n) for kind, after, n in slots if (after, n) != (3, 4))
    yield from (Configuration("slots", after=after, n=n) for _, after, n in slots if (after, n) != (3, 4))
