"""Strategies that act on sequences of tokens."""
