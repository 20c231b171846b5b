"""What is served: a text model with random weights, the same in every process, its tokenizer and texts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

import muxwrap

SIZES = (1, 2, 4, 8)
WORDS = 1000


@dataclass(frozen=True)
class Subject:
    """A BERT-like classifier and the length of its texts.

    Speed does not depend on the values of weights, and whether answers are the model's own shows with any.
    """

    layers: int = 12
    width: int = 768
    length: int = 128

    @property
    def name(self) -> str:
        return f"BERT {self.layers}x{self.width}, {self.length} tokens"

    def model(self, wrapped: bool) -> nn.Module:
        import transformers

        torch.manual_seed(0)
        config = transformers.BertConfig(
            vocab_size=WORDS + 4,
            hidden_size=self.width,
            num_hidden_layers=self.layers,
            num_attention_heads=max(1, self.width // 64),
            intermediate_size=4 * self.width,
            max_position_embeddings=self.length + 8,
        )
        bare = transformers.BertForSequenceClassification(config).eval()
        return muxwrap.wrap(bare, SIZES).eval() if wrapped else bare

    def tokenizer(self) -> Any:
        from tokenizers import Tokenizer, models, pre_tokenizers, processors
        from transformers import PreTrainedTokenizerFast

        names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *(f"w{k}" for k in range(WORDS))]
        ids = {name: k for k, name in enumerate(names)}
        made = Tokenizer(models.WordLevel(ids, "[UNK]"))
        made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
        ends = [("[CLS]", 2), ("[SEP]", 3)]
        made.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=ends)
        return PreTrainedTokenizerFast(
            tokenizer_object=made, pad_token="[PAD]", unk_token="[UNK]", model_max_length=self.length
        )

    def texts(self, count: int) -> list[str]:
        """Texts of the full length, no two alike."""
        rng = torch.Generator().manual_seed(1)
        drawn = torch.randint(WORDS, (count, self.length - 2), generator=rng)
        return [" ".join(f"w{word}" for word in row) for row in drawn.tolist()]
