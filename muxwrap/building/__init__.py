"""From what a user asks for to the components of a multiplexed model."""

from muxwrap.building.build import build
from muxwrap.building.checks import check_backbone, check_shuffle
from muxwrap.building.settings import Settings

__all__ = ["Settings", "build", "check_backbone", "check_shuffle"]
