"""Strategies that are applied to whole images or feature maps."""
