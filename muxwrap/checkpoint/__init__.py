"""Save a wrapped model and load it: how it was wrapped, what was added, and the backbone as its own library reads it.

| file | holds |
| --- | --- |
| ``muxwrap.json`` | how the model was wrapped, how its backbone is made, and the digests of all files |
| ``muxwrap.safetensors`` | the tensors that were added: φ and the demuxers |
| ``model.safetensors``, ``config.json`` | the backbone under its own names, and its config if it has one |
| ``backbone.safetensors`` | the backbone in their place, if nothing made of its config has these names (adapters, for one) |

A loader that finds names which it does not expect leaves random weights where it expected others, and logs a line; one that
finds no file fails. All files of a save replace the old ones together, see :mod:`muxwrap.checkpoint.folder`.
"""

from __future__ import annotations

from muxwrap.checkpoint.config import CONFIG, describe, unknown_fields
from muxwrap.checkpoint.loading import fill, load_into, make_backbone
from muxwrap.checkpoint.reading import Saved, files, read
from muxwrap.checkpoint.saving import BACKBONE_CONFIG, save

__all__ = [
    "BACKBONE_CONFIG",
    "CONFIG",
    "Saved",
    "describe",
    "files",
    "fill",
    "load_into",
    "make_backbone",
    "read",
    "save",
    "unknown_fields",
]
