"""Strategies that act on one position's features, and fit anywhere."""
