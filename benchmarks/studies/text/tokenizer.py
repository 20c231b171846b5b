"""From texts to word pieces: BERT's vocabulary, cut to those that the training data uses most."""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from tokenizers import Encoding, Tokenizer
from tokenizers.models import WordPiece
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer
from tokenizers.processors import TemplateProcessing
from torch import Tensor

from benchmarks.studies.text.data import Split, Task, Text

VOCABULARY = Path("vocab") / "bert-base-uncased-vocab.txt.gz"  # in the folder of data
LENGTH = 128  # word pieces per text at most; longer texts are cut
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")  # get the numbers 0 to 3
IGNORED = -100


class Encoded(NamedTuple):
    """A split as tensors: ``ids`` and ``types`` are ``[rows, longest]``, ``labels`` ``[rows]`` or ``[rows, longest]``.

    For tagging ``places[r][w]`` is where word w's first word piece is, -1 if it has none within the length.
    """

    ids: Tensor
    types: Tensor
    lengths: Tensor
    labels: Tensor
    places: list[list[int]]

    def batch(self, rows: Tensor, device: torch.device) -> dict[str, Tensor]:
        """Return rows as a model takes them, as long as the longest of them."""
        longest = int(self.lengths[rows].max())
        mask = torch.arange(longest) < self.lengths[rows].unsqueeze(1)
        labels = self.labels[rows] if self.labels.ndim == 1 else self.labels[rows, :longest]
        made = {"input_ids": self.ids[rows, :longest], "token_type_ids": self.types[rows, :longest]}
        made |= {"attention_mask": mask.long(), "labels": labels}
        return {key: value.to(device) for key, value in made.items()}


class Data(NamedTuple):
    """A task as a model reads it."""

    task: Task
    vocabulary: int  # word pieces
    train: Encoded
    select: Encoded
    report: Encoded
    warm_up: Encoded  # texts of the warm-up


class WordPieces:
    """Turns texts into ids.

    Args:
        vocabulary: file with one word piece per line, gzipped.
        texts: training texts, whose most frequent word pieces are kept.
        most: how many word pieces to keep, special ones included; others become ``[UNK]``. None keeps all that occur.
        tagging: the texts are words.
    """

    def __init__(self, vocabulary: Path, texts: Sequence[Text], most: int | None, tagging: bool) -> None:
        numbers = read_vocabulary(vocabulary)
        self.tagging = tagging
        self.tokenizer = tokenizer(numbers)
        self.new_ids = self._frequent(texts, numbers, most)
        self.size = int(self.new_ids.max()) + 1

    def _frequent(self, texts: Sequence[Text], numbers: dict[str, int], most: int | None) -> Tensor:
        """Return the id of every word piece of the file: by frequency, after the special ones."""
        used = torch.tensor([i for each in self._encode(texts) for i in each.ids])
        counts = used.bincount(minlength=len(numbers))
        special = [numbers[name] for name in SPECIAL]
        counts[special] = 0
        frequent = counts.argsort(descending=True, stable=True)[: None if most is None else most - len(SPECIAL)]
        chosen = torch.cat([torch.tensor(special), frequent[counts[frequent] > 0]])
        new_ids = torch.full((len(numbers),), SPECIAL.index("[UNK]"))
        new_ids[chosen] = torch.arange(len(chosen))
        return new_ids

    def split(self, split: Split, classes: Sequence[str]) -> Encoded:
        """Encode a split with its labels; a word's tag stands at its first word piece, the others are ignored."""
        encodings = self._encode(split.texts)
        ids, types, lengths = self._padded(encodings)
        if not self.tagging:
            return Encoded(ids, types, lengths, torch.tensor(split.labels), [])
        places = [_places(each, len(text)) for each, text in zip(encodings, split.texts, strict=True)]
        return Encoded(ids, types, lengths, _tags_at(places, split, classes, ids), places)

    def unlabelled(self, texts: Sequence[Text]) -> Encoded:
        """Encode sentences without labels."""
        ids, types, lengths = self._padded(self.tokenizer.encode_batch([text[0] for text in texts]))
        return Encoded(ids, types, lengths, torch.zeros(len(texts), dtype=torch.long), [])

    def _encode(self, texts: Sequence[Text]) -> list[Encoding]:
        if self.tagging:
            return self.tokenizer.encode_batch([list(words) for words in texts], is_pretokenized=True)
        return self.tokenizer.encode_batch([text if len(text) == 2 else text[0] for text in texts])

    def _padded(self, encodings: list[Encoding]) -> tuple[Tensor, Tensor, Tensor]:
        lengths = torch.tensor([len(each.ids) for each in encodings])
        ids, types = (torch.zeros(len(encodings), int(lengths.max()), dtype=torch.long) for _ in range(2))
        for row, each in enumerate(encodings):
            ids[row, : len(each.ids)] = self.new_ids[torch.tensor(each.ids)]
            types[row, : len(each.ids)] = torch.tensor(each.type_ids)
        return ids, types, lengths


def read_vocabulary(path: Path) -> dict[str, int]:
    """Return the number of every word piece of a file with one per line, gzipped."""
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return {line.rstrip("\n"): number for number, line in enumerate(file)}


def tokenizer(numbers: dict[str, int], length: int = LENGTH) -> Tokenizer:
    """Return BERT's tokenizer, which cuts texts and pairs to ``length`` word pieces.

    Args:
        numbers: of every word piece.
        length: the special pieces included.
    """
    made = Tokenizer(WordPiece(numbers, unk_token="[UNK]"))
    made.normalizer = BertNormalizer(lowercase=True)
    made.pre_tokenizer = BertPreTokenizer()
    separators = [(name, numbers[name]) for name in ("[CLS]", "[SEP]")]
    made.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=separators
    )
    made.enable_truncation(length)
    return made


def _tags_at(places: list[list[int]], split: Split, classes: Sequence[str], ids: Tensor) -> Tensor:
    """Return the number of every word's tag where its first word piece is: ``[rows, longest]``."""
    labels = torch.full_like(ids, IGNORED)
    number = {name: k for k, name in enumerate(classes)}
    for row, (at, tags) in enumerate(zip(places, split.labels, strict=True)):
        for place, tag in zip(at, tags, strict=True):
            if place >= 0:
                labels[row, place] = number[tag]
    return labels


def _places(encoding: Encoding, words: int) -> list[int]:
    """Return where the first word piece of every word is; -1 for none."""
    places = [-1] * words
    for place, word in reversed(list(enumerate(encoding.word_ids))):
        if word is not None:
            places[word] = place
    return places
