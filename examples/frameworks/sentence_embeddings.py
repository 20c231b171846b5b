"""Sentence embeddings with sentence-transformers: in-batch negatives, without the index as a way to cheat.

python examples/frameworks/sentence_embeddings.py

Without shuffle= and hide_index= an anchor and its positive, which stand at the same index of two calls, are told from the
negatives by that index, and the loss falls although nothing is learned of the sentences.
"""

from __future__ import annotations

import random
import sys
import tempfile
from functools import partial
from pathlib import Path

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss
from sentence_transformers.sentence_transformer.modules import Pooling, Transformer
from transformers import BertConfig, BertModel

import muxwrap
from muxwrap.demuxers import MLP
from muxwrap.training import settle_index_norm

sys.path.append(str(Path(__file__).parent.parent))
from stdlib_text import make_tokenizer, sentences


def halves(text: str) -> tuple[str, str]:
    """Return two halves of a sentence's words, drawn at random: an anchor and its positive."""
    words = text.split()
    random.shuffle(words)
    return " ".join(words[::2]), " ".join(words[1::2])


def embedder(texts: list[str], n: int) -> SentenceTransformer:
    """Return a small untrained model; a trained one is SentenceTransformer(name), wrapped at the same place."""
    config = BertConfig(
        hidden_size=64, num_hidden_layers=2, num_attention_heads=4, intermediate_size=128, vocab_size=2000
    )
    with tempfile.TemporaryDirectory() as folder:
        BertModel(config).save_pretrained(folder)
        make_tokenizer(texts).save_pretrained(folder)
        transformer = Transformer(folder)
    model = SentenceTransformer(modules=[transformer, Pooling(64)], device="cpu")
    hidden = partial(MLP, hide_index=True)
    transformer.model = muxwrap.wrap(transformer.model, n, demux=hidden, shuffle=True)
    return model


def main(epochs: int = 5, limit: int | None = None) -> dict:
    torch.manual_seed(0)
    random.seed(0)
    texts = [text for module in ("argparse", "datetime", "zipfile") for text in sentences(module)][:limit]
    model = embedder(texts, n=2)
    loss_of, losses = MultipleNegativesRankingLoss(model), []
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    for _ in range(epochs):
        random.shuffle(texts)
        for start in range(0, len(texts) - 31, 32):
            pairs = zip(*map(halves, texts[start : start + 32]), strict=True)
            loss = loss_of([model.preprocess(list(each)) for each in pairs], None)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    batches = [model.preprocess(texts[start : start + 32]) for start in range(0, len(texts), 32)]
    settle_index_norm(model[0].model, [{key: each[key] for key in ("input_ids", "attention_mask")} for each in batches])
    found = model.encode(texts, batch_size=32, convert_to_tensor=True, show_progress_bar=False)
    print(
        f"{len(found)} sentences in {found.shape[1]} numbers each; loss {losses[0]:.2f} at first, {losses[-1]:.2f} at last"
    )
    return {"model": model, "texts": texts, "embeddings": found, "losses": losses}


if __name__ == "__main__":
    main()
