"""Every text architecture that Transformers maps to sequence and to token classification, tiny and made from code."""

from __future__ import annotations

from functools import partial
from typing import Any

from torch import nn
from transformers import AutoModelForSequenceClassification, AutoModelForTokenClassification
from transformers.models.auto import modeling_auto

from benchmarks.zoo.catalogue import Entry
from benchmarks.zoo.tiny_configs import tiny_config

FAMILIES = {
    "sequence": (AutoModelForSequenceClassification, modeling_auto.MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES),
    "token": (AutoModelForTokenClassification, modeling_auto.MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING_NAMES),
}

EXCEPTIONS = {
    "canine": "downsamples the mask of the batch's rows in its trunk, and takes no embedded input",
    "layoutlmv2": "needs detectron2",
    "mra": "its attention gives zeros where its CUDA kernel is not, so that the first token sees no other",
}


def entries() -> list[Entry]:
    """Return one entry per model type and task."""
    return [
        Entry(family, name, partial(_build, auto, name), EXCEPTIONS.get(name, ""))
        for family, (auto, names) in FAMILIES.items()
        for name in names
    ]


def _build(auto: Any, model_type: str) -> tuple[nn.Module, None]:
    return auto.from_config(tiny_config(model_type, num_labels=3)), None
