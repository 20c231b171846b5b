"""How a backbone is made again: the library, and what it has to be told.

A recipe is stored only if what it makes differs in nothing but its tensors' values, see :func:`difference`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from muxwrap._backbones import timm, transformers
from muxwrap._backbones.alike import difference, without_values
from muxwrap.errors import MuxwrapError

FAMILIES: dict[str, Any] = {"transformers": transformers, "timm": timm}


def recipe_of(backbone: nn.Module) -> dict[str, Any] | None:
    """Return how a backbone is made again, in JSON's types; None where no library is known to make it."""
    for library, family in FAMILIES.items():
        for recipe in family.candidates(backbone):
            try:
                with without_values():
                    new = family.make(recipe)
            except Exception:  # an architecture that does not take an argument, a config that its class refuses
                continue
            if difference(backbone, new) is None:
                return {"library": library, **family.stored(recipe), **_dtypes(backbone, new)}
    return None


def make(recipe: dict[str, Any] | None, folder: Path, shown: str) -> nn.Module:
    """Make a backbone with random weights; nobody's random state moves.

    Args:
        recipe: what :func:`recipe_of` returned.
        folder: with the files that the library reads.
        shown: the call that messages repeat.

    Raises:
        MuxwrapError: there is no recipe, the library is not installed, or it does not make the model.
    """
    family = FAMILIES.get(str(recipe.get("library"))) if isinstance(recipe, dict) else None
    if recipe is None or family is None:
        raise MuxwrapError(
            f"{shown}: the folder does not say how its backbone is made (a class of the user's own, adapters, a changed "
            "head); give the bare model, backbone=..."
        )
    try:
        with torch.random.fork_rng(devices=()):
            made: nn.Module = family.make(family.read(recipe, folder))
        for name, dtype in recipe.get("buffers", {}).items():
            made.get_buffer(name).data = made.get_buffer(name).to(getattr(torch, dtype))
    except MuxwrapError as error:
        raise MuxwrapError(f"{shown}: {error}") from error
    except ImportError as error:
        raise MuxwrapError(
            f"{shown}: its backbone is a model of {recipe['library']} ({error}); pip install 'muxwrap[{family.EXTRA}]'"
        ) from error
    except Exception as error:
        raise MuxwrapError(
            f"{shown}: this version of {recipe['library']} does not make the saved backbone ({type(error).__name__}: {error}); "
            "give the bare model, backbone=..."
        ) from error
    return made


def _dtypes(backbone: nn.Module, new: nn.Module) -> dict[str, Any]:
    """Return the dtypes of buffers that no file holds, where they are not the usual ones."""
    saved, fresh = backbone.state_dict().keys(), dict(new.named_buffers())
    own = {name: value for name, value in backbone.named_buffers() if name not in saved}
    other = {name: str(value.dtype)[6:] for name, value in own.items() if value.dtype != fresh[name].dtype}
    return {"buffers": other} if other else {}
