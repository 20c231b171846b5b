"""Real text without a download, for the two Hugging Face examples: sentences of docstrings in Python's standard library."""

from __future__ import annotations

import ast
import importlib.util
import random
import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from transformers import BertTokenizer


def sentences(module: str) -> list[str]:
    """Return the sentences of all docstrings of a module, without the examples in them."""
    spec = importlib.util.find_spec(module)
    assert spec is not None and spec.origin is not None, f"{module} has no source file here"
    found = []
    for node in ast.walk(ast.parse(Path(spec.origin).read_text(encoding="utf-8"))):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            text = re.sub(r"(?m)^\s*(>>>|\.\.\.).*$", "", ast.get_docstring(node) or "")
            found += [" ".join(each.split()) for each in re.split(r"(?<=[.:])\s+|\n\n", text)]
    return list(dict.fromkeys(each for each in found if 4 <= len(each.split()) <= 24))


def shuffled_split(rows: list, held_out: int, limit: int | None = None) -> tuple[list, list]:
    """Return rows to train on and rows to evaluate on."""
    random.Random(0).shuffle(rows)
    rows = rows[:limit]
    return rows[held_out:], rows[:held_out]


def make_tokenizer(texts: Iterable[str], size: int = 2000) -> BertTokenizer:
    """Return BERT's tokenizer with the most frequent words as its vocabulary."""
    words = Counter(word for text in texts for word in re.findall(r"[^\W_]+|[^\w\s]|_", text.lower()))
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    vocabulary = [*special, *(word for word, _ in words.most_common(size - len(special)))]
    return BertTokenizer(vocab={word: index for index, word in enumerate(vocabulary)})
