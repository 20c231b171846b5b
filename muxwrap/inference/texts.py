"""Rows of text: tokenised, padded to the longest of a batch."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor, nn

from muxwrap.errors import MuxwrapError
from muxwrap.inference.encoder import Encoder
from muxwrap.inference.rows import Row, missing
from muxwrap.samplers import pad_batch

Tokens = dict[str, list[int]]


class Texts(Encoder):
    """Makes token ids of one column, or of two that are read as a pair.

    Args:
        tokenizer: a tokenizer of Transformers, or a callable that is called as one: with a list of texts, for pairs with a
            second one, and ``truncation=True``; it returns a mapping from names of arguments to a list per row.
        columns: the name of the column, or of both.
        max_length: in tokens; longer rows are cut. By default what the tokenizer has.

    Raises:
        MuxwrapError: the columns are not one or two.
    """

    rows_per_part = 8192

    def __init__(
        self, tokenizer: Callable[..., Any], columns: str | Sequence[str] = "text", *, max_length: int | None = None
    ) -> None:
        self.tokenizer = tokenizer
        self.columns = (columns,) if isinstance(columns, str) else tuple(columns)
        self.options: dict[str, Any] = {"truncation": True}
        if max_length is not None:
            self.options["max_length"] = max_length
        if len(self.columns) not in (1, 2):
            raise MuxwrapError(
                f"Texts(columns={columns!r}): a row is a text or a pair of texts; name one or two columns"
            )

    def check(self, model: nn.Module) -> None:
        """Refuse a model whose padding could not be masked.

        Raises:
            MuxwrapError: its forward takes no ``input_ids`` or no ``attention_mask``.
        """
        parameters = inspect.signature(model.forward).parameters
        open_ended = any(each.kind is each.VAR_KEYWORD for each in parameters.values())
        lacking = [name for name in ("input_ids", "attention_mask") if name not in parameters and not open_ended]
        if lacking:
            raise MuxwrapError(
                f"predict({type(model).__name__}): its forward takes {', '.join(parameters)} and no {lacking[0]}; wrap a model "
                "that is called with input_ids= and attention_mask=, as those of Transformers are"
            )

    def encode(self, rows: Sequence[Row]) -> list[Tokens | str]:
        """Return the token ids of every row, or what is wrong with its texts."""
        found: list[Any] = [self._wrong(row) for row in rows]
        good = [at for at, wrong in enumerate(found) if wrong is None]
        try:
            tokens = self._tokens([rows[at] for at in good])
        except Exception:  # one text that the tokenizer refuses
            tokens = [self._alone(rows[at]) for at in good]
        for at, each in zip(good, tokens, strict=True):
            found[at] = each
        return found

    def _wrong(self, row: Row) -> str | None:
        for column in self.columns:
            value = row.values.get(column)
            if missing(value):
                return f"no text in {column!r}"
            if not isinstance(value, str):
                return f"a {type(value).__name__} in {column!r}, not a text"
            if not value.strip():
                return f"nothing but white space in {column!r}"
        return None

    def _tokens(self, rows: Sequence[Row]) -> list[Any]:
        if not rows:
            return []
        texts = [[row.values[column] for row in rows] for column in self.columns]
        encoding = self.tokenizer(*texts, **self.options)
        fields = {name: encoding[name] for name in encoding}
        tokens = [{name: list(values[at]) for name, values in fields.items()} for at in range(len(rows))]
        return [each if each["input_ids"] else "no token in the text" for each in tokens]

    def _alone(self, row: Row) -> Tokens | str:
        try:
            return self._tokens([row])[0]
        except Exception as error:
            return f"the tokenizer refuses it: {type(error).__name__}: {error}"

    def problem(self, inputs: Tokens, model: nn.Module) -> str | None:
        """Return which token the model does not have; on a GPU it would end the process."""
        embeddings = getattr(model, "get_input_embeddings", lambda: None)()
        known = getattr(embeddings, "num_embeddings", None)
        largest = max(inputs["input_ids"])
        return None if known is None or largest < known else f"token {largest}, and the model has {known}"

    def length(self, inputs: Tokens) -> int:
        """Return the number of tokens."""
        return len(inputs["input_ids"])

    def shortened(self, inputs: Tokens, length: int) -> Tokens:
        """Return the first tokens, or all and the last one again."""
        return {name: (values + values[-1:])[:length] for name, values in inputs.items()}

    def collate(self, inputs: Sequence[Tokens]) -> tuple[tuple[Any, ...], dict[str, Tensor]]:
        """Return tensors ``[rows, longest]`` and a mask of what is not padding."""
        padding = getattr(self.tokenizer, "pad_token_id", None) or 0
        return (), pad_batch(inputs, padding={"input_ids": padding})
