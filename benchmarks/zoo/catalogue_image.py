"""Transformers: every type of the image classification mapping, made small."""

from __future__ import annotations

import inspect
from functools import partial
from typing import Any

import torch
import transformers
from torch import nn
from transformers import PreTrainedConfig
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES

from benchmarks.zoo.catalogue import Entry

SIZES = {
    "hidden_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 96,
    "image_size": 64,
    "depths": 1,
    "num_block_repeats": 1,
}
"""Smaller sizes; where a field holds one number per stage, each of them."""

OPTIONS: dict[str, dict[str, Any]] = {
    "dinat": {"depths": [2, 2], "dilations": [[1, 2], [1, 2]], "num_heads": [2, 4]},
    "donut-swin": {"window_size": 4, "image_size": 128},
    "imagegpt": {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 65},
    "levit": {"image_size": 64, "depths": [1, 1, 1]},
    "mobilenet_v1": {"classifier_dropout_prob": 0.1},  # 0.999 by default: now and then nothing is left
    "perceiver": {"num_latents": 16, "d_latents": 64, "num_self_attends_per_block": 2, "num_cross_attention_heads": 1},
    "swin": {"window_size": 4, "image_size": 128},
    "swinv2": {"window_size": 4},
    "timm_wrapper": {"architecture": "test_resnet"},
}

EXCEPTIONS = {
    "dinat": "needs the package natten",
    "shieldgemma2": "a language model of 4 billion parameters that answers yes or no with its next token",
}


def entries() -> list[Entry]:
    """Return one entry per class of the mapping, named ``type``, or ``type:class`` where a type has several."""
    found = []
    for model_type, names in MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES.items():
        several = names if isinstance(names, (tuple, list)) else [names]
        for name in several:
            label = model_type if len(several) == 1 else f"{model_type}:{name}"
            found.append(Entry("image", label, partial(_build, model_type, name), EXCEPTIONS.get(model_type, "")))
    return found


def _build(model_type: str, name: str) -> tuple[nn.Module, Any]:
    if model_type == "shieldgemma2":  # not small even when made small, and no classifier
        raise NotImplementedError(EXCEPTIONS[model_type])
    config = _config(model_type)
    model = getattr(transformers, name)(config)
    if name in EXAMPLES:
        return model, EXAMPLES[name]()
    sized = hasattr(getattr(config, "vision_config", config), "image_size") or model_type == "timm_wrapper"
    return model, None if sized else _pixels(64)


def _config(model_type: str) -> PreTrainedConfig:
    config_class = CONFIG_MAPPING[model_type]
    default = config_class()
    vision = getattr(default, "vision_config", None)
    if vision is not None:
        return config_class(vision_config={**vision.to_dict(), **_smaller(type(vision))})
    return config_class(**{**_smaller(config_class), **OPTIONS.get(model_type, {})})


def _smaller(config_class: type[PreTrainedConfig]) -> dict[str, Any]:
    default = config_class()
    values = {
        name: getattr(default, name, None) for name in SIZES if name in inspect.signature(config_class).parameters
    }
    return {name: _like(value, SIZES[name]) for name, value in values.items() if value is not None}


def _like(value: Any, size: int) -> Any:
    return [size] * len(value) if isinstance(value, (tuple, list)) else size


def _patches() -> dict[str, torch.Tensor]:
    """Return an image of 4 by 4 patches, as SigLIP 2 takes it."""
    shapes = torch.tensor([[4, 4]])
    mask = torch.ones(1, 16, dtype=torch.long)
    return {"pixel_values": torch.randn(1, 16, 768), "pixel_attention_mask": mask, "spatial_shapes": shapes}


def _colours() -> dict[str, torch.Tensor]:
    return {"input_ids": torch.randint(512, (1, 64))}


def _pixels(size: int) -> dict[str, torch.Tensor]:
    return {"pixel_values": torch.randn(1, 3, size, size)}


EXAMPLES = {
    "ImageGPTForImageClassification": _colours,
    "PerceiverForImageClassificationFourier": partial(_pixels, 224),
    "PerceiverForImageClassificationConvProcessing": partial(_pixels, 224),
    "Siglip2ForImageClassification": _patches,
}
