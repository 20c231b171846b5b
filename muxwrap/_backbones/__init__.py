"""Backbones made again by their libraries from what a saved folder says of them."""

from __future__ import annotations

from muxwrap._backbones.recipe import make, recipe_of

__all__ = ["make", "recipe_of"]
