"""What company tells and does, in models where the answer is known."""

from __future__ import annotations

import pytest
import texts
import torch
from nets import batch, make
from torch import Tensor, nn

import muxwrap
from muxwrap import Multiplex, MuxwrapError
from muxwrap.evaluation import adversarial_company, company_readable

CLASSES = 4


class Plain(nn.Module):
    """Vectors ``[B, 8]``, and an answer that is their first numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.trunk, self.head = nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, CLASSES)
        with torch.no_grad():
            for layer in (self.stem, self.trunk, self.head):
                layer.weight.copy_(torch.eye(*layer.weight.shape))
                layer.bias.zero_()

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.trunk(self.stem(x)))


def rows(count: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """One-hot rows with some noise, and their labels."""
    rng = torch.Generator().manual_seed(seed)
    labels = torch.randint(CLASSES, (count,), generator=rng)
    x = torch.cat([nn.functional.one_hot(labels, CLASSES).float(), torch.zeros(count, CLASSES)], 1)
    return x + 0.01 * torch.randn(x.shape, generator=rng), labels


def confused() -> Multiplex:
    """The sum of two instances, at both indices."""
    return muxwrap.wrap(Plain(), 2, "identity", "unbind", example_input=torch.zeros(1, 8)).eval()


def test_a_sum_tells_as_much_of_the_neighbour_as_of_the_row() -> None:
    x, labels = rows(400)
    found = company_readable(confused(), [(x[:201], labels[:201]), (x[201:], labels[201:])])
    assert abs(found.own - found.neighbour) < 0.15 and found.neighbour > found.chance + 0.1
    assert found.rows == 200 and 0.2 < found.chance < 0.35


def test_coordinates_of_their_own_tell_of_the_row_alone() -> None:
    x, labels = rows(400)
    found = company_readable(muxwrap.wrap(Plain(), 2, "binary", "unbind", example_input=x[:1]), [(x, labels)])
    assert found.neighbour < found.chance + 0.1


def test_companions_flip_a_sum_and_nothing_that_is_kept_apart() -> None:
    x, labels = rows(40)
    found = adversarial_company(confused(), [(x[:20], labels[:20]), (x[20:], labels[20:])], candidates=8, steps=5)
    assert found.rows == 40
    assert 0.4 < found.usual < 1 and found.chosen < found.usual and found.crafted == 0
    x[:, :CLASSES] = 0  # in the half of the coordinates that the first index loses, nothing is left to tell
    model = muxwrap.wrap(Plain(), 2, "binary", "unbind", example_input=x[:1])
    kept = adversarial_company(model, [(x, labels)], candidates=4, steps=3)
    assert kept.usual == kept.chosen == kept.crafted


def test_the_usual_answers_are_those_of_the_model() -> None:
    model = muxwrap.wrap(make("mlp"), 3, example_input=batch("mlp", 1)).train()
    x, labels = batch("mlp", 9), torch.arange(9) % 5
    found = adversarial_company(model, [(x, labels)], candidates=1, steps=0)
    assert model.training and found.usual == found.chosen and found.crafted is None
    assert adversarial_company(model, [(x, labels)], candidates=3, steps=4) == adversarial_company(
        model, [(x, labels)], candidates=3, steps=4
    )


def test_token_ids_are_chosen_and_not_crafted() -> None:
    model = muxwrap.wrap(texts.tiny("sequence", "bert"), 2)
    found = adversarial_company(model, [(texts.sentences((5, 3, 4)), torch.tensor([0, 1, 2]))], candidates=2)
    assert found.crafted is None and found.chosen <= found.usual


def test_refusals() -> None:
    x, labels = batch("mlp", 9), torch.arange(9) % 5
    single = muxwrap.wrap(make("mlp"), 1, example_input=x)
    with pytest.raises(MuxwrapError, match="wrap with n of 2 or more"):
        company_readable(single, [(x, labels)])
    with pytest.raises(MuxwrapError, match="give a model with n of 2 or more"):
        adversarial_company(single, [(x, labels)])
    model = muxwrap.wrap(muxwrap.unwrap(single), 3, example_input=x)
    with pytest.raises(MuxwrapError, match="give 4 or more"):
        company_readable(model, [(x, labels)])
    for function in (company_readable, adversarial_company):
        for wrong in (labels[1:], labels.float(), [0] * 9):
            with pytest.raises(MuxwrapError, match="one integer for each row"):
                function(model, [(x, wrong)])  # type: ignore[operator]
    with pytest.raises(MuxwrapError, match="no rows; give pairs"):
        adversarial_company(model, [])
    with pytest.raises(MuxwrapError, match="give two or more"):
        adversarial_company(model, [(x[:1], labels[:1])])
    tagger = muxwrap.wrap(make("tagger"), 2, example_input=batch("tagger", 1))
    with pytest.raises(MuxwrapError, match="give a classifier"):
        adversarial_company(tagger, [(batch("tagger", 4), torch.zeros(4, dtype=torch.long))])
