"""Batch inference over many rows with a worker killed in the middle."""
