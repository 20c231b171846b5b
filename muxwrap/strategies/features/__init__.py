"""Strategies that are applied to the features of one position, and fit anywhere."""
