"""Rows of text in several files, a tokenizer for them and a wrapped model, all made from a seed."""

from __future__ import annotations

import csv
import json
import random
from pathlib import Path

import torch
from torch import Tensor, nn

import muxwrap
from muxwrap import Multiplex
from muxwrap._util.seeding import seeded

LONGEST = 48  # bytes of a text, and tokens of a row


class Classifier(nn.Module):
    """Token ids ``[B, L]`` with a mask to 4 classes: embeddings, transformer layers, a mean, a linear layer."""

    def __init__(self, dim: int, layers: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(256, dim)
        self.position = nn.Embedding(LONGEST, dim)
        layer = nn.TransformerEncoderLayer(dim, max(dim // 64, 1), 4 * dim, dropout=0.0, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
        self.out = nn.Linear(dim, 4)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        embedded = self.embed(input_ids) + self.position.weight[: input_ids.shape[1]]
        hidden = self.encoder(embedded, src_key_padding_mask=attention_mask == 0)
        weights = attention_mask.to(hidden.dtype)[..., None]
        return self.out((hidden * weights).sum(1) / weights.sum(1))


class Bytes:
    """A tokenizer whose tokens are bytes."""

    def __call__(self, texts: list[str], truncation: bool = True) -> dict[str, list[list[int]]]:
        return {"input_ids": [list(text.encode())[:LONGEST] for text in texts]}


def make_model(n: int, dim: int, layers: int) -> Multiplex:
    """Return the wrapped classifier with random weights, always the same."""
    with seeded(0):
        net = Classifier(dim, layers).eval()
    ids = torch.ones(1, 8, dtype=torch.long)
    return muxwrap.wrap(net, n, example_input={"input_ids": ids, "attention_mask": ids}, demux_at="out").eval()


def write_rows(folder: Path, rows: int, files: int = 5) -> list[str]:
    """Write rows ``id, text`` over Parquet, CSV and JSON lines, and return the ids; one text of a thousand is empty."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rng = random.Random(0)
    letters = "abcdefghijklmnopqrstuvwxyz     "
    texts = ["".join(rng.choices(letters, k=rng.randint(4, LONGEST))).strip() or "a" for _ in range(rows)]
    texts[::1000] = [""] * len(texts[::1000])
    ids = [f"row {number}" for number in range(rows)]
    folder.mkdir(parents=True)
    for file in range(files):
        columns = {"id": ids[file::files], "text": texts[file::files]}
        path = folder / f"{file}"
        if file % 3 == 0:
            pq.write_table(pa.table(columns), path.with_suffix(".parquet"))
        elif file % 3 == 1:
            with path.with_suffix(".csv").open("w", newline="", encoding="utf-8") as table:
                csv.writer(table).writerows([tuple(columns), *zip(*columns.values(), strict=True)])
        else:
            lines = (json.dumps({"id": each, "text": text}) for each, text in zip(*columns.values(), strict=True))
            path.with_suffix(".jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return ids
