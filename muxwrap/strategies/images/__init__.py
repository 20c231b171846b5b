"""Strategies that act on whole images or feature maps."""
