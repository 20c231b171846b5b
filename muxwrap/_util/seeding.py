"""Initial values that a seed fixes, and the global random state left alone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Let torch's initialisers draw from ``seed`` inside a ``with`` block, and put the old state back."""
    # Only the CPU's generator is set: torch.manual_seed would move every GPU's, which fork_rng does not restore.
    # For the same reason layers are made on the CPU, whatever the default device, and are moved with the model.
    with torch.random.fork_rng(devices=[]), torch.device("cpu"):
        torch.default_generator.manual_seed(seed)
        yield
