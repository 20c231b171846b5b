"""What is compared, in order of importance, and how each model is made from the teacher."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import nn

import muxwrap
from benchmarks.studies.convert.backbone import Encoder, Layer
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
    return wrap(model, config, strategy, demux, seed)


def _principal(model: Encoder, config: Configuration, batches: Any, seed: int) -> nn.Module:
    made = wrap(model, config, "slots", "mlp", seed)
    principal_slots(made, batches(), seed=seed)
    return made


def _tokens(model: Encoder, config: Configuration, _batches: Any, seed: int) -> nn.Module:
    """Spread the tokens out before the last layer, in which each class token reads all of its row's."""
    return wrap(model, config, "pool", None, seed, demux_at=f"layers.{config.layers - 1}")


def _tokens_to_the_end(model: Encoder, config: Configuration, _batches: Any, seed: int) -> nn.Module:
    """Run the last layer on mixtures, too; it computes all of their tokens, and the class tokens are read."""
    model.layers[-1].__class__ = Layer
    return wrap(model, config, "pool", None, seed, demux_at=f"layers.{config.layers - 1}@output")


def wrap(
    model: Encoder, config: Configuration, strategy: Any, demux: Any, seed: int, demux_at: str = "head"
) -> muxwrap.Multiplex:
    """Mix after a layer, and separate the class token before the head, or elsewhere."""
    ids = torch.arange(4, 16, device=next(model.parameters()).device).unsqueeze(0)
    example = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "token_type_ids": torch.zeros_like(ids)}
    return muxwrap.wrap(
        model,
        config.n,
        strategy,
        demux,
        mux_at=f"layers.{config.after - 1}",
        demux_at=demux_at,
        example_input=example,
        seed=seed,
        shuffle=False,  # a row is compared with its own teacher
    )


_TURNED = partial(Orthogonal, learnable=True, held=True, identity_first=True)

KINDS: dict[str, Maker] = {
    "plain": _plain,
    "plain pooled": _pooled,
    "tokens": _tokens,
    "tokens to the end": _tokens_to_the_end,
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
    yield from (Configuration("tokens", after=2, n=n) for n in (4, 8, 2))
    yield from (Configuration("plain pooled", after=2, n=n) for n in (4, 8))
    yield from (Configuration("orthogonal", after=after, n=n) for n in (4, 2, 8) for after in (3, 2))
    yield from (Configuration("tokens", 4, 2, n) for n in (8, 4))
    yield from (Configuration("tokens to the end", layers, 2, 8) for layers in (3, 4))
    yield Configuration("plain pooled", 3, 2, 8)
    yield from (Configuration("tokens", after=1, n=n) for n in (4, 8))
    yield from (Configuration(kind, after=3, n=4) for kind in ("principal slots", "slots"))


def others() -> Iterator[Configuration]:
    """Yield the rest, which shows what the choices are worth."""
    controls = ("orthogonal, unbind", "orthogonal, random", "orthogonal, free")
    yield from (Configuration(kind, after=3, n=4) for kind in controls)
    yield Configuration("tokens to the end", after=2, n=4)
    yield from (Configuration("tokens", after=3, n=n) for n in (4, 8, 2))
    yield from (Configuration("tokens", 4, 1, n) for n in (8, 4))
    yield Configuration("tokens", after=1, n=2)
    yield from (
        Configuration("plain pooled", *shape) for shape in ((6, 1, 4), (6, 3, 4), (6, 2, 2), (4, 2, 8), (4, 1, 8))
    )
    slots = [(after, n) for after in (3, 2) for n in (2, 4, 8) if (after, n) != (3, 4)]
    yield from (Configuration(kind, after=k, n=n) for kind in ("principal slots", "slots") for k, n in slots)
