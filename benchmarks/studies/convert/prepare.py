"""Makes the packed file: word pieces of every split, labels, and the backbone's weights.

Ids are renumbered to the word pieces that occur, and only their embeddings are kept. Weights are float16, and the file is
compressed, a fifth of its size.
"""

from __future__ import annotations

import lzma
from pathlib import Path

import torch
from safetensors.torch import load_file, save
from torch import Tensor

from benchmarks.studies.convert.backbone import from_transformers
from benchmarks.studies.convert.pack import FILE, SPLITS
from benchmarks.studies.convert.tasks import LENGTHS, TASKS
from benchmarks.studies.text.data import Split, Task
from benchmarks.studies.text.tokenizer import VOCABULARY, read_vocabulary, tokenizer

WORDS = "embeddings.word.weight"


def pack(data: Path, weights: Path, out: Path, limit: int | None) -> Path:
    """Write the packed file, and return its path.

    Args:
        data: folder with the tasks' folders and the vocabulary.
        weights: ``model.safetensors`` of a BERT of Transformers.
        out: folder to write to.
        limit: rows per split at most.
    """
    numbers = read_vocabulary(data / VOCABULARY)
    tensors: dict[str, Tensor] = {}
    for name, read in TASKS.items():
        task = read(data / name)
        tensors |= {f"{name}.{key}": value for key, value in _encode(task, numbers, limit).items()}
        tensors[f"{name}.classes"] = torch.tensor(len(task.classes))
    found = from_transformers({key.removeprefix("bert."): value for key, value in load_file(weights).items()}, 6)
    _cut_vocabulary(tensors, found, [numbers[piece] for piece in ("[PAD]", "[UNK]", "[CLS]", "[SEP]")])
    found["embeddings.position.weight"] = found["embeddings.position.weight"][: max(LENGTHS.values())]
    tensors |= {f"weights.{name}": value.half().contiguous() for name, value in found.items()}
    out.mkdir(parents=True, exist_ok=True)
    (out / FILE).write_bytes(lzma.compress(save(tensors)))
    return out / FILE


def _encode(task: Task, numbers: dict[str, int], limit: int | None) -> dict[str, Tensor]:
    """Return every split's word pieces one after the other, how many each row has, and the labels."""
    made = {}
    for split, rows in zip(SPLITS, (task.train, task.select, task.report), strict=True):
        kept: Split = rows if limit is None else rows.rows(slice(limit))
        pieces = tokenizer(numbers, LENGTHS[task.name])
        encoded = pieces.encode_batch([text if len(text) == 2 else text[0] for text in kept.texts])
        made[f"{split}.ids"] = torch.tensor([i for row in encoded for i in row.ids], dtype=torch.int32)
        made[f"{split}.lengths"] = torch.tensor([len(row.ids) for row in encoded], dtype=torch.int16)
        made[f"{split}.labels"] = torch.tensor(kept.labels, dtype=torch.uint8)
    return made


def _cut_vocabulary(tensors: dict[str, Tensor], weights: dict[str, Tensor], first: list[int]) -> None:
    """Renumber all ids, the special pieces first, and keep the embeddings of those that occur."""
    used = torch.zeros(len(weights[WORDS]), dtype=torch.bool)
    names = [name for name in tensors if name.endswith(".ids")]
    for name in names:
        used[tensors[name].long()] = True
    used[first] = False
    kept = torch.cat([torch.tensor(first), used.nonzero().flatten()])
    new = torch.zeros(len(used), dtype=torch.int16)
    new[kept] = torch.arange(len(kept), dtype=torch.int16)
    for name in names:
        tensors[name] = new[tensors[name].long()]
    weights[WORDS] = weights[WORDS][kept]
