"""How each model of the study is made from the teacher."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import nn

import muxwrap
from benchmarks.studies.convert.backbone import Encoder, Layer
from benchmarks.studies.convert.budget import LONG
from benchmarks.studies.convert.rivals import keep_layers, pooled_after
from muxwrap.strategies import Orthogonal
from muxwrap.training import principal_slots

LAYERS = 6
ELASTIC = ("tokens, elastic",)  # trained at several n in every step
IN_STEPS = ("orthogonal, in steps",)  # trained at one n after the other
SEVERAL = (*ELASTIC, *IN_STEPS)


@dataclass(frozen=True)
class Configuration:
    """A model of the study.

    Args:
        kind: a key of :data:`KINDS`.
        layers: how many of the teacher's layers are kept, the first ones.
        after: the layer after which instances are mixed or tokens are pooled, counted from 1; 0 for neither.
        n: instances per mixture, or tokens that are pooled into one.
        long: train for :data:`~benchmarks.studies.convert.budget.LONG` epochs, whatever the task.
    """

    kind: str
    layers: int = LAYERS
    after: int = 0
    n: int = 1
    long: bool = False

    def __str__(self) -> str:
        mixed = f" after layer {self.after}, n={self.n}" if self.after else ""
        layers = f", {self.layers} layers" if self.layers != LAYERS else ""
        return f"{self.kind}{mixed}{layers}" + (f", {LONG} epochs" if self.long else "")

    @property
    def sizes(self) -> int | tuple[int, ...]:
        """The n that a model of several is made for, in the order of a schedule."""
        return tuple(n for n in (1, 2, 4, 8) if n <= self.n) if self.kind in SEVERAL else self.n

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
        config.sizes,
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
    "tokens, elastic": _tokens,
    "orthogonal": partial(_mixed, _TURNED, "mlp"),
    "orthogonal, in steps": partial(_mixed, _TURNED, "mlp"),
    "orthogonal, unbind": partial(_mixed, _TURNED, "unbind"),
    "orthogonal, random": partial(_mixed, partial(Orthogonal, learnable=True, held=True), "mlp"),
    "orthogonal, free": partial(_mixed, partial(Orthogonal, learnable=True, identity_first=True), "mlp"),
    "slots": partial(_mixed, "slots", "mlp"),
    "principal slots": _principal,
}
