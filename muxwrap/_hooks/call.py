"""The state of one forward call, which the hooks on its way read and write."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field

import torch
from torch import Tensor

from muxwrap._hooks.chunks import Chunks
from muxwrap._hooks.components import Components
from muxwrap.strategies.tokens.places import Places


class Key:
    """Names the model that a hook belongs to.

    A hook holds nothing else of its model: a layer that is saved or copied alone stays as large as the layer. Deepcopy and
    pickle give the copy of a model and the copies of its hooks the same new key.

    Attributes:
        without_graph: whether a hook acted without gradients in a call that was begun with them: in a part of the backbone
            that reentrant checkpointing runs again in backward, or that the user does not train.
        origin: the same in a key and its copies.
    """

    without_graph = False

    def __init__(self) -> None:
        self.origin = uuid.uuid4().hex


@dataclass
class Call:
    """One forward call of a multiplexed model. It lies in a ``threading.local``: two threads may be inside one model.

    | field | set by | holds |
    | --- | --- | --- |
    | ``model``, ``key`` | the call | the components that work in it, and the key of its hooks |
    | ``with_graph`` | the call | whether it was begun with gradients |
    | ``side_inputs`` | the call of the backbone | masks, positions, types of the rows, by name: ``[B, L, ...]`` |
    | ``merged`` | the module at ``mask_at`` | the same of the mixtures: ``[g, prefix + L, ...]`` |
    | ``keep`` | the module that is given it | what of the rows is no padding, per mux site: ``[B, L]``, or lengths ``[B]`` |
    | ``unnamed`` | layers after mixing | pairs (of the rows, of the mixtures) of tensors that have no name there |
    | ``batch``, ``stand_in`` | the call of the backbone | the batch, and what the backbone gets in its place (``"size"``) |
    | ``id_rows`` | the stem | rows of the batch, where its demuxer inserted token ids, which fills the last group |
    | ``chunks`` | the stem | the calls of a stem that runs some rows at a time, per mux site |
    | ``rows`` | mixing | rows of the batch |
    | ``wide`` | mixing | mixtures with channels that the stem has no weights for, per mux site, until they are used |
    | ``places`` | mixing | which token of a mixture holds which tokens, where the strategy says so |
    | ``unpooled`` | mixing | the tokens of the grouped rows, and the means in their places |
    | ``fitted`` | layers after mixing | pairs (of the rows, of the mixtures) of what layers get besides the tokens |
    | ``mixed``, ``separated`` | mixing, separating | how often each site was reached |
    """

    model: Components
    key: Key
    with_graph: bool = False
    side_inputs: dict[str, Tensor] = field(default_factory=dict)
    merged: dict[str, Tensor] = field(default_factory=dict)
    keep: dict[int, Tensor] = field(default_factory=dict)
    unnamed: list[tuple[Tensor, Tensor]] = field(default_factory=list)
    batch: Tensor | None = None
    stand_in: Tensor | None = None
    id_rows: int | None = None
    chunks: dict[int, Chunks] = field(default_factory=dict)
    rows: int | None = None
    wide: dict[int, Tensor] = field(default_factory=dict)
    places: Places | None = None
    unpooled: tuple[Tensor, Tensor] | None = None
    fitted: list[tuple[object, Tensor]] = field(default_factory=list)
    mixed: list[int] = field(default_factory=list)
    separated: list[int] = field(default_factory=list)

    @property
    def n(self) -> int:
        """Instances per mixture."""
        return self.model.n

    @property
    def mixtures(self) -> int | None:
        """Mixtures that the batch's rows make; None before anything was mixed."""
        return None if self.rows is None else -(-self.rows // self.model.n)


def new_call(model: Components, key: Key) -> Call:
    """Return the state of a call that has not reached anything."""
    return Call(
        model, key, torch.is_grad_enabled(), mixed=[0] * len(model.sites.mux), separated=[0] * len(model.sites.demux)
    )
