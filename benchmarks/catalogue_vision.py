"""The zoo's image models."""

from __future__ import annotations

import catalogue_image
import catalogue_timm
import catalogue_torchvision
from catalogue import Entry


def entries() -> list[Entry]:
    """Return timm's, torchvision's and Transformers' image classifiers."""
    return [*catalogue_timm.entries(), *catalogue_torchvision.entries(), *catalogue_image.entries()]
