"""One file that holds all that a run needs: the word pieces of every split, the labels, and the backbone's weights."""

from __future__ import annotations

import lzma
from pathlib import Path
from typing import Any

from safetensors.torch import load
from torch import Tensor

from benchmarks.studies.convert.backbone import Sizes

FILE = "packed.safetensors.xz"
SPLITS = ("train", "select", "report")


class Packed:
    """A packed file, read.

    Args:
        folder: that holds it.
        rows: rows per training split at most; the others are cut to the same number. None keeps all.
    """

    def __init__(self, folder: Path, rows: int | None = None) -> None:
        self.tensors = load(lzma.decompress((folder / FILE).read_bytes()))
        self.rows = rows

    def classes(self, task: str) -> int:
        return int(self.tensors[f"{task}.classes"])

    def sizes(self) -> Sizes:
        words, positions = (self.tensors[f"weights.embeddings.{name}.weight"] for name in ("word", "position"))
        layers = sum(name.endswith(".qkv.weight") for name in self.tensors)
        inner = self.tensors["weights.layers.0.up.weight"]
        return Sizes(len(words), len(positions), words.shape[1], max(1, words.shape[1] // 32), len(inner), layers)

    def weights(self) -> dict[str, Tensor]:
        prefix = "weights."
        return {k.removeprefix(prefix): v.float() for k, v in self.tensors.items() if k.startswith(prefix)}

    def split(self, task: str, split: str) -> dict[str, Any]:
        """Return ids of all rows one after the other, lengths and labels."""
        ids, lengths, labels = (self.tensors[f"{task}.{split}.{key}"] for key in ("ids", "lengths", "labels"))
        lengths = lengths[: self.rows].long()
        return {"ids": ids[: int(lengths.sum())].long(), "lengths": lengths, "labels": labels[: self.rows].long()}
