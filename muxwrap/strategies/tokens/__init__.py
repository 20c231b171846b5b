"""Strategies that are applied to sequences of tokens."""
