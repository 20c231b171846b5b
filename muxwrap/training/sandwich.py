"""Training one set of weights for several numbers of rows per mixture."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from muxwrap.demuxers.accumulations import apart
from muxwrap.errors import MuxwrapError
from muxwrap.multiplex import Multiplex


def sandwich(model: Multiplex, between: int = 1, generator: torch.Generator | None = None) -> Iterator[int]:
    """Set ``model.n`` to the sizes of one training step, in turn: the smallest, the largest, and some at random between.

    The smallest comes first, so that its answers can teach the others; accumulate the gradients and step once after the
    loop, which leaves ``model.n`` as it was.

    Source: Yu and Huang, "Universally slimmable networks and improved training techniques", ICCV 2019 (1903.05134), section
    3.2: the sandwich rule, with inplace distillation.

    Args:
        model: wrapped with several sizes, as by ``muxwrap.wrap(backbone, n=(1, 2, 4, 8))``.
        between: sizes at random besides the smallest and the largest, at most as many as there are.
        generator: of the random choice. Ranks that train together must draw alike: give each one of the same seed.

    Yields:
        The rows per mixture that is set.

    Raises:
        MuxwrapError: the model has one size.

    Example:
        >>> for n in sandwich(model):
        ...     logits = model(x)
        ...     if n == model.sizes[0]:
        ...         loss, answers = F.cross_entropy(logits, y), logits.detach()
        ...     else:
        ...         loss = F.cross_entropy(logits, answers.softmax(-1))
        ...     loss.backward()
        >>> optimizer.step()
    """
    if len(model.sizes) < 2:
        raise MuxwrapError(
            f"sandwich(model): the model was wrapped for n={model.sizes[-1]} alone; give wrap several sizes, such as "
            "n=(1, 2, 4)"
        )
    middle = model.sizes[1:-1]
    drawn = torch.randperm(len(middle), generator=generator)[:between].tolist()
    before = model.n
    try:
        for n in (model.sizes[0], model.sizes[-1], *(middle[at] for at in drawn)):
            model.n = n
            with apart():  # each size is a batch of its own, over which gradients are centered
                yield n
    finally:
        model.n = before
