"""Text in, by the tokenizer that the model was trained with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from muxwrap.errors import MuxwrapError
from muxwrap.samplers import pad_batch
from muxwrap.serving.fields import read_fields
from muxwrap.serving.inputs import Row
from muxwrap.serving.requests import RequestError

LONGEST = 512
"""Tokens of a request where nothing else is said: a model without positions would take any number, and memory with it."""


def pad(rows: Sequence[Row], padding: Mapping[str, int]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Collate tokenised rows into keyword arguments as long as the longest row, padded on the right."""
    return (), dict(pad_batch(rows, padding=padding))


class Text:
    """Text, or a pair of texts: ``{"text": "...", "pair": "..."}``.

    Args:
        tokenizer: a Transformers tokenizer.
        backbone: the model it is for; its table of tokens and positions bound what is taken.
        max_length: most tokens of a request; by default what tokenizer and model allow, at most 512.

    Raises:
        MuxwrapError: the tokenizer has tokens that the model has no row for, or ``max_length`` is no number of tokens.
    """

    field = "text"
    media: tuple[str, ...] = ()

    def __init__(self, tokenizer: Any, backbone: Any = None, max_length: int | None = None) -> None:
        config: Any = getattr(backbone, "config", None)
        table = getattr(config, "vocab_size", None)
        if table is not None and len(tokenizer) > table:
            raise MuxwrapError(
                f"tokenizer={type(tokenizer).__name__} has {len(tokenizer)} tokens, and the model a table of {table}; give the "
                "tokenizer that the model was trained with"
            )
        if max_length is not None and max_length < 1:
            raise MuxwrapError(f"max_length={max_length!r}: no request would fit; give a number of tokens")
        bounds = (LONGEST, tokenizer.model_max_length, getattr(config, "max_position_embeddings", None) or LONGEST)
        self.max_length = min(bounds) if max_length is None else max_length
        self.tokenizer = tokenizer
        padding = {
            "input_ids": tokenizer.pad_token_id or 0,
            "token_type_ids": getattr(tokenizer, "pad_token_type_id", 0),
        }
        self.collate = partial(pad, padding=padding)
        words = {"type": "string", "description": f"at most {self.max_length} tokens"}
        self.schema: Mapping[str, Any] = {self.field: words, "pair": {"type": "string", "description": "a second text"}}

    def read(self, body: bytes, media: str) -> tuple[Row, Mapping[str, Any]]:
        """Return the tokens of a JSON body.

        Raises:
            RequestError: a text is no string, no Unicode, without tokens or too long.
        """
        fields = read_fields(body, self.field, ("pair",))
        texts = [fields[name] for name in (self.field, "pair") if fields.get(name) is not None]
        if len(texts) == 0 or not all(isinstance(text, str) for text in texts):
            raise RequestError(422, "'text' or 'pair' is no string; send strings")
        try:
            "".join(texts).encode()
        except UnicodeEncodeError:
            raise RequestError(
                422, "the text has half of a surrogate pair, which is no Unicode; send whole ones"
            ) from None
        row = self._tokens(*texts)
        length = len(row["input_ids"])
        if not 0 < length <= self.max_length:
            raise RequestError(422, f"the text has {length} tokens; send 1 to {self.max_length}")
        return row, fields

    def largest(self) -> Row:
        """Return a row of as many tokens as are allowed."""
        row = self._tokens("a")
        return {name: np.resize(values, self.max_length) for name, values in row.items()}

    def _tokens(self, *texts: str) -> dict[str, np.ndarray]:
        encoded = self.tokenizer(*texts, truncation=False, verbose=False)
        return {
            name: np.asarray(encoded[name], np.int64) for name in self.tokenizer.model_input_names if name in encoded
        }
