"""Tiny Transformers text models, made from code; shared by the tests."""

from __future__ import annotations

from typing import Any

import torch
import transformers
from torch import Tensor

from benchmarks.zoo.tiny_configs import tiny_config

TASKS = {
    "base": transformers.AutoModel,
    "sequence": transformers.AutoModelForSequenceClassification,
    "token": transformers.AutoModelForTokenClassification,
}


def tiny(task: str, model_type: str, **fields: Any) -> transformers.PreTrainedModel:
    """A model in evaluation mode whose layers differ enough from zero that every input shows in the answers."""
    transformers.logging.set_verbosity_error()
    torch.manual_seed(0)
    # An image or audio part, if any, stays out of the way: only text goes in.
    return TASKS[task].from_config(tiny_config(model_type, num_labels=3, initializer_range=0.2, **fields)).eval()


def sentences(lengths: tuple[int, ...], padding: int = 7, seed: int = 0) -> dict[str, Tensor]:
    """Token ids and the mask of sentences; what stands at the padding is ``padding``."""
    longest = max(lengths)
    mask = (torch.arange(longest) < torch.tensor(lengths)[:, None]).long()
    ids = torch.randint(10, 60, mask.shape, generator=torch.Generator().manual_seed(seed))
    return {"input_ids": torch.where(mask.bool(), ids, padding), "attention_mask": mask}
