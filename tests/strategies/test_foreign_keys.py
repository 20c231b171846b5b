"""Keys of many strategies have one name and one shape; loaded into another strategy they would give answers of neither."""

from __future__ import annotations

import io
from functools import partial
from typing import Any

import pytest
import torch
from nets import batch, make

import muxwrap
from muxwrap.strategies import Hadamard


def wrapped(strategy: Any, seed: int = 0) -> muxwrap.Multiplex:
    return muxwrap.wrap(make("mlp"), 3, strategy, example_input=batch("mlp", 1), seed=seed).eval()


def through_a_file(state: Any) -> Any:
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


@pytest.mark.parametrize("carried", [lambda state: state, through_a_file])
@pytest.mark.parametrize("other", ["circular", "permutation", partial(Hadamard, scale="mean")])
def test_a_state_of_another_strategy_is_refused(other: Any, carried: Any) -> None:
    state, model = carried(wrapped("hadamard").state_dict()), wrapped(other)
    for strict in (True, False):
        with pytest.raises(RuntimeError, match=r"strategy: these are the keys of hadamard with a factor of 0\.57735"):
            model.load_state_dict(state, strict=strict)


@pytest.mark.parametrize("carried", [lambda state: state, through_a_file, dict])
def test_a_state_of_the_same_strategy_is_loaded(carried: Any) -> None:
    """Also one that says nothing of it, as a file of safetensors."""
    model, other, x = wrapped("hadamard"), wrapped("hadamard", seed=4), batch("mlp", 5)
    assert not torch.allclose(other(x), model(x))
    other.load_state_dict(carried(model.state_dict()))
    torch.testing.assert_close(other(x), model(x), rtol=0, atol=0)
