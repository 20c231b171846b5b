"""The state of one forward call, which the hooks on its way read and write."""

from __future__ import annotations

import uuid
import weakref
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from muxwrap._hooks.apart import Apart, apart_in
from muxwrap._hooks.chunks import Chunks
from muxwrap._hooks.components import Components
from muxwrap._hooks.grouping import group
from muxwrap._util.sizes import fixed
from muxwrap.errors import MuxwrapError
from muxwrap.strategies.places import Places


class RowsAgainError(MuxwrapError):
    """Something between the sites met mixtures with what is of the rows, and made rows of both."""


class Key:
    """Names the model that a hook belongs to.

    A hook holds nothing else of its model: a layer that is saved or copied alone stays as large as the layer. Deepcopy and
    pickle give the copy of a model and the copies of its hooks the same new key.

    Attributes:
        without_graph: whether a hook acted without gradients in a call that was begun with them: in a part of the backbone
            that reentrant checkpointing runs again in backward, or that the user does not train.
        origin: the same in a key and its copies.
        fits_layers: whether layers got masks and positions for mixtures in a call with gradients; any checkpointing that runs
            them again in backward would give them those of the rows.
        told_of_no_grad: whether the user was told of a demuxer that is not trained.
        owner: who puts on the hooks of this key; a copy has none until it is part of the copy of a model.
    """

    without_graph = False
    fits_layers = False
    told_of_no_grad = False
    owner: weakref.ref[Any] | None = None

    def __init__(self) -> None:
        self.origin = uuid.uuid4().hex

    def __getstate__(self) -> dict[str, Any]:
        """Return what a copy has."""
        return {name: value for name, value in vars(self).items() if name != "owner"}


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
    | ``lengths`` | mixing | of the rows, where packed sequences are mixed: ``[B]`` |
    | ``unnamed`` | layers after mixing | pairs (of the rows, of the mixtures) of tensors that have no name there |
    | ``batch``, ``stand_in`` | the call of the backbone | the batch, and what the backbone gets in its place (``"size"``) |
    | ``id_rows`` | the stem | rows of the batch, where its demuxer inserted token ids, which fills the last group |
    | ``chunks`` | the stem | the calls of a stem that runs some rows at a time, per mux site |
    | ``rows`` | mixing | rows of the batch |
    | ``axes_as_found`` | mixing | whether what is mixed has as many axes as it had when the sites were found |
    | ``apart`` | the call | the owners of the rows, where they are kept apart |
    | ``order`` | whatever groups rows first | the order in which they are dealt to mixtures and indices: ``[B]``, or more |
    | ``instead`` | mixing | which row is mixed in the place of each, where some are kept out: ``[B]`` |
    | ``bad`` | mixing | which rows are kept out and get no answer: ``[B]`` |
    | ``answers`` | separating | the rows' own states, as they go on |
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
    lengths: Tensor | None = None
    unnamed: list[tuple[Tensor, Tensor]] = field(default_factory=list)
    batch: Tensor | None = None
    stand_in: Tensor | None = None
    id_rows: int | None = None
    chunks: dict[int, Chunks] = field(default_factory=dict)
    rows: int | None = None
    axes_as_found: bool = True
    apart: Apart | None = None
    order: Tensor | None = None
    instead: Tensor | None = None
    bad: Tensor | None = None
    answers: list[Tensor] = field(default_factory=list)
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
        return None if self.rows is None else self._mixtures_of(self.rows)

    def mixtures_of(self, batch: Tensor) -> int:
        """Return how many mixtures the rows of a batch make."""
        self._deal(batch)
        return self._mixtures_of(batch.shape[0])

    def _mixtures_of(self, rows: int) -> int:
        return -(-(rows if self.order is None else self.order.shape[0]) // self.n)

    def group(self, x: Tensor) -> Tensor:
        """Group rows as this call deals them: ``[B, ...] -> [ceil(B / n), n, ...]``.

        Where the model shuffles, the order is drawn once per call, of torch's own generator: what restores the random
        state before it runs a call again, as gradient checkpointing does, gets the same order again.

        Raises:
            MuxwrapError: there is an order, and tensors of different numbers of rows are to be grouped.
        """
        in_turn = self.apart is None and self.instead is None and not self.model.shuffles
        if in_turn or fixed(x.shape)[0] == 1:  # [1, L] is the same for all rows
            return group(x, self.n)
        if self.instead is not None:
            x = x[self.instead.to(x.device)]
        order = self._deal(x)
        return group(x, self.n, order if order is None else order.to(x.device))

    def check_owners(self, x: Tensor) -> None:
        """Refuse rows whose owners are not known.

        Raises:
            MuxwrapError: the owners are as many as other rows.
        """
        rows, copies = x.shape[0], self.model.copies
        if self.apart is not None and len(self.apart.owners) * copies != rows:
            raise MuxwrapError(
                f"grouped_by(ids): {len(self.apart.owners)} ids, and {rows // copies} rows are mixed; give one id for each row "
                "of the batch"
            )

    def _deal(self, x: Tensor) -> Tensor | None:
        self.check_owners(x)
        rows, copies = x.shape[0], self.model.copies
        if not self.model.shuffles and self.apart is None:
            return None
        if self.order is None:
            shuffled = torch.randperm(rows, device=x.device) if self.model.shuffles else None
            self.order = shuffled if self.apart is None else self.apart.order(self.n // copies, copies, shuffled)
        elif self.apart is None and self.order.shape[0] != rows:
            raise MuxwrapError(
                f"shuffle=True: tensors of {self.order.shape[0]} and of {rows} rows are mixed in one call, and no order fits "
                "both; wrap with shuffle=False"
            )
        return self.order


def new_call(model: Components, key: Key) -> Call:
    """Return the state of a call that has not reached anything."""
    apart = apart_in(key) if model.n > model.copies else None  # one row in a mixture keeps to itself
    return Call(
        model,
        key,
        torch.is_grad_enabled(),
        apart=apart,
        mixed=[0] * len(model.sites.mux),
        separated=[0] * len(model.sites.demux),
    )
