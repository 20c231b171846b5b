"""Pack records of the published code's answers into the one file that the tests read.

    python tools/published_records.py FOLDER tests/published/published_records.safetensors

A record is a safetensors file: ``state.*`` (random weights under the published names), ``input_ids``, ``attention_mask``,
``expected.logits`` and ``expected.demuxed`` (what the head was given), and in its metadata the config and the class. Kept
are the weights that the answers depend on; of an embedding table, the rows that were read. Many records share weights,
and a tensor is kept once.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

TABLE = "bert.embeddings.word_embeddings.weight"
READ = torch.cat([torch.tensor([101]), torch.arange(660, 681)])  # the ids that MUX-PLM itself puts in


def tensors_of(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return a record's tensors, without those that change no answer, and its metadata."""
    with safe_open(path, "pt") as file:
        found = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (it is no dict)
        about = {"config": file.metadata()["config"], "class": file.metadata()["source"].rpartition("class ")[2]}
    kept = {name: value for name, value in found.items() if not name.startswith("state.retrieval_head.")}
    table = kept.pop("state." + TABLE, None)
    if table is not None:
        ids = torch.cat([kept["input_ids"].flatten(), READ]).unique()
        kept |= {"word_embeddings.used_ids": ids, "word_embeddings.used_rows": table[ids]}
    return kept, about


def main(folder: str, target: str) -> None:
    """Write every record of a folder into one file."""
    numbers: dict[bytes, str] = {}
    tensors: dict[str, Tensor] = {}
    records = {}
    for path in sorted(Path(folder).glob("*.safetensors")):
        kept, about = tensors_of(path)
        places = {}
        for name, value in kept.items():
            content = f"{value.dtype} {list(value.shape)}".encode() + value.contiguous().numpy().tobytes()
            places[name] = numbers.setdefault(content, str(len(numbers)))
            tensors[places[name]] = value.contiguous()
        records[path.stem] = {**about, "tensors": places}
    save_file(tensors, target, {"records": json.dumps(records)})


if __name__ == "__main__":
    main(*sys.argv[1:])
