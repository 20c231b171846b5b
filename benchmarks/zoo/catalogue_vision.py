"""The zoo's image models."""

from __future__ import annotations

from benchmarks.zoo import catalogue_image, catalogue_timm, catalogue_torchvision
from benchmarks.zoo.catalogue import Entry


def entries() -> list[Entry]:
    """Return timm's, torchvision's and Transformers' image classifiers."""
    return [*catalogue_timm.entries(), *catalogue_torchvision.entries(), *catalogue_image.entries()]
