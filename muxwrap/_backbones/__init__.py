"""Backbones made again by their libraries from what a saved folder says of them."""

from __future__ import annotations

from muxwrap._backbones.recipe import make, recipe_of
from muxwrap._backbones.transformers import MODEL_CONFIG

__all__ = ["MODEL_CONFIG", "make", "recipe_of"]
