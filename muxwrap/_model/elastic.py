"""How many rows share a mixture, and one row at all of its indices: what of a wrapped model can change between calls."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from torch import nn

from muxwrap._hooks.apart import Apart, keeping
from muxwrap._hooks.attachment import Attachment
from muxwrap._hooks.components import Components
from muxwrap._model import copies
from muxwrap._model.fixed import Fixed
from muxwrap._model.grouped import Grouped
from muxwrap.demuxers.ranks import sharing
from muxwrap.errors import MuxwrapError
from muxwrap.strategies.base import Strategy


class Elastic(nn.Module):
    """The part of a wrapped model that knows how many rows share a mixture."""

    sizes: tuple[int, ...]
    strategy: Strategy
    _n: int
    _attachment: Attachment

    def _components(self) -> Components:
        raise NotImplementedError

    def call_at(self, n: int, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """Call the model with ``n`` rows per mixture.

        Each takes ``sizes[-1] / n`` indices, and gets their mean answer. Where a mixture has tokens of its own (``pool``), n of
        them are pooled instead.
        """
        indices = self._indices(n)
        return copies.mean(self._multiplexed(indices, indices // n), indices // n, args, kwargs, f"model(...) at n={n}")

    def _indices(self, n: int) -> int:
        """Return the indices of a mixture of ``n`` rows."""
        return n if self.strategy.places_tokens else self.sizes[-1]

    def _multiplexed(self, indices: int, copies: int, part: str | None = None) -> Callable[..., Any]:
        """Return the call of the model, or of a part of it, with so many indices; copies of a row stay side by side."""
        made = replace(self._components(), n=indices, copies=copies)
        made.shuffle = made.shuffle and copies == 1

        def call(*args: Any, **kwargs: Any) -> Any:
            with sharing(self):
                if part is not None:
                    return self._attachment.call_part(part, made, *args, **kwargs)
                return self._attachment.call(made, args, kwargs)

        return call

    def _as_ensemble(self, call: str) -> Callable[..., Any]:
        if self.strategy.places_tokens:
            raise MuxwrapError(
                f"{call}: {self.strategy.name} gives a row the same answer at every index; take a strategy that mixes features "
                "or images, such as 'slots'"
            )
        return self._multiplexed(self.sizes[-1], self.sizes[-1])

    # -- rows per mixture ---------------------------------------------------------------------------------------------

    @property
    def n(self) -> int:
        """Rows per mixture."""
        return self._n

    @n.setter
    def n(self, n: int) -> None:
        self.check_size(n, f"model.n = {n!r}")
        self._n = n

    @contextmanager
    def at(self, n: int) -> Iterator[None]:
        """Put ``n`` rows into a mixture inside a block, in all threads; :meth:`fixed` gives a thread a view of its own.

        Raises:
            MuxwrapError: ``n`` is none of ``sizes``.
        """
        before, self.n = self.n, n
        try:
            yield
        finally:
            self.n = before

    @contextmanager
    def grouped_by(self, ids: Iterable[Any]) -> Iterator[None]:
        """Let only rows of equal ids share a mixture inside a block, in this thread: of one tenant, user or document.

        The calls inside take batches of as many rows as there are ids; the answers come back in the rows' own order. Rows of an
        id that do not fill their last mixture are repeated there, so k ids take up to k mixtures more.

        Args:
            ids: one for each row: strings, numbers, a tensor, anything that can be a key of a dict.

        Raises:
            MuxwrapError: an id cannot be compared; in a call: the batch has another number of rows.

        Example:
            >>> with model.grouped_by(["ann", "bob", "ann"]):
            ...     model(torch.randn(3, 3, 224, 224)).shape
            torch.Size([3, 10])
        """
        with keeping(self._attachment.key, Apart(ids, self.sizes)):
            yield

    def fixed(self, n: int) -> Fixed:
        """Return the view of this model that always puts ``n`` rows into a mixture: for threads, for export.

        Raises:
            MuxwrapError: ``n`` is none of ``sizes``.
        """
        return Fixed(self, n)

    def check_size(self, n: int, call: str) -> None:
        """Refuse a number of rows per mixture that the model was not wrapped for.

        Raises:
            MuxwrapError: ``n`` is none of ``sizes``; the message repeats ``call``.
        """
        if n not in self.sizes:
            raise MuxwrapError(
                f"{call}: the model was wrapped for n={self.sizes[-1] if len(self.sizes) == 1 else self.sizes}; wrap with all "
                f"sizes that are to be used, such as wrap(..., n=(1, 2, {2 * self.sizes[-1]}))"
            )

    def grouped(self) -> Grouped:
        """Return the view of this model that takes and gives ``[groups, n, ...]``: for export with free groups."""
        return Grouped(self)

    def members(self, *args: Any, **kwargs: Any) -> Any:
        """Call the model with every row at all n indices of a mixture, and return all n answers (MIMO, 2010.06610).

        Args:
            args: the call's, as for the backbone: B rows, which make B mixtures.
            kwargs: likewise.

        Returns:
            The model's own output type, ``[n, B, ...]``: the estimators first, as metrics of ensembles expect them.

        Raises:
            MuxwrapError: as the call of the model.
        """
        return copies.members(self._as_ensemble("model.members(...)"), self.sizes[-1], args, kwargs)

    def ensemble(self, *args: Any, **kwargs: Any) -> Any:
        """Call the model with every row at all n indices of a mixture, and return the mean answer (MIMO, 2010.06610).

        B rows cost B mixtures, as in the bare model. The mean is that of the answers, for a classifier that of the logits;
        ``model.members(x).softmax(-1).mean(0)`` is that of the probabilities.

        Args:
            args: the call's, as for the backbone.
            kwargs: likewise.

        Returns:
            The model's own output type, ``[B, ...]``.

        Raises:
            MuxwrapError: as the call of the model; an answer is not of a floating dtype.
        """
        return copies.mean(self._as_ensemble(call := "model.ensemble(...)"), self.sizes[-1], args, kwargs, call)
