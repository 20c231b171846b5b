"""Helpers that know nothing of multiplexing."""
