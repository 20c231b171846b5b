"""Whether every answer is what the same model gives in process for the group that the answer was made in."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import torch

from muxwrap.multiplex import Multiplex

TOLERANCE = 1e-4
"""Of a logit: a pass of the server has other numbers of mixtures than one here, and kernels round differently then."""


def groups(answers: Mapping[int, Mapping[str, Any]]) -> dict[int, list[list[int]]]:
    """Return the numbers of the texts that shared a mixture, by n, in the order of their indices."""
    by_mixture: dict[Hashable, list[int]] = {}
    for number in sorted(answers, key=lambda number: answers[number]["index"]):
        by_mixture.setdefault(answers[number]["mixture"], []).append(number)
    found: dict[int, list[list[int]]] = {}
    for members in by_mixture.values():
        found.setdefault(answers[members[0]]["n"], []).append(members)
    return found


@torch.inference_mode()
def differing(
    model: Any,
    tokenizer: Any,
    texts: Sequence[str] | Mapping[int, str],
    answers: Mapping[int, Mapping[str, Any]],
    mixtures: int = 4,
) -> tuple[int, float]:
    """Return how many answers differ by more than the tolerance, and the largest difference.

    Args:
        model: the same as the server's.
        tokenizer: likewise.
        texts: what was sent, by number.
        answers: by number of the text.
        mixtures: of a pass here.
    """
    wrong, largest = 0, 0.0
    for n, all_members in groups(answers).items():
        view = model.fixed(n) if isinstance(model, Multiplex) else model
        for start in range(0, len(all_members), mixtures):
            some = all_members[start : start + mixtures]
            filled = [texts[members[k % len(members)]] for members in some for k in range(n)]
            logits = view(**tokenizer(filled, padding=True, return_tensors="pt")).logits
            for j, members in enumerate(some):
                given = torch.tensor([answers[number]["output"]["logits"] for number in members])
                gap = (given - logits[j * n : j * n + len(members)]).abs().amax(1)
                wrong += int((gap > TOLERANCE).sum())
                largest = max(largest, float(gap.max()))
    return wrong, largest
